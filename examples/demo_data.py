"""`make demo-data`: a dataset on three storages of different protocols, its results on a fourth.

Starts a folder, a WebDAV server, an S3 service and an XRootD server (what is not installed is a folder too, and
said), and a system of its own with a queue at each of the first three. The source files of Python's standard
library are laid out so that each job has most of its input at one site and some at another: jobs go where the
data is, and what lacks is brought there before they start. In the middle of it the WebDAV server is killed, and
started again on the same files. The outputs travel to the fourth storage, a second job set merges them, and the
result is compared with a direct count in this process.

Ctrl-C at any time and start again: nothing is broken.
"""

import json
import os
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import storage_servers
from demo import FILES_PER_JOB, HERE, counts_of, explain, panda, report, say, sources
from storage_servers import KEY, SECRET, Server

from panda.client import Client

DATA = Path(os.environ.get("DATA", "demo-storages")).absolute()
ELSEWHERE = 2
"""Of the files of a job, those that lie at another site."""
AWAY_S = 8
TIMEOUT_S = 600
SITES = {"FOLDER": "a folder", "WEBDAV": "WebDAV", "S3": "S3"}
FINAL, FINAL_TEXT = "ARCHIVE", "XRootD"
KIND = {"WEBDAV": "http", "S3": "s3", FINAL: "xrootd"}

SITE = """
[sites.{name}]
[storages.{name}-DISK]
site = "{name}"
kind = "{kind}"
root = "{root}"
"""
QUEUE = """
[queues.{name}-Q]
site = "{name}"
storage = "{name}-DISK"
cores = 1
memory_mb = 4000
disk_mb = 10000
walltime_s = 3600
submitter = "local"
max_pilots = 1
"""
CREDENTIALS = """
[[credentials]]
prefix = "{root}"
access_key = "{key}"
secret_key = "{secret}"
"""


def start_servers() -> dict[str, Server]:
    """The storage servers that are installed, running."""
    folder = DATA / "servers"
    found = {
        "WEBDAV": storage_servers.webdav(folder / "webdav"),
        "S3": storage_servers.s3(folder / "s3"),
        FINAL: storage_servers.xrootd(folder / "xrootd"),
    }
    for name, server in found.items():
        if server is None:
            say(f"no server for {SITES.get(name, FINAL_TEXT)} is installed (`make test-storages`): {name} is a folder")
    servers = {name: server for name, server in found.items() if server is not None}
    try:
        for server in servers.values():
            server.start()
    except BaseException:
        end_servers(servers)
        raise
    return servers


def end_servers(servers: dict[str, Server]) -> None:
    for server in servers.values():
        server.end()


def configure(servers: dict[str, Server]) -> None:
    """Write the installation's `sites.toml`, and what opens the S3 service."""
    text = ""
    for name in (*SITES, FINAL):
        server = servers.get(name)
        kind, root = (KIND[name], server.root) if server else ("local", f"storage/{name.lower()}")
        text += SITE.format(name=name, kind=kind, root=root) + (QUEUE.format(name=name) if name in SITES else "")
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / "sites.toml").write_text(text)
    credentials = DATA / "credentials.toml"
    credentials.touch(0o600)
    credentials.write_text(
        CREDENTIALS.format(root=servers["S3"].root, key=KEY, secret=SECRET) if "S3" in servers else ""
    )
    os.environ["PANDA_DATA_CREDENTIALS"] = str(credentials)


def home_of(number: int) -> str:
    """The site of a file: that of most files of its job, or the next one."""
    job, place = divmod(number, FILES_PER_JOB)
    return list(SITES)[(job + (place < ELSEWHERE)) % len(SITES)]


def put(client: Client, dataset: str, files: list[tuple[str, Path]]) -> None:
    """Upload the files, each to its site. Those that are there already stay."""
    client.datasets.create(dataset)
    there = {file.lfn for file in client.datasets.files(dataset)}

    def one(numbered: tuple[int, tuple[str, Path]]) -> None:
        number, (lfn, path) = numbered
        if lfn not in there:
            client.datasets.put(dataset, path, lfn=lfn, storage=f"{home_of(number)}-DISK")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, enumerate(files)))


def submit(client: Client, dataset: str) -> tuple[int, int, str, str]:
    """The two job sets: (count, merge, dataset of the counts, dataset of the merged result)."""
    sandbox = client.upload_sandbox(["count.py", "merge.py"], base=HERE / "stdlib").sha256
    python = sys.executable
    common: dict[str, Any] = {
        "defaults": {"cores": 1, "memory_mb": 1000, "disk_mb": 500, "walltime_s": 600, "sandbox": sandbox},
        "output_storage": f"{FINAL}-DISK",
    }
    count = client.submit(
        common
        | {
            "name": "count",
            "template": {
                "command": [python, "count.py", "counts.${seq:04d}.json", "${SRC.files}"],
                "inputs": {"SRC": {"dataset": dataset, "files_per_job": FILES_PER_JOB}},
                "outputs": ["counts.${seq:04d}.json"],
            },
        }
    )
    merge = client.submit(
        common
        | {
            "name": "merge",
            "depends_on": [count.jobset_id],
            "template": {
                "command": [python, "merge.py", "result.json"],
                "inputs": {"PARTS": {"dataset": count.output_dataset, "files_per_job": 0}},
                "outputs": ["result.json"],
            },
        }
    )
    say(f"job set {count.jobset_id}: {count.n_jobs} jobs count; job set {merge.jobset_id} merges what they wrote")
    return count.jobset_id, merge.jobset_id, count.output_dataset, merge.output_dataset


