"""Who may do what: one table. What is not in it is forbidden."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from panda.auth.identity import Identity, Role
from panda.errors import Forbidden


class Action(StrEnum):
    """Everything that needs leave. The value completes the sentence "NAME may not …"."""

    WHO_AM_I = "ask who they are"
    LOG_IN = "exchange a token for one of ours"
    SUBMIT = "submit job sets"
    READ_JOBS = "see these jobs"
    RETRY = "retry these jobs"
    CANCEL = "cancel these jobs"
    HOLD = "hold and release these jobs"
    READ_SANDBOX = "read sandboxes"
    WRITE_SANDBOX = "store sandboxes"
    READ_DATA = "read datasets"
    WRITE_DATA = "write this dataset"
    READ_STORAGE_QUOTAS = "see these quotas of storages"
    READ_SITES = "see sites and queues"
    SET_QUEUE = "set the status of queues"
    CHANGE_SITES = "change what is known of sites"
    SET_SWITCH = "pause brokerage or dispatch"
    READ_SHARES = "see shares"
    SET_SHARE = "set the weights of shares"
    PILOT = "do a pilot's work"
    CREATE_TOKEN = "create tokens"
    REPORT_INCIDENT = "report incidents"
    READ_INCIDENTS = "see incidents"
    ANSWER_INCIDENT = "answer incidents"
    READ_AUDIT = "see the audit log"
    READ_USERS = "see users"
    READ_TOKENS = "see tokens"
    READ_PILOTS = "see pilots and nodes"
    KEEP_VIEWS = "keep views and notices"
    ACT = "act on many jobs at once"
    READ_ACTIONS = "see actions on many jobs"
    READ_PILOT_NOTES = "see the notes and logs of pilots"
    BAN_USER = "ban users"
    LIMIT_USER = "limit users"
    READ_QUOTAS = "see quotas"
    SET_QUOTA = "set quotas"
    REVOKE_TOKEN = "revoke these tokens"
    READ_METRICS = "read metrics"


class Rule(NamedTuple):
    """Roles that may do it to anybody's things, and roles that may do it to their own."""

    anyones: frozenset[Role]
    own: frozenset[Role] = frozenset()


def _rule(anyones: str, own: str = "") -> Rule:
    return Rule(frozenset(map(Role, anyones.split())), frozenset(map(Role, own.split())))


TABLE: Mapping[Action, Rule] = {
    #                             anybody's                                         only their own
    Action.WHO_AM_I:        _rule("viewer user production pilot operator admin"),
    Action.LOG_IN:          _rule("viewer user production operator admin"),
    Action.SUBMIT:          _rule("user production operator admin"),
    Action.READ_JOBS:       _rule("viewer production operator admin",               "user"),
    Action.RETRY:           _rule("operator admin",                                 "user production"),
    Action.CANCEL:          _rule("operator admin",                                 "user production"),
    Action.HOLD:            _rule("operator admin",                                 "user production"),
    Action.READ_SANDBOX:    _rule("user production pilot operator admin"),
    Action.WRITE_SANDBOX:   _rule("user production operator admin"),
    Action.READ_DATA:       _rule("viewer user production pilot operator admin"),
    Action.WRITE_DATA:      _rule("operator admin",                                 "user production"),
    Action.READ_STORAGE_QUOTAS: _rule("viewer production operator admin",           "user"),
    Action.READ_SITES:      _rule("viewer user production pilot operator admin"),
    Action.SET_QUEUE:       _rule("operator admin"),
    Action.CHANGE_SITES:    _rule("operator admin"),
    Action.SET_SWITCH:      _rule("operator admin"),
    Action.READ_SHARES:     _rule("viewer user production operator admin"),
    Action.SET_SHARE:       _rule("operator admin"),
    Action.PILOT:           _rule("pilot"),
    Action.CREATE_TOKEN:    _rule("admin"),
    Action.REPORT_INCIDENT: _rule("pilot operator admin"),
    Action.READ_INCIDENTS:  _rule("viewer production operator admin"),
    Action.ANSWER_INCIDENT: _rule("operator admin"),
    Action.READ_AUDIT:      _rule("operator admin"),
    Action.READ_USERS:      _rule("operator admin",                                 "viewer user production"),
    Action.READ_TOKENS:     _rule("admin",                                          "viewer user production operator"),
    Action.KEEP_VIEWS:      _rule("viewer user production operator admin"),
    Action.READ_PILOTS:     _rule("viewer user production operator admin"),
    Action.ACT:             _rule("operator admin",                                 "user production"),
    Action.READ_ACTIONS:    _rule("viewer production operator admin",               "user"),
    Action.READ_PILOT_NOTES: _rule("viewer production operator admin"),
    Action.BAN_USER:        _rule("admin"),
    Action.LIMIT_USER:      _rule("operator admin"),
    Action.READ_QUOTAS:     _rule("viewer user production operator admin"),
    Action.SET_QUOTA:       _rule("operator admin"),
    Action.REVOKE_TOKEN:    _rule("admin",                                          "viewer user production operator"),
    Action.READ_METRICS:    _rule("viewer production operator admin"),
}  # fmt: skip


def require(identity: Identity, action: Action, owner: str | None = None) -> None:
    """Ask leave.

    Args:
        owner: whose thing it is; without one the question is whether they may do it at all.
    Raises:
        Forbidden: they may not.
    """
    rule = TABLE[action]
    if not identity.roles.isdisjoint(rule.anyones):
        return
    if not identity.roles.isdisjoint(rule.own) and (owner is None or owner == identity.subject):
        return
    raise Forbidden(identity.subject, action)


def scope(identity: Identity, action: Action, asked: str | None) -> str | None:
    """Whose things a list may show: `asked`'s, or everybody's (None), or only their own.

    Raises:
        Forbidden: somebody else's were asked for.
    """
    if asked is None and identity.roles.isdisjoint(TABLE[action].anyones):
        asked = identity.subject
    require(identity, action, asked)
    return asked
