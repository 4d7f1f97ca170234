"""The fault lab itself: a short run from a fixed seed, and that it finds what it looks for."""

import contextlib
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from livesystem import clean_environ

from panda.chaos import catalogue, faults
from panda.chaos.ask import Line
from panda.chaos.load import Accepted
from panda.chaos.pilots import Seen
from panda.chaos.proof import Proof, prove
from panda.chaos.proxy import Proxy, Weather
from panda.chaos.report import page
from panda.chaos.run import Plan, run
from panda.db.session import run as execute

TESTS = Path(__file__).parents[1]
#: One of each kind, as far as 30 s allow; the rest is for `make chaos`.
SHORT = ("kill-api", "erase-redis", "kill-stage-worker", "lost-answers", "kill-database-backend", "stop-redis",
         "bad-messages", "half-upload", "kill-relay", "cut-requests")  # fmt: skip


@pytest.mark.timeout(420)
def test_under_load_and_faults_no_job_is_lost_and_none_ends_twice(tmp_path):
    chosen = [faults.BY_NAME[name] for name in SHORT]
    plan = Plan(seconds=22, seed=7, rate=40, faults=chosen, pause_s=(0.5, 1.0), rest_s=120, calm_s=2)

    report = run(plan, clean_environ(), tmp_path / "kept", print)

    assert report.holds, report.text()
    assert len(report.faults) >= 5, report.text()
    assert report.n_jobs > 500, report.text()
    assert sum(report.by_status.values()) == report.n_jobs
    assert "| 7 |" in page([report.to_dict()])
    assert (tmp_path / "kept" / "history-7.jsonl").stat().st_size > 0


@pytest.fixture
def looked_at(world):
    """A world as the lab sees its system."""
    return SimpleNamespace(query=world.query, findings=world.findings)


def test_the_lab_finds_a_set_that_was_promised_and_is_gone(world, looked_at):
    promised = Accepted(jobset_id=99, first_panda_id=1, n_jobs=3, key="k", is_real=False)

    proof = prove(looked_at, [promised], Seen(), [])

    assert not proof.holds
    assert proof.lost_sets[0]["jobset_id"] == 99


def test_the_lab_finds_jobs_that_are_gone_and_jobs_that_do_not_end(world, looked_at):
    ids = world.jobs(3)
    world.settle()
    with world.begin() as connection:
        execute(connection, "DELETE FROM jobs WHERE panda_id = %(id)s", {"id": ids[1]})

    proof = prove(looked_at, [], Seen(), [])

    assert [row["panda_id"] for row in proof.open_jobs] == [ids[0], ids[2]]
    assert proof.lost_jobs[0]["there"] == 2
    assert "I1" in {each["invariant"] for each in proof.invariants}
    with world.begin() as connection:  # so that nobody else finds it
        execute(
            connection,
            "TRUNCATE jobs, job_due, ready, job_events, jobsets, jobset_parents, job_counts, job_count_deltas",
        )


def test_the_lab_finds_an_end_that_was_taken_and_forgotten(world, looked_at):
    [panda_id] = world.jobs()
    world.settle()
    seen = Seen()
    seen.ended[panda_id, 1] = "finished"
    seen.start(panda_id, 1, "one")
    seen.start(panda_id, 1, "another")

    proof = prove(looked_at, [], seen, [])

    assert proof.forgotten_ends == [{"attempt": (panda_id, 1), "taken": "finished", "stands": None}]
    assert proof.attempts_given_twice == [(panda_id, 1)]


def test_an_empty_proof_holds_and_anything_found_breaks_it():
    assert Proof().holds
    assert not Proof(double_finals=[{"panda_id": 1}]).holds


@pytest.fixture
def behind_proxy():
    """A server that answers each request with its path, and a proxy before it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with connection, contextlib.suppress(ConnectionError):  # the proxy breaks off as it is told
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    block = connection.recv(65_536)
                    if not block:
                        return
                    request += block
                body = b'{"path": "' + request.split()[1] + b'"}'
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    proxy = Proxy("127.0.0.1", listener.getsockname()[1], seed=1)
    proxy.start()
    yield proxy
    proxy.stop()
    listener.close()


@pytest.mark.parametrize(
    ("weather", "status"),
    [
        (Weather(), 200),
        (Weather(delay_s=0.1), 200),
        (Weather(chunk_bytes=1), 200),
        (Weather(lost_answers=1.0), 0),
        (Weather(busy=1.0), 503),
        (Weather(hold=True), 0),
    ],
)
def test_the_proxy_does_what_it_is_told(behind_proxy, weather, status):
    line = Line(behind_proxy.url, "token", timeout_s=1.0)
    behind_proxy.weather = weather

    answer = line.json("GET", "/somewhere")

    assert answer.status == status
    if status == 503:
        assert answer.retry_after_s == 1
    behind_proxy.weather = Weather()
    assert line.json("GET", "/again").body == {"path": "/again"}  # and it is over when it is over


def test_every_fault_has_a_name_and_a_number_of_the_list():
    names = [fault.name for fault in faults.FAULTS]

    assert len(set(names)) == len(names) >= 30
    assert all(1 <= int(fault.number.removeprefix("F")) <= 40 for fault in faults.FAULTS)


def test_every_fault_of_the_list_is_injected_by_the_lab_or_by_a_test_that_exists():
    in_the_lab = {fault.number for fault in faults.FAULTS}

    assert list(catalogue.ENTRIES) == [f"F{nr}" for nr in range(1, 41)]
    for number, entry in catalogue.ENTRIES.items():
        assert number in in_the_lab or entry.tests, number
        for reference in entry.tests:
            file, _, name = reference.partition("::")
            assert f"def {name}" in (TESTS / file).read_text(encoding="utf-8"), reference


def test_the_page_of_the_lab_holds_the_list_as_it_is():
    shown = (TESTS.parent / "docs" / "reference" / "chaos.md").read_text(encoding="utf-8")

    assert "\n".join(catalogue.lines(faults.FAULTS)) in shown
