"""HyperQueue's local cluster: a task per job, started by its one worker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


@contextmanager
def ready(n_slots: int) -> Iterator[Callable[[int], None]]:
    """Server and worker are up."""
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=n_slots))
        client = cluster.client()

        def run(n_jobs: int) -> None:
            job = Job()
            for _ in range(n_jobs):
                job.program(["/bin/true"], stdout=None, stderr=None)
            client.wait_for_jobs([client.submit(job)])

        yield run
