"""Datasets that are closed, frozen and opened again; containers; and datasets that are wanted on a storage."""

import io

import pytest

from panda.dataservice import admission, binding, catalog, containers, deletion, rules, storage_file, transfers
from panda.errors import Conflict, NotFound
from panda.jobs import audit


def status(lab, did="s:d"):
    with lab.begin() as connection:
        return catalog.show(connection, did).status


def change(lab, verb, *words, **more):
    with lab.begin() as connection:
        return verb(connection, *words, **more)


def test_a_closed_dataset_may_be_opened_again_and_a_frozen_one_never(lab):
    lab.put("s:d/a", b"abc")
    change(lab, catalog.close, "s:d")
    with pytest.raises(Conflict, match="dataset s:d is closed"):
        lab.put("s:d/b", b"abc")
    change(lab, catalog.reopen, "s:d")
    change(lab, catalog.reopen, "s:d")
    lab.put("s:d/b", b"abc")

    change(lab, catalog.freeze, "s:d")
    change(lab, catalog.freeze, "s:d")
    with pytest.raises(Conflict, match="frozen, for ever") as frozen:
        change(lab, catalog.reopen, "s:d")
    with pytest.raises(Conflict, match="dataset s:d is frozen"):
        lab.put("s:d/c", b"abc")

    assert frozen.value.code == "dataset_frozen"
    assert status(lab) == "frozen"
    assert change(lab, catalog.close, "s:d") is False


@pytest.mark.parametrize("verb", [catalog.freeze, catalog.reopen])
def test_what_goes_can_neither_be_frozen_nor_opened(lab, verb):
    lab.put("s:d/a", b"abc")
    change(lab, deletion.delete, "s:d")
    with pytest.raises(Conflict) as refused:
        change(lab, verb, "s:d")
    assert refused.value.code == "dataset_deleting"
    with pytest.raises(NotFound):
        change(lab, verb, "s:other")


# ---- containers ----


@pytest.fixture
def box(lab):
    """Container s:box with datasets s:one (a, b) and s:two (c)."""
    for reference in ("s:one/a", "s:one/b", "s:two/c"):
        lab.put(reference, b"abc")
    change(lab, containers.create, "s:box", owner="alice")
    change(lab, containers.add, "s:box", ["s:two", "s:one"])
    return "s:box"


def test_a_container_has_what_its_datasets_have(lab, box):
    change(lab, containers.create, box, owner="alice")
    change(lab, containers.add, box, ["s:one"])
    shown = change(lab, catalog.show, box)

    assert [row.dataset for row in change(lab, containers.members, box)] == ["s:one", "s:two"]
    assert (shown.kind, shown.n_files, shown.size_bytes) == ("container", 3, 9)
    change(lab, containers.remove, box, "s:one")
    assert change(lab, catalog.show, box).n_files == 1


@pytest.mark.parametrize(
    ("verb", "words", "code"),
    [
        (containers.add, ("s:box", ["s:box"]), "is_container"),
        (containers.add, ("s:one", ["s:two"]), "no_container"),
        (containers.members, ("s:one",), "no_container"),
        (containers.add, ("s:box", ["s:gone"]), "not_found"),
        (containers.add, ("s:gone", ["s:one"]), "not_found"),
        (containers.remove, ("s:box", "s:gone"), "not_found"),
        (catalog.files_of, ("s:box",), "is_container"),
        (rules.make, ("s:box", "SOUTH-DISK"), "is_container"),
    ],
)
def test_what_cannot_be_done_with_a_container_is_told(lab, box, verb, words, code):
    with pytest.raises((Conflict, NotFound)) as refused:
        change(lab, verb, *words, **({"by": "alice"} if verb is rules.make else {}))
    assert refused.value.code == code


def test_nothing_is_put_into_a_container_and_names_are_taken_once(lab, box):
    with pytest.raises(Conflict, match="is a container"):
        catalog.put(lab.begin, "s:box", "x", io.BytesIO(b"abc"), storage="NORTH-DISK", owner="alice", cap_bytes=9)
    with pytest.raises(Conflict, match="container s:box belongs to alice"):
        change(lab, catalog.create, "s:box", owner="alice")
    with pytest.raises(Conflict, match="dataset s:one belongs to alice"):
        change(lab, containers.create, "s:one", owner="alice")
    change(lab, catalog.close, "s:box")
    with pytest.raises(Conflict, match="closed"):
        change(lab, containers.add, "s:box", ["s:one"])


