"""Storages that a real Rucio server looks after. Skipped where there is none: `make test-rucio` installs it first."""

import io
import json
import os
import subprocess
import time
import zlib
from pathlib import Path

import pytest
from storage_servers import free_port, process

from panda import settings
from panda.dataservice import admission, catalog, outputs, rucio, transfers
from panda.dataservice.movers import rucio as rucio_mover
from panda.dataservice.movers.base import Content, Place, Underway, WrongContent, still
from panda.dataservice.movers.rucio import RucioMover, did_of
from panda.errors import ConfigError

HERE = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("RUCIO_VENV", HERE.parent / "build" / "rucio")) / "bin" / "python"
SITE = HERE / "rucio_site.py"
FILE = "s/d/3f/a1/a.txt"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="Rucio is not installed; `make test-rucio` installs it")


class Server:
    """A running Rucio, and what its daemons do when they are told to."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.address = home, f"rucio+http://127.0.0.1:{port}"

    def root(self, rse):
        return f"{self.address}/{rse}"

    def carry(self, how="fine"):
        subprocess.run([PYTHON, SITE, self.home, "carry", how], check=True, capture_output=True)

    def rules(self, rse, path):
        server, _ = rucio.server_of(self.root(rse))
        return server.rules(rse, did_of(path))

    def files(self, rse):
        folder = self.home / rse.lower()
        return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())

    def metadata(self, path):
        """What Rucio's released client says of a file."""
        did = did_of(path)
        said = subprocess.run(
            [PYTHON, SITE, self.home, "tell", did.scope, did.name], check=True, capture_output=True, text=True
        )
        return Content(**json.loads(said.stdout.partition("told ")[2]))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("rucio"), free_port()
    with process([str(PYTHON), str(SITE), str(folder / "home"), "serve", str(port)], port, folder, within_s=60):
        yield Server(folder / "home", port)


@pytest.fixture
def credentials(server, tmp_path, monkeypatch):
    def write(**more):
        entry = {"prefix": server.address, "account": "root", "user": "ddmlab", "password": "secret"} | more
        file.write_text("[[credentials]]\n" + "".join(f'{k} = "{v}"\n' for k, v in entry.items()))
        file.chmod(0o600)
        os.utime(file, ns=(time.time_ns(), time.time_ns()))

    file = tmp_path / "credentials.toml"
    write()
    monkeypatch.setenv("PANDA_DATA_CREDENTIALS", str(file))
    settings.current.cache_clear()
    yield write
    settings.current.cache_clear()


@pytest.fixture
def north(server, credentials, tmp_path):
    """A place of its own for each test."""
    return Place(server.root("NORTH"), f"s/{tmp_path.name}/3f/a1/a.txt")


def south(server, place, copy=7):
    return Place(server.root("SOUTH"), f"{place.path}@t{copy}")


def content(held):
    return Content(len(held), f"{zlib.adler32(held):08x}")


def put(place, held=b"abc"):
    """As `panda put` does: a draft, then its name."""
    mover, draft = RucioMover(), Place(place.root, f"s/drafts/@{abs(hash(place))}x")
    mover.write(draft, io.BytesIO(held), 10**6, still)
    mover.rename(draft, place.path)
    mover.remove(draft)
    return content(held)


@pytest.mark.parametrize("held", [b"", b"abc", b"x" * (3 << 20)])
def test_a_file_that_is_put_is_kept_by_rucio_where_its_hash_says(server, north, held):
    mover = RucioMover()
    there = Place(north.root, f"{north.path}.{len(held)}")

    put(there, held) if len(held) < 10**6 else mover.write(there, io.BytesIO(held), 10**7, still)

    assert server.metadata(there.path) == content(held) == mover.measure(there, still)
    assert mover.size(there) == len(held)
    with mover.open(there) as stream:
        assert stream.read() == held
    assert mover.link(there.root, there.path, "GET", 60).endswith(rucio_mover.pfn_path(did_of(there.path)))
    [rule] = server.rules("NORTH", there.path)
    assert (rule["state"], rule["comments"], rule["expires_at"]) == ("OK", there.path, None)


