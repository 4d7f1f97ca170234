"""PanDA's logger: what components report, folded, answered for, and never in the way of who reports."""

import json
import logging
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from panda import incident_log
from panda.incident_log import MAX_KEYS, IncidentHandler
from panda.jobs import incidents
from panda.jobs.incidents import Incident
from panda.logs import Log


def report(**more):
    return {"component": "relay", "level": "warning", "key": "late", "message": "the relay is late", **more}


def test_the_same_key_is_one_incident(caller):
    pilot, operator = caller("p", "pilot"), caller("olga", "operator")

    first = pilot.post("/v1/incidents", {"incidents": [report(n=2), report(), report(key="other")]})
    second = pilot.post("/v1/incidents", {"incidents": [report(message="later still")]})
    found = {each["key"]: each for each in operator.get("/v1/incidents").json["data"]}

    assert (first.status_code, first.json["n"], second.json["n"]) == (202, 2, 0)
    assert (found["late"]["n"], found["late"]["message"]) == (4, "later still")
    assert found["other"]["n"] == 1


def test_the_same_key_of_another_component_is_another_incident(caller):
    pilot, operator = caller("p", "pilot"), caller("olga", "operator")

    told = [pilot.post("/v1/incidents", {"incidents": [report(), report(component="api"), report()]}) for _ in range(2)]

    assert [each.json["n"] for each in told] == [2, 0]
    found = {each["component"]: each["n"] for each in operator.get("/v1/incidents").json["data"]}
    assert found == {"relay": 4, "api": 2}


def test_an_incident_is_as_bad_as_the_worst_report(caller):
    pilot, operator = caller("p", "pilot"), caller("olga", "operator")

    for level in ("warning", "critical", "info"):
        pilot.post("/v1/incidents", {"incidents": [report(level="info"), report(level=level)]})

    assert [each["level"] for each in operator.get("/v1/incidents").json["data"]] == ["critical"]


@pytest.mark.usefixtures("by_hand")
def test_who_reports_the_same_at_the_same_time_makes_one_incident(begin):
    every, barrier = [], threading.Barrier(4)

    def tell():
        barrier.wait()
        with begin() as connection:
            every.append(incidents.report(connection, [Incident("relay", "error", "late", "it is late")]))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(every) == [0, 0, 0, 1]
    with begin() as connection:
        assert [row.n for row in incidents.newest(connection)] == [4]


def test_the_last_who_looks_after_it_owns_it_and_what_people_say_stays(caller):
    olga, peter = caller("olga", "operator"), caller("peter", "operator")
    olga.post("/v1/incidents", {"incidents": [report()]})
    [number] = [each["incident_id"] for each in olga.get("/v1/incidents").json["data"]]

    olga.post(f"/v1/incidents/{number}", {"action": "acknowledge", "comment": "I look"})
    taken = peter.post(f"/v1/incidents/{number}", {"action": "acknowledge", "comment": "my shift"})
    closed = olga.post(f"/v1/incidents/{number}", {"action": "close"})

    assert taken.json["acknowledged_by"] == "peter"
    assert (closed.json["acknowledged_by"], closed.json["closed_by"]) == ("peter", "olga")
    assert closed.json["comment"] == "olga: I look\npeter: my shift"


def test_a_closed_incident_is_not_opened_again(caller):
    operator = caller("olga", "operator")
    operator.post("/v1/incidents", {"incidents": [report()]})
    [number] = [each["incident_id"] for each in operator.get("/v1/incidents").json["data"]]

    closed = operator.post(f"/v1/incidents/{number}", {"action": "close", "comment": "mended"})
    again = operator.post(f"/v1/incidents/{number}", {"action": "acknowledge"})
    operator.post("/v1/incidents", {"incidents": [report()]})

    assert (closed.json["closed_by"], closed.json["comment"]) == ("olga", "olga: mended")
    assert (again.status_code, again.json["code"]) == (409, "incident_closed")
    assert len(operator.get("/v1/incidents").json["data"]) == 2
    assert [d["action"] for d in operator.get("/v1/audit?who=olga").json["data"]] == ["close_incident"]


@pytest.mark.parametrize(
    "reports",
    [[], [report(level="loud")], [report(n=0)], [report(message="")], [report(context={"a": 5})], [report()] * 201],
)
def test_a_report_that_cannot_be_meant_is_refused(caller, reports):
    answer = caller("p", "pilot").post("/v1/incidents", {"incidents": reports})

    assert answer.status_code == 422
    assert answer.json["code"] == "invalid"


