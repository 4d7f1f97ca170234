"""Every option of every command is used once, and every command meets every kind of broken server."""

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from cli_scripted import Ended, Panda, Reply, Scripted

from panda.cli.main import panda as command_line
from panda.client import Client
from panda.client.actions import Actions

AT = "2026-01-01T00:00:00Z"
LEDGER = {"accepted": 1, "unexpanded": 0, "waiting": 0, "running": 0, "finished": 1, "failed": 0, "cancelled": 0}
JOB = {"panda_id": 7, "jobset_id": 9, "status": "finished", "attempt_nr": 1, "exit_code": 0, "name": "a", "owner": "ann",
       "changed_at": AT, "queue": "Q"}  # fmt: skip
SET = {"jobset_id": 9, "name": "a", "status": "finished", "n_jobs": 1, "ledger": LEDGER, "created_at": AT,
       "output_dataset": "user.ann:out", "by_status": {}}  # fmt: skip
ACTION = {"action_id": 5, "n": 1, "status": "done", "n_previewed": 1, "n_done": 1, "n_refused": 0, "refused": {}}
PREVIEW = {**ACTION, "status": "previewed", "token": "t", "first": [JOB], "untouched": {}}
DATASET = {"dataset": "user.ann:out", "status": "open", "n_files": 1, "size_bytes": 3, "owner": "ann", "created_at": AT}
#: The three bytes `abc`.
FILE = {"lfn": "a.txt", "size_bytes": 3, "adler32": "024d0127", "storages": ["D"]}
QUEUE = {
    "name": "Q",
    "site": "S",
    "status": "online",
    "cores": 1,
    "memory_mb": 2000,
    "disk_mb": 2000,
    "walltime_s": 99999,
}
LOG = {"name": "payload.stdout", "attempt_nr": 1, "size_bytes": 3}
USER = {"name": "ann", "roles": ["user"], "created_at": AT}
CHANGE = {"kind": "queue", "name": "Q", "change": "changed", "field": "cores", "was": 1, "now": 2}
INCIDENT = {"incident_id": 3, "level": "error", "n": 1, "message": "m", "component": "c", "last_at": AT}


def page(*items: Any) -> dict[str, Any]:
    return {"data": list(items), "page": {"next": None}}


def moves() -> Reply:
    told = (
        b'id: 1\nevent: job\ndata: {"event_id": 1, "panda_id": 7, "now": "finished", "at": "2026-01-01T00:00:00Z"}\n\n'
    )
    return Reply(200, told, {"Content-Type": "text/event-stream"})


