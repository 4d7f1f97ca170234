"""The same client for asyncio.

Each call of the plain client runs in a thread of a small pool of its own. So there is one place where calls
are tried again, refusals become errors and files are verified, no second HTTP library, and what is true of one
client is true of the other. What it costs is a thread for each call that is under way, at most `n_threads`.

An `await` that is cancelled ends at once. Waits and pauses between tries end with it; a request that is on its
way is left to its thread, which is free again when the answer, or the timeout, has come.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from panda.client.client import Client
from panda.client.environment import DEFAULT_URL
from panda.client.events import Follower, JobMoved
from panda.client.logs import Logs
from panda.client.pages import Pages
from panda.client.replies import R

N_THREADS = 8

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Cancelled(BaseException):
    """Ends a wait in a thread whose caller is gone. Nobody sees it."""


class _Pauses:
    """`time.sleep` that the thread's present caller can end."""

    def __init__(self) -> None:
        self._mine = threading.local()

    def __call__(self, seconds: float) -> None:
        stop: threading.Event | None = getattr(self._mine, "stop", None)
        if (stop or threading.Event()).wait(seconds):
            raise Cancelled

    def within(self, stop: threading.Event, call: Callable[[], T]) -> T:
        self._mine.stop = stop
        try:
            return call()
        finally:
            self._mine.stop = None


