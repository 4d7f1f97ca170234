"""Sites come from a file that is read strictly; the status of a queue belongs to operators."""

import threading

import pytest

from panda.brokerage.broker import place
from panda.brokerage.snapshot import queues_now
from panda.db.session import rows, run
from panda.errors import ConfigError, Invalid, NotFound, UnknownName
from panda.settings import Settings
from panda.sites import applying, siteinfo, waking
from panda.sites.status import set_queue_status

FILE = """
[sites.NORTH]
cloud = "EU"
[storages.DISK]
site = "NORTH"
root = "storage/north"
[storages.TAPE]
site = "NORTH"
root = "/tape"
[queues.Q]
site = "NORTH"
storage = "DISK"
cores = 2
memory_mb = 4000
disk_mb = 10000
walltime_s = 86400
tags = ["linux"]
"""


def load(tmp_path, text=FILE):
    path = tmp_path / "sites.toml"
    path.write_text(text)
    return siteinfo.load_file(path)


def sync(begin, tmp_path, text=FILE):
    with begin() as connection:
        applying.sync(connection, load(tmp_path, text), tmp_path / "data")


def queue(begin):
    with begin() as connection:
        [row] = siteinfo.queues(connection)
    return row


def test_the_file_fills_the_tables(begin, tmp_path):
    sync(begin, tmp_path)

    with begin() as connection:
        storages = {row.name: row.root for row in siteinfo.storages(connection)}
        sites = [(row.name, row.cloud, row.description) for row in siteinfo.sites(connection)]
    assert sites == [("NORTH", "EU", "")]
    assert storages == {"DISK": f"{tmp_path}/data/storage/north", "TAPE": "/tape"}
    found = queue(begin)
    assert (found.cloud, found.status, found.cores, found.tags, found.submitter) == (
        "EU",
        "online",
        2,
        ["linux"],
        "none",
    )


def test_brokerage_sees_what_the_file_says_of_a_queue(begin, tmp_path):
    more = """
corepower = 12.5
min_cores = 2
min_memory_mb = 100
min_walltime_s = 60
gpus = 1
software = ["ROOT"]
vos = ["atlas"]
working_groups = ["higgs-*"]
max_running = 3
requirements = "job.cores > 1"
"""
    sync(begin, tmp_path, FILE.replace('tags = ["linux"]', f'tags = ["linux"]{more}'))

    with begin() as connection:
        [seen] = queues_now(connection)
    assert (seen.corepower, seen.min_cores, seen.min_memory_mb, seen.min_walltime_s) == (12.5, 2, 100, 60)
    assert (seen.gpus, seen.vos, seen.working_groups, seen.max_running) == (1, {"atlas"}, ("higgs-*",), 3)
    assert (seen.tags, seen.requirements) == ({"linux", "gpu", "software:ROOT"}, "job.cores > 1")


def test_a_changed_file_changes_limits_but_not_the_status_that_an_operator_set(begin, tmp_path):
    sync(begin, tmp_path)
    with begin() as connection:
        set_queue_status(connection, "Q", "offline", by="olga", reason="cooling")

    sync(begin, tmp_path, FILE.replace("memory_mb = 4000", 'memory_mb = 8000\nstatus = "online"'))

    found = queue(begin)
    assert (found.memory_mb, found.status, found.status_reason) == (8000, "offline", "cooling")


