"""The command line against the real API and a real database: what the two agree on."""

import io
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_scripted import Panda

from panda.auth import tokens
from panda.cli import completions
from panda.client import Client
from panda.dataservice import catalog
from panda.db.session import Begin, rows, run
from panda.jobs import bulk, due, ending, expansion, incidents
from panda.settings import Settings
from panda.states import Stage


def expand(begin: Begin, settings: Settings) -> None:
    with begin() as connection:
        while expansion.expand_chunk(connection, settings.engine):
            pass


def fail(begin: Begin, settings: Settings, *panda_ids: int) -> None:
    failures = [ending.Failure(i, Stage.DISPATCH, "payload:3", "exit code 3") for i in panda_ids]
    with begin() as connection:
        due.lock(connection, panda_ids)
        ending.fail_many(connection, failures, by="test", engine=settings.engine)


@contextmanager
def carried_out(begin: Begin) -> Iterator[None]:
    """The clock's part meanwhile: chunks of actions."""
    is_over = threading.Event()

    def advance() -> None:
        while not is_over.wait(0.02):
            with begin() as connection:
                bulk.advance(connection)

    clock = threading.Thread(target=advance)
    clock.start()
    try:
        yield
    finally:
        is_over.set()
        clock.join()


def test_a_file_with_everything_is_taken_and_shown(
    real: Begin, panda: Panda, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "skim.py").write_text("print(1)")
    (tmp_path / "skim.yaml").write_text(
        "defaults: {cores: 2, memory: 1GB, walltime: 1h, env: {A: no}}\n"
        "matrix: {syst: [up, down], seed: {range: [1, 3]}}\n"
        "outputs: {SKIM: {dataset: 'user.${user}:skim', file: '_${seq:06d}.root'}}\n"
        "upload: [skim.py]\n"
        "command: [python, skim.py, --seed, '${seed}', '%OUT']\n"
    )

    accepted = panda("submit", tmp_path / "skim.yaml", "-o", "json").json
    expand(real, settings)

    assert (accepted["n_jobs"], accepted["output_dataset"]) == (6, "user.anna:skim")
    shown = panda("status", "last", "-o", "json").json
    assert (shown["name"], shown["status"], shown["ledger"]["accepted"]) == ("skim", "running", 6)
    jobs = panda("jobs", "last", "-o", "json").json
    assert len(jobs) == 6
    assert jobs[-1]["command"] == ["python", "skim.py", "--seed", "1", "SKIM_000000.root"]
    assert (jobs[0]["cores"], jobs[0]["memory_mb"], jobs[0]["walltime_s"]) == (2, 1000, 3600)
    assert panda("jobs", "--set", "last", "--status", "pending,failed", "-q").out.split() == [
        str(job["panda_id"]) for job in jobs
    ]


def test_the_same_key_is_the_same_job_set(real: Begin, panda: Panda) -> None:
    first = panda("submit", "--key", "monday", "-q", "--", "true")
    second = panda("submit", "--key", "monday", "-q", "--", "true")
    other = panda("submit", "--key", "monday", "-q", "--", "false")

    assert first.out == second.out
    assert other.code == 5


def test_jobs_that_wait_are_explained_cancelled_and_waited_for(real: Begin, panda: Panda, settings: Settings) -> None:
    panda("submit", "--count", "3", "--", "true")
    expand(real, settings)
    first = int(panda("jobs", "last", "-q").out.split()[-1])

    budget = panda("status", first, "-o", "json").json["failures_left"]
    why = panda("why", first)
    cancelled = panda("cancel", first)
    waited = panda("wait", first, "--timeout", "5s")

    assert why.code == 0
    assert why.out.startswith(f"{first}\tpending\t")
    assert cancelled.out == f"{first}\t1\t\n"
    assert waited.code == 9
    proof = panda("status", first, "-o", "json").json
    assert (budget, proof["failures_left"], proof["kill_state"]) == (settings.engine.max_tries - 1, 0, "confirmed")
    assert proof["kill_requested_at"] <= proof["kill_confirmed_at"]
    assert panda("status", first, "--events", "--fields", "now").out == "pending\ncancelled\n"
    assert panda("retry", first).code == 5
    assert panda("cancel", "last", "--yes").code == 0


