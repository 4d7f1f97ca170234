"""`panda site` and `panda sites` against the real API: statuses with an end, versions, the way back."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from cli_scripted import Panda

from panda.auth import tokens
from panda.cli.times import moment
from panda.db.session import Begin


@pytest.fixture
def ops(real: Begin, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """The real API; the caller is otto, an operator."""
    with real() as connection:
        monkeypatch.setenv("PANDA_TOKEN", tokens.create(connection, "otto", ["operator"], "test", 3600))
    return real


def listed(panda: Panda, *words: str) -> list[dict[str, Any]]:
    ended = panda(*words, "-o", "json")
    assert ended.code == 0, ended.err
    found: list[dict[str, Any]] = json.loads(ended.out)
    return found


def test_a_status_with_an_end_is_set_and_shown(ops: Begin, panda: Panda) -> None:
    done = panda("site", "set", "HOLLAND", "offline", "--reason", "move", "--until", "6h", "--then", "test")

    assert (done.code, done.out) == (0, "HOLLAND-CPU\toffline\n")
    [queue] = listed(panda, "queues")
    assert (queue["status"], queue["status_by"], queue["status_then"]) == ("offline", "otto", "test")
    assert queue["status_until"] is not None
    assert panda("site", "set", "HOLLAND", "offline", "--reason", "x", "--until", "2001-01-01").code == 6
    wrong = panda("site", "set", "HOLLAND", "offline", "--reason", "x", "--until", "soon")
    assert (wrong.code, "write a while, as 6h" in wrong.err) == (2, True)


def test_history_difference_and_the_way_back(ops: Begin, panda: Panda) -> None:
    panda("site", "set", "HOLLAND-CPU", "offline", "--reason", "power cut")

    newest, found = listed(panda, "sites", "history", "HOLLAND-CPU")
    assert (newest["who"], newest["why"], found["source"]) == ("otto", "power cut", "found")
    number = str(found["version_id"])
    status = "queue\tHOLLAND-CPU\tchanged\tstatus\tonline\toffline"
    assert status in panda("sites", "diff", number).out
    assert panda("sites", "diff", "--of", newest["version_id"]).out == panda("sites", "diff", number).out

    dry = panda("sites", "rollback", number, "--reason", "drill", "--status", "--dry-run")
    assert ("nothing was changed" in dry.err, "offline\tonline" in dry.out) == (True, True)
    done = panda("sites", "rollback", number, "--reason", "drill", "--status")
    assert re.search(r"this is version \d+", done.err)
    assert listed(panda, "queues")[0]["status"] == "online"
    assert panda("sites", "diff").code == 2
    assert panda("sites", "rollback", "999", "--reason", "x").code == 3


def test_downtimes_are_planned_changed_and_cancelled(ops: Begin, panda: Panda) -> None:
    made = panda("downtimes", "add", "HOLLAND", "--until", "6h", "--reason", "cooling", "--name", "cooling")
    assert (made.code, made.out.split("\t")[:4]) == (0, ["cooling", "now", "site", "HOLLAND"]), made.err
    panda("downtimes", "add", "HOLLAND-DISK", "--from", "1d", "--until", "2d", "--reason", "disks")

    found = listed(panda, "downtimes")
    assert [(each["kind"], each["status"]) for each in found] == [("storage", "planned"), ("site", "now")]
    moved = panda("downtimes", "change", "cooling", "--from", "2d", "--until", "3d", "--reason", "late", "-o", "json")
    assert json.loads(moved.out)["status"] == "planned"
    assert panda("downtimes", "cancel", "cooling", "--reason", "postponed").out == "cooling\t1\n"
    assert [each["target"] for each in listed(panda, "downtimes", "--filter", "kind:storage", "--all")] == [
        "HOLLAND-DISK"
    ]
    assert panda("downtimes", "add", "NOWHERE", "--until", "6h", "--reason", "x").code == 3
    assert panda("downtimes", "add", "HOLLAND", "--until", "2001-01-01", "--reason", "x").code == 6
    assert panda("downtimes", "change", "cooling", "--reason", "x").code == 2
    assert panda("downtimes", "cancel", "cooling", "--reason", "x").code == 3


def test_rules_are_shown_and_a_queue_is_tried(ops: Begin, panda: Panda) -> None:
    assert panda("site", "set", "HOLLAND-CPU", "test", "--reason", "is it well?", "--tried").code == 0
    assert listed(panda, "queues", "--filter", "status_rule:tests")[0]["name"] == "HOLLAND-CPU"
    assert panda("site", "set", "HOLLAND-CPU", "offline", "--reason", "x", "--tried").code == 6

    assert panda("sites", "rules", "-q").out == "queue-fails\nblack-hole\nback-online\n"
    assert listed(panda, "sites", "rules", "--acts", "") == []
    assert panda("sites", "rules", "--acts", "rule:x what:y").code == 6


def test_files_are_imported_first_dry(ops: Begin, panda: Panda, tmp_path: Path) -> None:
    toml, other = tmp_path / "more.toml", tmp_path / "queues.json"
    toml.write_text('[queues.HOLLAND-CPU]\ncores = 16\nsoftware = ["ROOT-6.32"]\n')
    other.write_text(
        json.dumps({"X": {"atlas_site": "HOLLAND", "astorages": {"pr": ["HOLLAND-DISK"]}, "status": "test"}})
    )

    dry = panda("sites", "import", toml, other, "--reason", "new", "--dry-run")
    done = panda("sites", "import", toml, other, "--reason", "new")

    assert "queue\tHOLLAND-CPU\tchanged\tcores\t8\t16" in done.out
    assert (dry.out, "nothing was changed" in dry.err, "this is version" in done.err) == (done.out, True, True)
    assert {each["name"]: each["cores"] for each in listed(panda, "queues")} == {"HOLLAND-CPU": 16, "X": 1}
    assert "it is so already" in panda("sites", "import", "-", "--reason", "x", stdin=toml.read_text()).err


@pytest.mark.parametrize(
    ("text", "name", "code", "words"),
    [
        ("[queues", "x.toml", 6, "cannot be read"),
        ("[1]", "x.json", 6, "is no object"),
        ("[queues.HOLLAND-CPU]\ncores = 0", "x.toml", 6, "cores is 0; it must be above 0"),
        (None, "nowhere.toml", 6, "cannot be read"),
        (None, "http://127.0.0.1:1/x.json", 6, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(
    ops: Begin, panda: Panda, tmp_path: Path, text: str | None, name: str, code: int, words: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    ended = panda("sites", "import", name if "://" in name else tmp_path / name, "--reason", "x")

    assert (ended.code, words in ended.err) == (code, True), ended.err


def test_a_queue_is_taken_away_by_operators_alone(ops: Begin, panda: Panda, monkeypatch: pytest.MonkeyPatch) -> None:
    assert panda("sites", "remove", "HOLLAND-CPU", "--reason", "closed").out == "HOLLAND-CPU\t0\n"
    assert panda("sites", "remove", "HOLLAND-CPU", "--reason", "closed").code == 5
    with ops() as connection:
        monkeypatch.setenv("PANDA_TOKEN", tokens.create(connection, "anna", ["user"], "test", 3600))
    assert panda("sites", "remove", "HOLLAND-CPU", "--reason", "closed").code == 4
    assert panda("sites", "history", "-q").code == 0
    assert panda("sites", "-q").out == "HOLLAND\n"


def test_a_moment_is_a_while_from_now_or_a_time() -> None:
    now = moment("2026-01-31T18:00Z", "--until")

    assert moment("1d12h", "--until", now).isoformat() == "2026-02-02T06:00:00+00:00"
    assert moment("2026-01-31T18:00+02:00", "--until").isoformat() == "2026-01-31T16:00:00+00:00"
