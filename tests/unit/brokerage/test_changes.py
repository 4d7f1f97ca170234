"""What would let a job run is tried, one thing at a time."""

from datetime import UTC, datetime

import pytest

from panda.brokerage.changes import MOST, changes
from panda.brokerage.criteria.locality import Locality as LocalityCriterion
from panda.brokerage.policies import Policy, built_in
from panda.brokerage.subjects import Away, Load, Locality, Planned
from tests.unit.brokerage.subjects import a_kind, a_queue, wishes

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
LARGE = [a_queue(f"BIG-{n}", site=f"S{n}", memory_mb=12_000) for n in range(6)] + [a_queue("SMALL", memory_mb=4_000)]


def told(kind, queues, **facts):
    found = changes(kind, queues, built_in().of(kind.wishes), **facts)
    return [f"{change.who}: {change.sentence}" for change in found]


@pytest.mark.parametrize(
    ("job", "queues", "expected"),
    [
        (
            {"memory_mb": 16_000},
            LARGE,
            ["owner: ask for 12 GB of memory instead of 16 GB: 6 more queues (BIG-0, BIG-1, BIG-2, …)"],
        ),
        (
            {"memory_mb": 16_000},
            [a_queue("A", memory_mb=12_000), a_queue("B", memory_mb=8_000), a_queue("C", memory_mb=8_000)],
            [
                "owner: ask for 8 GB of memory instead of 16 GB: 3 more queues (A, B, C)",
                "owner: ask for 12 GB of memory instead of 16 GB: 1 more queue (A)",
            ],
        ),
        ({"cores": 16}, [a_queue("A")], ["owner: ask for 8 cores instead of 16: 1 more queue (A)"]),
        ({"gpus": 1}, [a_queue("A")], ["owner: ask for no GPUs: 1 more queue (A)"]),
        (
            {"walltime_s": 86_400},
            [a_queue("A", corepower=5.0)],
            ["owner: ask for 43200 s of wall time instead of 86400 s: 1 more queue (A)"],
        ),
        ({"cores": 1}, [a_queue("A", min_cores=8)], ["owner: ask for 8 cores instead of 1: 1 more queue (A)"]),
        (
            {"walltime_s": 600},
            [a_queue("A", min_walltime_s=3600, corepower=5.0)],
            ["owner: ask for 1800 s of wall time instead of 600 s: 1 more queue (A)"],
        ),
        # no single one
        (
            {"memory_mb": 20_000, "cores": 16},
            [a_queue("A")],
            ["owner: ask for 16 GB of memory instead of 20 GB, and ask for 8 cores instead of 16: 1 more queue (A)"],
        ),
        (
            {"memory_mb": 20_000, "tags": frozenset({"avx512"})},
            [a_queue("A"), a_queue("B"), a_queue("C", memory_mb=9_000)],
            [
                "owner: ask for 16 GB of memory instead of 20 GB, and do without the tag avx512: 2 more queues (A, B)",
                "owner: ask for 9 GB of memory instead of 20 GB, and do without the tag avx512: 1 more queue (C)",
            ],
        ),
        (
            {"memory_mb": 20_000},
            [a_queue("A", status="offline")],
            ["operator: ask for 16 GB of memory instead of 20 GB, and if the queue were online: 1 more queue (A)"],
        ),
        ({"memory_mb": 20_000, "cores": 16, "gpus": 3}, [a_queue("A")], []),  # three are another job
        (
            {"tags": frozenset({"avx2", "linux"})},
            [a_queue("A"), a_queue("B", tags=frozenset())],
            ["owner: do without the tag avx2: 1 more queue (A)"],
        ),
        (
            {"wishes": wishes(sites=["NOWHERE"], exclude=["B"])},
            [a_queue("A"), a_queue("B")],
            ["owner: let it go elsewhere than to NOWHERE: 1 more queue (A)"],
        ),
        ({"wishes": wishes(exclude=["A"])}, [a_queue("A")], ["owner: do not exclude A: 1 more queue (A)"]),
        ({"wishes": wishes(sites=["!A"])}, [a_queue("A")], ["owner: do not exclude A: 1 more queue (A)"]),
        (
            {"avoid": ("A",)},
            [a_queue("A")],
            ["owner: submit it again: this job was brokered away from A for good: 1 more queue (A)"],
        ),
        (
            {"wishes": wishes(requirements="queue.cores >= 4 and 'avx2' in queue.tags")},
            [a_queue("A")],
            ["owner: do not require `'avx2' in queue.tags`: 1 more queue (A)"],
        ),
        (
            {},
            [a_queue("A", requirements="job.gpus > 0")],
            ["operator: if the queue required nothing of its jobs: 1 more queue (A)"],
        ),
        (
            {},
            [a_queue("A", vos=frozenset({"belle"}))],
            ["owner: submit it for the virtual organisation belle: 1 more queue (A)"],
        ),
        (
            {},
            [a_queue("A", working_groups=("top", "higgs-*"))],
            ["owner: submit it for the working group top: 1 more queue (A)"],
        ),
        ({}, [a_queue("A", status="offline")], ["operator: if queues that are offline were online: 1 more queue (A)"]),
        (
            {},
            [a_queue("A", status="test")],
            [
                "owner: name a queue that is in test: 1 more queue (A)",
                "operator: if queues that are test were online: 1 more queue (A)",
            ],
        ),
        (
            {},
            [a_queue("A", storage_status="offline")],
            ["operator: if storage DISK were online: 1 more queue (A)"],
        ),
        (
            {},
            [a_queue("A", max_ready=2, load=Load(activated=2))],
            ["time: wait until there is room: 1 more queue (A)"],
        ),
        (
            {"walltime_s": 20_000},
            [a_queue("A", downtime=Planned("site S", 7_200.0, NOON, "cooling"))],
            [
                "owner: ask for 7200 s of wall time instead of 20000 s: 1 more queue (A)",
                "time: wait until the downtime of site S ends, 2026-11-28 12:00 UTC: 1 more queue (A)",
            ],
        ),
        (
            {"writes": True},
            [a_queue("A", write_full="it has 0 bytes left")],
            ["operator: if storage DISK had room: 1 more queue (A)"],
        ),
        (
            {"writes": True},
            [a_queue("A", write_storage="TAPE", write_status="offline")],
            ["operator: if storage TAPE were online: 1 more queue (A)"],
        ),
        (
            {"writes": True},
            [a_queue("A", overdrawn={"alice": "she keeps 3 of 2 GB"})],
            ["owner: delete datasets that are kept on storage DISK: 1 more queue (A)"],
        ),
        ({}, [a_queue("A")], []),  # nothing is in its way
    ],
)
def test_a_change_that_would_do_is_found(job, queues, expected):
    assert told(a_kind(**job), queues) == expected


