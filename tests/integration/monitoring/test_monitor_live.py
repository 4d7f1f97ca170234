"""Live pages: who watches is told once for many changes, also after a break."""

import asyncio

from monitoring import live
from monitoring.gate import Session
from monitoring.live import Hub, Watcher, may_watch, topics_of
from monitoring.pages.page import Parts
from panda.auth.identity import Identity, Role
from tests.integration.monitoring.conftest import World


class Here(Watcher):
    """Told at once, without a loop between."""

    def __init__(self, *topics: str) -> None:
        self.topics, self.told = list(topics), []

    def tell(self, topic: str, number: int) -> None:
        self.told.append((topic, number))

    ring = tell


def test_only_what_is_watched_and_changed_is_told(world: World, parts: Parts) -> None:
    hub, mine, others = Hub(parts.reader, 10), Here("job:7", "overview"), Here("job:1")
    assert hub.add(mine, None)
    assert hub.add(others, None)
    hub.look()
    world.sql("UPDATE jobs SET changed_at = panda_now() WHERE panda_id = 7")
    hub.look()
    hub.look()
    world.sql("INSERT INTO job_count_deltas VALUES ('running', 'north', 1)")
    hub.look()

    assert mine.told == [("job:7", 1), ("overview", 2)]
    assert others.told == []


def test_who_comes_back_is_told_what_was_missed(world: World, parts: Parts) -> None:
    hub, first = Hub(parts.reader, 10), Here("job:7", "jobset:1")
    hub.add(first, None)
    hub.look()
    before = hub.place
    world.sql("UPDATE jobs SET changed_at = panda_now() WHERE panda_id = 7")
    hub.look()

    back, late, stranger = Here("job:7", "jobset:1"), Here("job:7"), Here("job:7", "jobset:1")
    hub.add(back, before)
    hub.add(late, hub.place)
    hub.add(stranger, "0000-1")

    assert back.told == [("job:7", 1)]
    assert late.told == []
    assert [topic for topic, _ in stranger.told] == ["job:7", "jobset:1"]


def test_what_changes_before_the_first_look_is_told(world: World, parts: Parts) -> None:
    hub, mine = Hub(parts.reader, 10), Here("job:7")
    hub.add(mine, None)
    hub.note(mine.topics)
    world.sql("UPDATE jobs SET changed_at = panda_now() WHERE panda_id = 7")
    hub.look()

    assert mine.told == [("job:7", 1)]


def test_who_comes_back_to_what_nobody_watched_meanwhile_looks_again(parts: Parts) -> None:
    hub, first, back = Hub(parts.reader, 10), Here("job:7", "overview"), Here("job:7")
    hub.add(first, None)
    hub.look()
    before = hub.place
    hub.remove(first)
    hub.look()
    hub.add(back, before)

    assert back.told == [("job:7", 0)]


def test_more_than_enough_watchers_are_refused(parts: Parts) -> None:
    hub = Hub(parts.reader, 1)

    assert hub.add(Here("overview"), None)
    assert not hub.add(Here("overview"), None)


def test_only_those_who_may_read_may_watch(world: World, parts: Parts) -> None:
    def someone(name: str, role: Role) -> Session:
        return Session(Identity(name, frozenset({role})), "", 0.0, "")

    assert may_watch(parts.reader, someone("alice", Role.USER), ["job:7", f"jobset:{world.jobset_id}", "overview"])
    assert not may_watch(parts.reader, someone("bob", Role.USER), ["job:7"])
    assert may_watch(parts.reader, someone("olga", Role.OPERATOR), ["job:7"])
    assert not may_watch(parts.reader, someone("olga", Role.OPERATOR), ["job:123456"])


def test_topics_are_read_strictly() -> None:
    assert topics_of("overview,job:7,job:x,jobset:,lunch,job:-1,jobset:3") == ["job:7", "jobset:3", "overview"]
    assert len(topics_of(",".join(f"job:{k}" for k in range(100)))) == live.MAX_TOPICS


def test_what_is_pending_never_grows_beyond_the_topics() -> None:
    async def flood() -> dict[str, int]:
        watcher = Watcher(["job:7"], asyncio.get_running_loop())
        for number in range(10_000):
            watcher.tell("job:7", number)
        return await watcher.next(1)

    assert asyncio.run(flood()) == {"job:7": 9_999}
