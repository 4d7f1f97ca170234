"""Tokens: made once, refused when unknown, expired, revoked or their owner is banned."""

import pytest

from panda.auth import tokens
from panda.auth.identity import Role
from panda.auth.tokens import Verifier
from panda.db.session import rows, run
from panda.errors import Invalid, Unauthenticated, UnknownName


def made(begin, *roles, ttl_s=60.0, queue=""):
    with begin() as connection:
        return tokens.create(connection, "anna", roles or ("user",), "laptop", ttl_s, queue=queue)


def verified(begin, plain):
    with begin() as connection:
        return tokens.verify(connection, plain)


def test_a_token_says_who_its_owner_is(begin):
    identity = verified(begin, made(begin, "user", "production"))

    assert (identity.subject, identity.roles) == ("anna", {Role.USER, Role.PRODUCTION})
    assert identity.queue is None


def test_a_token_is_stored_as_a_hash_only(begin):
    plain = made(begin)

    with begin() as connection:
        stored = rows(connection, "SELECT t::text AS text FROM tokens t")
    assert plain not in stored[0].text


def test_a_token_without_end_is_good(begin):
    assert verified(begin, made(begin, ttl_s=None)).subject == "anna"


def test_an_unknown_token_is_refused(begin):
    with pytest.raises(Unauthenticated, match="not known"):
        verified(begin, "panda_nonsense")


def test_an_expired_token_is_refused(begin):
    plain = made(begin)
    with begin() as connection:
        run(connection, "UPDATE tokens SET expires_at = panda_now() - interval '1 second'")

    with pytest.raises(Unauthenticated, match="expired"):
        verified(begin, plain)


def test_a_revoked_token_is_refused(begin):
    plain = made(begin)
    with begin() as connection:
        run(connection, "UPDATE tokens SET revoked_at = panda_now()")

    with pytest.raises(Unauthenticated, match="revoked"):
        verified(begin, plain)


def test_a_banned_owners_token_is_refused(begin):
    plain = made(begin)
    with begin() as connection:
        run(connection, "UPDATE users SET banned_at = panda_now()")

    with pytest.raises(Unauthenticated, match="banned"):
        verified(begin, plain)


def test_a_role_that_the_owner_lost_is_lost_for_the_token_too(begin):
    plain = made(begin, "user", "operator")
    with begin() as connection:
        run(connection, "UPDATE users SET roles = ARRAY['user']")

    assert verified(begin, plain).roles == {Role.USER}


def test_a_second_token_widens_what_its_owner_may_have_and_leaves_the_first_as_it_was(begin):
    first, second = made(begin, "user"), made(begin, "pilot")

    assert verified(begin, first).roles == {Role.USER}
    assert verified(begin, second).roles == {Role.PILOT}


def test_a_pilots_token_may_be_bound_to_a_queue(begin):
    identity = verified(begin, made(begin, "pilot", queue="HOLLAND-CPU"))

    assert (identity.roles, identity.queue) == ({Role.PILOT}, "HOLLAND-CPU")


def test_a_token_is_believed_for_some_seconds_and_then_looked_up_again(begin, monkeypatch):
    now = 100.0
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now)
    verify, plain = Verifier(begin), made(begin)
    assert verify(plain).subject == "anna"
    with begin() as connection:
        run(connection, "UPDATE tokens SET revoked_at = panda_now()")

    assert verify(plain).subject == "anna"
    now += tokens.REMEMBERED_S
    with pytest.raises(Unauthenticated, match="revoked"):
        verify(plain)


def test_a_token_is_never_believed_beyond_its_end(begin, monkeypatch):
    now = 100.0
    monkeypatch.setattr(tokens.time, "monotonic", lambda: now)
    verify, plain = Verifier(begin), made(begin, ttl_s=2.0)
    assert verify(plain).subject == "anna"
    with begin() as connection:
        run(connection, "UPDATE tokens SET expires_at = panda_now()")

    now += 2.0
    with pytest.raises(Unauthenticated, match="expired"):
        verify(plain)


@pytest.mark.parametrize(
    ("owner", "roles", "ttl_s", "error"),
    [
        ("anna", ["king"], 60, UnknownName),
        ("anna", [], 60, Invalid),
        ("../anna", ["user"], 60, Invalid),
        ("anna", ["user"], 0, Invalid),
    ],
)
def test_a_token_that_makes_no_sense_is_not_made(begin, owner, roles, ttl_s, error):
    with pytest.raises(error), begin() as connection:
        tokens.create(connection, owner, roles, "", ttl_s)

    with begin() as connection:
        assert rows(connection, "SELECT 1 FROM users") == []
