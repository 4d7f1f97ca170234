"""The kinds of value that messages are made of, and their two bases. Pure; nothing of ours below."""

from typing import Annotated

import msgspec
from msgspec import Meta

Name = Annotated[str, Meta(min_length=1, max_length=250)]
FileRef = Annotated[str, Meta(min_length=3, max_length=760)]
Text = Annotated[str, Meta(max_length=10_000)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Bytes = Annotated[int, Meta(ge=0, le=2**60)]
PandaId = Annotated[int, Meta(ge=1, le=2**62)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Adler32 = Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]
Word = Annotated[str, Meta(max_length=131_072)]
Command = Annotated[list[Word], Meta(min_length=1, max_length=4_096)]
Env = dict[Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=200)], Word]


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of what clients send."""


class Reply(msgspec.Struct, kw_only=True):
    """Base of what the server answers."""
