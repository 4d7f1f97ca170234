"""Each criterion refuses what it is for, and says why in words that a job's owner understands."""

from datetime import UTC, datetime

import pytest

from panda import plugins
from panda.brokerage.criteria import ORDER
from panda.brokerage.criteria.base import Rationing
from panda.brokerage.policies import GROUP
from panda.brokerage.subjects import Load, Locality, Planned, values_of
from panda.requirements import NAMES, Type
from tests.unit.brokerage.subjects import a_kind, a_queue, at, wishes


def planned(starts_in_s):
    return Planned("site S", starts_in_s, datetime(2026, 2, 1, 18, tzinfo=UTC), "cooling")


CASES = [
    ("status", {}, {}, None),
    ("status", {}, {"status": "brokeroff", "status_reason": "full"}, "the queue is brokeroff (full)"),
    ("status", {}, {"status": "test"}, "the queue is test"),
    ("status", {"wishes": wishes(sites=["Q"])}, {"status": "test"}, None),
    ("status", {"wishes": wishes(sites=["*"])}, {"status": "test"}, "the queue is test"),
    ("status", {"wishes": wishes(sites=["Q"])}, {"status": "offline"}, "the queue is offline"),
    ("status", {"wishes": wishes(sites=["Q"])}, {"status": "test", "status_rule": "queue-fails"}, "the queue is test"),
    ("status", {"wishes": wishes(is_test=True)}, {"status": "test", "status_rule": "queue-fails"}, None),
    ("status", {"wishes": wishes(is_test=True)}, {"status": "brokeroff"}, "the queue is brokeroff"),
    ("downtime", {}, {"downtime": planned(-60)}, "site S is in downtime until 2026-02-01 18:00 UTC (cooling)"),
    ("downtime", {"walltime_s": 7_200}, {"downtime": planned(3_600)},
     "site S goes into downtime in 60 min, until 2026-02-01 18:00 UTC (cooling); the job may take 2.0 h"),
    ("downtime", {"walltime_s": 3_600}, {"downtime": planned(3_600)}, None),
    ("downtime", {"walltime_s": 3_600}, {"downtime": planned(3_600), "corepower": 5.0},
     "site S goes into downtime in 60 min, until 2026-02-01 18:00 UTC (cooling); the job may take 2.0 h"),
    ("downtime", {"walltime_s": 86_400}, {"downtime": planned(12 * 3_600)}, None),
    ("access", {}, {}, None),
    ("access", {}, {"vos": frozenset({"belle"})}, "it is for belle, the job set is of no virtual organisation"),
    ("access", {"wishes": wishes(vo="atlas")}, {"vos": frozenset({"atlas", "belle"})}, None),
    ("access", {"wishes": wishes(working_group="higgs-2")}, {"working_groups": ("top", "higgs-*")}, None),
    ("access", {"wishes": wishes(working_group="susy")}, {"working_groups": ("top", "higgs-*")},
     "it is for top, higgs-*, the job set is of susy"),
    ("storage", {}, {"storage_status": "offline"}, "its storage DISK is offline"),
    ("wishes", {"wishes": wishes(sites=["A", "S*"])}, {}, None),
    ("wishes", {"wishes": wishes(sites=["A", "B*"])}, {}, "the job set goes only to A, B*"),
    ("wishes", {"wishes": wishes(sites=list("ABCDEFG"))}, {}, "the job set goes only to A, B, C, D, E and 2 more"),
    ("wishes", {"wishes": wishes(sites=["!S"])}, {}, "the job set excludes S"),
    ("wishes", {"wishes": wishes(sites=["!MERIDIAN-*"])}, {"site": "MERIDIAN-3"}, "the job set excludes MERIDIAN-*"),
    ("wishes", {"wishes": wishes(sites=["!MERIDIAN-*"])}, {"site": "MERIDIAN"}, None),
    ("wishes", {"wishes": wishes(sites=["NL"])}, {"cloud": "NL"}, None),
    ("wishes", {"wishes": wishes(sites=["!N*"])}, {"cloud": "NL"}, "the job set excludes N*"),
    ("wishes", {"wishes": wishes(sites=["S", "!Q"])}, {}, "the job set excludes Q"),
    ("wishes", {"wishes": wishes(exclude=["Q"])}, {}, "the job set excludes Q"),
    ("resources", {"cores": 9}, {}, "needs 9 cores, the queue has 8"),
    ("resources", {"memory_mb": 16_001}, {}, "needs 16.001 GB of memory, the queue has 16 GB"),
    ("resources", {"memory_mb": 16_000}, {}, None),
    ("resources", {"disk_mb": 10_001}, {}, "needs 10.001 GB of disk, the queue has 10 GB"),
    ("resources", {"gpus": 2}, {"gpus": 1}, "needs 2 GPUs, the queue has 1"),
    ("resources", {"gpus": 1}, {"gpus": 1}, None),
    ("resources", {"walltime_s": 86_401}, {}, "needs 86401 s of wall time, the queue has 86400 s"),
    ("resources", {"walltime_s": 43_201}, {"corepower": 5.0},
     "needs 86402 s of wall time there (its cores have a power of 5), the queue has 86400 s"),
    ("resources", {"walltime_s": 172_800}, {"corepower": 20.0}, None),
    ("resources", {"cores": 1}, {"min_cores": 8}, "needs only 1 cores, the queue takes jobs from 8 on"),
    ("resources", {"memory_mb": 999}, {"min_memory_mb": 1_000},
     "needs only 999 MB of memory, the queue takes jobs from 1 GB on"),
    ("resources", {"walltime_s": 100}, {"min_walltime_s": 101, "corepower": 10.0},
     "needs only 100 s of wall time, the queue takes jobs from 101 s on"),
    ("capabilities", {"tags": frozenset({"linux"})}, {}, None),
    ("capabilities", {"tags": frozenset({"container:apptainer", "arch:aarch64", "linux"})}, {},
     "needs arch:aarch64, container:apptainer, which the queue does not offer"),
    ("requirements", {"wishes": wishes(requirements="queue.memory_mb >= 8 * job.memory_mb")}, {}, None),
    ("requirements", {"wishes": wishes(requirements="queue.memory_mb > 8 * job.memory_mb")}, {},
     "the job set requires `queue.memory_mb > 8 * job.memory_mb`, but queue.memory_mb is 16000,"
     " job.memory_mb is 2000"),
    ("requirements", {}, {"requirements": "job.gpus > 0 or job.share == 'express'"},
     "the queue requires `job.gpus > 0 or job.share == 'express'`, but job.gpus is 0, job.share is 'default'"),
    ("requirements", {"share": "express"}, {"requirements": "job.gpus > 0 or job.share == 'express'"}, None),
    ("locality", {"locality": Locality(2)}, {}, "2 of its input files are on no storage that is online"),
    ("locality", {"locality": Locality(0)}, {}, None),
    ("occupancy", {}, {"max_ready": 3, "load": Load(assigned=1, activated=1, starting=9)}, None),
    ("occupancy", {}, {"max_ready": 3, "load": Load(assigned=2, activated=1)},
     "3 jobs wait there already, its limit is 3"),
    ("limits", {}, {"max_running": 5, "load": Load(running=5, activated=4)}, None),
    ("limits", {}, {"max_running": 5, "load": Load(running=5, activated=5)},
     "only 5 jobs may run there, and 5 wait for that already"),
    ("limits", {}, {"site_max_running": 5, "site_loads": (Load(activated=2), Load(running=9, assigned=2))}, None),
    ("limits", {}, {"site_max_running": 1, "site_loads": (Load(), Load(activated=1))},
     "only 1 job may run at site S, and 1 waits for that already"),
]  # fmt: skip


