"""Every route says who may call it; nobody forgot to ask whose thing it is."""

import inspect

import pytest

from panda.api.access import access_of
from panda.api.app import create_app
from panda.auth.policy import TABLE, Action
from panda.db.session import begin_of, make_engine
from panda.settings import Settings, Upstream

#: What everybody may call.
PUBLIC = {"GET /", "GET /v1/login", "GET /healthz", "GET /readyz", "GET /openapi.json", "GET /docs"}
#: Upstream's clients fetch these without a token, and ask whether the server is there.
PUBLIC |= {f"GET /cache/{name}" for name in ("{name}", "ddmendpoints.json", "schedconfig/{name}")} | {
    "GET /trf/user/{name}"
}
PUBLIC |= {f"{verb} {path}" for verb in ("GET", "POST") for path in (
    "/server/panda/isAlive", "/api/v1/system/is_alive", "/api/1/system/is_alive", "/api/latest/system/is_alive")}  # fmt: skip
#: What is made here is the caller's own.
MAKES_ITS_OWN = {"POST /v1/datasets"}


def functions():
    """Each responder's function by `METHOD path`."""
    settings = Settings(upstream=Upstream(enabled=True))
    app = create_app(begin_of(make_engine("postgresql://nobody@nowhere/none")), settings)
    found = {}

    def walk(nodes):
        for node in nodes:
            for method, responder in (node.method_map or {}).items():
                if node.resource is not None and hasattr(node.resource, f"on_{method.lower()}"):
                    found[f"{method} {node.uri_template}"] = responder
            walk(node.children)

    walk(app._router._roots)
    return found


RESPONDERS = functions()


def test_there_are_routes():
    assert len(RESPONDERS) > 30


@pytest.mark.parametrize("call", RESPONDERS)
def test_every_responder_says_who_may_call_it(call):
    access = access_of(RESPONDERS[call])

    assert access is not None, f"{call} is neither @allowed nor @public"
    assert (access.action is None) == (call in PUBLIC)


@pytest.mark.parametrize("call", RESPONDERS)
def test_what_belongs_to_somebody_is_asked_for_with_its_owner(call):
    access = access_of(RESPONDERS[call])
    if access.action is None or not TABLE[access.action].own or call in MAKES_ITS_OWN:
        return

    source = inspect.getsource(RESPONDERS[call])
    asks = f"policy.require(req.context.identity, Action.{access.action.name}, " in source
    asks |= f"policy.require(identity, Action.{access.action.name}, " in source
    asks |= f"policy.scope(req.context.identity, Action.{access.action.name}, " in source
    assert asks, f"{call} never asks whose thing it is"


def test_every_action_is_asked_for_somewhere():
    asked = {access_of(responder).action for responder in RESPONDERS.values()}

    assert set(Action) <= asked
