"""What a pilot is and has, as its arguments say; and the share of it that jobs occupy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from pilot.wire import PilotJob

LAST_WORDS_S = 5.0


@dataclass(frozen=True)
class Offer:
    """One pilot in its slot; memory and disk in MB (10^6 bytes)."""

    pilot_id: str
    url: str
    work: str  #: the folder of all homes
    queue: str
    node: str
    tags: List[str]
    cores: int
    memory_mb: int
    disk_mb: int
    slot_s: int  #: time left in the slot when the pilot starts
    idle_s: float
    max_jobs: int  #: leave after so many; 0: no limit
    bulk: int
    wait_s: float
    grace_s: float
    drain_s: float = 0.0  #: payloads run on so long after the pilot was told to leave
    pause_s: float = 0.0  #: without work ask again after so long; 0: leave instead
    gpus: int = 0

    @property
    def reserve_s(self) -> float:
        """The end of the slot that belongs to no payload: to end it, and to report."""
        return self.grace_s + LAST_WORDS_S


class Room:
    """Cores, memory, disk and GPUs that are free now. Jobs take what they asked for, whatever they use."""

    def __init__(self, offer: Offer) -> None:
        self._offer = offer
        self.cores = offer.cores
        self.memory_mb = offer.memory_mb
        self.disk_mb = offer.disk_mb
        self.gpus = offer.gpus

    @property
    def is_full(self) -> bool:
        """Not even the smallest job fits."""
        return self.cores <= 0 or self.memory_mb <= 0 or self.disk_mb <= 0

    def fits(self, job: PilotJob) -> bool:
        """It can start now."""
        return (
            job.cores <= self.cores
            and job.memory_mb <= self.memory_mb
            and job.disk_mb <= self.disk_mb
            and job.gpus <= self.gpus
        )

    def fits_never(self, job: PilotJob) -> bool:
        """It could not start in the empty slot either."""
        return not Room(self._offer).fits(job)

    def take(self, job: PilotJob) -> None:
        """The job starts."""
        self.cores -= job.cores
        self.memory_mb -= job.memory_mb
        self.disk_mb -= job.disk_mb
        self.gpus -= job.gpus

    def give_back(self, job: PilotJob) -> None:
        """Its payload has ended."""
        self.cores += job.cores
        self.memory_mb += job.memory_mb
        self.disk_mb += job.disk_mb
        self.gpus += job.gpus
