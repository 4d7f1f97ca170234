"""The questions that brokerage asks about a queue; the first one that refuses it is kept.

`ORDER` is how they are asked if a policy says nothing else.
"""

ORDER = (
    "status",
    "downtime",
    "access",
    "storage",
    "wishes",
    "resources",
    "capabilities",
    "requirements",
    "locality",
    "occupancy",
    "limits",
)