def test_a_draft_is_unknown_to_rucio_and_goes_when_it_is_told_to(server, north):
    mover, draft = RucioMover(), Place(north.root, "s/d/@token-of-a-draft")
    mover.write(draft, io.BytesIO(b"abc"), 10, still)
    assert any("@token-of-a-draft" in each for each in server.files("NORTH"))

    mover.remove(draft)

    assert not any("@token-of-a-draft" in each for each in server.files("NORTH"))


def test_rucio_copies_by_a_rule_and_is_asked_until_it_has(server, north):
    mover, expected = RucioMover(), put(north)
    there = south(server, north)

    for _ in range(2):
        with pytest.raises(Underway, match="REPLICATING") as underway:
            mover.copy(north, there, expected, still)
        assert 5 <= underway.value.look_again_s <= 120
    [rule] = server.rules("SOUTH", there.path)
    assert rule["expires_at"] is not None  # nobody may come back for it
    server.carry()
    mover.copy(north, there, expected, still)

    assert mover.measure(there, still) == expected
    [rule] = server.rules("SOUTH", there.path)
    assert (rule["state"], rule["comments"], rule["expires_at"]) == ("OK", there.path, None)


def test_a_rule_that_is_stuck_is_a_failed_try(server, north):
    expected = put(north)
    with pytest.raises(Underway):
        RucioMover().copy(north, south(server, north), expected, still)
    server.carry("broken")

    with pytest.raises(OSError, match="is STUCK"):
        RucioMover().copy(north, south(server, north), expected, still)


def test_what_rucio_brought_is_measured(server, north):
    put(north)
    there = south(server, north)
    with pytest.raises(Underway):
        RucioMover().copy(north, there, content(b"abc"), still)
    server.carry()
    [where] = [each for each in server.files("SOUTH") if each.endswith(did_of(there.path).name)]
    (server.home / "south" / where).write_bytes(b"abd")

    with pytest.raises(WrongContent):
        RucioMover().copy(north, there, content(b"abc"), still)


def test_what_is_removed_is_left_to_rucio_and_a_late_removal_does_not_meet_a_newer_copy(server, north):
    mover, expected = RucioMover(), put(north)
    first, second = south(server, north, 1), south(server, north, 2)
    with pytest.raises(Underway):
        mover.copy(north, first, expected, still)
    server.carry()
    mover.copy(north, first, expected, still)
    mover.remove(first)
    mover.remove(first)
    [rule] = server.rules("SOUTH", first.path)
    assert rule["expires_at"] is not None  # Rucio's own grace before it is gone

    mover.copy(north, second, expected, still)  # it was still there
    mover.remove(first)

    [rule] = server.rules("SOUTH", second.path)
    assert (rule["comments"], rule["expires_at"]) == (second.path, None)


def test_an_output_of_an_attempt_that_does_not_count_is_removed_here(server, north):
    mover = RucioMover()
    _, inner = rucio_mover._inner(Place(north.root, f"{north.path}@42.1"))
    Path(inner.root, inner.path).parent.mkdir(parents=True)
    Path(inner.root, inner.path).write_bytes(b"abc")  # a pilot wrote it, by its link

    mover.remove(Place(north.root, f"{north.path}@42.1"))

    assert not Path(inner.root, inner.path).exists()


def test_other_bytes_under_a_name_that_rucio_knows_are_refused(north):
    put(north, b"abc")

    with pytest.raises(OSError, match="FileConsistencyMismatch"):
        RucioMover().keep(north, content(b"abcd"))


def test_the_room_is_the_storage_s_own_word(north):
    room = RucioMover().space(north.root)

    assert room is not None
    assert room.free_bytes > 1_000_000


