"""WebDAV's lists of files: what is in the folder is read, what cannot be is refused."""

import pytest

from panda.dataservice.movers.listing import MOST_DEPTH, Entry, walked
from panda.dataservice.movers.propfind import read

URL = "https://dav.example.org/panda/s/d/"
FILE = "<D:getcontentlength>3</D:getcontentlength><D:getlastmodified>Thu, 01 Jan 1970 00:00:09 GMT</D:getlastmodified>"
FOLDER = "<D:resourcetype><D:collection/></D:resourcetype>"


def answer(*responses: tuple[str, str]) -> bytes:
    inner = "".join(
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop>{props}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
        for href, props in responses
    )
    return f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{inner}</D:multistatus>'.encode()


def entries(said: bytes, step: int = 7) -> list[Entry]:
    return list(read([said[n : n + step] for n in range(0, len(said), step)], URL, "s/d"))


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_files_and_folders_are_read_and_the_folder_itself_is_left_out(step):
    said = answer(("/panda/s/d/", FOLDER), ("/panda/s/d/a", FILE), ("/panda/s/d/3f/", FOLDER))

    assert entries(said, step) == [Entry("s/d/a", False, 3, 9.0), Entry("s/d/3f", True, -1, None)]


@pytest.mark.parametrize(
    ("href", "path"),
    [
        ("/panda/s/d/a%20b", "s/d/a b"), ("/panda/s/d/a%2541", "s/d/a%41"), ("/panda/s/d/new%0Aline", "s/d/new\nline"),
        ("https://dav.example.org/panda/s/d/a", "s/d/a"), ("//panda/s//d/a", None), ("/panda/s/d/%C3%A9&amp;", "s/d/é&"),
        ("/panda/%73/d/a", "s/d/a"), ("/panda/s/d/%FF", "s/d/�"),
    ],
)  # fmt: skip
def test_names_are_decoded_once_and_addresses_in_full_are_the_same(href, path):
    if path is None:
        with pytest.raises(OSError, match="not in the folder"):
            entries(answer((href, FILE)))
    else:
        assert [each.path for each in entries(answer((href, FILE)))] == [path]


@pytest.mark.parametrize(
    ("href", "problem"),
    [
        ("/panda/s/other/a", "not in the folder"), ("/a", "not in the folder"), ("", "not in the folder"),
        ("/panda/s/d/x/a", "not in the folder"), ("/panda/s/", "not in the folder"), ("/panda/s/d/../x", "not in"),
        ("/panda/s/d/..", "a name that cannot be"), ("/panda/s/d/%2E%2E", "a name that cannot be"),
        ("/panda/s/d/a%2Fb", "a name that cannot be"), ("/panda/s/d/a%00", "a name that cannot be"),
    ],
)  # fmt: skip
def test_a_name_that_leads_elsewhere_is_an_error(href, problem):
    with pytest.raises(OSError, match=problem):
        entries(answer((href, FILE)))


@pytest.mark.parametrize(
    "said",
    [
        b"", b"<html><body>maintenance</body></html>", b"<!doctype html><html><p>maintenance", b"busy",
        answer(("/panda/s/d/a", FILE))[:-20], b"<a/>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><D:multistatus xmlns:D="DAV:"/>',
        answer(("/panda/s/d/" + "x" * 20_000, FILE)),
    ],
)  # fmt: skip
def test_what_is_no_list_of_files_is_an_error(said):
    with pytest.raises(OSError, match="no list of files"):
        entries(said)


@pytest.mark.parametrize(
    "props", ["", "<D:getcontentlength>x</D:getcontentlength>", "<D:getlastmodified>now</D:getlastmodified>"]
)
def test_what_a_server_does_not_tell_is_not_made_up(props):
    assert entries(answer(("/panda/s/d/a", props))) == [Entry("s/d/a", False, -1, None)]


def test_an_address_inside_a_property_is_not_the_file_s():
    owner = "<D:owner><D:href>/principals/x</D:href></D:owner>"
    assert [each.path for each in entries(answer(("/panda/s/d/a", owner + FILE)))] == ["s/d/a"]


class Circle:
    """A storage with a folder that holds itself."""

    names_are_exact = True

    def entries(self, root, folder):
        yield Entry(f"{folder}/again", True)

    def walk(self, root, folder):
        return walked(self, root, folder)


class Vanishing(Circle):
    """One that lists a folder which it does not know by its name."""

    def entries(self, root, folder):
        if folder != "s":
            raise FileNotFoundError(folder)
        yield from (Entry("s/odd", True), Entry("s/a", False, 1, 1.0))


def test_folders_without_an_end_are_an_error():
    with pytest.raises(OSError, match="without an end") as circle:
        list(Circle().walk("", "s"))
    assert str(circle.value.filename).count("again") == MOST_DEPTH + 1


def test_a_folder_that_is_listed_and_cannot_be_reached_is_told():
    assert list(Vanishing().walk("", "s")) == [Entry("s/a", False, 1, 1.0), Entry("s/odd", True)]
    assert list(Vanishing().walk("", "none")) == []
