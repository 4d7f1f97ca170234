"""Files of datasets are dealt out to jobs a window at a time, and every job gets those that it would get from the whole list."""

import io

import pytest

from panda.dataservice import catalog, containers, parts
from panda.db.session import rows, run
from panda.errors import Conflict, Invalid, NotFound
from panda.jobs import dealing, expansion

FILES = """
WITH made AS (
    INSERT INTO files (dataset_id, lfn, guid, size_bytes, adler32, created_at)
    SELECT %(dataset_id)s, format(%(name)s, to_char(n, 'FM0000')), '', 1, '00000001', panda_now()
    FROM generate_series(0, %(n)s - 1) AS n RETURNING file_id, lfn)
INSERT INTO replicas (file_id, storage, path, created_at) SELECT file_id, 'NORTH-DISK', lfn, panda_now() FROM made
"""
COUNT = """
UPDATE datasets d SET n_files = f.n, size_bytes = f.n
FROM (SELECT count(*) AS n FROM files WHERE dataset_id = %(dataset_id)s) f WHERE d.dataset_id = %(dataset_id)s
"""
USE = "INSERT INTO storage_use_deltas VALUES ('NORTH-DISK', 'alice', %(n)s, %(n)s)"


def fill(world, did, n, name="f.%s"):
    with world.begin() as connection:
        values = {"dataset_id": catalog.create(connection, did, owner="alice"), "n": n, "name": name}
        run(connection, FILES, values)
        run(connection, COUNT, values)
        run(connection, USE, values)


def inputs_of(world):
    """By seq: the inputs of each job that was made, `did/lfn`."""
    with world.begin() as connection:
        found = rows(
            connection,
            "SELECT j.seq, array_agg(f.did || '/' || f.lfn ORDER BY f.did, f.lfn) AS inputs FROM jobs j"
            " JOIN job_files f USING (panda_id) WHERE f.kind = 'input' GROUP BY j.seq ORDER BY j.seq",
        )
    return [row.inputs for row in found]


def expand(world, monkeypatch, chunk_jobs=3, window=4):
    monkeypatch.setattr(dealing, "WINDOW", window)
    engine = world.engine.__class__(**{**vars(world.engine), "chunk_jobs": chunk_jobs})
    while expansion.expand(world.begin, engine):
        pass


def names(n, did="s:d", name="f.{:04d}"):
    return [f"{did}/{name.format(i)}" for i in range(n)]


def groups(files, size):
    return [files[start : start + size] for start in range(0, len(files), size)]


@pytest.mark.parametrize(("size", "count", "window"), [(1, 1, 4), (3, 1, 4), (3, 2, 2), (7, 1, 3), (10, 1, 10)])
def test_each_job_gets_its_group_whatever_the_window(world, monkeypatch, size, count, window):
    fill(world, "s:d", 10)
    world.submit(
        template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d", "files_per_job": size}}, "count": count}
    )
    expand(world, monkeypatch, window=window)

    assert inputs_of(world) == [group for group in groups(names(10), size) for _ in range(count)]


def test_groups_begin_anew_for_each_value_of_a_matrix(world, monkeypatch):
    fill(world, "s:d", 5)
    world.submit(
        template={
            "command": ["true"],
            "inputs": {"IN": {"dataset": "s:d", "files_per_job": 2}},
            "matrix": {"x": [1, 2]},
        }
    )
    expand(world, monkeypatch, chunk_jobs=2, window=2)

    assert inputs_of(world) == groups(names(5), 2) * 2


def test_files_that_came_after_the_submission_are_not_dealt(world, monkeypatch):
    fill(world, "s:d", 3, "f.%s.root")
    fill(world, "s:d", 1, "other.%s")
    world.submit(
        template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d", "match": "*.root", "files_per_job": 2}}}
    )
    fill(world, "s:d", 2, "a%s.root")
    expand(world, monkeypatch, chunk_jobs=1, window=2)

    assert inputs_of(world) == groups(names(3, name="f.{:04d}.root"), 2)


def test_the_datasets_of_a_container_are_dealt_one_after_the_other(world, monkeypatch):
    for name, n in (("one", 3), ("two", 4)):
        fill(world, f"s:{name}", n, f"{name}.%s")
    with world.begin() as connection:
        containers.create(connection, "s:box", owner="alice")
        containers.add(connection, "s:box", ["s:two", "s:one"])
    world.submit(template={"command": ["true"], "inputs": {"IN": {"dataset": "s:box", "files_per_job": 2}}})
    with world.begin() as connection:
        containers.remove(connection, "s:box", "s:two")  # it is what it was at submission
    expand(world, monkeypatch, chunk_jobs=1, window=2)

    everything = names(3, "s:one", "one.{:04d}") + names(4, "s:two", "two.{:04d}")
    assert inputs_of(world) == groups(everything, 2)
    world.settle()


