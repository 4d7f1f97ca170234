"""Datasets and files: what is in the catalogue is on a storage, whole, once."""

import hashlib
import io
import zlib

import pytest

from panda.dataservice import binding, catalog
from panda.dataservice.catalog import NewFile
from panda.dataservice.digests import Told
from panda.errors import Conflict, Invalid, NotFound, TooLarge, Unavailable


def put(lab, lfn, content, **more):
    words = {"storage": "NORTH-DISK", "owner": "alice", "cap_bytes": 1000} | more
    return catalog.put(lab.begin, "s:d", lfn, io.BytesIO(content), **words)


def files_below(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def dataset(lab):
    with lab.begin() as connection:
        return catalog.create(connection, "s:d", owner="alice")


def show(lab, did="s:d"):
    with lab.begin() as connection:
        return catalog.show(connection, did)


def test_a_file_that_was_put_is_listed_and_read_back(lab, dataset):
    row = put(lab, "a", b"abc")

    assert (row.lfn, row.size_bytes, row.adler32, row.storages) == ("a", 3, "024d0127", ["NORTH-DISK"])
    stream, size_bytes, adler32 = catalog.open_file(lab.begin, "s:d", "a")
    with stream:
        assert (stream.read(), size_bytes, adler32) == (b"abc", 3, "024d0127")
    assert (show(lab).n_files, show(lab).size_bytes) == (1, 3)
    assert files_below(lab.root / "north") == [lab.where("s:d/a", "NORTH-DISK")]


def test_what_passes_through_our_hands_gets_a_sha_256(lab, dataset):
    held = b"x" * (3 << 20)

    assert put(lab, "a", held, cap_bytes=10**7).sha256 == hashlib.sha256(held).hexdigest()

    with lab.begin() as connection:
        assert [file.sha256 for file in catalog.files_of(connection, "s:d")] == [hashlib.sha256(held).hexdigest()]


def test_an_empty_file_and_the_longest_name_are_files_too(lab, dataset):
    name = "x" * 250

    put(lab, name, b"")

    stream, size_bytes, _ = catalog.open_file(lab.begin, "s:d", name)
    with stream:
        assert (stream.read(), size_bytes) == (b"", 0)


def test_the_same_file_again_changes_nothing_and_another_is_refused(lab, dataset):
    first = put(lab, "a", b"abc")

    again = put(lab, "a", b"abc")
    with pytest.raises(Conflict, match="has another file a already") as refusal:
        put(lab, "a", b"xyz")

    assert again.guid == first.guid
    assert refusal.value.code == "file_exists"
    assert lab.where("s:d/a", "NORTH-DISK").read_bytes() == b"abc"
    assert len(files_below(lab.root / "north")) == 1
    assert (show(lab).n_files, show(lab).size_bytes) == (1, 3)


def test_the_same_file_on_another_storage_is_a_second_replica(lab, dataset):
    put(lab, "a", b"abc")

    row = put(lab, "a", b"abc", storage="SOUTH-DISK")

    assert row.storages == ["NORTH-DISK", "SOUTH-DISK"]
    lab.where("s:d/a", "NORTH-DISK").unlink()
    stream, _, _ = catalog.open_file(lab.begin, "s:d", "a")
    with stream:
        assert stream.read() == b"abc"


@pytest.mark.parametrize(
    ("lfn", "content", "more", "error", "code"),
    [
        ("../a", b"abc", {}, Invalid, "bad_name"),
        ("a", b"abc", {"told": Told(adler32="00000000")}, Invalid, "wrong_checksum"),
        ("a", b"x" * 1001, {}, TooLarge, "too_large"),
        ("a", b"abc", {"storage": "MOON-DISK"}, NotFound, "not_found"),
    ],
)
def test_a_bad_upload_leaves_nothing(lab, dataset, lfn, content, more, error, code):
    with pytest.raises(error) as refusal:
        put(lab, lfn, content, **more)

    assert refusal.value.code == code
    assert files_below(lab.root) == []
    assert show(lab).n_files == 0


def test_a_broken_upload_leaves_nothing(lab, dataset):
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise Invalid("cut short")

    with pytest.raises(Invalid):
        catalog.put(lab.begin, "s:d", "a", Broken(), storage="NORTH-DISK", owner="alice", cap_bytes=10)

    assert files_below(lab.root) == []


def test_a_closed_dataset_takes_no_new_file(lab, dataset):
    put(lab, "a", b"abc")
    with lab.begin() as connection:
        assert catalog.close(connection, "s:d") is True
        assert catalog.close(connection, "s:d") is False

    assert put(lab, "a", b"abc").lfn == "a"
    with pytest.raises(Conflict) as refusal:
        put(lab, "b", b"abc")

    assert refusal.value.code == "dataset_closed"
    assert (show(lab).status, show(lab).n_files) == ("closed", 1)


def test_an_offline_storage_takes_and_gives_nothing(lab, dataset):
    put(lab, "a", b"abc")
    lab.do("UPDATE storages SET status = 'offline' WHERE name = 'NORTH-DISK'")

    with pytest.raises(Unavailable, match="NORTH-DISK is offline"):
        put(lab, "b", b"abc")
    with pytest.raises(Unavailable, match="no replica of s:d/a"):
        catalog.open_file(lab.begin, "s:d", "a")


def test_what_is_not_there_is_not_found(lab, dataset):
    for question in (
        lambda c: catalog.show(c, "s:nothing"),
        lambda c: catalog.close(c, "s:nothing"),
        lambda c: catalog.files_of(c, "s:nothing"),
    ):
        with pytest.raises(NotFound), lab.begin() as connection:
            question(connection)
    with pytest.raises(NotFound):
        catalog.open_file(lab.begin, "s:d", "nothing")


def test_a_dataset_made_again_is_the_same_one_unless_it_is_somebody_elses(lab, dataset):
    with lab.begin() as connection:
        assert catalog.create(connection, "s:d", owner="alice") == dataset
        assert catalog.find(connection, ["s:d", "s:nothing"]) == {"s:d": dataset}
        with pytest.raises(Conflict) as refusal:
            catalog.create(connection, "s:d", owner="bob")
        with pytest.raises(Invalid):
            catalog.create(connection, "nodataset", owner="bob")
    assert refusal.value.code == "dataset_exists"


def test_datasets_and_files_come_in_pages(lab):
    for name in ("b:x", "a:y", "a:x"):
        for lfn in ("2", "1", "3"):
            lab.put(f"{name}/{lfn}", b"")

    with lab.begin() as connection:
        first = [row.dataset for row in catalog.datasets(connection, "", 2)]
        rest = [row.dataset for row in catalog.datasets(connection, first[-1], 2)]
        files = [row.lfn for row in catalog.files_of(connection, "a:x", after="1", limit=1)]

    assert (first, rest, files) == (["a:x", "a:y"], ["b:x"], ["2"])


def new_file(dataset, lfn, content=b"abc", panda_id=None):
    return NewFile(
        dataset_id=dataset, lfn=lfn, guid="g", size_bytes=len(content), adler32=f"{zlib.adler32(content):08x}",
        storage="NORTH-DISK", path=f"p/{lfn}", panda_id=panda_id, attempt_nr=1,
    )  # fmt: skip


def test_of_many_files_only_those_are_refused_that_cannot_be(lab, dataset):
    with lab.begin() as connection:
        catalog.register(connection, [new_file(dataset, "old", panda_id=1)])

    with lab.begin() as connection:
        done = catalog.register(
            connection,
            [
                new_file(dataset, "old", panda_id=1),
                new_file(dataset, "new", panda_id=2),
                new_file(dataset, "new", panda_id=3),
            ],
        )

    assert set(done.file_ids) == {(dataset, "old"), (dataset, "new")}
    assert [refusal.code for refusal in done.refused.values()] == ["file_exists"]
    assert (show(lab).n_files, show(lab).size_bytes) == (2, 6)


def test_one_job_cannot_take_the_name_of_anothers_file_even_with_the_same_content(lab, dataset):
    with lab.begin() as connection:
        catalog.register(connection, [new_file(dataset, "a", panda_id=1)])
        done = catalog.register(connection, [new_file(dataset, "a", panda_id=2)])

    assert str(done.refused[(dataset, "a")]) == "dataset s:d has another file a already, from job 1"


# ---- binding ----------------------------------------------------------------------------------


def bind(lab, panda_ids):
    with lab.begin() as connection:
        return binding.bind_inputs(connection, panda_ids)


def inputs_of(lab, panda_id):
    sql = (
        "SELECT lfn, status, size_bytes, file_id FROM job_files WHERE panda_id = %(i)s AND kind = 'input' ORDER BY lfn"
    )
    return [(row.lfn, row.status, row.size_bytes) for row in lab.query(sql, i=panda_id)]


def test_a_whole_dataset_becomes_its_files(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"defg")
    jobs = lab.jobs(2, inputs=["s:d"], stage="define", status="pending")

    assert bind(lab, jobs) == {}
    lab.put("s:d/c", b"")
    assert bind(lab, jobs[:1]) == {}

    assert inputs_of(lab, jobs[1]) == [("a", "missing", 3), ("b", "missing", 4)]
    assert inputs_of(lab, jobs[0]) == [("a", "missing", 3), ("b", "missing", 4), ("c", "missing", 0)]
    assert [r.n_inputs for r in lab.query("SELECT n_inputs FROM jobs ORDER BY panda_id")] == [3, 2]


def test_what_does_not_exist_is_named(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:e/a", b"abc")
    with lab.begin() as connection:
        catalog.create(connection, "s:empty", owner="alice")
    [good] = lab.jobs(inputs=["s:d/a"])
    [no_file] = lab.jobs(inputs=["s:d/a", "s:d/x"])
    [no_dataset] = lab.jobs(inputs=["s:x"])
    [empty] = lab.jobs(inputs=["s:empty"])
    [twins] = lab.jobs(inputs=["s:d", "s:e"])
    [many] = lab.jobs(inputs=["s:d/x", "s:d/y", "s:d/z"])
    [without] = lab.jobs()

    problems = bind(lab, [good, no_file, no_dataset, empty, twins, many, without])

    assert problems == {
        no_file: "input s:d/x is in no catalogue",
        no_dataset: "input dataset s:x is in no catalogue",
        empty: "input dataset s:empty is empty",
        twins: problems[twins],
        many: "input s:d/x is in no catalogue; and 2 more like it",
    }
    assert problems[twins] in (
        "inputs s:d/a and s:e/a have the same name",
        "inputs s:e/a and s:d/a have the same name",
    )
