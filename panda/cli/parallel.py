"""Several things at once, told in order."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def at_once(work: Callable[[T], R], items: Iterable[T], n_hands: int) -> Iterator[R]:
    """`work` of each item, by `n_hands` threads; what one raises is raised here.

    Items are taken a little ahead. The threads are daemons: one that hangs on a server that is silent does not keep
    Ctrl-C from ending the command, as those of `concurrent.futures` would."""
    todo: SimpleQueue[tuple[T, Future[R]] | None] = SimpleQueue()

    def hand() -> None:
        while (taken := todo.get()) is not None:
            item, outcome = taken
            try:
                outcome.set_result(work(item))
            except BaseException as problem:
                outcome.set_exception(problem)

    under_way: deque[Future[R]] = deque()
    n_started = 0
    try:
        for item in items:
            if n_started < n_hands:
                n_started += 1
                threading.Thread(target=hand, name=f"panda-{n_started}", daemon=True).start()
            outcome: Future[R] = Future()
            under_way.append(outcome)
            todo.put((item, outcome))
            if len(under_way) >= 2 * n_hands:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        with suppress(Empty):
            while True:
                todo.get_nowait()
        for _ in range(n_started):
            todo.put(None)