class Outage:
    """Kills a server when the first outputs are on their way, and starts it again after `AWAY_S`."""

    def __init__(self, server: Server | None) -> None:
        self._server = server
        self._thread: threading.Thread | None = None

    def look(self, by_status: dict[str, int]) -> None:
        is_under_way = by_status.get("transferring", 0) + by_status.get("finished", 0) > 0
        if self._server is None or self._thread or not is_under_way:
            return
        self._thread = threading.Thread(target=self._happen, args=(self._server,))
        self._thread.start()

    def _happen(self, server: Server) -> None:
        server.kill()
        say(f"killed the WebDAV server; it comes back in {AWAY_S} s")
        time.sleep(AWAY_S)
        server.start()
        say("the WebDAV server is back")

    def end(self) -> bool:
        """Wait until it is over. Returns whether it happened, or could not."""
        if self._thread is not None:
            self._thread.join()
        return self._server is None or self._thread is not None


def follow(client: Client, jobset_ids: tuple[int, int], outage: Outage) -> bool:
    """Show how the sets get on until both have ended. Returns whether both finished."""
    last = ""

    def show(waited: Any) -> None:
        nonlocal last
        counts = waited.by_status
        line = "  ".join(f"{status} {n}" for status, n in counts.items())
        if line != last:
            print(f"    {time.strftime('%H:%M:%S')}  {line}", flush=True)
            last = line
        outage.look(counts)

    return client.wait(jobsets=jobset_ids, timeout_s=TIMEOUT_S, on_look=show).is_finished


def tell_places(client: Client, count_id: int, dataset: str) -> None:
    """How many jobs went to the site of most of their input, and where the dataset lies now."""
    jobs = sorted(client.jobset_jobs(count_id), key=lambda job: job.panda_id)
    homes = [home_of(FILES_PER_JOB * seq + ELSEWHERE) for seq in range(len(jobs))]
    n_home = sum(job.site == home for job, home in zip(jobs, homes, strict=True))
    again = sum(job.attempt_nr - 1 for job in jobs)
    replicas = Counter(storage for file in client.datasets.files(dataset) for storage in file.storages)
    say(f"{n_home} of {len(jobs)} jobs ran where most of their input lay; the storage's death cost {again} attempts")
    ways = [way.raw for way in client.links() if way.raw["n_done"]]
    said = ", ".join(f"{way['source']} to {way['destination']} {way['n_done']}" for way in ways)
    say(f"files that travelled: {said}")
    said = ", ".join(f"{storage} {n}" for storage, n in sorted(replicas.items()))
    say(f"replicas of the dataset, which began with one of each file: {said}")


def all_arrived(client: Client, datasets: tuple[str, ...]) -> bool:
    """Whether every output lies on the fourth storage."""
    files = [file for dataset in datasets for file in client.datasets.files(dataset)]
    n = sum(f"{FINAL}-DISK" in file.storages for file in files)
    say(f"{n} of {len(files)} outputs are on {FINAL}-DISK")
    return n == len(files) > 0


def is_audit_clean() -> bool:
    """What `panda audit` says."""
    command = [str(Path(sys.executable).with_name("panda")), "audit", "--data", str(DATA)]
    done = subprocess.run(command, capture_output=True, text=True)
    say(f"audit: {(done.stderr or done.stdout).strip()}")
    return done.returncode == 0


def run(client: Client, servers: dict[str, Server]) -> bool:
    files = sorted(sources())
    version = sysconfig.get_python_version()
    dataset = f"demo:placed-{version}-{len(files)}"
    say(
        f"registering {len(files)} source files of Python {version} as dataset {dataset} on {', '.join(SITES.values())}"
    )
    put(client, dataset, files)
    count_id, merge_id, counts_dataset, result_dataset = submit(client, dataset)
    outage = Outage(servers.get("WEBDAV"))
    finished = follow(client, (count_id, merge_id), outage)
    if not outage.end() or not finished:
        explain(client, (count_id, merge_id))
        return False
    tell_places(client, count_id, dataset)
    arrived = all_arrived(client, (counts_dataset, result_dataset))
    [result] = client.datasets.files(result_dataset)
    client.datasets.get(result_dataset, result, DATA / "results")
    got = json.loads((DATA / "results" / result.lfn).read_text())
    return report(got, counts_of([str(path) for _, path in files]), client, count_id) and arrived


def main() -> int:
    began = time.monotonic()
    panda("down", "--data", str(DATA))  # what an earlier run that was interrupted left behind
    servers = start_servers()
    try:
        said = ", ".join(f"{name} at {server.root}" for name, server in servers.items())
        say(f"storages: {said or 'folders only'}")
        configure(servers)
        system = json.loads(panda("up", "--data", str(DATA), "--port", os.environ.get("PORT", "0"), "--detach"))
        say(f"up after {time.monotonic() - began:.0f} s; pages at {system['monitor']} (token: {system['token_file']})")
        ok = run(Client(system["api"], Path(system["token_file"]).read_text().strip()), servers)
        ok = is_audit_clean() and ok
    except KeyboardInterrupt:
        say("interrupted; start again whenever you like")
        return 130
    finally:
        try:
            panda("down", "--data", str(DATA))
        finally:
            end_servers(servers)
    say(f"{'the counts agree' if ok else 'SOMETHING IS WRONG'}; {time.monotonic() - began:.0f} s in all")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
