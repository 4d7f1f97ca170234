"""The Celery app and its lanes; the composition root of the workers.

Four lanes: `final` (stage_out, archive) is served before `stages` (define … dispatch), so that what pilots
bring back is settled before new work is taken on; `ticks`, the clock, comes between them; `data` carries
transfers and has a worker of its own, because a transfer may take long. Messages
carry ids and nothing else; there is no result backend. The profile is explained, setting by setting, in
docs/explanation/celery.md.
"""

import logging
from functools import cache
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_init, worker_process_init
from kombu.entity import Queue

from panda import collector, incident_log, logs
from panda.db.session import Begin, begin_from
from panda.settings import REDIS_KEY_PREFIX, Settings, current
from panda.states import Stage
from workflows import redis_transport, tracing
from workflows.pacing import every

STAGES, FINAL, DATA, TICKS = "stages", "final", "data", "ticks"
LANES = (FINAL, STAGES, DATA, TICKS)
LANE_OF = {stage: FINAL if stage in (Stage.STAGE_OUT, Stage.ARCHIVE) else STAGES for stage in Stage}

#: Seconds between two runs of each tick.
TICK_S: dict[str, float] = {
    "panda.tick.sweep": 1.0,
    "panda.tick.actions": 1.0,
    "panda.tick.queues": 2.0,
    "panda.tick.quotas": 1.0,
    "panda.tick.rebroker": 5.0,
    "panda.tick.fold": 2.0,
    "panda.tick.sites": 5.0,
    "panda.tick.collect": 15.0,
    "panda.tick.rules": 15.0,
    "panda.tick.transfers": 5.0,
    "panda.tick.space": 5.0,
    "panda.tick.storages": 15.0,
    "panda.tick.recalls": 2.0,
    "panda.tick.notices": 20.0,
    "panda.tick.deletions": 10.0,
    "panda.tick.copies": 60.0,
    "panda.tick.dataset_rules": 5.0,
    "panda.tick.history": 60.0,
    "panda.tick.estimates": 60.0,
    "panda.tick.audit": 60.0,
    "panda.tick.canary": 60.0,
    "panda.tick.tidy": 600.0,
}


def profile(settings: Settings) -> dict[str, Any]:
    """Celery's configuration. Tried against celery and kombu 5.7."""
    engine = settings.engine
    return {
        "broker_url": settings.store.redis_url,
        "accept_content": ["json"],
        "task_serializer": "json",
        "task_ignore_result": True,
        "task_acks_late": True,
        "task_reject_on_worker_lost": False,
        "task_retry_on_worker_lost": False,  # recovery.py does it, by the database's count
        "task_acks_on_failure": True,
        "task_acks_on_timeout": True,
        "task_soft_time_limit": engine.hard_limit_s - 5,
        "task_time_limit": engine.hard_limit_s,
        "task_create_missing_queues": False,
        "task_queues": [Queue(lane) for lane in LANES],
        "task_default_queue": STAGES,
        "task_send_sent_event": True,
        "task_track_started": True,
        "worker_send_task_events": True,
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_eta_task_limit": 1000,
        "worker_max_tasks_per_child": 5000,
        "worker_soft_shutdown_timeout": 20,
        "worker_enable_soft_shutdown_on_idle": True,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_hijack_root_logger": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_transport_options": {
            "visibility_timeout": engine.visibility_s,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "global_keyprefix": REDIS_KEY_PREFIX,
            "queue_order_strategy": "priority",
        },
        "beat_schedule": {
            name: {"task": name, "schedule": every(seconds), "options": {"queue": TICKS}}
            for name, seconds in TICK_S.items()
        },
        "beat_max_loop_interval": 1,
        "timezone": "UTC",
    }


@cache
def begin() -> Begin:
    """This process's `begin()`; pool children make their own after the fork."""
    return begin_from(current())


redis_transport.install()
app = Celery("panda", include=["workflows.stages", "workflows.transfer", "workflows.beat", "workflows.recovery"])
app.conf.update(profile(current()))
tracing.watch()


#: Celery's loggers that say two lines for each message. Flower shows as much, and the stages count their jobs.
CHATTY = ("celery.worker.strategy", "celery.app.trace")


@setup_logging.connect
def _our_logs(**_: Any) -> None:
    logs.setup()
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    incident_log.install("celery", current())


@worker_init.connect
@beat_init.connect
def _spare_what_is_loaded(**_: Any) -> None:
    collector.spare()


@worker_process_init.connect
def _own_connections(**_: Any) -> None:
    begin.cache_clear()