def test_inputs_at_storages_that_are_away_want_these_back():
    kind = a_kind(locality=Locality(2))
    queues = [a_queue("A"), a_queue("B", storage="OAK", storage_status="offline")]

    assert told(kind, queues, storages_away=Away({"OAK": 2, "ELM": 1})) == [
        "operator: if storage OAK, which has 2 input files, were online: 2 more queues (A, B)"
    ]
    assert told(kind, queues) == [
        "owner: bring back the 2 input files that no storage has: 1 more queue (A)",
    ]


def test_input_that_is_too_much_to_bring_could_be_there_already():
    policy = Policy("careful", (LocalityCriterion(most_mb=100),))
    kind = a_kind(locality=Locality(tenths=(("OAK", 3),), size_mb=1024))

    def said(*queues):
        return [each.sentence for each in changes(kind, queues, policy)]

    assert said(a_queue("A")) == ["have all of its input brought to storage DISK first: 1 more queue (A)"]
    assert said(a_queue("A"), a_queue("B", storage="ELM")) == [
        "have all of its input brought to one of the storages DISK, ELM first: 2 more queues (A, B)"
    ]


def test_an_answer_is_of_a_readable_length_and_begins_with_what_its_owner_can_do():
    many = [a_queue(f"Q{n}", working_groups=(f"g{n}",), status="offline" if n > 10 else "online") for n in range(12)]

    found = changes(a_kind(), many, built_in().of(wishes()))

    assert len(found) == MOST
    assert {change.who for change in found} == {"owner"}


def test_a_cap_that_is_reached_may_be_raised():
    at_a_queue = [a_queue("A", max_running=1, load=Load(activated=1))]
    loads = (Load(activated=3), Load())
    at_a_site = [a_queue(name, site="S1", site_max_running=3, load=load, site_loads=loads)
                 for name, load in zip("AB", loads, strict=True)]  # fmt: skip

    assert told(a_kind(), at_a_queue) == [
        "operator: raise the cap of queue A: 1 more queue (A)",
        "time: wait until there is room: 1 more queue (A)",
    ]
    assert told(a_kind(), at_a_site) == [
        "operator: raise the cap of site S1, 3 at once: 2 more queues (A, B)",
        "time: wait until there is room: 2 more queues (A, B)",
    ]
