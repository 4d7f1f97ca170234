"""B1, B2: null jobs from submission until they are archived, beside a Celery chain on the same stores."""

from benchmarks import celery_chain
from benchmarks.figures import Figure
from benchmarks.load import whole_life
from benchmarks.system import Meter, running

#: Before it is measured, a system has opened its connections and prepared its statements.
WARM_JOBS = 500


def one_by_one() -> Figure:
    """B1: one job per request. Submission (bulks of 1000) and the road are included."""
    return _measured(n_jobs=3_000, per_request=1, asked_rate=300, asked_ms=3.0)


def in_bulk() -> Figure:
    """B2: 20 jobs per claim and per update."""
    return _measured(n_jobs=20_000, per_request=20, asked_rate=2_000, asked_ms=0.6)


def _measured(*, n_jobs: int, per_request: int, asked_rate: float, asked_ms: float) -> Figure:
    with running() as system:
        whole_life(system, WARM_JOBS, per_request=per_request)
        meter = Meter(system)
        lasted_s = whole_life(system, n_jobs, per_request=per_request)
        _, spent = meter.read()
    rate, cpu_ms = n_jobs / lasted_s, 1000 * sum(spent.values()) / n_jobs
    chain = celery_chain.measured()
    return Figure(
        value=rate,
        unit="jobs/s",
        cpu_ms_per_job=cpu_ms,
        asked=f"≥ {asked_rate:,.0f} jobs/s and ≤ {asked_ms} ms",
        met=rate >= asked_rate and cpu_ms <= asked_ms,
        reference=f"{chain.told}; {rate / chain.rate:.0f} times its rate, 1/{chain.cpu_ms / cpu_ms:.0f} of its CPU",
        parts={name: 1000 * each / n_jobs for name, each in spent.items()},
    )