class _Pool:
    """Threads that calls run in."""

    def __init__(self, pauses: _Pauses, n_threads: int) -> None:
        self._pauses = pauses
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="panda-client")

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises, from a thread."""
        stop = threading.Event()
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._pauses.within, stop, call)
        finally:
            stop.set()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class AsyncPages(AsyncIterator[R], Generic[R]):
    """`Pages`, a page at a time: `async for job in client.jobs(): …`."""

    def __init__(self, pool: _Pool, make: Callable[[], Pages[R]]) -> None:
        self._pool, self._make = pool, make
        self._pages: Pages[R] | None = None
        self._ready: Iterator[R] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        while True:
            for item in self._ready:
                return item
            page = await self._pool.run(self._next_page)
            if page is None:
                raise StopAsyncIteration
            self._ready = iter(page)

    async def to_dicts(self) -> list[dict[str, Any]]:
        """The rest of the list as the server tells it."""
        return [item.raw async for item in self]

    async def to_pandas(self) -> Any:
        """The rest of the list as a frame of pandas. Raises MissingExtra."""
        return await self._pool.run(lambda: self._whole().to_pandas())

    async def to_polars(self) -> Any:
        """The rest of the list as a frame of polars. Raises MissingExtra."""
        return await self._pool.run(lambda: self._whole().to_polars())

    def _whole(self) -> Pages[R]:
        self._pages = self._pages or self._make()
        return self._pages

    def _next_page(self) -> list[R] | None:
        return self._whole().page()


def _mirrored(
    method: Callable[Concatenate[S, P], T],
) -> Callable[Concatenate["_Mirror[S]", P], Awaitable[T]]:
    async def call(self: "_Mirror[S]", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._pool.run(partial(method, self._plain, *args, **kwargs))

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call


def _paged(
    method: Callable[Concatenate[S, P], Pages[R]],
) -> Callable[Concatenate["_Mirror[S]", P], AsyncPages[R]]:
    def call(self: "_Mirror[S]", /, *args: P.args, **kwargs: P.kwargs) -> AsyncPages[R]:
        return AsyncPages(self._pool, partial(method, self._plain, *args, **kwargs))

    call.__doc__, call.__name__ = method.__doc__, method.__name__
    return call


class _Mirror(Generic[S]):
    """The calls of a plain object, awaited."""

    def __init__(self, pool: _Pool, plain: S) -> None:
        self._pool, self._plain = pool, plain


class AsyncLogs(_Mirror[Logs]):
    """The logs of one job."""

    list = _mirrored(Logs.list)
    piece = _mirrored(Logs.piece)
    tail = _mirrored(Logs.tail)

    def follow(self, name: str, attempt_nr: int, offset: int = 0) -> AsyncIterator[bytes]:
        """What is written to a log, as it comes, until that attempt has ended."""
        return _taken(self._pool, lambda: self._plain.follow(name, attempt_nr, offset))

    def blocks(self, log: Any, offset: int = 0) -> AsyncIterator[bytes]:
        """All of a log from `offset` on, a piece at a time."""
        return _taken(self._pool, lambda: self._plain.blocks(log, offset))


async def _taken(pool: _Pool, make: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """Items of a plain iterator, each taken in a thread."""
    items = await pool.run(make)
    end = object()
    while True:
        item: Any = await pool.run(partial(next, items, end))
        if item is end:
            return
        yield item


class _Group:
    """Everything of one attribute of the client: `datasets`, `actions`, `users`, `tokens`, `incidents`, `places`."""

    def __init__(self, pool: _Pool, plain: Any) -> None:
        self._pool, self._plain = pool, plain

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._plain, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            if name in ("list", "files"):
                return AsyncPages(self._pool, partial(method, *args, **kwargs))
            return self._pool.run(partial(method, *args, **kwargs))

        return call


class AsyncClient(_Mirror[Client]):
    """The verbs of `Client`, to be awaited; its lists are gone through with `async for`."""

    def __init__(self, url: str = DEFAULT_URL, token: str = "", *, n_threads: int = N_THREADS, **more: Any) -> None:
        """`n_threads`: calls that may be under way at once; `more`: as for `Client`."""
        pauses = _Pauses()
        self._adopt(Client(url, token, sleep=pauses, **more), pauses, n_threads)

    def _adopt(self, plain: Client, pauses: _Pauses, n_threads: int) -> None:
        super().__init__(_Pool(pauses, n_threads), plain)
        self._pauses = pauses
        self.url = plain.url
        self.datasets = _Group(self._pool, plain.datasets)
        self.actions = _Group(self._pool, plain.actions)
        self.users = _Group(self._pool, plain.users)
        self.tokens = _Group(self._pool, plain.tokens)
        self.quotas = _Group(self._pool, plain.quotas)
        self.logins = _Group(self._pool, plain.logins)
        self.incidents = _Group(self._pool, plain.incidents)
        self.places = _Group(self._pool, plain.places)

    @classmethod
    def from_env(
        cls, environ: Mapping[str, str] = os.environ, *, url: str = "", profile: str = "", n_threads: int = N_THREADS
    ) -> Self:
        """As `Client.from_env`."""
        pauses = _Pauses()
        made = cls.__new__(cls)
        made._adopt(Client.from_env(environ, url=url, profile=profile, sleep=pauses), pauses, n_threads)
        return made

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Take no more calls; those that are under way end by themselves."""
        self._pool.close()

    find = _paged(Client.find)
    jobs = _paged(Client.jobs)
    jobsets = _paged(Client.jobsets)
    jobset_jobs = _paged(Client.jobset_jobs)
    queues = _paged(Client.queues)
    sites = _paged(Client.sites)
    storages = _paged(Client.storages)
    used = _paged(Client.used)
    transfers = _paged(Client.transfers)
    links = _mirrored(Client.links)
    jobset_datasets = _mirrored(Client.jobset_datasets)
    storage_quotas = _paged(Client.storage_quotas)
    shares = _paged(Client.shares)
    switches = _paged(Client.switches)
    views = _paged(Client.views)
    submit = _mirrored(Client.submit)
    jobset = _mirrored(Client.jobset)
    retry_jobset = _mirrored(Client.retry_jobset)
    cancel_jobset = _mirrored(Client.cancel_jobset)
    hold_jobset = _mirrored(Client.hold_jobset)
    release_jobset = _mirrored(Client.release_jobset)
    job = _mirrored(Client.job)
    events = _mirrored(Client.events)
    files = _mirrored(Client.files)
    attempts = _mirrored(Client.attempts)
    attempt = _mirrored(Client.attempt)
    usage = _mirrored(Client.usage)
    why = _mirrored(Client.why)
    why_set = _mirrored(Client.why_set)
    why_pilot = _mirrored(Client.why_pilot)
    retry = _mirrored(Client.retry)
    rebroker = _mirrored(Client.rebroker)
    cancel = _mirrored(Client.cancel)
    hold = _mirrored(Client.hold)
    release = _mirrored(Client.release)
    counts = _mirrored(Client.counts)
    wait = _mirrored(Client.wait)
    upload_sandbox = _mirrored(Client.upload_sandbox)
    has_sandbox = _mirrored(Client.has_sandbox)
    queue = _mirrored(Client.queue)
    mismatches = _mirrored(Client.mismatches)
    set_queue_status = _mirrored(Client.set_queue_status)
    set_share_weight = _mirrored(Client.set_share_weight)
    add_share = _mirrored(Client.add_share)
    move_share = _mirrored(Client.move_share)
    remove_share = _mirrored(Client.remove_share)
    save_view = _mirrored(Client.save_view)
    forget_view = _mirrored(Client.forget_view)
    pause = _mirrored(Client.pause)
    resume = _mirrored(Client.resume)
    whoami = _mirrored(Client.whoami)
    create_token = _mirrored(Client.create_token)
    health = _mirrored(Client.health)
    is_ready = _mirrored(Client.is_ready)
    request = _mirrored(Client.request)

    def logs(self, panda_id: int) -> AsyncLogs:
        """The job's logs."""
        return AsyncLogs(self._pool, self._plain.logs(panda_id))

    async def follow(self, **what: Any) -> AsyncIterator[JobMoved]:
        """Moves of jobs as they happen; as `Client.follow`.

        A stream has a thread of its own, which ends within seconds after nobody takes from it any more."""
        pool = _Pool(self._pauses, 1)
        try:
            follower: Follower = self._plain.follow(**what)
            ticks = follower.ticks()
            while True:
                moved = await pool.run(partial(next, ticks))
                if moved is not None:
                    yield moved
        finally:
            pool.close()
