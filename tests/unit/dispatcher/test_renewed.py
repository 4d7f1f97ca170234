"""A picture that is renewed behind a claim's back."""

from collections.abc import Callable
from contextlib import nullcontext
from threading import Event
from typing import Any

import pytest

from panda.dispatcher.background import Renewed


class Watched(Renewed):
    """A picture whose looks a test holds up."""

    def __init__(self) -> None:
        super().__init__()
        self.n_looks = 0
        self.during: Callable[[], None] = lambda: None

    def _look(self, connection: Any) -> float:
        self.n_looks += 1
        self.during()
        return 60.0

    def ask(self) -> None:
        self._ensure(None)  # type: ignore[arg-type]

    def grow_old(self) -> None:
        self._good_until -= 60.1


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_good_picture_is_gone_by(watched: Watched) -> None:
    watched.ask()
    watched.ask()
    assert watched.n_looks == 1


def test_a_forgotten_one_is_looked_up_again(watched: Watched) -> None:
    watched.ask()
    watched.forget()
    watched.ask()
    assert watched.n_looks == 2


def test_a_look_during_which_it_is_forgotten_does_not_count(watched: Watched) -> None:
    watched.during = watched.forget
    watched.ask()
    assert not watched.is_fresh


def test_nor_does_one_behind_a_claim(watched: Watched) -> None:
    began, forgotten, ended = Event(), Event(), Event()

    def hold_up() -> None:
        began.set()
        assert forgotten.wait(30)

    class Last(nullcontext[Any]):
        def __exit__(self, *_: object) -> None:
            ended.set()

    watched.ask()
    watched.grow_old()
    watched.during = hold_up
    watched.renew(Last)  # type: ignore[arg-type]
    assert began.wait(30)
    watched.forget()
    forgotten.set()
    assert ended.wait(30)
    watched.during = lambda: None
    watched.ask()
    assert watched.n_looks == 3