@pytest.mark.parametrize(
    ("rse", "path", "says"),
    [
        ("NOWHERE", FILE, "RSENotFound"),
        ("LAYOUT", FILE, "lays files out in its own way"),
        ("LISTED", FILE, "is not deterministic"),
        ("NORTH", "unknown/d/3f/a1/a", "ScopeNotFound"),
        ("NORTH", "s/d/3f/a1/../a", "no path of a file"),
        ("NORTH", f"s/d/3f/a1/{'a' * 251}", "Rucio says|name too long"),
        ("NORTH", "s/d/3f/a1/a b", "Rucio says"),
    ],
)
def test_what_rucio_refuses_is_said(server, credentials, rse, path, says):
    with pytest.raises((OSError, ConfigError), match=says):
        RucioMover().write(Place(server.root(rse), path), io.BytesIO(b"abc"), 10, still)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"password": "wrong"}, "CannotAuthenticate"),
        ({"account": ""}, "want an account"),
        ({"user": ""}, "want an account"),
        ({"auth": "http://127.0.0.1:9"}, "does not answer"),
        ({"token": "made-up"}, "CannotAuthenticate"),
    ],
)
def test_who_is_not_let_in_is_told(server, credentials, north, entry, says):
    credentials(**entry)

    with pytest.raises((OSError, ConfigError), match=says):
        RucioMover().space(north.root)


def test_a_token_that_has_run_out_is_renewed(server, north):
    seen, _ = rucio.server_of(north.root)
    RucioMover().space(north.root)
    seen._token = "run-out"

    assert put(north) == RucioMover().measure(north, still)


def test_jobs_wait_for_a_rule_and_are_woken_when_it_is_satisfied(lab, server, credentials):
    lab.do(f"UPDATE storages SET kind = 'rucio', root = '{server.address}/' || site WHERE site IN ('NORTH', 'SOUTH')")
    with lab.begin() as connection:
        catalog.create(connection, "s:waits", owner="alice")
    catalog.put(lab.begin, "s:waits", "a", io.BytesIO(b"abc"), storage="NORTH-DISK", owner="alice", cap_bytes=100)
    jobs = lab.bound_jobs(3, inputs=["s:waits/a"])
    with lab.begin() as connection:
        assert transfers.request_inputs(connection, jobs, deadline_s=3600.0) == []

    for _ in range(lab.settings.data.transfer_tries + 2):  # however often we look
        go_on(lab)
    [waiting] = lab.transfers()
    assert (waiting.status, waiting.tries) == ("queued", 0)
    assert "REPLICATING" in waiting.error
    server.carry()
    go_on(lab)

    assert [row.status for row in lab.transfers()] == ["done"]
    assert {row.waits_for for row in lab.query("SELECT waits_for FROM job_due")} == {None}


def test_what_a_pilot_wrote_is_entered_into_rucio_once_it_is_verified(lab, server, credentials):
    lab.do(f"UPDATE storages SET kind = 'rucio', root = '{server.address}/' || site WHERE site = 'SOUTH'")
    with lab.begin() as connection:
        catalog.create(connection, "s:written", owner="alice")
    [job] = lab.jobs(1, outputs=["s:written/out"], stage="stage_out", status="holding")
    with lab.begin() as connection:
        outputs.reserve(connection, [job])
    [file] = lab.query("SELECT path FROM job_files WHERE kind = 'output'")
    place = Place(server.root("SOUTH"), file.path)
    _, inner = rucio_mover._inner(place)
    Path(inner.root, inner.path).parent.mkdir(parents=True)
    Path(inner.root, inner.path).write_bytes(b"abc")
    lab.do("UPDATE job_files SET status = 'written', size_bytes = 3, adler32 = '024d0127', guid = gen_random_uuid()")
    assert server.rules("SOUTH", place.path) == []

    assert outputs.verify(lab.begin, [job]) == {}

    [rule] = server.rules("SOUTH", place.path)
    assert rule["state"] == "OK"
    assert server.metadata(place.path) == content(b"abc")


def go_on(lab):
    lab.do("UPDATE transfers SET due_at = panda_now() WHERE status = 'queued'")
    with lab.begin() as connection:
        ids = admission.due_ids(connection, 100, lab.settings.data.transfer_lease_s)
    assert transfers.carry_out(lab.begin, ids, lab.settings) == []