def test_two_files_of_one_name_in_one_job_fail_that_job_alone(world, monkeypatch):
    for name in ("one", "two"):
        fill(world, f"s:{name}", 2)
    with world.begin() as connection:
        containers.create(connection, "s:box", owner="alice")
        containers.add(connection, "s:box", ["s:two", "s:one"])
    accepted = world.submit(template={"command": ["true"], "inputs": {"IN": {"dataset": "s:box", "files_per_job": 3}}})
    expand(world, monkeypatch)

    first = world.job(accepted.first_panda_id)
    assert first["error_code"] == "define:bad_document"
    assert "inputs s:one/f.0000 and s:two/f.0000 have the same name" in first["error_message"]
    assert inputs_of(world) == [["s:two/f.0001"]]


def test_files_that_went_since_the_submission_fail_the_jobs_that_want_them(world, monkeypatch):
    fill(world, "s:d", 4)
    accepted = world.submit(template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d", "files_per_job": 2}}})
    with world.begin() as connection:
        for sql in (
            "DELETE FROM replicas r USING files f WHERE f.file_id = r.file_id AND f.lfn = 'f.0001'",
            "DELETE FROM files WHERE lfn = 'f.0001'", "UPDATE datasets SET n_files = 3, size_bytes = 3 WHERE name = 'd'",
            "INSERT INTO storage_use_deltas VALUES ('NORTH-DISK', 'alice', -1, -1)",
        ):  # fmt: skip
            run(connection, sql)
    expand(world, monkeypatch)

    last = world.job(accepted.last_panda_id)
    assert last["error_code"] == "define:bad_document"
    assert "s:d had 4 files at submission, and some of them are gone" in last["error_message"]
    assert inputs_of(world) == [["s:d/f.0000", "s:d/f.0002"]]


def test_a_plain_binding_is_as_the_last_release_reads_it(world):
    fill(world, "s:d", 1)
    world.submit(template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d"}}})

    [found] = world.query("SELECT bindings FROM jobsets")
    assert found.bindings == {"IN": ["s:d", "*", 1, 1, found.bindings["IN"][4]]}


def test_an_empty_container_and_one_as_output_are_refused(world):
    with world.begin() as connection:
        containers.create(connection, "s:box", owner="alice")
    with pytest.raises(Invalid, match="s:box has no file"):
        world.submit(template={"command": ["true"], "inputs": {"IN": {"dataset": "s:box"}}})
    with pytest.raises(Conflict, match="is a container"):
        world.submit(jobs=[{"command": ["true"]}], output_dataset="s:box")


def test_the_inputs_of_a_list_of_jobs_are_told(world):
    fill(world, "s:d", 2)
    jobs = [{"command": ["true"], "inputs": [reference]} for reference in ("s:d/f.0000", "s:d/f.0001", "s:whole")]
    accepted = world.submit(jobs=jobs)
    with world.begin() as connection:
        told = parts.parts(connection, accepted.jobset_id)
        with pytest.raises(NotFound):
            parts.parts(connection, accepted.jobset_id + 1)

    inputs = [(part.dataset, part.n_files) for part in told if part.role == "input"]
    assert inputs == [("s:d", 2), ("s:whole", None)]


def test_the_parts_of_a_set_are_told(world):
    with world.begin() as connection:
        catalog.create(connection, "s:d", owner="alice")
    catalog.put(world.begin, "s:d", "a", io.BytesIO(b"abc"), storage="NORTH-DISK", owner="alice", cap_bytes=9)
    accepted = world.submit(
        template={"command": ["true"], "inputs": {"IN": {"dataset": "s:d"}}}, brokerage={"sites": ["SOUTH"]},
        output_dataset="s:out",
    )  # fmt: skip
    world.settle()
    with world.begin() as connection:
        told = parts.parts(connection, accepted.jobset_id)

    assert [(part.role, part.dataset, part.storage, part.n_files, part.n_there) for part in told] == [
        ("input", "s:d", None, 1, None),
        ("dispatch", None, "SOUTH-DISK", 1, 1),
        ("output", "s:out", None, 0, None),
    ]