def test_failed_jobs_of_a_set_get_a_new_attempt(real: Begin, panda: Panda, settings: Settings) -> None:
    panda("submit", "--count", "2", "--max-attempts", "5", "--", "true")
    expand(real, settings)
    ids = [int(name) for name in panda("jobs", "last", "-q").out.split()]
    fail(real, settings, *ids)

    refused = panda("retry", "last")
    with carried_out(real):
        retried = panda("retry", "last", "--yes", "-o", "json")

    assert refused.code == 2
    assert retried.json[0]["n"] == 2
    first_id = int(panda("jobs", "last", "-q").out.split()[0])
    assert Client.from_env().attempt(first_id, 1).outcome == "failed"
    assert panda("actions", "--fields", "action,status,n_done").out.splitlines()[0] == "retry\tdone\t2"
    assert panda("jobs", "last", "--fields", "attempt_nr").out == "2\n2\n"


def test_files_go_in_and_come_out_as_they_were(real: Begin, panda: Panda, tmp_path: Path) -> None:
    contents = {"a.root": b"", "b.root": b"x" * 300_000, "c.txt": b"text"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)

    put = panda("put", *(tmp_path / name for name in contents), "--dataset", "user.anna:in", "--close")
    got = panda("get", "user.anna:in", "--dest", tmp_path / "back", "--match", "*.root", "-q")

    assert put.code == 0
    assert got.out.split() == ["a.root", "b.root"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "back").iterdir()} == {
        name: content for name, content in contents.items() if name.endswith(".root")
    }
    assert panda("datasets", "--fields", "dataset,n_files,status").out == "user.anna:in\t3\tclosed\n"
    assert panda("put", tmp_path / "c.txt", "--dataset", "user.anna:in").code in (0, 5)


def test_put_makes_nothing_before_it_knows_where_to(real: Begin, panda: Panda, tmp_path: Path) -> None:
    for name in ("a", "b c"):
        (tmp_path / name).write_text(name)
    with real() as connection:
        run(
            connection,
            "INSERT INTO storages (name, site, kind, root) VALUES ('SPARE-DISK', 'HOLLAND', 'local', %(root)s)",
            {"root": str(tmp_path / "spare")},
        )
    into = ("--dataset", "user.anna:in")

    untold, unknown = panda("put", tmp_path / "a", *into), panda("put", tmp_path / "a", *into, "--storage", "SPARE-DSK")
    badly_named = panda("put", tmp_path / "a", tmp_path / "b c", *into, "--storage", "SPARE-DISK")

    assert (untold.code, unknown.code, badly_named.code) == (6, 3, 6)
    assert "HOLLAND-DISK, SPARE-DISK" in untold.err
    assert "did you mean SPARE-DISK?" in unknown.err
    assert "'b c' is no name" in badly_named.err
    assert panda("datasets", "-q").out == ""
    assert panda("put", tmp_path / "a", *into, "--storage", "SPARE-DISK").code == 0


def test_get_of_a_named_dataset_without_files_is_an_error(real: Begin, panda: Panda, tmp_path: Path) -> None:
    panda("datasets", "--create", "user.anna:in")

    empty = panda("get", "user.anna:in", "--dest", tmp_path / "back")
    (tmp_path / "a").write_text("a")
    panda("put", tmp_path / "a", "--dataset", "user.anna:in", "--close")
    none_fits = panda("get", "user.anna:in", "--match", "*.root", "--dry-run")

    assert (empty.code, none_fits.code) == (3, 3)
    assert "user.anna:in has no file" in empty.err
    assert "has no file that fits *.root" in none_fits.err
    assert not (tmp_path / "back").exists()
    assert panda("get", "user.anna:in", "--match", "*.root", "--wait").code == 0


def put_output(begin: Begin, lfn: str) -> None:
    """A file joins the output dataset of the newest set."""
    with begin() as connection:
        [found] = rows(connection, "SELECT scope || ':' || name AS did FROM datasets ORDER BY dataset_id DESC LIMIT 1")
    catalog.put(begin, found.did, lfn, io.BytesIO(lfn.encode()), storage="HOLLAND-DISK", owner="anna", cap_bytes=99)


def test_get_brings_what_is_there_and_says_what_is_to_come(
    real: Begin, panda: Panda, settings: Settings, tmp_path: Path
) -> None:
    panda("submit", "--count", "2", "--output", "out.${seq}", "--", "true")
    expand(real, settings)
    put_output(real, "first")

    got = panda("get", "last", "--dest", tmp_path / "back", "-q")
    late = panda("get", "last", "--dest", tmp_path / "back", "--wait", "--timeout", "1s")

    assert (got.code, got.out.split()) == (0, ["first"])
    assert "more may come: 2 of 2 jobs of set:1 have not ended" in got.err
    assert late.code == 8
    assert [file.name for file in (tmp_path / "back").iterdir()] == ["first"]
    assert panda("get", "last", "--timeout", "1s").code == 2
    assert panda("get", "last", "--wait", "--dry-run").code == 2


