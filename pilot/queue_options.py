"""What the pilot's queue says to all its pilots, whoever started them."""

from __future__ import annotations

import logging
import time
from typing import Any, Dict
from urllib.parse import quote

from pilot import arguments
from pilot.client import Backoff, Client
from pilot.errors import Refused, ServerAway

log = logging.getLogger("pilot.queue_options")


def of(client: Client, queue: str, outage_s: float) -> Dict[str, Any]:
    """The queue's `pilot_options`, as `arguments.parse` takes them; none if the server does not say, or if they make
    no sense. Waits `outage_s` for a server that is away."""
    backoff, give_up_at = Backoff(), time.monotonic() + outage_s
    while True:
        try:
            said = client.get(f"/v1/queues/{quote(queue, safe='')}")["pilot_options"]
            return arguments.of_queue([str(word) for word in said])
        except ServerAway as away:
            wait_s = backoff.next_s(away.retry_after_s)
            if time.monotonic() + wait_s > give_up_at:
                return {}
            log.warning("asking what the queue says: %s; next try in %.1f s", away, wait_s)
            time.sleep(wait_s)
        except Refused as refusal:  # asking for jobs will tell, if it matters
            log.info("the server does not say what queue %s wants of its pilots: %s", queue, refusal)
            return {}
        except (KeyError, TypeError, ValueError) as problem:
            log.warning("pilot_options of queue %s are left out: %s", queue, problem)
            return {}
