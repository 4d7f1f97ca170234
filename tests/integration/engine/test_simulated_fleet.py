"""The fleet simulator against the real API on a socket and a real database, with the engine turning beside it."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from panda.api.app import create_app
from panda.auth import tokens
from panda.cli.main import run
from panda.dispatcher import matching
from panda.errors import Forbidden, NotFound, Unavailable
from panda.jobs import kill as killing
from panda.simulation import pilots
from panda.simulation.fleet import Plan, play
from panda.simulation.fleetfile import read


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128


class Silent(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass


class Site:
    """A server with two queues, for fleets to play at."""

    def __init__(self, world, url, token, pilot_token):
        self.world, self.url, self.token, self.pilot_token = world, url, token, pilot_token

    def play(self, document, **plan):
        plan = {"token": self.token, "pilot_token": self.pilot_token, "seconds": 30.0, "drain_s": 30.0,
                "sample_s": 0.2} | plan  # fmt: skip
        return play(Plan(read(document, "test"), self.url, **plan), print)


@pytest.fixture
def site(world, monkeypatch) -> Iterator[Site]:
    matching.forget()
    monkeypatch.setattr(pilots, "TRY_AGAIN_S", 0.3)
    with world.begin() as connection:
        token = tokens.create(connection, "root", ["admin"], "test", 3600)
        pilot_token = tokens.create(connection, "pilots", ["pilot"], "test", 3600)
    server = make_server("127.0.0.1", 0, create_app(world.begin, world.settings), Server, Silent)
    over = threading.Event()

    def turn():
        while not over.is_set():
            if not world.turn() and not world.sweep():
                over.wait(0.05)

    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}),
               threading.Thread(target=turn)]  # fmt: skip
    for thread in threads:
        thread.start()
    yield Site(world, f"http://127.0.0.1:{server.server_port}", token, pilot_token)
    over.set()
    server.shutdown()
    server.server_close()
    for thread in threads:
        thread.join()
    world.settle()


def pause():
    """The engine turns in another thread."""
    threading.Event().wait(0.05)


#: Jobs over in a moment, so that what is tested is what is said of them.
QUICK = {"profiles": {"ok": {"like": "ok", "wall_s": [0.0, 0.2], "idle_s": 0.1, "log_bytes": 300}}}


def fleet(*profiles, load=(), **more):
    groups = [{"queues": ["*-Q"], "pilots": 2, "slots": 2, "cores": 1, "starts_s": [0, 0], "profile": profile}
              for profile in profiles]  # fmt: skip
    return {"groups": groups, "load": list(load), **QUICK, **more}


def test_a_fleet_eats_the_load_and_the_books_agree_with_the_database(site):
    loads = [{"jobs": 30, "per_set": 10, "waiting": 25}, {"jobs": 10, "owner": "anna"}]
    report = site.play(fleet("ok", load=loads), jobs=40)

    assert (report.n_submitted, report.n_ended, report.n_left) == (40, 40, 0)
    assert report.ends == {"finished": 40}
    assert report.refusals == {}
    assert {"acquire", "update", "log", "submit", "tokens", "queues"} <= set(report.requests)
    archived = "SELECT owner FROM jobs_archive WHERE status = 'finished'"
    while len(owners := [row.owner for row in site.world.query(archived)]) < 40:
        pause()
    assert Counter(owners) == {"root": 30, "anna": 10}
    moves = site.world.query("SELECT DISTINCT now FROM job_events")
    assert {"starting", "running", "finished"} <= {row.now for row in moves}
    [log] = site.world.query("SELECT count(*) AS n, min(size_bytes) AS least FROM job_logs")
    assert (log.n, log.least) == (40, 300)


@pytest.mark.parametrize(
    ("profile", "plan", "ends", "stored"),
    [
        ({"like": "black-hole", "wall_s": [0, 0]}, {"jobs": 4}, {"failed:1099": 4}, "pilot:1099"),
        ({"like": "failing-stage-out", "wall_s": [0, 0]}, {"jobs": 4}, {"failed:1137": 4}, "pilot:1137"),
        ({"like": "silent", "wall_s": [0, 0]}, {"jobs": 4}, {"silent": 4}, None),
        ({"like": "late", "wall_s": [0, 0], "returns_s": 4}, {"jobs": 4}, {"already_done": 4},
         "dispatch:lost_heartbeat"),
        ({"like": "expired-token", "wall_s": [1, 1], "token_s": 1.0}, {"jobs": 4}, {"finished": 4}, None),
    ],
    ids=["black hole", "failing stage-out", "silent", "late", "expired token"],
)  # fmt: skip
def test_what_goes_wrong_at_a_site_looks_to_the_server_as_it_does_in_earnest(site, profile, plan, ends, stored):
    load = {"jobs": 4, "max_attempts": 1, "waiting": 4}
    document = fleet("bad", load=[load], profiles={"bad": profile | {"idle_s": 0.1}})
    object.__setattr__(site.world.settings.dispatcher, "lease_s", 1 if profile["like"] == "late" else 120)

    report = site.play(document, **plan)

    assert report.ends == ends
    failed = site.world.query("SELECT DISTINCT error_code FROM jobs WHERE status = 'failed'")
    assert [row.error_code for row in failed] == ([stored] if stored else [])
    if profile["like"] == "expired-token":
        assert sum(n for told, n in report.refusals.items() if told.endswith("401 unauthenticated")) > 0
        assert site.world.query("SELECT FROM tokens WHERE owner = 'simulated-pilots'")


def test_a_queue_that_is_closed_or_down_is_quiet_for_that_time(site):
    document = fleet(
        "gone", profiles={"gone": {"like": "ok", "wall_s": [60, 60], "down_s": [3.0, 60.0], "idle_s": 0.1}},
        load=[{"jobs": 4, "waiting": 4}], settle_s=60,
        events=[{"at_s": 2, "queues": ["SOUTH-*"], "status": "offline", "reason": "cooling"}],
    )  # fmt: skip

    report = site.play(document, seconds=4)

    assert report.ends == {"down": report.n_taken}
    assert report.n_taken > 0
    assert report.n_ended == report.n_left == 0
    [queue] = site.world.query("SELECT status, status_reason FROM queues WHERE name = 'SOUTH-Q'")
    assert tuple(queue) == ("offline", "cooling")


def test_a_killed_job_is_reported_as_cancelled(site):
    profiles = {"long": {"like": "ok", "wall_s": [60, 60]}}
    accepted = site.world.submit(jobs=[{"command": ["true"]}])

    def kill():
        while not site.world.query("SELECT FROM leases"):
            pause()
        with site.world.begin() as connection:
            killing.request(connection, [accepted.first_panda_id], by="alice", reason="enough")

    killer = threading.Thread(target=kill)
    killer.start()
    object.__setattr__(site.world.settings.dispatcher, "heartbeat_s", 1)
    report = site.play(fleet("long", profiles=profiles), jobs=1)
    killer.join()

    assert report.ends == {"cancelled": 1}
    assert site.world.status(accepted.first_panda_id) == "cancelled"


def test_jobs_that_others_submitted_are_known_by_their_share_and_those_with_outputs_fail(site):
    document = {"command": ["true"], "max_attempts": 1, "env": {"SIM_WALL_S": "2-3"}}
    site.world.submit(jobs=[document, document, document | {"outputs": ["x.root"]}])

    report = site.play(fleet("ok"), jobs=3)

    assert max(sample.cores.get("default", 0) for sample in report.samples) > 0
    assert report.ends == {"finished": 2, "failed:1137": 1}


def test_what_the_server_refuses_ends_the_simulation_with_a_sentence(site):
    cases = [
        ({"pilot_token": "panda_x"}, fleet("ok"), Forbidden, "may not see queues"),
        ({"token": "panda_x"}, fleet("ok", load=[{}]), Unavailable, "share default are refused: 401 unauthenticated"),
        ({}, fleet("ok", load=[{"share": "nobodys"}]), Unavailable, "422 unknown_share"),
        ({}, {"groups": [{"queues": ["X*"], "pilots": 1}]}, NotFound, "no queue like X"),
        ({"token": ""}, fleet("ok", load=[{"owner": "anna"}]), Unavailable, "no token can be made for anna"),
    ]
    for plan, document, error, said in cases:
        with pytest.raises(error, match=said):
            site.play(document, **plan)


def test_the_command_writes_a_report_for_people_and_for_programs(site, tmp_path, monkeypatch, capsys):
    (tmp_path / "fleet.toml").write_text('groups = [{queues = ["NORTH-Q"], pilots = 1}]\n[[load]]\njobs = 2\n')
    (tmp_path / "pilot-token").write_text(site.pilot_token)
    monkeypatch.setenv("PANDA_URL", site.url)
    monkeypatch.setenv("PANDA_TOKEN", site.token)
    monkeypatch.setenv("PANDA_DATA_DIR", str(tmp_path))
    words = ["simulate", "fleet", str(tmp_path / "fleet.toml"), "--seconds", "1", "--drain", "0"]

    assert run([*words, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_submitted"] == 2
    assert run([*words, "--pilots-only"]) == 0
    assert "seed 1: 1 pilots at 1 queues" in capsys.readouterr().out
    assert run([*words, "--pilot-token-file", str(tmp_path / "none")]) == 1
    assert "no token for the pilots" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_named():
    document = read({"groups": [{"queues": ["*"], "pilots": 1}]}, "test")

    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not tell its queues: the server does not answer"):
        play(Plan(document, "http://127.0.0.1:1", "t"), print)


@pytest.mark.parametrize(
    "told",
    [b"<html>hello</html>", b"[]", b'{"data": 7, "page": {}}', b'{"data": [{"name": "Q"}], "page": {"next": null}}'],
)
def test_a_server_that_is_no_api_of_ours_is_told_so(told):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if told.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_):
            pass

    document = read({"groups": [{"queues": ["*"], "pilots": 1}]}, "test")
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(Unavailable, match=r"is no API of PanDA|does not tell its queues"):
            play(Plan(document, url, "t"), print)
        server.shutdown()