def test_a_job_gets_the_files_of_all_datasets_of_a_container(lab, box):
    [job] = lab.bound_jobs(inputs=["s:box"])

    found = lab.query(
        "SELECT did, lfn, file_id IS NOT NULL AS is_bound FROM job_files WHERE kind = 'input' ORDER BY lfn"
    )
    assert [tuple(row) for row in found] == [("s:one", "a", True), ("s:one", "b", True), ("s:two", "c", True)]
    assert [row.n_inputs for row in lab.query("SELECT n_inputs FROM jobs WHERE panda_id = %(i)s", i=job)] == [3]


def test_an_empty_container_and_names_that_meet_are_told(lab, box):
    lab.put("s:two/a", b"other")
    change(lab, containers.create, "s:empty", owner="alice")
    [meets], [empty] = lab.jobs(inputs=["s:box"]), lab.jobs(inputs=["s:empty"])

    problems = change(lab, binding.bind_inputs, [meets, empty])

    assert problems == {
        meets: "inputs s:two/a and s:one/a have the same name",
        empty: "input dataset s:empty is empty",
    }


def test_a_container_goes_without_its_datasets_and_a_dataset_out_of_its_containers(lab, box):
    change(lab, deletion.delete, "s:two")
    deletion.take_out_unread(lab.begin, grace_s=0)
    assert [row.dataset for row in change(lab, containers.members, box)] == ["s:one"]

    change(lab, deletion.delete, box)
    deletion.take_out_unread(lab.begin, grace_s=0)
    with pytest.raises(NotFound):
        change(lab, catalog.show, box)
    assert change(lab, catalog.show, "s:one").n_files == 2


# ---- rules ----


def advance(lab):
    lab.do("UPDATE dataset_rules SET due_at = panda_now()")
    rules.advance(lab.begin)


def move_all(lab):
    while True:
        with lab.begin() as connection:
            ids = admission.due_ids(connection, 100, 60)
        if not ids:
            return
        transfers.carry_out(lab.begin, ids, lab.settings)


def rule(lab, did="s:d"):
    [found] = change(lab, rules.of_dataset, did)
    return found


def test_a_dataset_that_closes_goes_where_the_rule_says(lab):
    path = lab.root / "storage.toml"
    path.write_text('[archiving.raw]\ndatasets = "s:*.RAW"\nstorage = "WEST-DISK"\n')
    change(lab, storage_file.sync, storage_file.load_file(path))
    for reference in ("s:x.RAW/a", "s:x.RAW/b", "s:x.AOD/a"):
        lab.put(reference, b"abc")
    rules.advance(lab.begin)
    assert change(lab, rules.of_dataset, "s:x.RAW") == []

    for did in ("s:x.RAW", "s:x.AOD"):
        change(lab, catalog.close, did)
    rules.advance(lab.begin)
    assert change(lab, rules.of_dataset, "s:x.AOD") == []
    assert rule(lab, "s:x.RAW").made_by == "storage.toml [archiving.raw]"
    advance(lab)
    with lab.begin() as connection:
        assert transfers.forget_unwanted(connection) == 0  # a rule wants them, though no job waits
    move_all(lab)
    advance(lab)

    assert rule(lab, "s:x.RAW").done_at is not None
    assert lab.where("s:x.RAW/b", "WEST-DISK").read_bytes() == b"abc"
    assert [r.is_copy for r in lab.query("SELECT is_copy FROM replicas WHERE storage = 'WEST-DISK'")] == [False, False]
    assert lab.query("SELECT 1 FROM transfers WHERE owner IS DISTINCT FROM 'alice'") == []


