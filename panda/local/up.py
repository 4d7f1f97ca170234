"""`panda up` and `panda down`: a whole system, its state in one folder."""

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from panda import logs
from panda.errors import Conflict, Invalid, PandaError, Unavailable, UnknownName
from panda.local import ports, processes, procfile
from panda.local.installation import SUPERVISOR, Installation
from panda.local.postgres import START_S, EmbeddedPostgres
from panda.local.processes import Known, wait_until
from panda.local.redis import EmbeddedRedis
from panda.local.shipped import shipped
from panda.local.supervisor import OTHER, WORKER, Supervised, Supervisor
from panda.settings import Settings, load

OK, FAILED = 0, 1
READY_S = 180.0
"""The whole system answers within this, or `panda up` gives up."""
DOWN_S = 60.0
"""The supervisor ends within this, or it is killed and we end the rest."""


def run_up(
    data: Path | str,
    port: int | None = None,
    *,
    detach: bool = False,
    only: Collection[str] = (),
    without: Collection[str] = (),
    file: Path | str | None = None,
    bare: bool = False,
) -> int:
    """Start a system and, unless `detach`, keep it running until SIGTERM or SIGINT.

    When everything answers, one line of JSON goes to stdout: where it listens, where the token is.

    Args:
        data: folder of all its state.
        port: of the API, the monitor takes the next one; 0: two free ones; None: as configured.
        detach: return when everything answers; `run_down` ends it.
        only, without: names of the Procfile to start, or to leave out.
        file: another Procfile than the installation's.
        bare: no migration, no sites, no token: the stores and the processes alone.
    Returns: an exit code.
    """
    installation = Installation(Path(data))
    try:
        installation.make()
        if detach:
            return _detached(installation, port, only, without, Path(file) if file else None, bare)
        logs.setup(os.environ.get("PANDA_LOG_LEVEL", "INFO"))
        lines = _chosen(procfile.read(Path(file) if file else shipped("Procfile")), only, without)
        with installation.held():
            return _run(installation, lines, _environ(installation, port), bare)
    except PandaError as problem:
        return _say(f"panda up: {problem}")


def run_down(data: Path | str) -> int:
    """End the system whose state is in `data`; fine if none runs.

    Returns: an exit code."""
    installation = Installation(Path(data))
    supervisor = installation.supervisor()
    if supervisor is not None:
        with suppress(ProcessLookupError):
            os.kill(supervisor.pid, signal.SIGTERM)
        if not wait_until(lambda: not supervisor.is_alive(), DOWN_S, every_s=0.1):
            _say(f"panda down: the supervisor, process {supervisor.pid}, does not end; killing it")
            with suppress(ProcessLookupError):
                os.kill(supervisor.pid, signal.SIGKILL)
            wait_until(lambda: not supervisor.is_alive(), 5)
    ended: list[str] = []
    try:
        if installation.run.is_dir():
            with installation.held():
                ended = installation.end_leftovers()
    except Conflict as problem:  # somebody started it again already
        return _say(f"panda down: {problem}")
    if supervisor is None and not ended:
        _say(f"nothing runs in {installation.folder}")
    elif ended:
        _say(f"ended what was left in {installation.folder}: {', '.join(ended)}")
    left = installation.running()
    return _say(f"panda down: still there: {', '.join(left)}") if left else OK


def _run(installation: Installation, lines: dict[str, str], environ: dict[str, str], bare: bool) -> int:
    supervisor = Supervisor(installation)
    supervisor.take_signals()
    installation.end_leftovers()
    settings = load(environ=environ)
    _check_ports(settings, lines)
    us = Known.of(os.getpid())
    record = installation.record(SUPERVISOR)
    if us is not None:
        us.write(record)
    stores = _stores(installation, settings)
    try:
        for store in stores:
            _start_store(supervisor, installation, store)
            environ |= {f"PANDA_{'DATABASE' if store.name == 'postgres' else 'REDIS'}_URL": store.url}
        if not bare and not supervisor.is_asked_to_end:
            _prepare(installation, environ)
        addresses = _addresses(installation, settings)
        if us is not None:
            stored = {name: environ.get(f"PANDA_{name.upper()}", "") for name in ("database_url", "redis_url")}
            us.write(record, **addresses, **stored)
        children = _children(installation, lines, environ)
        for wave in (children[:1], children[1:]):  # the first serves the others: it ends after them
            if not supervisor.is_asked_to_end:
                supervisor.start(wave)
        if supervisor.until(lambda: supervisor.is_settled and not _not_ready(settings, lines), READY_S):
            sys.stdout.write(json.dumps(addresses) + "\n")
            sys.stdout.flush()
            supervisor.watch()
        elif not supervisor.is_asked_to_end:
            raise Unavailable(f"not ready after {READY_S:.0f} s: {'; '.join(_not_ready(settings, lines))}")
        return OK
    finally:
        supervisor.end()
        for store in reversed(stores):
            store.stop()
        record.unlink(missing_ok=True)


def _environ(installation: Installation, port: int | None) -> dict[str, str]:
    """What every process of the system sees."""
    environ = dict(os.environ) | {"PANDA_DATA_DIR": str(installation.folder)}
    if "PANDA_CONFIG" in environ:  # processes run in the data folder
        named = environ["PANDA_CONFIG"].split(os.pathsep)
        environ["PANDA_CONFIG"] = os.pathsep.join(str(Path(name).absolute()) for name in named if name)
    api = load(environ={name: text for name, text in environ.items() if name != "PANDA_API_PORT" or port is None}).api
    if port is None:
        port = api.port
    elif port == 0:
        port = ports.free_pair(api.host)
    return environ | {
        "PANDA_API_HOST": api.host,
        "PANDA_API_PORT": str(port),
        "PANDA_API_WORKERS": str(api.workers),
        "PANDA_API_THREADS": str(api.threads),
        "PANDA_API_BLOCKING_THREADS": str(api.threads + api.max_streams),
    }


