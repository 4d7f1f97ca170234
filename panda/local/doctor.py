"""`panda doctor`: what keeps this installation from working, and the mend of each."""

import json
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis
from sqlalchemy.exc import SQLAlchemyError

import panda
from panda.db.migrate import is_current
from panda.db.session import make_engine
from panda.errors import PandaError
from panda.local import ports, postgres, procfile
from panda.local import redis as local_redis
from panda.local.installation import Installation
from panda.local.shipped import shipped
from panda.local.up import FAILED, OK, answer
from panda.settings import Settings, client_url, load

OURS = ("workflows", "pilot", "monitoring")
LEAST_FREE_BYTES = 10**9
OLDEST_POSTGRES = 15_00_00


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"  #: works, but not as it should, or cannot be seen while nothing runs
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Patient:
    """What is looked at: the folder, its settings, and where the stores are ("" when they do not run)."""

    installation: Installation
    settings: Settings
    database_url: str
    redis_url: str

    @property
    def runs(self) -> bool:
        return self.installation.supervisor() is not None


def run_doctor(data: Path | str, *, as_json: bool = False) -> int:
    """Check everything and print what was found.

    Returns: an exit code; not zero when a check failed."""
    findings = list(examine(Installation(Path(data))))
    if as_json:
        sys.stdout.write(json.dumps([asdict(each) for each in findings], indent=2) + "\n")
    else:
        width = max(len(each.check) for each in findings)
        for each in findings:
            sys.stdout.write(f"{each.verdict:4}  {each.check:{width}}  {each.found}\n")
            if each.mend:
                sys.stdout.write(f"{'':4}  {'':{width}}  -> {each.mend}\n")
    return FAILED if any(each.verdict is Verdict.FAIL for each in findings) else OK


def examine(installation: Installation) -> Iterator[Finding]:
    """Every check in turn; a later one may need what an earlier one found."""
    yield check_python()
    yield from check_packages()
    yield check_folder(installation)
    try:
        settings = load(environ=os.environ | {"PANDA_DATA_DIR": str(installation.folder)})
    except PandaError as problem:
        yield Finding("settings", Verdict.FAIL, str(problem), "correct that value")
        return
    yield Finding("settings", Verdict.OK, os.environ.get("PANDA_CONFIG") or "defaults and PANDA_*")
    yield check_config()
    facts = installation.facts() if installation.supervisor() else {}
    patient = Patient(
        installation,
        settings,
        settings.store.database_url or facts.get("database_url", ""),
        settings.store.redis_url or facts.get("redis_url", ""),
    )
    for check in (check_postgres, check_database, check_redis_server, check_redis, check_processes):
        yield check(patient)
    yield from check_faces(patient)


def check_python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding("python", Verdict.OK, f"{version} in {sys.prefix}")
    return Finding("python", Verdict.FAIL, version, "use Python 3.11 or 3.12")


def check_packages() -> Iterator[Finding]:
    """`workflows` and `pilot` are names of other people's packages too."""
    home = Path(panda.__file__).resolve().parents[1]
    for name in OURS:
        spec = find_spec(name)
        place = Path(spec.origin).resolve().parents[1] if spec is not None and spec.origin else None
        if place == home:
            yield Finding(f"package {name}", Verdict.OK, str(home))
        else:
            found = f"it is the one in {place}" if place else "it is not there"
            mend = f"uninstall the other {name!r}" if place else "install panda-wms anew"
            yield Finding(f"package {name}", Verdict.FAIL, found, f"{mend}; servers want an environment of their own")


def check_folder(installation: Installation) -> Finding:
    folder = installation.folder
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as problem:
        return Finding("data folder", Verdict.FAIL, str(problem), "name another one with --data")
    found = f"{installation.folder}, {free / 1e9:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("data folder", Verdict.FAIL, found, "make room: at least 1 GB")
    if folder == installation.folder and folder.stat().st_mode & 0o077:
        return Finding("data folder", Verdict.WARN, f"{found}; others may look in", f"chmod go= {folder}")
    return Finding("data folder", Verdict.OK, found)


def check_config() -> Finding:
    """The files that travel with us are TOML."""
    try:
        folder = shipped("Procfile").with_name("config")
        files = sorted(folder.glob("*.toml"))
        for file in files:
            tomllib.loads(file.read_text(encoding="utf-8"))
    except (PandaError, OSError, ValueError) as problem:
        return Finding("config", Verdict.FAIL, str(problem), "correct that file, or install panda-wms anew")
    return Finding("config", Verdict.OK, f"{len(files)} files in {folder}")


def check_postgres(patient: Patient) -> Finding:
    """Whether there is a PostgreSQL to run, or one is named."""
    if patient.settings.store.database_url:
        return Finding("postgres", Verdict.OK, "named by PANDA_DATABASE_URL")
    try:
        server = postgres.binary("postgres")
        folder = patient.installation.folder
        identity = postgres.identity_for(folder if folder.exists() else Path("/"))
    except PandaError as problem:
        return Finding("postgres", Verdict.FAIL, str(problem), "see there")
    return Finding("postgres", Verdict.OK, f"{server}, as {identity}")


