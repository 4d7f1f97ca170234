"""CRIC's words become ours: what is left open gets a number, what cannot be meant is named."""

import json
from pathlib import Path

import pytest

from panda.errors import Invalid, UnknownName
from panda.sites import cric, importing

RECORDED = Path(__file__).parents[2] / "data" / "upstream"
QUEUE = {
    "nickname": "Q", "atlas_site": "NORTH", "cloud": "EU,US", "state": "ACTIVE", "status": "online", "corecount": 8,
    "maxrss": 16000, "maxwdir": 50000, "maxtime": 345600, "minrss": 4000, "mintime": 0, "corepower": 12.5,
    "astorages": {"pr": ["A", "B"], "pw": ["C"], "pl": ["C"], "read_lan": ["B", "D"]},
    "architectures": [{"arch": ["aarch64"], "type": "cpu"}, {"type": "gpu", "model": ["A100"], "vendor": ["nvidia"]}],
    "container_type": "singularity:pilot;docker:wrapper", "releases": ["Athena-24.0"], "is_cvmfs": True,
    "vo_name": "atlas", "params": {"internet_protocol_version": "IPv4", "nested": {}, "n": 3}, "copytools": {"mv": {}},
}  # fmt: skip
ENDPOINT = {
    "site": "NORTH", "state": "ACTIVE", "rprotocols": {},
    "arprotocols": {"read_wan": [{"endpoint": "davs://se.example.org:443", "path": "/rucio/", "id": 1}]},
}  # fmt: skip


def recorded(name):
    [file] = RECORDED.glob(f"*{name}.json")
    return json.loads(file.read_text())["response"]


def queue(**changed):
    return cric.read_queues({"Q": QUEUE | changed})


def endpoint(**changed):
    return cric.read_endpoints({"A": ENDPOINT | changed})


def test_a_queue_of_crics_is_one_of_ours():
    reading = queue()

    assert reading.problems == {}
    assert reading.given["site", "NORTH"] == {"cloud": "EU"}
    assert reading.given["queue", "Q"] == {
        "site": "NORTH", "status": "online", "cores": 8, "memory_mb": 16_000, "disk_mb": 50_000, "walltime_s": 345_600,
        "min_memory_mb": 4_000, "min_walltime_s": 0, "corepower": 12.5, "storage": "A", "read_storages": ["B", "D"],
        "write_storage": "C", "architecture": "aarch64", "gpus": 1, "gpu_model": "A100",
        "software": ["Athena-24.0", "cvmfs"], "containers": ["singularity", "docker"], "vos": ["atlas"],
        "parameters": {"internet_protocol_version": "IPv4", "n": "3"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"maxtime": 0}, {"walltime_s": 345_600}),
        ({"maxtime": None, "maxrss": "", "minrss": None}, {"walltime_s": 345_600, "memory_mb": 16_000}),
        ({"corecount": "4", "maxrss": "8000"}, {"cores": 4, "memory_mb": 8_000}),
        ({"maxwdir": 0, "maxinputsize": 14_336}, {"disk_mb": 16_336}),
        ({"maxwdir": 0}, {"disk_mb": 20_000}),
        ({"architectures": None, "cmtconfig": "x86_64-centos7-gcc8-opt"}, {"architecture": "x86_64", "gpus": 0}),
        ({"architectures": [{"type": "gpu", "model": ["any"], "count": 4}]}, {"gpus": 4, "gpu_model": ""}),
        ({"releases": "22.0|24.0", "is_cvmfs": False}, {"software": ["22.0", "24.0"]}),
        ({"container_type": "", "containers": ["any", "/cvmfs"]}, {"containers": ["/cvmfs"]}),
        ({"astorages": {"pw": ["C"]}}, {"storage": "C", "write_storage": "", "read_storages": []}),
        ({"vo_name": None, "params": None, "releases": None}, {"vos": [], "parameters": {}, "software": ["cvmfs"]}),
    ],
)
def test_what_is_left_open_gets_a_number(said, expected):
    given = queue(**said).given["queue", "Q"]

    assert {key: given[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"nickname": "Other"}, "calls itself 'Other' \\(nickname\\)"),
        ({"atlas_site": None}, "names no site"),
        ({"status": "sometimes"}, "has a status that does not exist: 'sometimes'"),
        ({"status": 3}, "has status that is no text: 3"),
        ({"maxrss": "much"}, "has maxrss that is no number: 'much'"),
        ({"maxrss": True}, "has maxrss that is no number: True"),
        ({"maxrss": -1}, "has maxrss = -1; it must be 0 or more"),
        ({"maxrss": float("nan")}, "has maxrss = nan"),
        ({"corecount": 1e30}, "has corecount = 1e\\+30; it must be 0 or more, and below 2147483648"),
        ({"minrss": 99_000}, "wants at least 99000 and has at most 16000"),
        ({"astorages": {}}, "names no storage"),
        ({"astorages": ["A"]}, "has astorages that are no object"),
        ({"astorages": {"pr": [7]}}, "has pr that is no list of texts"),
        ({"architectures": "x86_64"}, "has architectures that are no list"),
        ({"architectures": ["x86_64"]}, "has an architecture that is no object"),
        ({"params": "fast"}, "has params that are no object"),
        ({"releases": 24}, "has releases that is no list of texts"),
    ],
)
def test_a_queue_that_cannot_be_meant_is_named_and_the_others_are_read(said, words):
    reading = cric.read_queues({"BAD": QUEUE | {"nickname": "BAD"} | said, "Q": QUEUE})

    assert list(reading.problems) == [("queue", "BAD")]
    with pytest.raises(AssertionError, match=f"queue BAD {words}"):
        raise AssertionError(reading.problems["queue", "BAD"])
    assert ("queue", "Q") in reading.given