class Server:
    """Takes what a handler sends; while it is away it answers 503. A report that it cannot take it refuses with all
    that came along."""

    def __init__(self):
        self.got, self.is_away, self.refuses, self.pause_s = [], False, "", 0.0
        outer = self

        class Take(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(outer.pause_s)
                is_refused = outer.refuses and any(each["key"] == outer.refuses for each in body["incidents"])
                if not outer.is_away and not is_refused:
                    outer.got += body["incidents"]
                self.send_response(503 if outer.is_away else 422 if is_refused else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Take)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def handler(server):
    handler = IncidentHandler("tests", server.url, "token")
    logging.getLogger("tested").addHandler(handler)
    logging.getLogger("tested").propagate = False  # pytest's own handlers would raise what ours keeps in
    yield handler
    logging.getLogger("tested").propagate = True
    logging.getLogger("tested").removeHandler(handler)
    handler.close()


def until(is_so):
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def test_warnings_are_folded_and_shipped_and_info_is_not(server, handler):
    log = Log("tested")
    for n in range(50):
        log.warning("the disk is slow", ms=n)
    log.info("all is well")
    handler.flush()

    assert until(lambda: sum(each["n"] for each in server.got) == 50)
    assert {each["key"] for each in server.got} == {"tested: the disk is slow"}
    assert server.got[-1]["context"] == {"ms": "49"}


def test_nobody_waits_while_the_server_is_away_and_nothing_is_lost(server, handler):
    server.is_away = True
    log = Log("tested")
    began = time.monotonic()
    for _ in range(2_000):
        log.error("no room")
    took_s = time.monotonic() - began
    handler.flush()
    server.is_away = False

    assert took_s < 2
    assert until(lambda: sum(each["n"] for each in server.got) == 2_000)


def test_too_many_kinds_are_counted_not_kept(server, handler):
    server.is_away = True
    for n in range(MAX_KEYS + 300):
        logging.getLogger("tested").warning(f"kind {n}")

    assert len(handler._gathered) <= MAX_KEYS + 1
    server.is_away = False
    handler.flush()
    assert until(lambda: any(each["key"] == "tests: incidents dropped" for each in server.got))


def test_a_report_that_is_refused_takes_no_other_with_it_and_is_told_as_dropped(server, handler):
    server.refuses = "tested: kind 7"
    for n in range(20):
        for _ in range(n + 1):
            logging.getLogger("tested").warning(f"kind {n}")
    handler.flush()

    assert until(lambda: any(each["key"] == "tests: incidents dropped" for each in server.got))
    told = {}
    for each in server.got:
        told[each["key"]] = told.get(each["key"], 0) + each["n"]
    assert told.pop("tests: incidents dropped") == 8
    assert told == {f"tested: kind {n}": n + 1 for n in range(20) if n != 7}


def test_nobody_waits_for_a_server_that_is_slow(server, handler):
    server.pause_s = 0.5
    log = Log("tested")
    log.error("first")
    handler.flush()
    began = time.monotonic()
    for _ in range(1_000):
        log.error("later")
    took_s = time.monotonic() - began
    handler.flush()

    assert took_s < 2
    assert until(lambda: sum(each["n"] for each in server.got) == 1_001)


def test_a_worse_report_of_the_same_kind_makes_all_of_them_worse(server, handler):
    log = Log("tested")
    log.warning("no room")
    log.error("no room")
    log.warning("no room")
    handler.flush()

    assert until(lambda: sum(each["n"] for each in server.got) == 3)
    assert "error" in {each["level"] for each in server.got}


def test_what_no_database_holds_loses_no_incident(server, handler, caller, monkeypatch):
    """The path of a page, or what a payload printed, may hold anything; the server would refuse all of it."""
    tested = logging.getLogger("tested")  # past pytest's own handlers: what they keep is sent between processes
    monkeypatch.setattr(tested, "propagate", False)
    monkeypatch.setattr(tested, "handlers", [handler])
    Log("tested").warning("page not read", path="/queues/a\x00b", text="\udc80")
    logging.getLogger("tested").warning("odd \x00 kind \ud800")
    handler.flush()

    assert until(lambda: len(server.got) == 2)
    sent = [each | {"component": "tests"} for each in server.got]
    assert caller("p", "pilot").post("/v1/incidents", {"incidents": sent}).json["n"] == 2
    assert server.got[0]["context"] == {"path": "/queues/a\N{REPLACEMENT CHARACTER}b", "text": "?"}


def test_a_record_that_cannot_be_read_hurts_nobody(handler):
    handler.handle(logging.makeLogRecord({"msg": "%d is no number", "args": ("x",), "levelno": logging.WARNING}))

    assert handler._n_dropped == 1


def test_a_process_that_cannot_report_itself_says_so(settings, tmp_path, caplog):
    without = replace(settings, store=replace(settings.store, data_dir=str(tmp_path)))

    assert incident_log.install("tests", without) is None
    assert "warnings of this process do not become incidents" in caplog.text