def check_redis_server(patient: Patient) -> Finding:
    """Whether there is a Redis to run, or one is named."""
    if patient.settings.store.redis_url:
        return Finding("redis server", Verdict.OK, "named by PANDA_REDIS_URL")
    try:
        return Finding("redis server", Verdict.OK, str(local_redis.binary()))
    except PandaError as problem:
        return Finding("redis server", Verdict.FAIL, str(problem), "see there")


def check_database(patient: Patient) -> Finding:
    """Reachable, new enough, migrated."""
    if not patient.database_url:
        return _not_running("database")
    try:
        with psycopg.connect(patient.database_url, connect_timeout=5) as connection:
            version = connection.info.server_version
        if version < OLDEST_POSTGRES:
            return Finding("database", Verdict.FAIL, f"version {version // 10000}", "use PostgreSQL 15 or newer")
        engine = make_engine(patient.database_url, pool_size=1)
        try:
            with engine.connect() as borrowed:
                current = is_current(borrowed)
        finally:
            engine.dispose()
    except (psycopg.Error, SQLAlchemyError, PandaError) as problem:
        return Finding("database", Verdict.FAIL, _first_line(problem), f"see {patient.installation.log('postgres')}")
    if not current:
        return Finding("database", Verdict.FAIL, "not at the newest revision", "panda down, then panda up")
    return Finding("database", Verdict.OK, f"PostgreSQL {version // 10000}.{version % 10000}, migrated")


def check_redis(patient: Patient) -> Finding:
    """Reachable, new enough, and never throws messages out."""
    if not patient.redis_url:
        return _not_running("redis")
    try:
        with redis.Redis.from_url(client_url(patient.redis_url), socket_timeout=5, socket_connect_timeout=5) as client:
            version = str(client.info("server")["redis_version"])
            policy = client.info("memory")["maxmemory_policy"]
    except (redis.RedisError, ValueError) as problem:
        return Finding("redis", Verdict.FAIL, _first_line(problem), f"see {patient.installation.log('redis')}")
    if tuple(map(int, version.split(".")[:2])) < local_redis.OLDEST:
        return Finding("redis", Verdict.FAIL, f"version {version}", "use Redis 6.2 or newer")
    if policy != "noeviction":
        mend = "CONFIG SET maxmemory-policy noeviction"
        return Finding("redis", Verdict.FAIL, f"policy {policy}: it may throw messages out", mend)
    return Finding("redis", Verdict.OK, f"Redis {version}, {policy}")


def check_processes(patient: Patient) -> Finding:
    """Everything that the supervisor started is alive."""
    if not patient.runs:
        return _not_running("processes")
    recorded = {file.stem for file in patient.installation.run.glob("*.json")} - {"supervisor"}
    alive = set(patient.installation.running())
    try:
        listed = set(procfile.read(shipped("Procfile")))
    except PandaError as problem:
        return Finding("processes", Verdict.FAIL, str(problem), "install panda-wms anew")
    if recorded - alive:
        names = ", ".join(sorted(recorded - alive))
        return Finding("processes", Verdict.FAIL, f"dead: {names}", f"see {patient.installation.logs}")
    if listed - alive:
        names = ", ".join(sorted(listed - alive))
        return Finding("processes", Verdict.WARN, f"not started here: {names}", "start them, here or elsewhere")
    return Finding("processes", Verdict.OK, ", ".join(sorted(alive)))


def check_faces(patient: Patient) -> Iterator[Finding]:
    """API and monitor answer; or, while nothing runs, their ports are free."""
    facts = patient.installation.facts() if patient.runs else {}
    settings = patient.settings
    places = {
        "api": (settings.api.host, settings.api.port, "/readyz"),
        "monitor": (settings.monitor.host, settings.monitor_port, "/healthz"),
    }
    for name, (host, port, path) in places.items():
        if facts:
            url = f"{facts.get(name, '')}{path}"
            said = answer(url) if name in facts else "no address yet"
            verdict = Verdict.OK if said == "200" else Verdict.FAIL
            mend = "" if said == "200" else f"see {patient.installation.log(name)}"
            yield Finding(name, verdict, f"{url}: {said}", mend)
        else:
            yield _port(name, host, port)


def _port(name: str, host: str, port: int) -> Finding:
    try:
        if ports.is_free(host, port):
            return Finding(name, Verdict.OK, f"port {port} on {host} is free")
    except PandaError as problem:
        return Finding(name, Verdict.FAIL, str(problem), f"set PANDA_{name.upper()}_HOST")
    return Finding(name, Verdict.WARN, f"port {port} on {host} is taken", "choose others with: panda up --port")


def _not_running(check: str) -> Finding:
    return Finding(check, Verdict.WARN, "nothing runs here", "panda up")


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]
