"""A group of equal jobs goes through the criteria in their order; one that raises harms nobody but its queue."""

import pytest

from panda.brokerage.deciding import Fault, decide
from panda.brokerage.policies import Policy, built_in
from panda.brokerage.subjects import JobGroup, Load
from tests.unit.brokerage.subjects import a_kind, a_queue, wishes


class Says:
    """A criterion that answers as it was told."""

    def __init__(self, name, answer):
        self.name, self._answer = name, answer

    def refuse(self, kind, queue):
        answer = self._answer(queue) if callable(self._answer) else self._answer
        if isinstance(answer, Exception):
            raise answer
        return answer


class Rations(Says):
    def room(self, queue):
        return self._answer(queue)

    def refuse(self, kind, queue):
        return None


def group(n, **facts):
    return JobGroup(a_kind(**facts), list(range(n)), [0.0] * n, {1})


def policy(*criteria):
    return Policy("p", criteria)


def test_a_criterion_that_raises_refuses_its_queue_and_is_named():
    odd = Says("odd", lambda queue: KeyError("site") if queue.name == "A" else None)

    decision = decide(group(4), [a_queue("A"), a_queue("B")], policy(odd))

    assert decision.chosen == {"B": 4}
    assert decision.faults == [Fault("odd", "A", "KeyError: 'site'")]
    assert decision.funnel == [
        {"criterion": "odd", "left": 1,
         "refused": {"A": "its check of odd failed (KeyError: 'site'); operators were told"}}
    ]  # fmt: skip


@pytest.mark.parametrize("answer", [ZeroDivisionError("x"), 3, False, b"no"])
def test_jobs_wait_where_no_answer_can_be_had(answer):
    decision = decide(group(4), [a_queue("A")], policy(Says("odd", answer), Says("next", None)))

    assert decision.chosen == {}
    assert decision.funnel[0]["left"] == 0
    assert "its check of odd failed" in decision.funnel[0]["refused"]["A"]
    assert [fault.criterion for fault in decision.faults] == ["odd"]


def test_a_criterion_that_cannot_tell_the_room_lets_none_go_there():
    rations = Rations("ration", lambda queue: {"A": 1, "B": None}[queue.name])

    decision = decide(group(5), [a_queue("A"), a_queue("B"), a_queue("C")], policy(rations))

    assert decision.chosen == {"A": 1, "B": 4}
    assert [(fault.criterion, fault.queue) for fault in decision.faults] == [("ration", "C")]


def test_the_smallest_room_counts_and_what_is_full_is_told():
    criteria = (Rations("a", lambda queue: 3), Rations("b", lambda queue: 2))

    decision = decide(group(5), [a_queue("A")], policy(*criteria))

    assert decision.chosen == {"A": 2}
    assert decision.funnel[-1] == {
        "criterion": "room", "left": 0, "refused": {"A": "took 2 of these jobs, and has room for no more"},
    }  # fmt: skip


def test_the_terms_of_the_heaviest_queues_are_kept():
    queues = [a_queue(f"Q{n}", load=Load(running=n)) for n in range(8)]

    decision = decide(group(8, wishes=wishes(prefer=["Q1"])), queues, built_in().of(wishes()))

    assert decision.policy == "analysis"
    assert list(decision.terms) == ["Q1", "Q7", "Q6", "Q5", "Q4"]
    assert decision.terms["Q1"] == {"backlog": 0.2, "preference": 5.0}
    assert decision.weights["Q1"] == 1.0
