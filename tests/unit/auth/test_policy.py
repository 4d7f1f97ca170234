"""Who may do what, spelt out from the outside."""

import pytest

from panda.auth import policy
from panda.auth.identity import Identity, Role
from panda.auth.policy import Action
from panda.errors import Forbidden


def may(role: Role, action: Action, owner: str | None = None) -> bool:
    try:
        policy.require(Identity("anna", frozenset({role})), action, owner)
    except Forbidden:
        return False
    return True


def test_every_action_stands_in_the_table():
    assert set(policy.TABLE) == set(Action)


@pytest.mark.parametrize("action", list(Action))
def test_somebody_without_a_role_may_do_nothing(action):
    with pytest.raises(Forbidden):
        policy.require(Identity("nobody", frozenset()), action)


@pytest.mark.parametrize("action", [Action.READ_JOBS, Action.RETRY, Action.CANCEL, Action.WRITE_DATA])
def test_a_user_acts_on_their_own_things_alone(action):
    assert may(Role.USER, action)
    assert may(Role.USER, action, "anna")
    assert not may(Role.USER, action, "bert")


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
@pytest.mark.parametrize("action", [Action.READ_JOBS, Action.RETRY, Action.CANCEL, Action.WRITE_DATA])
def test_an_operator_acts_on_everybodys(role, action):
    assert may(role, action, "bert")


def test_a_pilot_does_a_pilots_work_and_nothing_else():
    allowed = {action for action in Action if may(Role.PILOT, action)}

    assert allowed == {
        Action.PILOT, Action.WHO_AM_I, Action.READ_SANDBOX, Action.READ_DATA, Action.READ_SITES, Action.REPORT_INCIDENT
    }  # fmt: skip


def test_a_viewer_looks_and_changes_nothing_but_their_own_tokens_and_views():
    allowed = {action for action in Action if may(Role.VIEWER, action, "bert")}
    reads = {action for action in Action if action.name.startswith("READ_")}

    assert allowed == reads - {
        Action.READ_SANDBOX, Action.READ_AUDIT, Action.READ_USERS, Action.READ_TOKENS
    } | {Action.WHO_AM_I, Action.LOG_IN, Action.KEEP_VIEWS}  # fmt: skip
    assert {action for action in Action if may(Role.VIEWER, action, "anna")} - allowed == {
        Action.READ_USERS, Action.READ_TOKENS, Action.REVOKE_TOKEN
    }  # fmt: skip


def test_only_pilots_do_a_pilots_work():
    assert [role for role in Role if may(role, Action.PILOT)] == [Role.PILOT]


def test_only_an_admin_gives_out_tokens():
    assert [role for role in Role if may(role, Action.CREATE_TOKEN)] == [Role.ADMIN]


def test_a_users_list_shows_their_own_unless_they_ask_for_more():
    anna = Identity("anna", frozenset({Role.USER}))

    assert policy.scope(anna, Action.READ_JOBS, None) == "anna"
    with pytest.raises(Forbidden):
        policy.scope(anna, Action.READ_JOBS, "bert")


def test_an_operators_list_shows_everybodys():
    otto = Identity("otto", frozenset({Role.OPERATOR}))

    assert policy.scope(otto, Action.READ_JOBS, None) is None
    assert policy.scope(otto, Action.READ_JOBS, "bert") == "bert"