def test_a_rule_for_an_open_dataset_follows_it_until_it_closes(lab):
    lab.put("s:d/a", b"abc")
    change(lab, rules.make, "s:d", "SOUTH-DISK", by="alice")
    advance(lab)
    move_all(lab)
    advance(lab)
    assert (rule(lab).done_at, rule(lab).error) == (None, None)

    lab.put("s:d/b", b"abc")
    change(lab, catalog.close, "s:d")
    advance(lab)
    assert (rule(lab).error, rule(lab).n_lacking) == ("1 of its files are not there yet", 1)
    move_all(lab)
    advance(lab)
    assert (rule(lab).done_at is not None, rule(lab).n_lacking) == (True, 0)
    change(lab, rules.drop, "s:d", "SOUTH-DISK")
    assert change(lab, rules.of_dataset, "s:d") == []
    with lab.begin() as connection:
        assert audit.audit(connection, everything=True, only=["I8", "I8b"]) == []


def test_a_rule_looks_again_when_its_dataset_is_opened_again(lab):
    lab.put("s:d/a", b"abc")
    change(lab, catalog.close, "s:d")
    change(lab, rules.make, "s:d", "NORTH-DISK", by="alice")
    advance(lab)
    assert rule(lab).done_at is not None

    change(lab, catalog.reopen, "s:d")
    lab.put("s:d/b", b"abc", storage="SOUTH-DISK")
    change(lab, catalog.close, "s:d")
    assert rule(lab).done_at is None
    advance(lab)
    move_all(lab)
    advance(lab)

    assert rule(lab).done_at is not None
    assert lab.where("s:d/b", "NORTH-DISK").read_bytes() == b"abc"


def test_a_dataset_that_was_opened_and_closed_during_a_look_is_looked_at_again(lab, monkeypatch):
    lab.put("s:d/a", b"abc")
    change(lab, catalog.close, "s:d")
    change(lab, rules.make, "s:d", "NORTH-DISK", by="alice")

    def meanwhile(connection, rule, lacking):
        if not lacking:
            change(lab, catalog.reopen, "s:d")
            lab.put("s:d/b", b"abc", storage="SOUTH-DISK")
            change(lab, catalog.close, "s:d")

    with monkeypatch.context() as patch:
        patch.setattr(rules, "_ask", meanwhile)
        advance(lab)
    assert rule(lab).done_at is None
    advance(lab)
    assert rule(lab).n_lacking == 1


def test_a_rule_goes_through_a_large_dataset_in_windows(lab, monkeypatch):
    monkeypatch.setattr(rules, "WINDOW", 2)
    for lfn in "abcde":
        lab.put(f"s:d/{lfn}", b"x")
    change(lab, catalog.close, "s:d")
    change(lab, rules.make, "s:d", "SOUTH-DISK", by="alice")

    advance(lab)
    assert len(lab.transfers()) == 2
    advance(lab)
    advance(lab)
    assert len(lab.transfers()) == 5
    move_all(lab)
    for _ in range(3):
        advance(lab)
    assert rule(lab).done_at is not None


def test_what_a_job_brought_becomes_the_rules_and_what_it_is_bringing_too(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"abc")
    for lfn, moves in (("a", True), ("b", False)):
        jobs = lab.bound_jobs(inputs=[f"s:d/{lfn}"])
        with lab.begin() as connection:
            transfers.request_inputs(connection, jobs, deadline_s=60)
        if moves:
            move_all(lab)
    change(lab, rules.make, "s:d", "SOUTH-DISK", by="alice")
    advance(lab)
    move_all(lab)

    assert len(lab.transfers()) == 2
    assert lab.query("SELECT 1 FROM replicas WHERE is_copy") == []


def test_a_dataset_with_a_rule_can_be_deleted(lab):
    lab.put("s:d/a", b"abc")
    change(lab, rules.make, "s:d", "SOUTH-DISK", by="alice")
    advance(lab)
    change(lab, deletion.delete, "s:d")
    deletion.take_out_unread(lab.begin, grace_s=0)
    deletion.carry_out(lab.begin)
    deletion.take_out_unread(lab.begin, grace_s=0)

    assert lab.query("SELECT 1 FROM datasets UNION ALL SELECT 1 FROM dataset_rules") == []
    with pytest.raises(NotFound):
        change(lab, rules.make, "s:d", "SOUTH-DISK", by="alice")