def test_get_waits_for_what_is_to_come(real: Begin, panda: Panda, settings: Settings, tmp_path: Path) -> None:
    panda("submit", "--count", "2", "--max-attempts", "1", "--output", "out.${seq}", "--", "true")
    expand(real, settings)
    ids = [int(name) for name in panda("jobs", "last", "-q").out.split()]
    put_output(real, "first")

    def go_on() -> None:
        while not (tmp_path / "back" / "first").exists():
            time.sleep(0.01)
        put_output(real, "second")
        while not (tmp_path / "back" / "second").exists():
            time.sleep(0.01)
        put_output(real, "third")
        fail(real, settings, *ids)

    going = threading.Thread(target=go_on, daemon=True)
    going.start()
    got = panda("get", "last", "--dest", tmp_path / "back", "--wait", "-q")
    going.join(60)

    assert (got.code, got.out.split()) == (9, ["first", "second", "third"])
    assert "2 failed or cancelled jobs of set:1" in got.err
    assert {file.name for file in (tmp_path / "back").iterdir()} == {"first", "second", "third"}


def test_get_waits_for_a_dataset_of_no_job_set_until_it_is_closed(real: Begin, panda: Panda, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    panda("put", tmp_path / "a", "--dataset", "user.anna:in")
    panda("container", "create", "user.anna:all")
    panda("container", "add", "user.anna:all", "user.anna:in")

    assert panda("get", "user.anna:all", "--dest", tmp_path / "back", "--wait", "--timeout", "0.1s").code == 8
    panda("datasets", "--close", "user.anna:in")
    assert panda("get", "user.anna:all", "--dest", tmp_path / "back", "--wait").code == 0
    assert (tmp_path / "back" / "in" / "a").read_text() == "a"


def test_containers_are_made_filled_listed_and_fetched(real: Begin, panda: Panda, tmp_path: Path) -> None:
    for run_name in ("run1", "run2"):
        (tmp_path / run_name).write_text(run_name)
        panda("put", tmp_path / run_name, "--dataset", f"user.anna:{run_name}")
    panda("container", "create", "user.anna:all")

    added = panda("container", "add", "user.anna:all", "user.anna:run1", "user.anna:run2", "-o", "json").json
    inside = panda("datasets", "user.anna:all", "-q").out.split()
    got = panda("get", "user.anna:all", "--dest", tmp_path / "back")

    assert (added["kind"], added["n_files"]) == ("container", 2)
    assert inside == ["user.anna:run1", "user.anna:run2"]
    assert got.code == 0
    back = {str(file.relative_to(tmp_path / "back")): file.read_text() for file in (tmp_path / "back").rglob("run*/*")}
    assert back == {"run1/run1": "run1", "run2/run2": "run2"}
    assert panda("container", "remove", "user.anna:all", "user.anna:run1").code == 0
    assert panda("datasets", "user.anna:all", "-q").out == "user.anna:run2\n"
    assert panda("container", "add", "user.anna:all", "user.anna:all").code == 5
    assert panda("container", "remove", "user.anna:all", "user.anna:run1").code == 3


def test_a_dataset_is_frozen_and_wanted_elsewhere(real: Begin, panda: Panda, settings: Settings) -> None:
    panda("datasets", "--create", "user.anna:in")

    assert panda("datasets", "--close", "user.anna:in", "-o", "json").json["status"] == "closed"
    assert panda("datasets", "--reopen", "user.anna:in", "-o", "json").json["status"] == "open"
    assert panda("datasets", "--freeze", "user.anna:in", "-o", "json").json["status"] == "frozen"
    assert panda("datasets", "--reopen", "user.anna:in").code == 5
    assert panda("replicate", "user.anna:in", "HOLLAND-DISK", "-q").out == "HOLLAND-DISK\n"
    assert panda("replicate", "user.anna:in", "-o", "json").json[0]["made_by"] == "anna"
    assert panda("replicate", "user.anna:in", "HOLLAND-DISK", "--drop", "-q").out == ""
    assert panda("replicate", "user.anna:in", "--drop").code == 2
    assert panda("replicate", "user.anna:in", "NOWHERE").code == 3

    panda("submit", "--", "true")
    parts = panda("datasets", "last", "-o", "json").json
    assert [part["role"] for part in parts] == ["output"]


def test_files_of_a_dataset_are_dealt_to_jobs(real: Begin, panda: Panda, settings: Settings, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"f{number}.root").write_bytes(b"x")
    panda("put", *sorted(tmp_path.iterdir()), "--dataset", "user.anna:in")

    submitted = panda(
        "submit", "--input", "user.anna:in/*.root", "--files-per-job", "2", "-o", "json", "--", "cat", "%IN"
    )
    expand(real, settings)

    assert submitted.json["n_jobs"] == 3
    assert panda("jobs", "last", "-o", "json").json[-1]["command"] == ["cat", "f0.root", "f1.root"]


def test_a_sandbox_that_is_there_is_not_sent_again(real: Begin, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    client = Client.from_env()

    sandbox = client.upload_sandbox(["a.py"], tmp_path)

    assert client.has_sandbox(sandbox.sha256)
    assert not client.has_sandbox("0" * 64)


def test_places_and_people_are_shown(real: Begin, panda: Panda) -> None:
    assert panda("whoami").out == "anna\tuser\n"
    assert panda("queues", "-q").out == "HOLLAND-CPU\n"
    assert panda("sites", "-q").out == "HOLLAND\n"
    assert panda("storages", "-q").out == "HOLLAND-DISK\n"
    assert panda("shares").out == "default\t\t1.0\t0.0\t0\t0\t0.0\n"
    assert [panda(*words).code for words in (("storage", "quotas"), ("switches",), ("views",), ("usage",))] == [0] * 4
    forbidden = panda("site", "set", "HOLLAND", "offline", "--reason", "r", "-o", "json")
    assert (forbidden.code, json.loads(forbidden.err)["error"]["code"]) == (4, "forbidden")
    assert panda("shares", "set", "default", "--weight", "2", "--reason", "r").code == 4


def test_what_the_server_refuses_is_six_and_says_where(real: Begin, panda: Panda) -> None:
    ended = panda("submit", "--input", "user.anna:nothing", "--", "cat", "%IN")

    assert ended.code in (3, 6)
    assert "user.anna:nothing" in ended.err or "template.inputs.IN" in ended.err


def test_a_wrong_token_is_four(real: Begin, panda: Panda, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANDA_TOKEN", "panda_nobody")

    ended = panda("jobs")

    assert ended.code == 4
    assert "PANDA_TOKEN" in ended.err


@pytest.mark.usefixtures("by_hand")
def test_the_audit_holds_and_names_what_does_not(
    real: Begin, panda: Panda, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    panda("submit", "--count", "2", "--", "true")
    expand(real, settings)
    monkeypatch.setenv("PANDA_DATABASE_URL", settings.store.database_url)

    whole = panda("audit")
    with real() as connection:
        run(connection, "DELETE FROM job_due")
    broken = panda("audit", "-o", "json")

    assert (whole.code, whole.err) == (0, "every invariant holds\n")
    assert broken.code == 1
    assert broken.json[0]["rows"]


def admin(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the caller is an admin."""
    with begin() as connection:
        monkeypatch.setenv("PANDA_TOKEN", tokens.create(connection, "boss", ["admin"], "test", 3600))


def test_filters_counts_and_priorities_mean_the_same_to_both(real: Begin, panda: Panda, settings: Settings) -> None:
    panda("submit", "--name", "one", "--count", "3", "--", "true")
    panda("submit", "--name", "two", "--count", "2", "--", "true")
    expand(real, settings)
    first = int(panda("jobs", "last", "-q").out.split()[-1])
    fail(real, settings, first)

    assert len(panda("jobs", "status:pending", "-q").out.split()) == 4
    assert panda("jobs", "last", "--filter", "status:failed", "-q").out.split() == [str(first)]
    assert panda("jobs", f"{first}", "--filter", "status:pending", "-q").out == ""
    assert panda("count", "owner:anna", "--by", "status", "-o", "csv").out == "n,status\n4,pending\n1,failed\n"
    assert panda("errors").out == "1\tpayload:3\n"
    assert panda("sets", "--filter", "failed>0", "--fields", "name").out == "two\n"
    assert panda("why", "status:failed", "-q").out.split() == [str(first)]
    with carried_out(real):
        raised = panda("priority", "status:pending", "--to", "500", "--yes", "-o", "json").json
    assert (raised[0]["n"], raised[0]["status"]) == (4, "done")
    bad = panda("jobs", "statuss:failed")
    assert bad.code == 6
    assert "did you mean 'status'" in bad.err


def test_what_is_held_stands_still_until_it_is_released(
    real: Begin, panda: Panda, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    panda("submit", "--count", "3", "--", "true")
    early = panda("hold", "last", "--yes")
    expand(real, settings)
    first, second, third = sorted(int(each) for each in panda("jobs", "last", "-q").out.split())

    assert (early.code, "still being made" in early.err) == (5, True)
    assert panda("hold", first, "--reason", "not yet").out == f"{first}\t1\t\n"
    assert panda("jobs", "waits_for:operator status:pending", "-q").out == f"{first}\n"
    assert "anna holds it: not yet" in panda("why", first).out
    assert "hold would reach 2 jobs" in panda("hold", f"{first}-{third}", "--dry-run").err
    assert panda("hold", "last", "--yes").out == "set:1\t2\t\n"
    assert "release would reach 3 jobs" in panda("release", "last", "--dry-run").err
    assert panda("release", second).out == f"{second}\t1\t\n"
    assert panda("release", second).code == 5
    with carried_out(real):
        assert panda("release", f"{first},{third}", "--yes", "--fields", "n").out == "2\n"
        assert panda("hold", "owner:anna", "--yes", "--fields", "n").out == "3\n"
    assert panda("release", "last", "--yes").out == "set:1\t3\t\n"
    with real() as connection:
        monkeypatch.setenv("PANDA_TOKEN", tokens.create(connection, "otto", ["operator"], "test", 3600))
    assert panda("hold", first).code == 0
    with real() as connection:
        monkeypatch.setenv("PANDA_TOKEN", tokens.create(connection, "anna", ["user"], "test", 3600))
    refused = panda("release", first)
    assert (refused.code, "an operator has to release it" in refused.err) == (5, True)
    whole = panda("release", "last", "--yes")
    assert (whole.code, "an operator has to release it" in whole.err) == (5, True)


def test_admins_look_after_people_tokens_and_incidents(
    real: Begin, panda: Panda, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert panda("users", "ban", "anna", "--reason", "r").code == 4
    admin(real, monkeypatch)
    with real() as connection:
        incidents.report(connection, [incidents.Incident("beat", "error", "late", "the clock is late", 1, {})])

    assert panda("users", "create", "bob", "--role", "user", "-q").out == "bob\n"
    assert panda("users", "create", "bob", "--role", "user").code == 5
    token = panda("token", "create", "bob", "--role", "user", "--ttl", "1h", "-q").out.strip()
    number = panda("token", "list", "--filter", "owner:bob", "-q").out.strip()
    assert panda("token", "revoke", number).out == f"{number}\t1\n"
    assert panda("users", "ban", "bob", "--reason", "left").out == "bob\t1\n"
    assert panda("users", "--filter", "banned!=none", "-q").out == "bob\n"
    assert panda("users", "unban", "bob", "--reason", "is back").out == "bob\t1\n"
    assert panda("incidents", "--filter", "closed:none", "--fields", "message").out == "the clock is late\n"
    assert panda("incidents", "ack", panda("incidents", "-q").out.strip()).code == 0
    assert panda("incidents", "close", panda("incidents", "-q").out.strip()).code == 0
    assert panda("incidents", "close", panda("incidents", "-q").out.strip()).code == 5
    assert "left" in panda("audit-log", "--filter", "who:boss").out
    assert panda("pilots").out == panda("nodes").out == panda("attempts").out == ""
    assert panda("health", "-q").out.splitlines()[0] == "database"
    monkeypatch.setenv("PANDA_TOKEN", token)
    assert panda("whoami").code == 4


def test_the_shell_completes_names_from_a_cache(
    real: Begin, panda: Panda, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    panda("submit", "-q", "--", "true")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("panda.cli.completions.WITHIN_S", 20.0)
    found = completions.complete_jobs(None, None, "")  # type: ignore[arg-type]
    monkeypatch.setenv("PANDA_URL", f"{os.environ['PANDA_URL']}")
    monkeypatch.setattr("panda.client.client.Client.whoami", lambda _: pytest.fail("the server was asked again"))

    assert found[0] == "last"
    assert found[1].startswith("set:")
    assert completions.complete_jobs(None, None, "set:") == found[1:]  # type: ignore[arg-type]
    assert completions.complete_queues(None, None, "HOL") == ["HOLLAND", "HOLLAND-CPU"]  # type: ignore[arg-type]
    monkeypatch.setenv("PANDA_URL", "http://127.0.0.1:1")
    assert completions.complete_queues(None, None, "") == []  # type: ignore[arg-type]
