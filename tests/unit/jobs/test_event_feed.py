"""Which numbers of events are missing, and from where a listener may go on."""

from panda.jobs.event_feed import GAP_S, MAX_BEHIND, Event, Gaps, Listener, Wish


def event(event_id, panda_id=1, jobset_id=1, owner="anna"):
    return Event(event_id, event_id, panda_id, jobset_id, owner, None)


def test_numbers_in_a_row_leave_no_gap():
    gaps = Gaps()
    gaps.note(4, [5, 6, 7], 0)

    assert (gaps.missing(), gaps.cursor(7)) == ([], 7)


def test_a_number_that_was_passed_over_is_asked_for_until_it_comes():
    gaps = Gaps()
    gaps.note(4, [5, 8], 0)
    assert (gaps.missing(), gaps.cursor(8)) == ([6, 7], 5)

    gaps.close([6], 1)

    assert (gaps.missing(), gaps.cursor(8)) == ([7], 6)


def test_a_number_that_never_comes_is_given_up():
    gaps = Gaps()
    gaps.note(4, [6], 0)

    gaps.close([], GAP_S + 1)

    assert (gaps.missing(), gaps.cursor(6)) == ([], 6)


def test_a_wish_is_for_a_job_a_set_or_an_owner():
    assert Wish().fits(event(1))
    assert Wish(panda_id=1).fits(event(1))
    assert not Wish(panda_id=2).fits(event(1))
    assert not Wish(jobset_id=2).fits(event(1))
    assert not Wish(owner="bob").fits(event(1))


def test_a_listener_gets_what_came_and_one_that_is_too_slow_is_given_up():
    listener = Listener(Wish())
    listener.give([event(1), event(2)])
    assert [each.event_id for each in listener.take(0)] == [1, 2]

    listener.give([event(1)] * (MAX_BEHIND + 1))

    assert listener.lost
    assert listener.take(0) == []
