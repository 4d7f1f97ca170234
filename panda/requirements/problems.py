"""A requirement that cannot be meant."""

from panda.errors import Invalid

#: Characters of the text that a message quotes.
QUOTED = 30


class BadRequirement(Invalid):
    """A requirement that cannot be meant; `column` (from 1) tells where."""

    code = "bad_requirement"

    def __init__(self, message: str, text: str, at: int) -> None:
        place = text[at : at + QUOTED].split(" ")[0] or "the end"
        super().__init__(f"column {at + 1}, at {place!r}: {message}")
        self.column, self.place = at + 1, place
