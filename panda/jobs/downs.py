"""Which places a downtime keeps from being used at this moment: parts of statements, for whoever reads files or tells
why nothing moves."""

#: Whether a downtime `d` goes on.
GOES_ON = "d.starts_at <= (SELECT panda_now()) AND d.ends_at > (SELECT panda_now())"
#: Names of the storages that are in one, or whose site is. It is reckoned once in a statement, not once per row.
STORAGES_DOWN = f"""
ARRAY(SELECT down.name FROM downtimes d JOIN storages down ON
        (d.kind = 'storage' AND d.target = down.name) OR (d.kind = 'site' AND d.target = down.site)
    WHERE {GOES_ON})
"""
#: The one that a storage `s` is in and that ends last, as a row of what, ends_at, reason and
#: until (the end, for people); no row: it is in none.
DOWN_OF_STORAGE = f"""
(SELECT d.kind || ' ' || d.target AS what, d.ends_at, d.reason,
    to_char(d.ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC' AS until
FROM downtimes d
WHERE {GOES_ON} AND ((d.kind = 'storage' AND d.target = s.name) OR (d.kind = 'site' AND d.target = s.site))
ORDER BY d.ends_at DESC LIMIT 1)
"""