#: What a server in good health says to each call that any row below makes.
HEALTHY: dict[tuple[str, str], Any] = {
    ("GET", "/v1/whoami"): {"subject": "ann", "roles": ["user"], "queue": None},
    ("GET", "/"): {"links": {"monitor": "http://127.0.0.1:1"}},
    ("GET", "/readyz"): {"status": "ok", "parts": {"database": "ok"}},
    ("POST", "/v1/jobsets"): Reply(201, {"jobset_id": 9, "first_panda_id": 7, "last_panda_id": 7, "n_jobs": 1}),
    ("GET", "/v1/jobsets"): page(SET),
    ("GET", "/v1/jobsets/9"): SET,
    ("GET", "/v1/jobsets/9/jobs"): page(JOB),
    **{("POST", f"/v1/jobsets/9/{deed}"): {"n": 1} for deed in ("cancel", "hold", "release")},
    ("GET", "/v1/jobs"): page(JOB),
    ("GET", "/v1/jobs/counts"): {"data": [{"by": {"status": "finished"}, "n": 1}], "n": 1, "exact": True},
    ("POST", "/v1/jobs/actions"): PREVIEW,
    ("GET", "/v1/actions"): page(ACTION),
    ("GET", "/v1/actions/5"): ACTION,
    ("GET", "/v1/attempts"): page({"panda_id": 7, "attempt_nr": 1}),
    ("GET", "/v1/jobs/7"): JOB,
    ("GET", "/v1/jobs/7/events"): page({"now": "finished", "at": AT}),
    ("GET", "/v1/jobs/7/files"): page({"lfn": "a.txt"}),
    ("GET", "/v1/jobs/7/attempts"): page({"attempt_nr": 1}),
    ("GET", "/v1/jobs/7/usage"): {"panda_id": 7, "points": [{"at": AT, "cpu_s": 1.0}]},
    ("GET", "/v1/jobs/7/why"): {"panda_id": 7, "status": "finished", "summary": "it has ended"},
    ("GET", "/v1/jobsets/9/why"): {
        "jobset_id": 9, "n_open": 1, "n_seen": 1, "groups": [
            {"n": 1, "status": "defined", "panda_ids": [7], "why": {"panda_id": 7, "status": "defined", "summary": "no"}},
        ],
    },
    ("GET", "/v1/pilots/Q-1/why"): {"pilot_id": "Q-1", "summary": "it has work"},
    ("GET", "/v1/jobs/7/logs"): page(LOG),
    **{("POST", f"/v1/jobs/7/{deed}"): {"n": 1} for deed in ("retry", "cancel", "hold", "release", "rebroker")},
    ("GET", "/v1/datasets"): page(DATASET),
    ("POST", "/v1/datasets"): DATASET,
    ("GET", "/v1/datasets/user.ann:out"): DATASET,
    ("POST", "/v1/datasets/user.ann:out/close"): DATASET,
    ("GET", "/v1/datasets/user.ann:out/files"): page(FILE),
    ("GET", "/v1/datasets/user.ann:out/files/a.txt"): Reply(200, b"abc"),
    ("PUT", "/v1/datasets/user.ann:out/files/b.txt"): Reply(201, {**FILE, "lfn": "b.txt"}),
    ("POST", "/v1/datasets/user.ann:out/keep"): DATASET,
    ("PUT", "/v1/datasets/user.ann:out/lifetime"): DATASET,
    ("DELETE", "/v1/datasets/user.ann:out"): DATASET,
    ("GET", "/v1/datasets/user.ann:out/files/a.txt/lineage"): {"panda_id": 7, "made_from": [], "read_by": [JOB]},
    **{("POST", f"/v1/datasets/user.ann:out/{deed}"): DATASET for deed in ("freeze", "reopen")},
    ("GET", "/v1/datasets/user.ann:out/rules"): page({"storage": "D", "n_lacking": 0}),
    ("DELETE", "/v1/datasets/user.ann:out/rules/D"): page({"storage": "D", "n_lacking": 0}),
    ("POST", "/v1/datasets/user.ann:all/members"): DATASET,
    ("DELETE", "/v1/datasets/user.ann:all/members/user.ann:out"): DATASET,
    ("GET", "/v1/jobsets/9/datasets"): page({"role": "output", "dataset": "user.ann:out", "n_files": 1}),
    ("GET", "/v1/files"): page({**FILE, "file_id": 1}),
    ("GET", "/v1/transfers"): page({"transfer_id": 1, "lfn": "a.txt", "status": "failed"}),
    ("GET", "/v1/links"): page({"source": "A", "destination": "B"}),
    ("GET", "/v1/storage-quotas"): page({"quota": "users", "owner": "ann", "used_bytes": 1, "limit_bytes": 2, "each": True}),
    ("GET", "/v1/usage"): page({"name": "S", "core_s": 7200.0, "cpu_s": 3600.0, "wall_s": 3600.0, "n_finished": 1, "day": "2026-10-05",
                              "in_bytes": 5, "out_bytes": 6}),
    ("GET", "/v1/queues"): page(QUEUE),
    ("GET", "/v1/site-versions"): page({"version_id": 4, "at": AT, "who": "ann"}),
    ("GET", "/v1/site-versions/4"): {"version": {}, "changes": [CHANGE]},
    ("GET", "/v1/site-versions/diff"): {"changes": [CHANGE]},
    ("POST", "/v1/site-versions/3/rollback"): {"version_id": 5, "changes": [CHANGE], "kept": ["D"]},
    ("POST", "/v1/site-imports"): {"version_id": 5, "changes": [CHANGE], "inactive": ["Z"], "n_things": 1},
    ("GET", "/v1/queues/Q"): QUEUE,
    ("GET", "/v1/queues/Q/mismatches"): {"queue": "Q", "asks": [{"outcome": "nothing_fits", "n": 4, "last_at": AT}],
        "mismatches": [{"what": "memory_mb", "n": 3, "needed": 8000, "most": 6000, "last_at": AT, "tags": []},
                       {"what": "tags", "n": 1, "needed": None, "most": 0, "last_at": AT, "tags": ["avx512"]}]},
    ("POST", "/v1/queues/Q/remove"): {"queue": "Q", "n_live": 0},
    ("GET", "/v1/sites"): page({"name": "S"}),
    ("GET", "/v1/storages"): page({"name": "D"}),
    ("POST", "/v1/queues/Q/status"): {"queue": "Q", "status": "offline", "n_woken": 0},
    ("GET", "/v1/pilots"): page({"pilot_id": "p", "queue": "Q"}),
    ("GET", "/v1/nodes"): page({"node": "n"}),
    ("GET", "/v1/shares"): page({"name": "default", "weight": 1.0}),
    ("POST", "/v1/shares"): {"share": "nightly", "parent": "production"},
    ("POST", "/v1/shares/nightly/move"): {"share": "nightly", "parent": ""},
    ("POST", "/v1/shares/nightly/remove"): {"share": "nightly"},
    ("PUT", "/v1/shares/default"): {"share": "default", "weight": 2.0, "was": 1.0},
    ("GET", "/v1/users"): page(USER),
    ("POST", "/v1/users"): Reply(201, USER),
    **{("POST", f"/v1/users/ann/{deed}"): {"n": 1} for deed in ("ban", "unban", "limit", "unlimit", "revoke-tokens")},
    ("GET", "/v1/users/ann/quota"): {"owner": "ann", "banned": None, "limited": "x", "throttled": "t", "late_s": 60.0,
        "part": 0.5, "quotas": [{"subject": "user:ann", "queued_jobs": {"used": 1, "limit": None}}]},
    ("GET", "/v1/quotas"): page({"subject": "user:ann", "members": []}),
    **{("PUT", f"/v1/quotas/{each}"): {"subject": each, "members": []}
       for each in ("user:ann", "group:higgs")},
    ("POST", "/v1/quotas/user:ann/clear"): {"subject": "user:ann", "comes_back": True},
    ("GET", "/v1/tokens"): page({"token_id": 2, "owner": "ann"}),
    ("POST", "/v1/tokens"): Reply(201, {"token": "secret", "owner": "ann", "roles": ["user"]}),
    ("POST", "/v1/tokens/2/revoke"): {"n": 1},
    ("GET", "/v1/site-rules"): page({"rule": "too many fail", "what": "queue"}),
    ("GET", "/v1/site-rule-acts"): page({"rule": "too many fail", "queue": "Q", "at": AT}),
    ("GET", "/v1/downtimes"): page({"name": "cooling", "target": "S"}),
    ("POST", "/v1/downtimes"): {"name": "cooling"},
    ("POST", "/v1/downtimes/cooling"): {"name": "cooling"},
    ("POST", "/v1/downtimes/cooling/cancel"): {"n": 1},
    ("GET", "/v1/switches"): page({"what": "dispatch", "queue": "Q"}),
    ("POST", "/v1/switches/dispatch"): {"what": "dispatch", "queue": "Q", "paused": True},
    ("GET", "/v1/views"): page({"name": "lost", "filter": "status:failed"}),
    ("PUT", "/v1/views/lost"): {"n": 1},
    ("DELETE", "/v1/views/lost"): {"n": 1},
    ("GET", "/v1/incidents"): page(INCIDENT),
    ("POST", "/v1/incidents/3"): INCIDENT,
    ("GET", "/v1/audit"): page({"audit_id": 1, "at": AT, "who": "ann"}),
}  # fmt: skip

