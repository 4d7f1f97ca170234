"""The whole API on a real database, called without a socket."""

import io
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from falcon.testing import Result, TestClient

from panda import settings as settings_module
from panda.api.app import create_app
from panda.auth import tokens
from panda.db.session import Begin, begin_of, make_engine, run
from panda.jobs import archive, audit, due, ending, expansion, ready
from panda.jobs.transitions import assign_many, move_many
from panda.local.postgres import EmbeddedPostgres
from panda.settings import Settings
from panda.states import JobStatus, Stage, Wait
from tests.described import check

SITES = """
INSERT INTO sites (name, cloud) VALUES ('HOLLAND', 'NL');
INSERT INTO storages (name, site, kind, root) VALUES ('HOLLAND-DISK', 'HOLLAND', 'local', %(root)s);
INSERT INTO queues (name, site, storage, cores, memory_mb, disk_mb, walltime_s)
VALUES ('HOLLAND-CPU', 'HOLLAND', 'HOLLAND-DISK', 8, 16000, 100000, 86400)
"""
ONE_JOB = {"name": "hello", "jobs": [{"command": ["/bin/true"]}]}


class Caller:
    """One person, or one pilot, who calls the API."""

    def __init__(self, client: TestClient, token: str) -> None:
        self._client = client
        self.token = token

    def __call__(self, method: str, path: str, document: Any = None, **options: Any) -> Result:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        if document is not None:
            options["body"] = msgspec.json.encode(document)
            headers.setdefault("Content-Type", "application/json")
        answer = self._client.simulate_request(method, path, headers=headers, **options)
        check(method, path, answer)
        return answer

    def get(self, path: str, **options: Any) -> Result:
        return self("GET", path, **options)

    def post(self, path: str, document: Any = None, **options: Any) -> Result:
        return self("POST", path, document, **options)

    def submit(self, document: Any = ONE_JOB, key: str = "key-1", **options: Any) -> Result:
        return self("POST", "/v1/jobsets", document, headers={"Idempotency-Key": key}, **options)


@pytest.fixture
def client(begin: Begin, settings: Settings, request: pytest.FixtureRequest) -> Iterator[TestClient]:
    """The API on a database of its own; after the test every invariant must hold."""
    yield TestClient(create_app(begin, settings))
    if "by_hand" not in request.fixturenames:
        with begin() as connection:
            assert audit.audit(connection, everything=True) == []


@pytest.fixture
def sites(begin: Begin, settings: Settings) -> None:
    with begin() as connection:
        for statement in SITES.split(";"):
            run(connection, statement, {"root": str(settings.data_dir / "HOLLAND")})


@pytest.fixture
def caller(client: TestClient, begin: Begin) -> Callable[..., Caller]:
    """Somebody with these roles: `caller("anna", "user")`."""

    def make(owner: str, *roles: str, queue: str = "") -> Caller:
        with begin() as connection:
            return Caller(client, tokens.create(connection, owner, roles, "test", 3600, queue=queue))

    return make


class Shared:
    """An API on a database that the tests of a module share: for calls that are refused and store nothing."""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self.begin = begin
        self.client = TestClient(create_app(begin, settings))
        self._callers: dict[str, Caller] = {}

    def caller(self, role: str) -> Caller:
        """Somebody with this role."""
        if role not in self._callers:
            with self.begin() as connection:
                self._callers[role] = Caller(self.client, tokens.create(connection, role, [role], "test", 3600))
        return self._callers[role]


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    name = folder.name.replace("-", "_")
    url = postgres.create_database(name, template="template_panda")
    engine = make_engine(url)
    yield Shared(begin_of(engine), settings_module.load([], {"PANDA_DATA_DIR": str(folder)}))
    engine.dispose()
    postgres.drop_database(name)


class Endless(io.RawIOBase):
    """A chunked body that never ends; tells how much of it was taken."""

    n_read = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size < 10**9
        self.n_read += size
        return b" " * size


@pytest.fixture
def endless() -> Endless:
    return Endless()


@pytest.fixture
def anna(caller: Callable[..., Caller]) -> Caller:
    return caller("anna", "user")


@pytest.fixture
def operator(caller: Callable[..., Caller]) -> Caller:
    return caller("otto", "operator")


@pytest.fixture
def pilot(caller: Callable[..., Caller]) -> Caller:
    return caller("pilots", "pilot")


class Engine:
    """What relay and stages would do meanwhile, as directly as can be."""

    def __init__(self, begin: Begin, settings: Settings) -> None:
        self._begin = begin
        self._settings = settings

    def expand(self) -> None:
        """Every job of every set is made."""
        with self._begin() as connection:
            while expansion.expand_chunk(connection, self._settings.engine):
                pass

    def activate(self, *panda_ids: int, queue: str = "HOLLAND-CPU") -> None:
        """These wait for a pilot at `queue`."""
        with self._begin() as connection:
            move_many(connection, panda_ids, JobStatus.PENDING, JobStatus.DEFINED, by="test")
            assign_many(connection, dict.fromkeys(panda_ids, queue), {}, by="test")
            move_many(connection, panda_ids, JobStatus.ASSIGNED, JobStatus.ACTIVATED, by="test")
            due.park(connection, panda_ids, stage=Stage.DISPATCH, waits_for=Wait.PILOT, for_s=3600)
            ready.offer(connection, panda_ids)

    def fail(self, *panda_ids: int, message: str = "exit code 3") -> None:
        """The newest attempts of these failed; nobody tries again by themselves."""
        failures = [ending.Failure(i, Stage.DISPATCH, "payload:3", message) for i in panda_ids]
        with self._begin() as connection:
            due.lock(connection, panda_ids)
            ending.fail_many(connection, failures, by="test", engine=self._settings.engine)

    def archive(self, *panda_ids: int) -> None:
        """These leave the live tables."""
        with self._begin() as connection:
            due.lock(connection, panda_ids)
            archive.archive_many(connection, panda_ids, by="test")


@pytest.fixture
def engine(begin: Begin, settings: Settings) -> Engine:
    return Engine(begin, settings)


@pytest.fixture
def acquire(pilot: Caller) -> Callable[..., list[dict[str, Any]]]:
    """The jobs that a pilot gets."""

    def ask(n: int = 1, request_id: str = "ask-1") -> list[dict[str, Any]]:
        wish = {"pilot_id": "pilot-1", "queue": "HOLLAND-CPU", "request_id": request_id, "n": n, "node": "node-7"}
        free = {"cores": 8, "memory_mb": 16000, "disk_mb": 100000, "walltime_s": 86400}
        jobs: list[dict[str, Any]] = pilot.post("/v1/pilots/acquire", wish | free).json["jobs"]
        return jobs

    return ask
