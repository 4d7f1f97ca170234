"""The fast road between two commits: a chain of stages that hands PandaIDs on.

A chain never crosses a pilot: it starts before one (define … dispatch) or after one (stage_out, archive)."""

from collections.abc import Sequence
from typing import Any

from celery import chain

from panda.states import PIPELINE, Stage
from workflows import stages
from workflows.app import LANE_OF

TASK_OF = {stage: getattr(stages, stage) for stage in PIPELINE}


def chain_from(stage: Stage, panda_ids: Sequence[int]) -> Any:
    """The chain that takes `panda_ids` from `stage` to where the next wait lies."""
    road = [each for each in PIPELINE[PIPELINE.index(stage) :] if LANE_OF[each] == LANE_OF[stage]]
    first, *rest = (TASK_OF[each] for each in road)
    return chain(first.s(list(panda_ids)), *(task.s() for task in rest))
