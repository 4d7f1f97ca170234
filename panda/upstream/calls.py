"""What a call is: its path, who may make it, and the handler that translates it."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import falcon
import msgspec

from panda.auth.identity import Identity
from panda.auth.policy import Action
from panda.auth.secrets import vault_of
from panda.db.session import Begin
from panda.errors import Invalid
from panda.jobs.spool import Spool
from panda.settings import Settings

if TYPE_CHECKING:
    from panda.auth.vault import Vault

T = TypeVar("T")


class House(NamedTuple):
    """What handlers work with. The settings' lease is the one of upstream's pilots."""

    begin: Begin
    settings: Settings
    spool: Spool
    lease_token: Callable[[], str]
    """The token of every lease that was given out here: upstream's pilots keep none, and show their own instead."""

    @property
    def vault(self) -> "Vault":
        """Where users' secrets are sealed and opened."""
        return vault_of(self.settings.data_dir)


class Asked(NamedTuple):
    """One request. `identity` is there wherever an action is asked for."""

    identity: Identity
    words: dict[str, Any]
    req: falcon.Request
    house: House

    @property
    def base_url(self) -> str:
        """This server's address for nodes."""
        return self.house.settings.upstream.public_url.rstrip("/") or str(self.req.prefix)

    @property
    def request_id(self) -> str:
        return str(getattr(self.req.context, "request_id", ""))


Handler = Callable[[Asked], Any]


class Call(NamedTuple):
    """`name` is `module/method` of `/api/v1`, or a method of `/server/panda`."""

    verb: str
    name: str
    action: Action | None
    handler: Handler
    renames: Mapping[str, str] = {}
    """A legacy call's words by those that the handler knows."""


class ArgumentError(Invalid):
    """A word that is needed is not there."""

    code = "argument"


class WrongType(Invalid):
    """A word is not of its type."""

    code = "wrong_type"


def given(asked: Asked, kind: type[T]) -> T:
    """The request's words as `kind`, a struct with their names; what it does not know is left out.

    Numbers and truths may be written as text, a list of one as its element; "None", "NULL" and "" say nothing where
    nothing may be said.
    Raises:
        ArgumentError, WrongType
    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    words = {}
    for name, field in fields.items():
        value = asked.words.get(name)
        if value is None or (not field.required and value in ("None", "NULL", "")):
            continue
        if str(field.type).startswith("list") and not isinstance(value, list):
            value = [value]
        words[name] = value
    missing = [name for name, field in fields.items() if field.required and name not in words]
    if missing:
        raise ArgumentError(f"Argument error: missing a required argument: '{missing[0]}'")
    try:
        return msgspec.convert(words, kind, strict=False)
    except msgspec.ValidationError as problem:
        raise WrongType(f"Type error: {problem}") from None