def _chosen(lines: dict[str, str], only: Collection[str], without: Collection[str]) -> dict[str, str]:
    for name in (*only, *without):
        if name not in lines:
            raise UnknownName("process", name, list(lines))
    chosen = {n: line for n, line in lines.items() if (not only or n in only) and n not in without}
    if not chosen:
        raise Invalid("no process is left to start")
    return chosen


def _stores(installation: Installation, settings: Settings) -> list[EmbeddedPostgres | EmbeddedRedis]:
    """The stores that we run ourselves: those that no URL names."""
    stores: list[EmbeddedPostgres | EmbeddedRedis] = []
    if not settings.store.database_url:
        stores.append(EmbeddedPostgres(installation.folder / "postgres", log=installation.log("postgres")))
    if not settings.store.redis_url:
        stores.append(EmbeddedRedis(installation.folder / "redis", log=installation.log("redis")))
    return stores


def _start_store(supervisor: Supervisor, installation: Installation, store: EmbeddedPostgres | EmbeddedRedis) -> None:
    mend = store.set_files_aside if isinstance(store, EmbeddedRedis) else None
    supervisor.start([Supervised(store.name, store.launch, store.stop_ladder, mend=mend)])
    if supervisor.until(store.is_ready, START_S):
        store.make_ready()
    elif not supervisor.is_asked_to_end:
        raise Unavailable(f"{store.name} does not answer:\n{processes.tail(installation.log(store.name))}")


def _prepare(installation: Installation, environ: dict[str, str]) -> None:
    log = installation.log("preparation")
    begun = log.stat().st_size if log.exists() else 0
    program = [sys.executable, "-P", "-m", "panda.local.preparation"]
    code = processes.spawn(program, log, environ=environ, folder=installation.folder).wait()
    if code != 0:
        said = log.read_bytes()[begun:] if log.stat().st_size >= begun else log.read_bytes()
        raise Unavailable(f"the database could not be prepared:\n{said.decode(errors='replace').strip()}")


def _children(installation: Installation, lines: dict[str, str], environ: dict[str, str]) -> list[Supervised]:
    return [_child(installation, name, procfile.command(line, environ), environ) for name, line in lines.items()]


def _child(installation: Installation, name: str, words: list[str], environ: dict[str, str]) -> Supervised:
    def launch() -> subprocess.Popen[bytes]:
        return processes.spawn(words, installation.log(name), environ=environ, folder=installation.folder)

    return Supervised(name, launch, WORKER if procfile.is_worker(words) else OTHER)


def _check_ports(settings: Settings, lines: Collection[str]) -> None:
    wanted = {"api": (settings.api.host, settings.api.port), "monitor": _monitor_at(settings)}
    for name, (host, port) in wanted.items():
        if name in lines and not ports.is_free(host, port):
            raise Conflict(f"port {port} on {host}, for the {name}, is taken; choose others with: --port")


def _monitor_at(settings: Settings) -> tuple[str, int]:
    return settings.monitor.host, settings.monitor_port


def _addresses(installation: Installation, settings: Settings) -> dict[str, object]:
    monitor = ports.url(*_monitor_at(settings))
    return {
        "api": ports.url(settings.api.host, settings.api.port),
        "monitor": monitor,
        "flower": monitor + "/flower/",
        "token_file": str(installation.token_file),
        "data": str(installation.folder),
        "pid": os.getpid(),
    }


def _not_ready(settings: Settings, lines: Collection[str]) -> list[str]:
    """What does not answer yet, and how not."""
    asked = {
        "api": ports.url(settings.api.host, settings.api.port) + "/readyz",
        "monitor": ports.url(*_monitor_at(settings)) + "/healthz",
    }
    answers = {name: answer(url) for name, url in asked.items() if name in lines}
    return [f"{name}: {said}" for name, said in answers.items() if said != "200"]


def answer(url: str) -> str:
    """The status that a GET of `url` is answered with, or why there is none. No proxy is asked."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=2) as reply:
            return str(reply.status)
    except urllib.error.HTTPError as refused:
        return str(refused.code)
    except (OSError, http.client.HTTPException) as problem:
        return str(problem)


def _detached(
    installation: Installation,
    port: int | None,
    only: Collection[str],
    without: Collection[str],
    file: Path | None,
    bare: bool,
) -> int:
    """Start the supervisor in a session of its own and wait for its line."""
    given = {"data": str(installation.folder), "port": port, "only": [*only], "without": [*without], "bare": bare}
    given |= {} if file is None else {"file": str(file.absolute())}
    words = [sys.executable, "-P", "-m", "panda.local.detached", json.dumps(given)]
    log = installation.log(SUPERVISOR)
    with log.open("ab") as errors:
        begun = errors.tell()
        supervisor = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
    try:
        line = supervisor.stdout.readline() if supervisor.stdout is not None else b""
        if line:
            sys.stdout.write(line.decode())
            return OK
        code = supervisor.wait()
    except KeyboardInterrupt:
        supervisor.terminate()
        code = supervisor.wait()
    said = log.read_bytes()[begun:].decode(errors="replace").strip()
    why = said.rpartition("panda up: ")  # what stands before is its log
    _say("".join(why[1:]) or f"the supervisor ended with {code}")
    return code or FAILED


def _say(sentence: str) -> int:
    sys.stderr.write(sentence + "\n")
    return FAILED
