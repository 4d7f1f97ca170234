"""Sandboxes: the same files, the same bytes."""

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from panda.client import Invalid
from panda.client.sandbox import pack


def packed(folder: Path, *paths: str) -> tuple[str, dict[str, tarfile.TarInfo]]:
    sink = io.BytesIO()
    sandbox = pack(paths, sink, folder)
    content = sink.getvalue()
    assert hashlib.sha256(content).hexdigest() == sandbox.sha256
    assert len(content) == sandbox.size_bytes
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = {member.name: member for member in tar.getmembers()}
    assert tuple(members) == sandbox.names
    return sandbox.sha256, members


def make(folder: Path) -> Path:
    (folder / "conf").mkdir(parents=True)
    (folder / "skim.py").write_text("print(1)")
    (folder / "conf" / "b.json").write_text("{}")
    (folder / "conf" / "a.json").write_text("[]")
    (folder / "conf" / "__pycache__").mkdir()
    (folder / "conf" / "__pycache__" / "x.pyc").write_bytes(os.urandom(8))
    return folder


def test_the_same_files_give_the_same_hash_whenever_and_wherever(tmp_path: Path) -> None:
    one, two = make(tmp_path / "one"), make(tmp_path / "two")
    os.utime(two / "skim.py", (1, 1))
    (two / "skim.py").chmod(0o600)

    assert packed(one, "skim.py", "conf")[0] == packed(two, "conf/*.json", "./skim.py")[0]


def test_members_are_sorted_and_carry_nothing_of_this_machine(tmp_path: Path) -> None:
    (make(tmp_path) / "skim.py").chmod(0o755)

    _, members = packed(tmp_path, "skim.py", "conf")

    assert list(members) == ["conf/a.json", "conf/b.json", "skim.py"]
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in members.values()} == {(0, 0, 0, "")}
    assert [m.mode for m in members.values()] == [0o644, 0o644, 0o755]


def test_another_content_gives_another_hash(tmp_path: Path) -> None:
    before, _ = packed(make(tmp_path), "skim.py")
    (tmp_path / "skim.py").write_text("print(2)")

    assert packed(tmp_path, "skim.py")[0] != before


def test_a_link_is_packed_as_what_it_points_to(tmp_path: Path) -> None:
    (make(tmp_path) / "link.py").symlink_to("skim.py")

    _, members = packed(tmp_path, "link.py")

    assert members["link.py"].isreg()


@pytest.mark.parametrize("path", ["nothing.py", "*.root", "../outside", "/etc/hostname", "pipe"])
def test_what_cannot_be_uploaded_is_refused(tmp_path: Path, path: str) -> None:
    folder = make(tmp_path / "here")
    (tmp_path / "outside").write_text("x")
    os.mkfifo(folder / "pipe")

    with pytest.raises(Invalid, match="upload"):
        pack([path], io.BytesIO(), folder)
