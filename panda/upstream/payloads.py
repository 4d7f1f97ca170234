"""What runs on the node. One payload runner of our own (`runners/runGen`) is all that both pilots need.

Under upstream's pilot, a job of ours is the runner with a description of the job; a job of upstream's client is what
its client asked for. Under our pilot, a job of upstream's client is the same runner, in a sandbox, told the
transformation and its parameters.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from panda.dispatcher.words import PilotJob
from panda.errors import NotFound
from panda.upstream.calls import Asked, House
from panda.upstream.wire import GZIP

#: What jobs call the runner; upstream's client says a name with a version.
RUNNER = "runGen"
VERSIONED = re.compile(r"runGen(-\d\d){0,3}\Z")
RUNNER_FILE = Path(__file__).parent / "runners" / RUNNER
#: Below `/cache/`: a sandbox by the hash of its bytes, for who knows it.
SANDBOX = "sandbox.{}.tar.gz"
SANDBOX_NAME = re.compile(r"sandbox\.([0-9a-f]{64})\.tar\.gz\Z")
TRF_PATH = "/trf/user"


def for_pilot(asked: Asked, job: PilotJob, attributes: Mapping[str, Any]) -> tuple[str, str]:
    """Transformation and parameters of a job for upstream's pilot."""
    base = _trf_url(asked)
    transformation = str(attributes.get("transformation") or "")
    if TRF_PATH + "/" in transformation and not job.inputs:
        return f"{base}/{transformation.rpartition('/')[2]}", str(attributes.get("jobParameters") or "")
    sandbox_url = f"{asked.base_url}/cache/{SANDBOX.format(job.sandbox)}" if job.sandbox else None
    described = {
        "panda_id": job.panda_id,
        "attempt_nr": job.attempt_nr,
        "command": job.command,
        "env": job.env,
        "cores": job.cores,
        "sandbox": job.sandbox,
        "sandbox_url": sandbox_url,
        "inputs": [{"lfn": each.lfn, "url": each.url, "adler32": each.adler32} for each in job.inputs],
    }
    packed = gzip.compress(msgspec.json.encode(described), mtime=0)
    return f"{base}/{RUNNER}", f"--job {base64.urlsafe_b64encode(packed).decode()}"


def command_of(transformation: str, parameters: str) -> list[str]:
    """The command of a job of upstream's client for our pilot, which unpacks `runner_sandbox` first."""
    return ["/usr/bin/env", "python3", f"./{RUNNER}", "--trf", transformation, "--pars", parameters]


def runner_sandbox(house: House, owner: str) -> str:
    """The runner as a sandbox: its SHA-256. It is stored at its first use."""
    content = _packed_runner()
    sha256 = hashlib.sha256(content).hexdigest()
    with house.begin() as connection, contextlib.suppress(NotFound):
        house.spool.sandbox_size(connection, sha256)
        return sha256
    house.spool.put_sandbox(house.begin, sha256, io.BytesIO(content), owner=owner, cap_bytes=len(content))
    return sha256


def _trf_url(asked: Asked) -> str:
    """Where this pilot fetches runners: the newer ones take them from any address that they are told."""
    is_newer = asked.req.get_header("User-Agent", default="").startswith(("pilot/3.11", "pilot/3.12"))
    return f"{asked.base_url}{TRF_PATH}" if is_newer else asked.house.settings.upstream.trf_url.rstrip("/")


@cache
def _packed_runner() -> bytes:
    """The same bytes each time, so that it is one sandbox."""
    plain, content = io.BytesIO(), RUNNER_FILE.read_bytes()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in (RUNNER, f"{RUNNER}-00-00-02"):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    packed = gzip.compress(plain.getvalue(), mtime=0)
    assert packed.startswith(GZIP)
    return packed