#: (command line, exit code). `DIR` is a folder of the test's own with `jobs.yaml` and `b.txt` in it.
TALKING = """
submit --name a --input user.ann:in --files-per-job 2 --output user.ann:out/x.%SEQ --output-storage D -q -- run %IN %OUT
submit --upload b.txt --count 2 --cores 1 --memory 1GB --disk 1GB --walltime 1h --tag x --site S --dry-run -- run
submit --priority 5 --max-attempts 2 --direct-read --env A=b --share default --after set:9 --key k --fields n_jobs -- run
submit --gpus 1 --prefer S --requirements 'queue.cores > 1' --kind analysis --vo v --working-group g -q -- run
submit DIR/jobs.yaml --set who=me --wait --timeout 9s -o json
submit DIR/jobs.yaml --set who=me --print-yaml
status -o csv
status last --fields jobset_id -q
status 7 --events -o jsonl
status 7 --files
status 7 --attempts
status 7 --usage -o json
st set:9
jobs 7 --status finished --owner ann --queue Q --sort -panda_id --limit 3 -o json --fields panda_id
jobs --set last --filter 'exit_code:0' -q
sets --owner ann --mine --running --filter 'failed>0' --sort -jobset_id --limit 2 -o name --fields status -q
count 'changed:1h' --by site,status -o csv --fields n -q
errors 'set:9' --by node -o json --fields n -q
attempts --filter 'outcome:failed' --sort -panda_id --limit 2 -o json --fields panda_id -q
why 7 -o json --fields summary -q
why Q-1 7
why set:9 7 -o csv
why pilot:Q-1 -o json
logs 7 --list -o json --fields name -q
wait 7 --for done --timeout 5s --job-code -o json --fields status -q
watch last -o json --fields now -q
watch --mine --max 1
retry 7 --stage broker --reason r -o json --fields n -q
retry set:9 --dry-run --yes --no-wait
cancel 'status:pending' --reason r --dry-run -o json --fields status -q
cancel set:9 --yes --no-wait
hold 7 --reason r -o json --fields n -q
hold set:9 'status:pending' --yes --no-wait
hold 'set:9' 'jobset:9' --dry-run
release 7 --reason r -o json --fields n -q
release set:9 --yes --no-wait
release 'status:pending' --dry-run
priority set:9 --to 5 --reason r --yes --no-wait -o json --fields n -q
priority set:9 --to 5 --dry-run
rebroker 7 --exclude S --reason r -o json --fields n -q
rebroker set:9 --exclude S --exclude 'T*' --dry-run
rebroker set:9 --yes --no-wait
actions --filter 'status:done' --sort -action_id --limit 3 -o json --fields status -q
actions 5 --wait
datasets --match 'user*' --filter 'owner:ann' --sort -created --limit 3 -o json --fields dataset -q
datasets --create user.ann:out
datasets --close user.ann:out
datasets --freeze user.ann:out
datasets --reopen user.ann:out
datasets set:9
replicate user.ann:out -o json --fields storage -q
replicate user.ann:out D --drop
container create user.ann:all -o json --fields dataset -q
container add user.ann:all user.ann:out -o json --fields dataset -q
container remove user.ann:all user.ann:out -o json --fields dataset -q
transfers --filter 'status:failed' --sort -created --limit 1 -o json --fields lfn -q
transfers --links
storage quotas --owner ann -o json --fields quota -q
keep user.ann:out --lifetime 9h --pin -o json --fields dataset -q
delete user.ann:out -o json --fields dataset -q
lineage user.ann:out a.txt -o json --fields role -q
files --filter 'dataset:user.ann:out' --sort file_id --limit 1 -o json --fields lfn -q
put DIR/b.txt --dataset user.ann:out --storage D --close -o json --fields lfn -q
get user.ann:out --dest DIR/got --match '*.txt' -o json --fields lfn -q
get user.ann:out --dest DIR/got -j 1 -q
get set:9 --dry-run
get set:9 --dest DIR/got --wait --timeout 9s -q
queues --filter 'status:online' --sort name --limit 1 -o json --fields name -q
sites --filter 'cloud:X' --sort name --limit 1 -o json --fields name -q
storages --filter 'site:S' --sort name --limit 1 -o json --fields name -q
pilots --filter 'seen:10m' --sort pilot_id --limit 1 -o json --fields pilot_id -q
nodes --filter 'seen:10m' --sort node --limit 1 -o json --fields node -q
site set Q offline --reason r --until 6h --then test -o json --fields queue -q
site set Q test --reason r --tried
queue show Q -o table --fields name
queue show Q -o json --fields name -q
sites history Q --filter 'who:ann' --limit 1 -o json --fields who -q
sites diff --of 4 -o json --fields name -q
sites diff 3 4
sites rollback 3 --reason r --only Q --status --dry-run -o json --fields name -q
sites import DIR/sites.toml --reason r --status --dry-run -o json --fields name -q
sites remove Q --reason r -o json --fields queue -q
sites rules -o json --fields rule -q
sites rules --acts queue:Q --limit 1
downtimes --filter site:S --all --sort name --limit 1 -o json --fields name -q
downtimes add S --from 1d --until 2d --kind site --name cooling --reason r -o json --fields name -q
downtimes change cooling --from 1d --until 3d --reason r -o json --fields name -q
downtimes cancel cooling --reason r -o json --fields name -q
views -o json --fields name -q
views save lost status:failed -o json --fields name -q
views forget lost -o json --fields name -q
switches -o json --fields what -q
pause dispatch --site S --queue Q --node n --reason r --for 4h -o json --fields what -q
resume dispatch --site S --queue Q --node n --reason r -o json --fields what -q
shares -o json --fields name -q
shares set default --weight 2 --reason r -o json --fields was -q
shares add nightly --weight 2 --below production --reason r -o json --fields parent -q
shares move nightly --below production --reason r -o json --fields parent -q
shares move nightly --top --reason r
shares remove nightly --reason r -o json --fields share -q
users --filter 'role:user' --sort name --limit 1 -o json --fields name -q
users create ann --role user --reason r -o json --fields name -q
quota -o json --fields subject -q
quota show ann -o json --fields subject -q
quota list -o json --fields subject -q
quota set user:ann --queued-jobs 1 --running-jobs 2 --running-cores 3 --core-hours 4.5 --beyond hold --reason r -o json --fields subject -q
quota set group:higgs --member ann --member bob --unset running-cores --reason r
quota clear user:ann --reason r -o json --fields subject -q
users ban ann --reason r --running kill -o json --fields n -q
users limit ann --reason r -o json --fields n -q
users unlimit ann --reason r -o json --fields n -q
users unban ann --reason r -o json --fields n -q
users revoke-tokens ann --reason r -o json --fields n -q
token create ann --role user --label l --ttl 9d --queue Q -o json --fields token -q
token list --filter 'owner:ann' --sort -token_id --limit 1 -o json --fields owner -q
token revoke 2 --reason r -o json --fields n -q
incidents --filter 'closed:none' --sort -incident_id --limit 1 -o json --fields message -q
incidents ack 3 --comment c -o json --fields message -q
incidents close 3 --comment c -o json --fields message -q
audit-log --filter 'who:ann' --sort -audit_id --limit 1 -o json --fields who -q
--profile p whoami --query subject
whoami -o json --fields subject -q
jobs 7 --query '[].panda_id'
jobs 7 --jq '.[].panda_id'
usage --by site --period 7d --owner ann -o json --fields name,core_h -q
usage --by kind --bin week --group higgs --share default --queue Q --site S --kind production
usage 7 -o json
health -o json --fields part -q
api POST /v1/jobs/7/cancel -d '{"reason": "r"}'
api GET /v1/jobs/7 --query panda_id
api GET /v1/jobs/7 --jq .panda_id
web last --open
debug 7 --tail 1
login --with-token --as mine
"""
#: The bytes of a log are no JSON: a broken server's answer is as good as any log.
LOGS = """
logs 7 --tail 1 --attempt 1
logs 7 --grep a
logs 7 payload.stdout -f
"""
#: What comes from stdin.
STDIN = {"login": "secret"}
#: Every list has them by one line of ours: one row for each is enough.
SHARED = {"query", "jq"}
#: What asks no server; the third word of a row of ours: its exit code.
AT_HOME = """
0 completion bash
0 config list --origin -o json --fields value -q
0 config get profile
0 config set output ''
0 config path
0 logout
0 down --data DIR/none
0 doctor --data DIR/none -o json
1 audit --data DIR/none -o json --fields n -q
1 quarantine --data DIR/none --limit 3 -o json --fields n -q
1 quarantine --data DIR/none --delete --older-than 7d --yes
2 quarantine --data DIR/none --older-than 7d
2 quarantine --data DIR/none --yes
2 quarantine --data DIR/none --delete --older-than often
1 storage scan D --data DIR/none --min-age 2 -o json --fields path -q
0 chaos --list --database-url x --redis-url x --minutes 1 --seed 2 --rate 5 --only x --keep DIR --page DIR/p.md -o json
2 up --data DIR/none --port 99999 --detach --only x --without y
2 recover --data DIR/b.txt
1 secrets rotate --data DIR/none
2 simulate fleet DIR/none.toml --seed 1 --seconds 1 --jobs 1 --connections 1 --drain 1 --pilot-token-file x --pilots-only -o json
0 --url http://127.0.0.1:1 --version
0 --help
0 help
0 help token create
2 help jbos
2 help jobs list
"""


