"""Sandboxes are unpacked, and the wicked ones refused."""

import gzip
import io
import tarfile
import threading

import pytest
from pilot_stub_server import make_job, sha256

from pilot import sandbox
from pilot.errors import ErrorCode, JobFailure


def entry(name, content=b"", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o755
    for fact, value in facts.items():
        setattr(info, fact, value)
    return info, content


def link(name, target, kind=tarfile.SYMTYPE):
    return entry(name, type=kind, linkname=target)


def tar(*entries):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    packed.seek(0)
    return packed


def unpack(tmp_path, *entries):
    folder = tmp_path / "folder"
    folder.mkdir()
    sandbox.unpack(tar(*entries), str(folder), threading.Event())
    return folder


def test_files_folders_and_links_inside_are_unpacked(tmp_path):
    folder = unpack(
        tmp_path,
        entry("bin", type=tarfile.DIRTYPE),
        entry("bin/run.sh", b"#!/bin/sh\n"),
        entry("./deep/er/file", b"x", mode=0o4777),
        link("run", "bin/run.sh"),
        link("hard", "bin/run.sh", tarfile.LNKTYPE),
    )

    assert (folder / "run").read_bytes() == b"#!/bin/sh\n"
    assert (folder / "hard").read_bytes() == b"#!/bin/sh\n"
    assert (folder / "bin/run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "deep/er/file").stat().st_mode & 0o7777 == 0o755


WICKED = {
    "a name with ..": [entry("../evil", b"x")],
    "a name with .. inside": [entry("a/../../evil", b"x")],
    "an absolute name": [entry("/tmp/panda-evil", b"x")],
    "a link out": [link("out", "../..")],
    "an absolute link": [link("out", "/etc/passwd")],
    "a file through a link": [link("out", "/tmp"), entry("out/evil", b"x")],
    "a link through a link": [link("d", "."), link("x", "d/.."), link("d2", "d/../..")],
    "a link that a later link leads out": [link("x", "d/.."), link("d", ".")],
    "a hard link out": [link("hard", "../../etc/passwd", tarfile.LNKTYPE)],
    "an absolute hard link": [link("hard", "/etc/passwd", tarfile.LNKTYPE)],
    "a device": [entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "a pipe": [entry("pipe", type=tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("entries", WICKED.values(), ids=WICKED.keys())
def test_what_leads_out_is_refused(tmp_path, entries):
    with pytest.raises(JobFailure, match="sandbox refused") as refusal:
        unpack(tmp_path, *entries)

    assert refusal.value.code is ErrorCode.SETUPFAILURE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_too_many_entries_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_ENTRIES", 10)
    with pytest.raises(JobFailure, match="more than 10 entries"):
        unpack(tmp_path, *[entry(f"f{n}") for n in range(11)])


def test_a_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox, "MAX_UNPACKED_BYTES", 1_000_000)
    with pytest.raises(JobFailure, match="more than 1000000 bytes"):
        unpack(tmp_path, entry("zeros", bytes(1_000_001)))
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    with pytest.raises(JobFailure, match="more than 1000000 bytes"):
        sandbox.unzip(str(tmp_path / "bomb.gz"), str(tmp_path / "bomb"), threading.Event())


def test_a_huge_extended_header_is_refused(tmp_path):
    with pytest.raises(JobFailure, match="extended header"):
        unpack(tmp_path, entry("x", bytes(2_000_000), type=tarfile.XHDTYPE))


def test_what_is_no_tar_is_refused(tmp_path):
    with pytest.raises(JobFailure, match="sandbox refused"):
        sandbox.unpack(io.BytesIO(b"no tar at all" * 1000), str(tmp_path), threading.Event())
    (tmp_path / "no.gz").write_bytes(b"no gzip")
    with pytest.raises(JobFailure, match="not a gzip file"):
        sandbox.unzip(str(tmp_path / "no.gz"), str(tmp_path / "no"), threading.Event())


def test_jobs_run_from_their_sandbox(run, book):
    packed = gzip.compress(tar(entry("run.sh", b"#!/bin/sh\necho in the sandbox\n")).read())
    book.sandboxes[sha256(packed)] = packed
    finals = run(*[make_job(n, "./run.sh", sandbox=sha256(packed)) for n in (1, 2)])

    assert [finals[n]["status"] for n in (1, 2)] == ["finished"] * 2
    assert book.logs[2, "payload.stdout"] == b"in the sandbox\n"


def test_a_sandbox_is_gone_when_the_next_job_begins(run, book):
    packed = gzip.compress(tar(entry("run.sh", b"#!/bin/sh\n")).read())
    book.sandboxes[sha256(packed)] = packed
    silent = make_job(1, "./run.sh", sandbox=sha256(packed), cores=2)
    run(silent, make_job(2, "sh", "-c", "ls", cores=2))

    assert book.logs[2, "payload.stdout"] == b"payload.stderr\npayload.stdout\ntmp\n"


def test_a_wicked_sandbox_fails_its_job_only(run, book):
    packed = gzip.compress(tar(entry("../evil", b"x")).read())
    book.sandboxes[sha256(packed)] = packed
    book.sandboxes["0" * 64] = packed
    finals = run(make_job(1, "true", sandbox=sha256(packed)), make_job(2, "true", sandbox="0" * 64), make_job(3))

    assert finals[1]["error_code"] == 1110
    assert finals[2]["error_code"] == 1246
    assert "sha256" in finals[2]["error_message"]
    assert finals[3]["status"] == "finished"
