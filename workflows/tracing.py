"""A span for each Celery task of ours, if the environment asks for traces (`panda.traces`)."""

from typing import Any

from celery.signals import task_postrun, task_prerun

from panda import traces

SERVICE = "panda-worker"


def watch() -> None:
    """Called while the app is made. Without traces not even a signal is connected."""
    if traces.are_wanted():
        task_prerun.connect(_begin, weak=False, dispatch_uid="panda.traces.begin")
        task_postrun.connect(_end, weak=False, dispatch_uid="panda.traces.end")


def _begin(task_id: str, task: Any, args: Any = (), **_: Any) -> None:
    tracer = traces.tracer(SERVICE)
    if tracer is not None:
        n_jobs = len(args[0]) if args and isinstance(args[0], list) else 0
        facts: dict[str, Any] = {"celery.task_id": task_id, "panda.jobs": n_jobs}
        task.request.panda_span = tracer.start_span(task.name, attributes=facts)


def _end(task: Any, state: str | None = None, retval: Any = None, **_: Any) -> None:
    span = getattr(task.request, "panda_span", None)
    if span is None:
        return
    span.set_attribute("celery.state", state or "")
    if isinstance(retval, BaseException):
        span.record_exception(retval)
    elif isinstance(retval, list):
        span.set_attribute("panda.survivors", len(retval))
    span.end()