def rows(text: str) -> list[str]:
    return [line for line in text.strip().splitlines() if line]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between tries, and no patience with a server that is away."""
    monkeypatch.setattr("panda.client.calls.pause_s", lambda *_: 0.0)
    for method in (Client.wait, Client.follow, Actions.wait):
        monkeypatch.setitem(method.__kwdefaults__, "patience_s", 0.0)  # type: ignore[arg-type]


@pytest.fixture
def healthy(at_script: Scripted) -> Scripted:
    for (method, path), reply in HEALTHY.items():
        at_script.on(method, path, reply)
    at_script.on("GET", "/v1/events", moves())
    at_script.on("GET", "/v1/jobs/7/logs/payload.stdout", Reply(200, b"abc"), Reply(200, b""))
    return at_script


@pytest.fixture
def typed(panda: Panda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ended]:
    """Run a row."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.yaml").write_text("name: a\ncommand: [run, '${who}']\n")
    (tmp_path / "b.txt").write_text("abc")
    (tmp_path / "sites.toml").write_text("[sites.S]\ncloud = 'X'\n")
    (tmp_path / "config" / "panda").mkdir(parents=True)
    (tmp_path / "config" / "panda" / "config.toml").write_text("[profiles.p]\n")
    monkeypatch.setattr("click.launch", lambda _: 0)
    return lambda row: panda(
        *shlex.split(row.replace("DIR", str(tmp_path))), stdin=STDIN.get(row.partition(" ")[0], "")
    )


