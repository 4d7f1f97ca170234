"""Faults of those who call: pilots and clients that die, fall silent, crowd, contradict each other, talk nonsense."""

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from panda.chaos.ask import Line
from panda.chaos.lab import Broken, Lab, NotPossible, send, standing_still
from panda.chaos.system import SETTINGS, descendants

LEASE_S = float(str(SETTINGS["dispatcher_lease_s"]))
CROWD = 60


def kill_pilot(lab: Lab) -> None:
    """kill -9 of a real pilot."""
    pilots = list(lab.system.pilots().values())
    send([lab.random.choice(pilots)] if pilots else [])


def stop_pilot(lab: Lab) -> None:
    """A real pilot stands still for longer than its leases, then goes on."""
    pilots = list(lab.system.pilots().values())
    with standing_still([lab.random.choice(pilots)] if pilots else []):
        lab.wait(LEASE_S + 3)


def kill_payload(lab: Lab) -> None:
    """kill -9 of something below a real pilot."""
    payloads = [child for pilot in lab.system.pilots().values() for child in descendants(pilot)]
    send([lab.random.choice(payloads)] if payloads else [])


def silent_pilots(lab: Lab) -> None:
    """Half of the played pilots fall silent for longer than their leases, then report as if nothing had been."""
    some = list(lab.pilots)[::2]
    for pilot in some:
        pilot.is_silent.set()
    lab.wait(LEASE_S + 4)
    for pilot in some:
        pilot.is_silent.clear()


def crowd(lab: Lab) -> None:
    """Many pilots that were never there before ask at the same moment, for one job each."""
    barrier = threading.Barrier(CROWD)
    _together([pilot.turn for pilot in (lab.newcomer() for _ in range(CROWD))], barrier)


def contradict(lab: Lab) -> None:
    """At one moment the same job sets are cancelled and retried, as wholes and job by job, each twice."""
    calls: list[Callable[[], object]] = []
    for accepted in lab.random.sample(list(lab.accepted[-40:]), min(3, len(lab.accepted))):
        whole = f"/v1/jobsets/{accepted.jobset_id}"
        one = f"/v1/jobs/{accepted.first_panda_id + lab.random.randrange(accepted.n_jobs)}"
        for path in (f"{whole}/cancel", f"{whole}/retry", f"{one}/cancel", f"{one}/retry"):
            calls += [lambda path=path: lab.line.json("POST", path, {"reason": "chaos"})] * 2  # type: ignore[misc]
    if not calls:
        raise NotPossible("no job set was accepted yet")
    _together(calls, threading.Barrier(len(calls)))


def _together(calls: Sequence[Callable[[], object]], barrier: threading.Barrier) -> None:
    def wait_and(call: Callable[[], object]) -> None:
        with suppress(threading.BrokenBarrierError):
            barrier.wait(10)
            call()

    threads = [threading.Thread(target=wait_and, args=(call,), daemon=True) for call in calls]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)


def half_upload(lab: Lab) -> None:
    """A client goes away in the middle of a sandbox; then the name must not exist."""
    content = lab.random.randbytes(200_000)
    name = hashlib.sha256(content).hexdigest()
    with suppress(OSError), socket.create_connection((lab.line.host, lab.line.port), timeout=5) as line:
        head = f"PUT /v1/sandboxes/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lab.system.token}\r\n"
        line.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:70_000])
    lab.wait(1)
    if lab.line.json("GET", f"/v1/sandboxes/{name}").is_ok:
        raise Broken(f"half of sandbox {name} is taken for the whole")


def nonsense(lab: Lab) -> None:
    """Requests that cannot be meant: none may be taken, and none may be the server's fault."""
    job = {"command": ["true"]}
    bodies = [
        b"", b"\xff\xfe\x00", b"null", b"[" * 50_000, b'{"name": "x", "jobs": [{"command": ["a\\u0000b"]}]}',
        json.dumps({"name": "x", "jobs": [job | {"cores": 10**30}]}).encode(),
        json.dumps({"name": "x", "jobs": [job], "depends_on": [-1, 2**62]}).encode(),
        json.dumps({"name": "x", "jobs": [job], "no_such_word": 1}).encode(),
        b'{"name": "x", "jobs": [{"command": 7}]}', os.urandom(2000),
    ]  # fmt: skip
    for _ in range(40):
        path = lab.random.choice(["/v1/jobsets", "/v1/pilots/acquire", "/v1/pilots/update", "/v1/pilots/heartbeat"])
        body = lab.random.choice(bodies)
        answer = lab.line.send("POST", path, body, Content_Type="application/json", Idempotency_Key="nonsense")
        if answer.is_ok or answer.status in (500, 501, 502):
            raise Broken(f"{path} answers {answer.status} to {body[:80]!r}")


def close_queue(lab: Lab) -> None:
    """A queue goes offline under its jobs, and comes back."""
    lab.line.json("POST", "/v1/queues/PLAYED-Q/status", {"status": "offline", "reason": "chaos"})
    lab.wait(3)
    open_queue_again(lab.line)


def open_queue_again(line: Line) -> None:
    """Whatever was cut short: the queue is open."""
    for _ in range(60):
        if line.json("POST", "/v1/queues/PLAYED-Q/status", {"status": "online", "reason": "chaos is over"}).is_ok:
            return
        time.sleep(1)
