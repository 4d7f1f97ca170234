"""How an answer is written: one encoder for all; a list is `{"data": […], "page": {"next": cursor}}`."""

from collections.abc import Sequence
from typing import Any

import falcon
import msgspec

#: Instants go out as ISO 8601 in UTC.
ENCODER = msgspec.json.Encoder()


def show(resp: falcon.Response, answer: Any) -> None:
    """`answer` as JSON."""
    resp.data = ENCODER.encode(answer)


def show_page(resp: falcon.Response, items: Sequence[Any], following: int | str | None = None) -> None:
    """A page of a list; `following` is the `after` of the next one, None: that was all."""
    resp.data = ENCODER.encode({"data": items, "page": {"next": following}})