@pytest.mark.parametrize("row", [*rows(TALKING), *rows(LOGS)])
def test_a_command_works_with_its_options(row: str, healthy: Scripted, typed: Callable[[str], Ended]) -> None:
    ended = typed(row)

    assert ended.code == 0, ended.err
    assert ended.out or row.startswith(("sets", "watch last", "login"))


@pytest.mark.parametrize("row", rows(AT_HOME))
def test_a_command_of_this_machine_says_what_is_wrong(row: str, typed: Callable[[str], Ended]) -> None:
    code, _, words = row.partition(" ")

    ended = typed(words)

    assert ended.code == int(code), ended.err
    assert "Traceback" not in ended.err


#: What listens there -> the exit codes that are right.
BROKEN: dict[str, tuple[Reply, set[int]]] = {
    "HTML": (Reply(200, b"<html>Welcome to nginx</html>", {"Content-Type": "text/html"}), {1}),
    "half an answer": (Reply(200, {"data": [{"panda_id": 7}], "page": {}}, n_bytes=9), {7}),
    "another document": (Reply(200, {"data": "none", "n": "many", "status": 5}), {1}),
    "a list of numbers": (Reply(200, {"data": [1, 2], "page": {"next": None}}), {1}),
    "an empty answer": (Reply(200, b""), {1}),
    "away": (Reply(503, {"code": "unavailable", "detail": "later"}, {"Retry-After": "0"}), {7}),
    "another's gateway": (Reply(502, b"<html>Bad gateway</html>"), {7}),
    "a stranger's": (Reply(401, {"code": "unauthenticated", "detail": "who are you?"}), {4}),
    "elsewhere": (Reply(302, b"", {"Location": "http://192.0.2.1/login"}), {1}),
}  # fmt: skip
#: It asks the server only for advice.
ADVICE = "submit --upload"


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("row", [row for row in rows(TALKING) if "--print-yaml" not in row])
def test_a_broken_server_is_told_in_a_sentence(
    row: str, kind: str, at_script: Scripted, typed: Callable[[str], Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply, codes = BROKEN[kind]
    monkeypatch.setattr(at_script, "next_reply", lambda method, target: reply)

    ended = typed(row)

    if row.startswith("api") and ended.code == 0:  # it shows whatever JSON comes
        assert kind in ("another document", "a list of numbers", "an empty answer")
        return
    if row.startswith(ADVICE):
        assert (ended.code, "only the server can tell" in ended.err) == (0, True)
        return
    assert ended.code in codes, (ended.code, ended.out, ended.err)
    assert len(ended.err.strip()) > 10
    if reply.headers.get("Location"):
        assert {each.headers["Host"] for each in at_script.received} == {at_script.url.removeprefix("http://")}


@pytest.mark.parametrize(
    ("row", "reply", "hint"),
    [
        ("jobs -o json", BROKEN["half an answer"][0], "the same command may be given again"),
        ("cancel 7 --yes", BROKEN["half an answer"][0], "look with `panda status` before you try again"),
        ("submit -- true", BROKEN["half an answer"][0], "look with `panda status` before you try again"),
        ("jobs", BROKEN["away"][0], "`panda health` tells which part is down"),
    ],
)
def test_the_hint_after_a_loss_fits_what_was_asked(
    row: str, reply: Reply, hint: str, at_script: Scripted, typed: Callable[[str], Ended],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(at_script, "next_reply", lambda method, target: reply)

    ended = typed(row)

    assert ended.code == 7
    assert hint in ended.err
    assert ended.err.count("try again") == ("try again" in hint)


def test_every_option_of_every_command_stands_in_a_row() -> None:
    all_options = {(path, option.name) for path, command in commands(command_line, "") for option in options(command)}

    told = [row.partition(" ")[2] for row in rows(AT_HOME)]
    used = {each for row in [*rows(TALKING), *rows(LOGS), *told] for each in used_in(row)}

    assert {path for path, _ in all_options} | {"completion", "api"} <= {path for path, _ in used} | {"completion"}
    assert {each for each in all_options - used if each[1] not in SHARED} == set()
    assert {name for _, name in used} >= SHARED
    assert len(all_options) > 250


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        names = [*command.list_commands(context), *getattr(command, "verbs", {})]
        for name in dict.fromkeys(names):
            below = command.get_command(context, name)
            assert below is not None
            if name != "st":  # another name of `status`
                yield from commands(below, f"{path} {name}".strip())


def options(command: click.Command) -> list[click.Option]:
    return [each for each in command.params if isinstance(each, click.Option)]


def used_in(row: str) -> Iterator[tuple[str, str]]:
    """(command, option) for each option that a row says; `--events` and `--files` are one option of `status`."""
    words = shlex.split(row.partition(" -- ")[0])
    path, command = "", command_line
    while words:
        word = words.pop(0)
        below = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if below is not None:
            path, command = f"{path} {word}".strip(), below
            continue
        for option in options(command):
            if word.partition("=")[0] in [*option.opts, *option.secondary_opts]:
                assert option.name is not None
                yield path, option.name
                if not option.is_flag and option.flag_value is None and not option.count:
                    words.pop(0) if words else None
