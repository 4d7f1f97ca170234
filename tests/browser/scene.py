"""A system worth a picture: fifty simulated sites and two real ones, several users, data, and some things that go wrong."""

import subprocess
import sys
from pathlib import Path

from livesystem import SITES, System, clean_environ

from panda.auth import tokens
from panda.client import Client
from panda.db.session import begin_of, make_engine

FIFTY = (Path(__file__).parents[2] / "examples" / "fleet" / "sites.toml").read_text()
TWO = SITES.replace('status = "test"\n', "")
FLEET = """
starting = false
[profiles.usual]
wall_s = [20.0, 60.0]
fails = 0.03
error_code = 1305
exit_code = 65
message = "the payload ended with exit code 65"
log_bytes = 1500
[profiles.full]
like = "usual"
fails = 0.7
error_code = 1333
exit_code = 0
message = "507 insufficient storage at https://se.sim-12/disk/user"
[profiles.unreachable]
like = "usual"
fails = 0.2
error_code = 1137
exit_code = 0
message = "no route to host se.sim-13"
[[groups]]
queues = ["SIM-0?-Q", "SIM-2?-Q", "SIM-3?-Q"]
pilots = 1
slots = 3
profile = "usual"
[[groups]]
queues = ["SIM-12-Q"]
pilots = 2
slots = 3
profile = "full"
[[groups]]
queues = ["SIM-13-Q"]
pilots = 2
slots = 3
profile = "unreachable"
[[groups]]
queues = ["SIM-11-Q"]
pilots = 1
slots = 1
profile = "black-hole"
"""
SMALL = {"memory_mb": 100, "disk_mb": 100, "walltime_s": 600, "max_attempts": 3}
SIMULATED = [f"SIM-{n:02}" for n in range(1, 40)]
#: A payload that takes its time, works a little, and fails as people's payloads do.
WORKS = """
import pathlib, sys, time
for n in range(1, 7):
    kept = bytearray(9_000_000 * n)
    sum(range(3_000_000))
    print(f"INFO event {1000 * n} of 6000, {len(kept) // 1_000_000} MB of histograms", flush=True)
    time.sleep(3)
"""
READS = f"{WORKS}pathlib.Path(sys.argv[1]).write_text('1')\n"
FAILS = f"{WORKS}sys.stderr.write('ERROR branch el_pt is not in this file\\n')\nsys.exit(65)\n"
#: What a day before this one left in the roll-ups that plots read.
WEEKS = """
INSERT INTO usage_days SELECT panda_now()::date - d, u, 'default', 'SIM-0' || 1 + d %% 9 || '-Q', g, k,
    40 + d %% 7 * 9, 2 + d %% 3, 0, (400000 + 90000 * sin(d) + 150000 * (u = 'prod')::int)::bigint,
    (330000 + 70000 * sin(d))::bigint, (400000 + 90000 * sin(d) + 150000 * (u = 'prod')::int)::bigint,
    (3e12 + 1e12 * sin(d))::bigint, 9e11::bigint
FROM generate_series(1, 30) d,
    (VALUES ('anna', 'higgs', 'analysis'), ('bert', '', 'analysis'), ('prod', 'higgs', 'production')) AS who(u, g, k)
ON CONFLICT DO NOTHING
"""