@pytest.mark.parametrize(
    ("was", "now", "error", "words"),
    [
        ("cores = 2", "core = 2", UnknownName, r"\[queues.Q\]: unknown setting 'core'; did you mean 'cores'"),
        ("cores = 2", 'cores = "2"', ConfigError, r"\[queues.Q\]: cores wants int, got '2'"),
        ("cores = 2", "cores = true", ConfigError, "cores wants int, got True"),
        ("cores = 2", "cores = 2\nmin_cores = 3", ConfigError, "min_cores is 3, more than cores = 2"),
        ("cores = 2", "cores = 2\ncorepower = 0", ConfigError, "corepower is 0; it must be above 0"),
        ("cores = 2", 'cores = 2\ncorepower = "10"', ConfigError, "corepower wants float"),
        ("cores = 2", "cores = 3000000000", ConfigError, "cores is 3000000000; it must be below"),
        ("cores = 2", 'cores = 2\nread_storages = ["X"]', UnknownName, "unknown storage 'X'"),
        ("cores = 2", 'cores = 2\nwrite_storage = "TAPES"', UnknownName, "unknown storage 'TAPES'; did you mean 'TAPE'"),
        ("cores = 2", 'cores = 2\nrequirements = "job.core > 1"', ConfigError, "requirements: .*job.core"),
        ("cores = 2", "cores = 2\nparameters = { a = 1 }", ConfigError, "parameters wants strings by name"),
        ("cores = 2", "cores = 0", ConfigError, "cores is 0; it must be above 0"),
        ("cores = 2", "", ConfigError, r"\[queues.Q\]: cores is missing"),
        ('tags = ["linux"]', "tags = [1]", ConfigError, "tags wants a list of strings"),
        ('tags = ["linux"]', 'tags = "linux"', ConfigError, "tags wants list"),
        ('storage = "DISK"', 'storage = "DIKS"', UnknownName, "unknown storage 'DIKS'; did you mean 'DISK'"),
        ('root = "/tape"', 'root = "/tape"\nkind = "locla"', UnknownName, "unknown mover 'locla'; did you mean 'local'"),
        ("walltime_s = 86400", 'walltime_s = 1\nstatus = "on"', UnknownName, "unknown queue status 'on'"),
        ("walltime_s = 86400", 'walltime_s = 1\nsubmitter = "x"', UnknownName, "unknown submitter 'x'"),
        ("walltime_s = 86400", 'walltime_s = 1\nsubmitter = "local"', ConfigError, "no pilot has more than pilot_cores = 1"),
        ("[sites.NORTH]", "[site.NORTH]", UnknownName, "unknown section 'site'; did you mean 'sites'"),
        ("[sites.NORTH]", '[sites."../x"]', Invalid, "is no name"),
        ("[sites.NORTH]", "[sites.NORTH", ConfigError, "sites.toml: "),
        ("[sites.NORTH]", "sites = 3\n[x]", UnknownName, "unknown section 'x'"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_file_is_named(tmp_path, was, now, error, words):
    with pytest.raises(error, match=words):
        load(tmp_path, FILE.replace(was, now))


LINKS = """
[sites.SOUTH]
[links.DOWN]
source = "NORTH"
destination = "SOUTH"
distance = 3
max_transfers = 4
"""


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ('[links.X]\nsource = "NORTH"\ndestination = "WEST"', UnknownName, "unknown site 'WEST'"),
        ('[links.X]\nsource = "NORTH"\ndestination = "SOUTH"', ConfigError, r"\[links.DOWN\] leads from NORTH to SOUTH already"),
        ('[links.X]\nsource = "SOUTH"\ndestination = "NORTH"\ndistance = -1', ConfigError, "distance is -1; it must be 0 or more"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_link_is_named(tmp_path, more, error, words):
    with pytest.raises(error, match=words):
        load(tmp_path, FILE + LINKS + more)


def test_links_and_limits_follow_the_file(begin, tmp_path):
    sync(begin, tmp_path, FILE.replace('root = "/tape"', 'root = "/tape"\nmax_transfers = 2') + LINKS)
    with begin() as connection:
        [link] = rows(connection, "SELECT * FROM links")
        limits = {row.name: row.max_transfers for row in siteinfo.storages(connection)}
    assert (link.source, link.destination, link.distance, link.max_transfers) == ("NORTH", "SOUTH", 3, 4)
    assert limits == {"DISK": 0, "TAPE": 2}

    sync(begin, tmp_path)
    with begin() as connection:
        assert rows(connection, "SELECT * FROM links") == []


def test_who_closed_a_queue_and_why_is_written_down(begin, tmp_path):
    sync(begin, tmp_path)

    with begin() as connection:
        set_queue_status(connection, "Q", "brokeroff", by="olga", reason="drain", request_id="r1")

    with begin() as connection:
        [entry] = rows(connection, "SELECT who, action, target, reason, facts, request_id FROM audit_log")
    assert tuple(entry) == (
        "olga", "set_queue_status", "queue Q", "drain", {"was": "online", "now": "brokeroff"}, "r1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "status", "reason", "error"),
    [("X", "offline", "why", NotFound), ("Q", "closed", "why", UnknownName), ("Q", "offline", " ", Invalid)],
)
def test_a_senseless_change_of_status_changes_nothing(begin, tmp_path, name, status, reason, error):
    sync(begin, tmp_path)

    with pytest.raises(error), begin() as connection:
        set_queue_status(connection, name, status, by="olga", reason=reason)

    assert queue(begin).status == "online"


def park_all(begin):
    with begin() as connection:
        run(
            connection,
            "UPDATE job_due SET waits_for = 'queue', due_at = panda_now() + interval '5 minutes'",
        )


def n_runnable(begin):
    with begin() as connection:
        [row] = rows(connection, "SELECT count(*) AS n FROM job_due WHERE waits_for IS NULL AND due_at <= panda_now()")
    return row.n


def test_a_change_of_a_queue_makes_waiting_jobs_look_again_in_chunks(begin, make_queue, make_jobs, monkeypatch):
    make_queue("Q")
    make_jobs(7)
    park_all(begin)
    monkeypatch.setattr(waking, "WAKE_CHUNK", 3)
    woken = []

    with begin() as connection:
        woken.append(set_queue_status(connection, "Q", "online", by="olga", reason="back"))
    while woken[-1]:
        with begin() as connection:
            woken.append(waking.wake_waiting_for_queue(connection))

    assert woken == [3, 3, 1, 0]
    assert n_runnable(begin) == 7


def test_jobs_that_wait_for_something_else_stay_asleep(begin, make_queue, make_jobs):
    make_queue("Q")
    make_jobs(2)
    with begin() as connection:
        run(connection, "UPDATE job_due SET waits_for = 'operator'")

    with begin() as connection:
        assert set_queue_status(connection, "Q", "online", by="olga", reason="back") == 0

    assert n_runnable(begin) == 0


def test_no_job_parks_because_of_a_queue_that_has_just_opened(begin, make_queue, make_jobs):
    make_queue("Q", status="offline")
    jobs = make_jobs(2)
    woken = []

    def open_queue():
        with begin() as connection:
            woken.append(set_queue_status(connection, "Q", "online", by="olga", reason="back"))

    with begin() as connection:
        assert place(connection, jobs, by="broker", settings=Settings()) == []
        thread = threading.Thread(target=open_queue, daemon=True)
        thread.start()
        for _ in range(1000):
            with begin() as other:
                if rows(other, "SELECT 1 FROM pg_locks WHERE NOT granted"):
                    break
            threading.Event().wait(0.005)
        assert woken == []  # it waits until the parked jobs can be seen
    thread.join(10)

    assert woken == [2]
    assert n_runnable(begin) == 2
