"""What our paths are called at Rucio, and where a deterministic RSE keeps what."""

import pytest

from panda.dataservice.movers import rucio
from panda.dataservice.movers.rucio import did_of, pfn_path
from panda.dataservice.rucio import Did, Rse, server_of
from panda.dataservice.storage import draft_path, file_path, output_path
from panda.errors import ConfigError

LONG = "x" * 240


@pytest.mark.parametrize(
    ("path", "did"),
    [
        (file_path("s", "d.AOD", "a.root"), "s:d.AOD/a.root"),
        (output_path("user.me", "out", "a", 42, 1), "user.me:out/a/42.1"),
        (output_path("user.me", "out", "a", 42, 1, era=2), "user.me:out/a/42.1.2"),
        (f"{output_path('s', 'out', 'a', 42, 1)}@t7", "s:out/a/42.1"),
        (f"{file_path('s', 'd', 'a')}@t7", "s:d/a"),
        ("s/a", "s:a"),
    ],
)
def test_a_path_has_one_name_and_copies_have_that_of_their_file(path, did):
    assert str(did_of(path)) == did


def test_different_files_have_different_names():
    paths = [
        file_path("s", "d", "a"), file_path("s", "d.a", "b"), file_path("s", "d", "a.b"), file_path("s", "d", "a-42.1"),
        output_path("s", "d", "a", 42, 1), output_path("s", "d", "a", 4, 21), output_path("s", "d", "a", 42, 1, 1),
        file_path("s", "d", LONG), file_path("s", "d", LONG + "y"), output_path("s", "d", LONG, 42, 1),
    ]  # fmt: skip

    assert len({did_of(path) for path in paths}) == len(paths)


@pytest.mark.parametrize("path", ["", "a", "s/../a", "../s/a", "s/d/3f/a1/", "/s/a"])
def test_what_is_no_path_of_a_file_has_no_name(path):
    with pytest.raises(OSError, match="no path of a file"):
        did_of(path)


@pytest.mark.parametrize(
    ("path", "is_draft"),
    [
        (draft_path("s", "d", "cafe"), True),
        (f"{file_path('s', 'd', 'a')}@t7@123456789", True),
        (f"{file_path('s', 'd', 'a')}@123456789", True),
        (f"{file_path('s', 'd', 'a')}@t7", False),
        (output_path("s", "d", "a", 42, 1), False),
        (file_path("s", "d", "a"), False),
    ],
)
def test_drafts_are_told_from_files(path, is_draft):
    assert rucio._is_draft(path) == is_draft


def test_the_hash_of_a_deterministic_rse_is_rucio_s():
    assert pfn_path(Did("user.jdoe", "test.file")) == "user/jdoe/eb/09/test.file"
    assert pfn_path(Did("mc.x", "f")).startswith("mc.x/")


@pytest.mark.parametrize(
    ("protocol", "root"),
    [
        ({"scheme": "davs", "hostname": "dav.org", "port": 443, "prefix": "/p/"}, "https://dav.org:443/p"),
        ({"scheme": "root", "hostname": "xrd.org", "port": 1094, "prefix": "//p"}, "root://xrd.org:1094//p"),
        ({"scheme": "http", "hostname": "dav.org", "port": 0, "prefix": "/"}, "http://dav.org/"),
        ({"scheme": "file", "hostname": "localhost", "port": 0, "prefix": "/data/rse/"}, "/data/rse"),
    ],
)
def test_a_protocol_of_an_rse_is_a_root_of_ours(protocol, root):
    assert rucio._root(protocol) == root


def test_an_rse_that_speaks_nothing_that_we_do_is_refused():
    with pytest.raises(ConfigError, match="offers gsiftp, srm; known are root, davs"):
        rucio._way_in(None, Rse("X", ({"scheme": "srm"}, {"scheme": "gsiftp"})))


@pytest.mark.parametrize("root", ["https://rucio.org/X", "rucio+https://rucio.org", "rucio+https:///X", "rucio://r/X"])
def test_a_root_that_names_no_rse_is_refused(root):
    with pytest.raises(ConfigError, match="a Rucio storage's root is"):
        server_of(root)