def test_inactive_queues_are_left_aside_and_two_clouds_of_one_site_are_a_contradiction():
    reading = cric.read_queues({"Q": QUEUE, "OLD": {"state": "DISABLED"}, "R": QUEUE | {"nickname": "R", "cloud": "ASIA"},
                                "X": 3})  # fmt: skip

    assert reading.inactive == ["OLD"]
    assert reading.problems == {
        ("queue", "R"): "queue R is in cloud ASIA, but another queue of site NORTH is in cloud EU",
        ("queue", "X"): "queue X is no object",
    }


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (("davs://se.example.org:443", "/rucio/"), ("http", "https://se.example.org:443/rucio")),
        (("root://se.example.org:1094/", "//eos/rucio"), ("xrootd", "root://se.example.org:1094//eos/rucio")),
        (("file://localhost/storage", "/rucio"), ("local", "/storage/rucio")),
        (("file://localhost/storage", "/upstream"), ("local", "/storage")),
        (("s3+https://s3.example.org/bucket", ""), ("s3", "s3+https://s3.example.org/bucket")),
    ],
)
def test_a_storage_of_crics_is_one_of_ours(protocol, expected):
    address, path = protocol
    reading = endpoint(
        arprotocols={"write_wan": [{"endpoint": "gsiftp://old", "path": ""}, {"endpoint": address, "path": path}]}
    )

    given = reading.given["storage", "A"]
    assert (given["kind"], given["root"], given["site"]) == (*expected, "NORTH")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"site": ""}, "names no site"),
        ({"arprotocols": {}}, "has no protocol that is spoken here: none"),
        (
            {"arprotocols": {"r": [{"endpoint": "srm://old", "path": "/"}]}},
            "has no protocol that is spoken here: srm://old",
        ),
        ({"arprotocols": {"r": ["srm://old"]}}, "has a protocol that is no object"),
        ({"arprotocols": ["r"]}, "has protocols that are no object"),
        ({"arprotocols": {"r": [{"endpoint": "file://localhost", "path": ""}]}}, "has no folder"),
    ],
)
def test_a_storage_that_cannot_be_meant_is_named(said, words):
    assert endpoint(**said).problems["storage", "A"].startswith(f"storage A {words}")


def test_what_upstream_was_recorded_to_say_is_read():
    reading = importing.read([recorded("schedconfig_pandaqueues.json"), recorded("ddmendpoints.json")])

    assert reading.problems == {}
    assert {kind for kind, _ in reading.given} == {"site", "queue", "storage"}
    assert reading.given["storage", "LOCAL_DATADISK"] == {
        "site": "LOCAL_SITE",
        "kind": "local",
        "root": "/storage/rucio",
    }
    assert reading.given["queue", "Q1"]["storage"] == "LOCAL_DATADISK"
    assert len(reading.status) == 31


@pytest.mark.parametrize(
    ("raw", "name", "words"),
    [
        (b"{", "x.json", "x.json: it cannot be read"),
        (b"[1]", "x.json", "x.json: it is no object"),
        (b"\xff", "x.json", "x.json: it cannot be read"),
        (b"a = = 1", "x.toml", "x.toml: it cannot be read"),
        (b'{"a": ' * 100_000, "x.json", "it cannot be read"),
    ],
)
def test_a_document_that_cannot_be_read_says_so(raw, name, words):
    with pytest.raises(Invalid, match=words) as problem:
        importing.parsed(raw, name)
    assert problem.value.code == "bad_document"


@pytest.mark.parametrize(
    ("documents", "error", "words"),
    [
        ([{"queues": {"Q": 3}}], Invalid, "queues wants an object of objects"),
        ([{"queues": {}, "queue": {}}], UnknownName, "unknown section 'queue'; did you mean 'queues'"),
        ([{"Q": QUEUE}, {"Q": QUEUE | {"corecount": 4}}], Invalid, "queue Q stands there twice, with another cores"),
    ],
)
def test_documents_that_cannot_be_meant_together_say_so(documents, error, words):
    with pytest.raises(error, match=words):
        importing.read(documents)
