"""Documents from outside: said once by somebody, or read again and again; a broken one changes nothing."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from panda.db.session import run, undone
from panda.errors import Invalid
from panda.sites import collecting, removing, siteinfo
from panda.sites.importing import import_documents
from panda.sites.versions import Change
from panda.upstream import sites as upstream

RECORDED = Path(__file__).parents[2] / "data" / "upstream"
EAST = {
    "sites": {"EAST": {"cloud": "ASIA"}},
    "storages": {"EAST-DISK": {"site": "EAST", "root": "east"}},
    "queues": {
        "EAST-Q": {
            "site": "EAST", "storage": "EAST-DISK", "cores": 4, "memory_mb": 8000, "disk_mb": 1, "walltime_s": 3600,
            "architecture": "aarch64", "gpus": 2, "gpu_model": "A100", "software": ["ROOT-6.32"],
            "containers": ["apptainer"], "tags": ["fast"], "read_storages": ["NORTH-DISK"], "write_storage": "SOUTH-DISK",
            "vos": ["atlas"], "working_groups": ["higgs"], "corepower": 12.5, "max_running": 10, "status": "brokeroff",
            "parameters": {"internet_protocol_version": "IPv6"},
        }
    },
}  # fmt: skip


def take(begin, tmp_path, *documents, reason="the new hall", **more):
    with begin() as connection:
        return import_documents(connection, documents, tmp_path / "data", by="olga", reason=reason, **more)


def queue(query, name):
    return query("SELECT * FROM queues WHERE name = %(name)s", name=name)[0]


def recorded(name):
    [file] = RECORDED.glob(f"*{name}.json")
    return json.loads(file.read_text())["response"]


# ---- said once --------------------------------------------------------------------------------------------


def test_a_document_of_our_shape_is_taken_over_with_every_field(sync, begin, query, tmp_path):
    sync()

    done = take(begin, tmp_path, EAST)

    found = queue(query, "EAST-Q")
    assert found.offers == ["fast", "arch:aarch64", "gpu", "gpu:A100", "software:ROOT-6.32", "container:apptainer"]
    assert (found.write_storage, found.read_storages, found.status) == ("SOUTH-DISK", ["NORTH-DISK"], "brokeroff")
    assert (found.vos, found.working_groups, found.corepower, found.max_running) == (["atlas"], ["higgs"], 12.5, 10)
    assert found.parameters == {"internet_protocol_version": "IPv6"}
    [root] = query("SELECT root FROM storages WHERE name = 'EAST-DISK'")
    assert root.root == f"{tmp_path}/data/east"
    assert (done.n_things, len(done.recorded.changes)) == (3, 3)
    [version] = query("SELECT who, source, why FROM site_versions ORDER BY version_id DESC LIMIT 1")
    assert tuple(version) == ("olga", "import", "the new hall")
    [entry] = query("SELECT who, action FROM audit_log ORDER BY audit_id DESC LIMIT 1")
    assert tuple(entry) == ("olga", "import_sites")
    assert take(begin, tmp_path, EAST).recorded.changes == []


def test_what_is_not_said_of_a_thing_stays_and_the_next_start_leaves_it(sync, begin, query, tmp_path):
    sync()

    done = take(begin, tmp_path, {"queues": {"NORTH-Q": {"cores": 16, "status": "offline"}}})
    sync()

    assert done.recorded.changes == [Change("queue", "NORTH-Q", "changed", "cores", 8, 16)]
    assert (queue(query, "NORTH-Q").cores, queue(query, "NORTH-Q").status) == (16, "online")
    take(begin, tmp_path, {"queues": {"NORTH-Q": {"status": "offline"}}}, with_status=True)
    found = queue(query, "NORTH-Q")
    assert (found.status, found.status_by, found.status_reason) == ("offline", "olga", "the new hall")


def test_crics_files_are_taken_over_together(sync, begin, query, tmp_path):
    sync()

    done = take(begin, tmp_path, recorded("schedconfig_pandaqueues.json"), recorded("ddmendpoints.json"))

    assert done.n_things == 33
    found = queue(query, "Q7")
    assert (found.site, found.storage, found.cores, found.walltime_s) == ("LOCAL_SITE", "LOCAL_DATADISK", 1, 345_600)


def test_an_import_brings_back_a_queue_that_is_on_its_way_out(sync, begin, query, tmp_path):
    sync()
    with begin() as connection:
        removing.remove_queue(connection, "SOUTH-Q", by="olga", reason="closed")

    take(begin, tmp_path, {"queues": {"SOUTH-Q": {
        "site": "SOUTH", "storage": "SOUTH-DISK", "cores": 2, "memory_mb": 1, "disk_mb": 1, "walltime_s": 1}}})  # fmt: skip

    found = queue(query, "SOUTH-Q")
    assert (found.status, found.removed_at, found.cores) == ("online", None, 2)


def test_a_dry_run_of_an_import_tells_and_changes_nothing(sync, begin, query, tmp_path):
    sync()

    with begin() as connection, undone(connection):
        done = import_documents(connection, [EAST], tmp_path, by="olga", reason="try")

    assert len(done.recorded.changes) == 3
    assert [row.name for row in query("SELECT name FROM queues")] == ["NORTH-Q", "SOUTH-Q"]


def test_an_import_that_cannot_be_meant_changes_nothing_and_says_what_is_wrong(sync, begin, query, tmp_path):
    sync()
    before = query("SELECT to_jsonb(q) AS row FROM queues q ORDER BY name")
    north = {"nickname": "N", "atlas_site": "NORTH", "status": "online", "astorages": {"pr": ["NORTH-DISK"]}}
    for documents, reason, code, words in (
        ([EAST], " ", "no_reason", "say why"),
        ([{"queues": {"NORTH-Q": {"cores": 0}}}], "x", "bad_site_data", r"\[queues.NORTH-Q\]: cores is 0"),
        ([{"queues": {"NORTH-Q": {"core": 1}}}], "x", "bad_site_data", "unknown setting 'core'"),
        ([{"queues": {"NEW-Q": {"site": "NORTH"}}}], "x", "bad_site_data", r"\[queues.NEW-Q\]: storage is missing"),
        ([{"queues": {"NORTH-Q": {"storage": "TAPE"}}}], "x", "bad_site_data", "unknown storage 'TAPE'"),
        ([{"queues": {"NORTH-Q": {"min_cores": 9}}}], "x", "bad_site_data", "no job would fit"),
        ([{"queues": {"NORTH-Q": {"gpu_model": "A100"}}}], "x", "bad_site_data", "gpus is 0"),
        ([{"queues": {"NORTH-Q": {"cores": 4, "architecture": "x", "tags": ["arch:y"]}}}], "x", "bad_site_data", "tags has arch:y"),
        ([{"queues": {"NORTH-Q": {"parameters": {"a": 1}}}}], "x", "bad_site_data", "wants strings by name"),
        ([{"queues": {"NORTH-Q": {"corepower": "fast"}}}], "x", "bad_site_data", "corepower wants float"),
        ([{"queues": {"NORTH-Q": {"status": "on"}}}], "x", "bad_site_data", "unknown queue status 'on'"),
        ([{"queues": {"../x": {"cores": 1}}}], "x", "bad_name", "is no name"),
        ([{"storages": {"NORTH-DISK": {"kind": "floppy"}}}], "x", "bad_site_data", "unknown mover 'floppy'"),
        ([{"sites": 3}], "x", "bad_document", "wants an object of objects"),
        ([{"N": north | {"status": "odd"}, "M": 1}], "x", "bad_site_data", "queue M is no object"),
        ([{"N": north | {"astorages": {"pr": ["NOWHERE"]}}}], "x", "bad_site_data", "unknown storage 'NOWHERE'"),
        ([EAST, {"queues": {"EAST-Q": {"cores": 8}}}], "x", "bad_document", "stands there twice, with another cores"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=words) as problem:
            take(begin, tmp_path, *documents, reason=reason)
        assert problem.value.code == code, words
    assert query("SELECT to_jsonb(q) AS row FROM queues q ORDER BY name") == before
    assert len(query("SELECT FROM site_versions")) == 1


def test_what_is_exported_in_upstreams_words_comes_back_the_same(sync, begin, query, tmp_path):
    sync()
    take(begin, tmp_path, EAST)
    before = query("SELECT to_jsonb(q) AS row FROM queues q ORDER BY name")
    with begin() as connection:
        queues = {row.name: upstream.queue_data(row, 0) for row in siteinfo.queues(connection)}
        storages = {row.name: upstream.endpoint(row, 1) for row in siteinfo.storages(connection)}

    assert queues["EAST-Q"]["architectures"] == [
        {"type": "cpu", "arch": ["aarch64"]}, {"type": "gpu", "model": ["A100"], "count": 2},
    ]  # fmt: skip
    assert queues["EAST-Q"]["astorages"]["pr"] == ["EAST-DISK", "NORTH-DISK"]
    assert queues["EAST-Q"]["astorages"]["pw"] == ["SOUTH-DISK"]
    assert (queues["EAST-Q"]["corepower"], queues["EAST-Q"]["cloud"], queues["EAST-Q"]["vo_name"]) == (
        12.5,
        "ASIA",
        "atlas",
    )
    assert queues["EAST-Q"]["params"] == {"internet_protocol_version": "IPv6"}
    assert "architectures" not in queues["NORTH-Q"]
    take(begin, tmp_path, queues, storages)
    after = query("SELECT to_jsonb(q) AS row FROM queues q ORDER BY name")
    assert [row.row | {"parameters": {}} for row in after] == [row.row | {"parameters": {}} for row in before]


# ---- read again and again ---------------------------------------------------------------------------------


class Served:
    """An HTTP server that answers with what it is told to."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"{}"
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(served.status)
                self.send_header("Content-Length", str(len(served.body)))
                self.end_headers()
                self.wfile.write(served.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/pandaqueues.json"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def say(self, document: Any) -> None:
        self.status, self.body = 200, json.dumps(document).encode()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    yield server
    server.end()


def cric_queues(*names, **changed):
    return {name: {
        "nickname": name, "atlas_site": "SOUTH", "cloud": "EU", "status": "online", "corecount": 1, "maxrss": 2000,
        "maxwdir": 10_000, "maxtime": 3600, "astorages": {"pr": ["SOUTH-DISK"]}} | changed for name in names}  # fmt: skip


def told(query):
    return {row.key: row.message for row in query("SELECT key, message FROM incidents")}


def test_a_collector_keeps_the_last_good_state_whatever_comes(sync, begin, query, served, tmp_path):
    def collect(**how):
        return collecting.collect(begin, served.url, tmp_path, gone_percent=30, **how)

    sync()
    four = cric_queues("A", "B", "C", "D")
    served.say(four)
    assert collect() == (4, [], "")
    assert (queue(query, "A").cores, queue(query, "A").status) == (1, "online")
    versions = len(query("SELECT FROM site_versions"))
    assert collect() == (0, [], "")

    # what an operator changes stays, until the source says something else
    take(begin, tmp_path, {"queues": {"A": {"cores": 2, "max_ready": 7}}})
    collect()
    assert (queue(query, "A").cores, queue(query, "A").max_ready) == (2, 7)
    served.say(four | cric_queues("A", corecount=8, status="offline"))
    collect()
    assert (queue(query, "A").cores, queue(query, "A").max_ready, queue(query, "A").status) == (8, 7, "online")
    collect(with_status=True)
    assert (queue(query, "A").status, queue(query, "A").status_by) == ("offline", "collector")

    # one entry that cannot be meant leaves what was known of it, and the others follow
    served.say(four | cric_queues("A", maxrss="much") | cric_queues("B", maxrss=4000) | {"C": 7})
    assert collect().problems == ["queue A has maxrss that is no number: 'much'", "queue C is no object"]
    assert (queue(query, "A").cores, queue(query, "B").memory_mb, queue(query, "C").removed_at) == (8, 4000, None)
    assert "queue C is no object" in told(query)["collector: entries"]

    # answers that are broken
    for status, body, words in (
        (500, b"", "answered 500"),
        (200, b"<html>", "it cannot be read"),
        (200, b"[]", "is no object"),
        (200, b"{}", "it names no queue"),
        (200, json.dumps(cric_queues("A", "B")).encode(), "no longer names 2 of 4 queues, among them C, D"),
        (200, json.dumps(cric_queues("A", "B", "C", "D", atlas_site="")).encode(), None),
    ):
        served.status, served.body = status, body
        collected = collect()
        assert (words or "") in collected.problem
        assert collected.n_changes == 0
    assert "no longer names 2 of 4 queues" in told(query)["collector: no answer"]
    assert [row.name for row in query("SELECT name FROM queues WHERE removed_at IS NULL ORDER BY name")] == [
        "A", "B", "C", "D", "NORTH-Q", "SOUTH-Q",
    ]  # fmt: skip

    # one that is gone is taken away, and comes back with the source
    served.say(cric_queues("A", "B", "C"))
    collect()
    assert queue(query, "D").status_reason == f"it is taken away: {served.url} no longer names it"
    served.say(four)
    collect()
    assert (queue(query, "D").removed_at, queue(query, "D").status) == (None, "online")
    assert len(query("SELECT FROM site_versions")) > versions


def test_what_the_installations_file_names_is_not_the_collectors(sync, begin, query, tmp_path):
    sync()
    (tmp_path / "more.json").write_text(json.dumps(cric_queues("NORTH-Q", "A")))
    (tmp_path / "more.toml").write_text('[queues.B]\nsite = "EAST"\nstorage = "SOUTH-DISK"\n')

    collected = collecting.collect(begin, "more.json, more.toml", tmp_path, gone_percent=20)

    assert queue(query, "NORTH-Q").cores == 8
    assert queue(query, "A").cores == 1
    assert collected.problems == ["documents [queues.B]: cores is missing"]
    assert collecting.collect(begin, "nowhere.json", tmp_path, gone_percent=20).problem == (
        "nowhere.json: No such file or directory"
    )


def test_a_read_comes_when_it_is_due(sync, begin, query, tmp_path):
    sync()
    (tmp_path / "more.json").write_text(json.dumps(cric_queues("A")))

    def clock():
        return collecting.collect_if_due(begin, "more.json", tmp_path, every_s=600, gone_percent=20)

    assert collecting.collect_if_due(begin, " ", tmp_path, every_s=600, gone_percent=20) is None
    assert clock() == (1, [], "")
    assert clock() is None
    with begin() as connection:
        run(connection, "UPDATE engine_state SET value = (panda_now() - interval '11 minutes')::text"
                        " WHERE key = 'sites.collected'")  # fmt: skip
    assert clock() == (0, [], "")
