"""A scan finds what a storage and the catalogue disagree about."""

import os

import pytest

from panda.dataservice import deletion
from panda.dataservice.scan import Finding, scan
from panda.errors import Invalid, NotFound


def findings(lab, storage="NORTH-DISK", min_age_s=-1.0):
    return sorted(scan(lab.begin, storage, min_age_s=min_age_s), key=lambda each: (each.kind, each.path))


def test_dark_files_lost_replicas_and_wrong_sizes_are_found_and_the_rest_is_not(lab):
    good, lost, cut = (lab.put(f"s:d/{lfn}", b"abc") for lfn in ("good", "lost", "cut"))
    lost.unlink()
    cut.write_bytes(b"a")
    dark = good.with_name("dark")
    dark.write_bytes(b"dark!")
    strange = lab.root / "north" / "old" / "dataset" / "a"
    strange.parent.mkdir(parents=True)
    strange.write_bytes(b"12")
    (lab.root / "north" / "stray").write_bytes(b"1")
    below = lab.root / "north"

    assert findings(lab) == [
        Finding("dark", "old/dataset/a", 2),
        Finding("dark", str(dark.relative_to(below)), 5),
        Finding("dark", "stray", 1),
        Finding("lost", str(lost.relative_to(below)), None, 3),
        Finding("wrong_size", str(cut.relative_to(below)), 1, 3),
    ]


def test_a_file_that_is_young_may_be_on_its_way(lab):
    young = lab.put("s:d/a", b"abc").with_name("young")
    young.write_bytes(b"x")

    assert findings(lab, min_age_s=3600) == []
    os.utime(young, (1, 1))
    assert [each.kind for each in findings(lab, min_age_s=3600)] == ["dark"]


def test_what_waits_for_its_deletion_is_known(lab):
    lab.put("s:d/a", b"abc")
    with lab.begin() as connection:
        deletion.delete(connection, "s:d")
    deletion.take_out_unread(lab.begin, grace_s=0)

    assert findings(lab) == []


def test_a_link_is_not_followed_out_of_the_storage(lab, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"x")
    lab.put("s:d/a", b"abc")
    (lab.root / "north" / "s" / "link").symlink_to(outside)

    assert [(each.kind, each.path) for each in findings(lab)] == [("dark", "s/link")]


@pytest.mark.parametrize(
    ("kind", "root", "stager", "why"),
    [
        ("rucio", "rucio+http://a/R", "", "is Rucio's"), ("stub", "a", "", "whose mover cannot list"),
        ("local", "/not/here", "", "No such file"), ("simulated-tape", "/tmp", "simulated", "is a tape"),
        ("http", "http://127.0.0.1:1/a", "", "does not answer"),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_refused_and_says_why(lab, kind, root, stager, why):
    lab.do(
        "UPDATE storages SET kind = %(kind)s, root = %(root)s, stager = %(stager)s WHERE name = 'WEST-DISK'",
        kind=kind, root=root, stager=stager,
    )  # fmt: skip
    with pytest.raises(Invalid, match=why) as refused:
        findings(lab, "WEST-DISK")
    assert refused.value.code == "cannot_scan"


def test_a_storage_that_nobody_knows_cannot_be_scanned(lab):
    with pytest.raises(NotFound):
        findings(lab, "NOWHERE")
