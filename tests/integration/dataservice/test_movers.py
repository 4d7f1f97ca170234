"""Every mover keeps the same promises."""

import io
import zlib

import pytest

from panda.dataservice.movers import stub
from panda.dataservice.movers.base import Content, Place, WrongContent, still
from panda.dataservice.movers.local import LocalMover
from panda.dataservice.movers.stub import StubMover
from panda.dataservice.storage import file_path, output_path
from panda.errors import TooLarge


@pytest.fixture(params=[LocalMover, StubMover])
def mover(request, monkeypatch):
    monkeypatch.setattr(stub, "FILES", {})
    return request.param()


def content(held: bytes) -> Content:
    return Content(len(held), f"{zlib.adler32(held):08x}")


@pytest.fixture
def held(mover, tmp_path):
    place = Place(str(tmp_path), "s/d/a")
    mover.write(place, io.BytesIO(b"abc"), 10, still)
    return place


def read(mover, place):
    with mover.open(place) as stream:
        return stream.read()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 3 << 20])
def test_what_was_written_is_read_measured_and_copied(mover, tmp_path, size):
    here, there = Place(str(tmp_path / "here"), "s/a"), Place(str(tmp_path / "there"), "s/deep/a")
    held = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    ticks = []

    written = mover.write(here, io.BytesIO(held), size, lambda: ticks.append(1))
    mover.copy(here, there, written, lambda: ticks.append(1))

    assert written == content(held) == mover.measure(there, still)
    assert mover.size(there) == size
    assert read(mover, there) == held
    assert ticks or not size


def test_too_much_is_refused_and_not_kept(mover, tmp_path):
    place = Place(str(tmp_path), "s/d/a")

    with pytest.raises(TooLarge):
        mover.write(place, io.BytesIO(b"abcdef"), 5, still)

    with pytest.raises(FileNotFoundError):
        mover.open(place)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_copy_of_something_else_never_replaces_what_is_there(mover, held):
    there = Place(held.root, "s/d/b")
    mover.write(there, io.BytesIO(b"good"), 10, still)

    with pytest.raises(WrongContent, match="s/d/a holds 3 bytes with adler32 024d0127, not 4 with"):
        mover.copy(held, there, content(b"good"), still)

    assert read(mover, there) == b"good"


def test_a_tick_that_raises_stops_the_mover_and_nothing_is_kept(mover, tmp_path):
    place = Place(str(tmp_path), "s/d/a")

    def stop():
        raise InterruptedError("stop")

    with pytest.raises(InterruptedError):
        mover.write(place, io.BytesIO(b"abc"), 10, stop)

    with pytest.raises(FileNotFoundError):
        mover.measure(place, still)


def test_a_file_is_renamed_over_another_and_removed_twice(mover, held):
    mover.write(Place(held.root, "s/d/b"), io.BytesIO(b"old"), 10, still)

    mover.rename(held, "s/d/b")

    assert read(mover, Place(held.root, "s/d/b")) == b"abc"
    with pytest.raises(FileNotFoundError):
        mover.open(held)
    mover.remove(Place(held.root, "s/d/b"))
    mover.remove(Place(held.root, "s/d/b"))


@pytest.mark.parametrize("path", ["", "/etc/passwd", "a/../../b"])
def test_no_path_leads_out_of_a_folder(tmp_path, path):
    with pytest.raises(OSError, match="no path below the storage"):
        LocalMover().open(Place(str(tmp_path), path))


def test_where_the_kernel_cannot_copy_we_do(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "cross-device link")

    monkeypatch.setattr("os.copy_file_range", refuse)
    mover, here, there = LocalMover(), Place(str(tmp_path), "a"), Place(str(tmp_path), "b")
    mover.write(here, io.BytesIO(b"abc"), 10, still)

    mover.copy(here, there, content(b"abc"), still)

    assert read(mover, there) == b"abc"


def test_paths_fit_a_file_system_and_differ_where_names_do():
    long = "x" * 249
    paths = {
        file_path("s", "d", "a"), output_path("s", "d", "a", 1, 1), output_path("s", "d", "a", 1, 2),
        file_path("s", "d", long + "a"), file_path("s", "d", long + "b"), output_path("s", "d", long + "a", 2**60, 99),
    }  # fmt: skip

    assert len(paths) == 6
    assert all(len(part) <= 255 for path in paths for part in path.split("/"))
