"""Schemathesis calls everything that the description names, with what it allows and with what it forbids.

`make fuzz` does the same for longer. What was covered is printed at the end.
"""

import os
from collections import Counter
from collections.abc import Iterator
from functools import cache
from typing import Any

import hypothesis
import pytest
import schemathesis
from falcon.testing import TestClient
from hypothesis import HealthCheck
from schemathesis import checks
from schemathesis.config import SchemathesisConfig
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from panda.api.app import create_app
from panda.auth import tokens
from panda.db.session import begin_of, make_engine, run
from panda.jobs import expansion
from panda.local.postgres import EmbeddedPostgres
from panda.settings import load
from tests.described import described
from tests.integration.api.conftest import ONE_JOB, SITES

#: Cases of each call. `make fuzz` sets it higher.
N_CASES = int(os.environ.get("FUZZ_CASES", "8"))
#: A stream has no end; it has tests of its own.
ENDLESS = {"/v1/events"}
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]

#: Each field in turn, at and beyond its limits, then at random. Other methods than those described are 405.
CONFIG = SchemathesisConfig.from_dict({"phases": {"coverage": {"unexpected-methods": []}}})

CALLS = sorted(
    f"{method.upper()} {path}" for path, item in described()["paths"].items() for method in item if path not in ENDLESS
)
CASES = hypothesis.settings(
    max_examples=N_CASES,
    deadline=None,
    derandomize=N_CASES <= 50,
    database=None,
    suppress_health_check=list(HealthCheck),
)

covered: Counter[str] = Counter()
answered: Counter[str] = Counter()
fields: set[str] = set()


@pytest.fixture(scope="module")
def api(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str]]:
    """An API with a queue, a job set, and a token of somebody who may do everything."""
    folder = tmp_path_factory.mktemp("fuzz")
    name = folder.name.replace("-", "_")
    url = postgres.create_database(name, template="template_panda")
    engine = make_engine(url)
    begin = begin_of(engine)
    settings = load([], {"PANDA_DATA_DIR": str(folder), "PANDA_DISPATCHER_MAX_WAIT_S": "0"})
    with begin() as connection:
        for statement in SITES.split(";"):
            run(connection, statement, {"root": str(folder / "HOLLAND")})
        token = tokens.create(connection, "anna", ["admin", "user", "pilot"], "fuzz", 3600)
    made = create_app(begin, settings)
    client = TestClient(made)
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "first"}
    assert client.simulate_post("/v1/jobsets", json=ONE_JOB, headers=headers).status_code == 201
    with begin() as connection:
        while expansion.expand_chunk(connection, settings.engine):
            pass
    yield made, token
    engine.dispose()
    postgres.drop_database(name)


@schemathesis.serializer("application/gzip")
def as_it_is(context: Any, value: Any) -> bytes:
    """An upload of whatever bytes come to mind."""
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()


def names_in(value: Any, path: str) -> Iterator[str]:
    """`body.jobs.command`, for every field that a value has."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield f"{path}.{key}"
            yield from names_in(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from names_in(inner, path)


@cache
def schema() -> Any:
    return schemathesis.openapi.from_dict(described(), config=CONFIG)


@pytest.mark.parametrize("name", CALLS)
def test_every_answer_is_one_that_is_described(name: str, api: tuple[Any, str]) -> None:
    """The cases of a call are thought out when its test runs: once, not by every process that collects tests."""
    method, path = name.split()
    test = build_operation_test(
        config=schema().config, operation=schema()[path][method], test_func=call, explicit_settings=CASES,
        given_kwargs={}, feedback=FeedbackSources(),
    )  # fmt: skip
    test(app=api[0], token=api[1])


def call(case: schemathesis.Case, app: Any, token: str) -> None:
    case.headers["Authorization"] = f"Bearer {token}"

    answer = case.call(app=app)

    name = f"{case.method} {case.path}"
    covered[name] += 1
    answered[f"{answer.status_code // 100}xx"] += 1
    fields.update(f"{name} {field}" for field in names_in(case.body, "body"))
    fields.update(
        f"{name} {where}.{field}" for where in ("query", "path_parameters") for field in getattr(case, where) or ()
    )
    case.validate_response(answer, checks=CHECKS)


def test_everything_was_called(capsys: pytest.CaptureFixture[str]) -> None:
    """Stands last in this file."""
    n_described = sum(len(each.get("properties", ())) for each in described()["components"]["schemas"].values())
    with capsys.disabled():
        print(
            f"\nfuzz: {len(covered)} of {len(CALLS)} calls, {sum(covered.values())} requests, {dict(answered)}, "
            f"{len(fields)} fields and parameters of requests; {n_described} fields are described"
        )
    is_part = "PYTEST_XDIST_WORKER" in os.environ or not covered  # the calls are spread, or were not chosen
    assert set(covered) <= set(CALLS) if is_part else set(covered) == set(CALLS)
