"""`make demo`: the main job on real processes and real input, from nothing to a checked result.

Starts a system of its own on the embedded PostgreSQL and Redis; registers the source files of Python's own
standard library as a dataset, half of it at each of two sites; submits a job set that counts tokens, functions
and longest lines in groups of files, so that stage-in has something to move; then a merge job set that
depends on it and reads its outputs; compares the result with a direct count in this process.

Ctrl-C at any time and start again: nothing is broken. `KEEP=1` leaves the system running.
"""

import json
import os
import subprocess
import sys
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from panda.client import Client

sys.path.insert(0, str(Path(__file__).parent / "stdlib"))
from count import counts_of  # the payload itself, for the direct count

HERE = Path(__file__).parent
DATA = Path(os.environ.get("DATA", "demo-data")).absolute()
STORAGES = ("NORTH-DISK", "SOUTH-DISK")
FILES_PER_JOB = 20
AT_LEAST = 500
TIMEOUT_S = 600


def say(text: str) -> None:
    print(f"\033[1m==>\033[0m {text}" if sys.stdout.isatty() else f"==> {text}", flush=True)


def panda(*arguments: str) -> str:
    """Run the `panda` command of this environment; its output."""
    command = [sys.executable, "-m", "panda.local", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.returncode)
    return done.stdout


def sources() -> list[tuple[str, Path]]:
    """(lfn, path) of the standard library's modules; its tests join where there are few others."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py")) if "site-packages" not in path.parts]
    own = [path for path in paths if not {"test", "tests", "idle_test"} & set(path.parts)]
    chosen = own if len(own) >= AT_LEAST else paths
    return [("src." + str(path.relative_to(root)).replace("/", ".").replace(" ", "_"), path) for path in chosen]


def put(client: Client, dataset: str, files: list[tuple[str, Path]]) -> None:
    """Upload the files, every other one to the second site. Those that are there already stay."""
    client.datasets.create(dataset)
    there = {file.lfn for file in client.datasets.files(dataset)}

    def one(numbered: tuple[int, tuple[str, Path]]) -> None:
        number, (lfn, path) = numbered
        if lfn not in there:
            client.datasets.put(dataset, path, lfn=lfn, storage=STORAGES[number % 2])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, enumerate(files)))


def submit(client: Client, dataset: str) -> tuple[int, int, str]:
    """The two job sets: (count, merge, dataset of the merged result)."""
    sandbox = client.upload_sandbox(["count.py", "merge.py"], base=HERE / "stdlib").sha256
    python = sys.executable
    defaults = {"cores": 1, "memory_mb": 1000, "disk_mb": 500, "walltime_s": 600, "sandbox": sandbox}
    count = client.submit(
        {
            "name": "count",
            "defaults": defaults,
            "template": {
                "command": [python, "count.py", "counts.${seq:04d}.json", "${SRC.files}"],
                "inputs": {"SRC": {"dataset": dataset, "files_per_job": FILES_PER_JOB}},
                "outputs": ["counts.${seq:04d}.json"],
            },
        }
    )
    merge = client.submit(
        {
            "name": "merge",
            "defaults": defaults,
            "depends_on": [count.jobset_id],
            "template": {
                "command": [python, "merge.py", "result.json"],
                "inputs": {"PARTS": {"dataset": count.output_dataset, "files_per_job": 0}},
                "outputs": ["result.json"],
            },
        }
    )
    say(f"job set {count.jobset_id}: {count.n_jobs} jobs count; job set {merge.jobset_id} merges what they wrote")
    return count.jobset_id, merge.jobset_id, merge.output_dataset


def follow(client: Client, jobset_ids: tuple[int, int]) -> bool:
    """Show how the sets get on until both have ended. Returns whether both finished."""
    last = ""

    def show(waited: object) -> None:
        nonlocal last
        counts = waited.by_status  # type: ignore[attr-defined]
        line = "  ".join(f"{status} {n}" for status, n in counts.items())
        if line != last:
            print(f"    {time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line

    return client.wait(jobsets=jobset_ids, timeout_s=TIMEOUT_S, on_look=show).is_finished


def explain(client: Client, jobset_ids: tuple[int, int]) -> None:
    """What went wrong, in the system's own words."""
    for jobset_id in jobset_ids:
        for job in client.jobset_jobs(jobset_id, limit=5):
            if job.status != "finished":
                print(f"    job {job.panda_id}: {client.why(job.panda_id).summary}")


def report(got: dict, expected: dict, client: Client, jobset_id: int) -> bool:
    """Print the table; whether the two counts agree."""
    rows = [(key, got[key], expected[key]) for key in ("files", "lines", "functions", "longest_line")]
    rows += [(f"tokens {kind}", n, expected["tokens"].get(kind)) for kind, n in sorted(got["tokens"].items())]
    print(f"\n    {'':24}{'PanDA':>12}{'direct':>12}")
    for name, ours, theirs in rows:
        print(f"    {name:24}{ours:>12,}{theirs or 0:>12,}{'' if ours == theirs else '   DIFFERS'}")
    print()
    jobset = client.jobset(jobset_id)
    say(f"ledger of job set {jobset_id}: {jobset.ledger.accepted} accepted = {jobset.ledger.finished} finished")
    return got == expected


def main() -> int:
    began = time.monotonic()
    say(f"starting a system in {DATA}")
    panda("down", "--data", str(DATA))  # what an earlier run that was interrupted left behind
    system = json.loads(panda("up", "--data", str(DATA), "--port", os.environ.get("PORT", "0"), "--detach"))
    say(f"up after {time.monotonic() - began:.0f} s; pages at {system['monitor']} (token: {system['token_file']})")
    try:
        ok = run(Client(system["api"], Path(system["token_file"]).read_text().strip()))
    except KeyboardInterrupt:
        say("interrupted; start again whenever you like")
        return 130
    finally:
        if os.environ.get("KEEP"):
            say(f"left running; end it with: .venv/bin/panda down --data {DATA}")
        else:
            panda("down", "--data", str(DATA))
    say(f"{'the counts agree' if ok else 'SOMETHING IS WRONG'}; {time.monotonic() - began:.0f} s in all")
    print(
        "\nWhere to look next:\n"
        "    make up                      the same system, kept; its pages are one port above the API's\n"
        "    .venv/bin/panda submit -- echo hello    .venv/bin/panda status    .venv/bin/panda why JOB\n"
        "    README.md, docs/             how it works, how to use it\n"
    )
    return 0 if ok else 1


def run(client: Client) -> bool:
    files = sources()
    version = sysconfig.get_python_version()
    dataset = f"demo:stdlib-{version}-{len(files)}"
    say(f"registering {len(files)} source files of Python {version} as dataset {dataset}, half at each site")
    put(client, dataset, files)
    count_id, merge_id, result_dataset = submit(client, dataset)
    if not follow(client, (count_id, merge_id)):
        explain(client, (count_id, merge_id))
        return False
    [result] = client.datasets.files(result_dataset)
    client.datasets.get(result_dataset, result, DATA / "results")
    got = json.loads((DATA / "results" / result.lfn).read_text())
    return report(got, counts_of([str(path) for _, path in files]), client, count_id)


if __name__ == "__main__":
    sys.exit(main())