def criterion(name, **options):
    return plugins.load(GROUP, name)(**options)


@pytest.mark.parametrize(("name", "job", "place", "reason"), CASES)
def test_a_criterion_refuses_what_it_is_for(name, job, place, reason):
    assert criterion(name).refuse(a_kind(**job), a_queue(**place)) == reason


@pytest.mark.parametrize("name", ORDER)
def test_each_criterion_is_a_plug_in_of_its_own_name_and_takes_a_plain_job(name):
    assert criterion(name).name == name
    assert criterion(name).refuse(a_kind(), a_queue()) is None


@pytest.mark.parametrize(
    ("load", "room"),
    [
        (Load(), 100),
        (Load(running=400), 800),
        (Load(running=400, activated=790, starting=5), 5),
        (Load(activated=200), 0),
    ],
)
def test_what_may_wait_can_depend_on_what_runs(load, room):
    occupancy = criterion("occupancy", per_running=2)

    assert isinstance(occupancy, Rationing)
    assert occupancy.room(a_queue(load=load)) == room
    assert (occupancy.refuse(a_kind(), a_queue(load=load)) is None) is (room > 0)


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (at("DISK", 8, 1024), None),
        (at("CACHE", 8, 1024), None),
        (at("DISK", 5, 1024), "about 512 MB of its input would have to be brought, at most 300 MB may be"),
    ],
)
def test_a_policy_says_how_much_may_travel(there, reason):
    place = a_queue(read_storages=("CACHE",))

    assert criterion("locality", most_mb=300).refuse(a_kind(locality=there), place) == reason
    assert criterion("locality").refuse(a_kind(locality=there), place) is None


@pytest.mark.parametrize("most_mb", [-1, True, "much", 1.5])
def test_how_much_may_travel_is_a_whole_number(most_mb):
    with pytest.raises(ValueError, match="whole number of MB"):
        criterion("locality", most_mb=most_mb)


def test_the_tighter_limit_of_a_queue_counts():
    place = a_queue(max_ready=7, load=Load(assigned=2, running=1_000))

    assert criterion("occupancy", per_running=1, at_least=1).room(place) == 5


def test_how_long_before_a_downtime_a_queue_is_closed_can_be_said():
    place, job = a_queue(downtime=planned(3_600)), a_kind(walltime_s=7_200)

    assert criterion("downtime", ahead_s=1_800).refuse(job, place) is None
    assert criterion("downtime", ahead_s=3_601).refuse(job, place) is not None


def test_memory_for_each_core_may_be_asked_for():
    strict = criterion("resources", memory_per_core=True)

    assert strict.refuse(a_kind(cores=2, memory_mb=4_000), a_queue()) is None
    reason = strict.refuse(a_kind(cores=1, memory_mb=4_000), a_queue())
    assert reason == "needs 4 GB of memory for each core, the queue has 2 GB"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("occupancy", {"per_running": -1}),
        ("occupancy", {"per_running": True}),
        ("occupancy", {"at_least": 0}),
        ("occupancy", {"at_least": 1.5}),
        ("resources", {"memory_per_core": 1}),
        ("downtime", {"ahead_s": -1}),
        ("downtime", {"ahead_s": "1h"}),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        criterion(name, **options)


def test_a_requirement_may_ask_for_everything_that_it_may_name():
    values = values_of(a_kind(), a_queue())

    assert values.keys() == NAMES.keys()
    kinds = {Type.NUMBER: (int, float), Type.TEXT: str, Type.TEXTS: frozenset, Type.FLAG: bool}
    assert all(isinstance(values[name], kinds[known.type]) for name, known in NAMES.items())