class Scene:
    """Made by `started`; `begin` brings people, pilots and work; `end` ends it all."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._begin = begin_of(make_engine(system.database_url))
        self._fleet: subprocess.Popen[bytes] | None = None

    @classmethod
    def started(cls, folder: Path) -> "Scene":
        """A system on which nothing was done yet."""
        return cls(System.started(folder, sites=f"{FIFTY}\n{TWO}", dispatcher_heartbeat_s=2))

    def begin(self) -> None:
        self._people()
        self._pilots()
        self._work()

    @property
    def system(self) -> System:
        return self._system

    def token(self, owner: str, *roles: str) -> str:
        with self._begin() as connection:
            return tokens.create(connection, owner, roles, f"{owner}'s", None)

    def more(self) -> None:
        """Work goes on: called now and then while the charts fill."""
        self._sets("prod", 150, "reco-mc26", wall="20-60")
        self._sets("anna", 25, "skim-muons", wall="10-40")

    def end(self) -> None:
        if self._fleet is not None:
            self._fleet.kill()
            self._fleet.wait()
        self._system.stop()

    def _people(self) -> None:
        for name in ("anna", "bert", "prod"):
            self.token(name, "user")
        told = self._system.panda
        for words in (
            ("quota", "set", "user:anna", "--running-cores", "60", "--core-hours", "500", "--reason", "agreed in May"),
            ("quota", "set", "user:bert", "--queued-jobs", "60", "--beyond", "hold", "--reason", "one flood too many"),
            ("downtimes", "add", "SIM-37", "--until", "6h", "--reason", "new cooling"),
        ):
            done = told(*words)
            if done.returncode:
                print(f"panda {' '.join(words)}: {done.stderr.strip()}", file=sys.stderr)
        self._system.client.set_queue_status("SIM-16-Q", "brokeroff", reason="its storage is moved")
        with self._begin() as connection:
            connection.exec_driver_sql(WEEKS)

    def _pilots(self) -> None:
        folder = self._system.folder
        file, token_file = folder / "fleet.toml", folder / "fleet.token"
        file.write_text(FLEET)
        token_file.write_text(self._system.pilot_token)
        words = ["simulate", "fleet", str(file), "--pilots-only", "--seconds", "7200", "--drain", "0"]
        self._fleet = subprocess.Popen(
            [sys.executable, "-m", "panda.cli.main", *words, "--pilot-token-file", str(token_file)],
            env=clean_environ() | {"PANDA_URL": self._system.api},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _work(self) -> None:
        for n in (1, 2, 3):
            (self._system.folder / f"run{n}.txt").write_text(f"run {n}\n" * 4000)
        put = (
            "put",
            *(f"run{n}.txt" for n in (1, 2, 3)),
            "--dataset",
            "user.admin:raw.2026",
            "--storage",
            "NORTH-DISK",
        )
        done = self._system.panda(*put)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
        for name, script in (("ntuple-2026", READS), ("ntuple-el-2026", FAILS)):
            inputs = {"RAW": {"dataset": "user.admin:raw.2026", "files_per_job": 1}}
            template = {
                "command": ["python3", "-c", script, "hist.${seq}.root"],
                "inputs": inputs,
                "outputs": ["hist.${seq}.root"],
            }
            self._submit("admin", {"name": name, "template": template, "brokerage": {"sites": ["NORTH", "SOUTH"]},
                                   "defaults": {**SMALL, "max_attempts": 2}, "output_storage": "SOUTH-DISK"})  # fmt: skip
        self._sets("bert", 80, "toy-limits", wall="30-60")
        self.more()
        self._set("bert", "large-fit", [{"command": ["true"], "memory_mb": 900_000}], {"sites": SIMULATED})

    def _sets(self, owner: str, n: int, name: str, *, wall: str) -> None:
        document = {
            "name": name, "template": {"command": ["true"], "count": n}, "brokerage": {"sites": SIMULATED},
            "defaults": {**SMALL, "env": {"SIM_WALL_S": wall}, "max_attempts": 1},
        }  # fmt: skip
        self._submit(owner, document)

    def _set(self, owner: str, name: str, jobs: list[dict[str, object]], brokerage: dict[str, object]) -> None:
        defaults = {**SMALL, "max_attempts": 1}
        self._submit(owner, {"name": name, "jobs": jobs, "defaults": defaults, "brokerage": brokerage})

    def _submit(self, owner: str, document: dict[str, object]) -> None:
        token = self._system.token if owner == "admin" else self.token(owner, "user")
        with Client(self._system.api, token) as client:
            client.submit(document)
