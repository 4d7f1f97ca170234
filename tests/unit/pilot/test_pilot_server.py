"""The server goes away, loses answers, refuses: nothing that was done is lost."""

import threading
import time

from pilot_stub_server import StubServer, make_job, wait_until


def test_results_are_delivered_when_the_server_comes_back(start, book, server, tmp_path):
    book.waiting.append(make_job(1, "sh", "-c", f"until test -e {tmp_path}/away; do sleep 0.05; done; echo 1"))
    pilot = start()
    wait_until(book, lambda: "running" in book.statuses.get(1, []))

    # Persistent connections outlive a stopped listener, so the stub also refuses on those.
    book.faults.append(lambda _path: True)
    server.stop()
    (tmp_path / "away").touch()
    threading.Event().wait(3)
    book.faults.clear()
    again = StubServer(book, server.port)
    try:
        assert pilot.wait() == 0
    finally:
        again.stop()

    assert book.finals[1]["status"] == "finished"
    assert book.logs[1, "payload.stdout"] == b"1\n"


def test_a_lost_answer_is_asked_for_with_the_same_id(run, book):
    finals = run(make_job(1, lose_reply=True))

    ids = [ask["request_id"] for ask in book.acquires]
    assert ids[0] == ids[1]
    assert len(set(ids)) == len(ids) - 1
    assert finals[1]["status"] == "finished"
    assert book.statuses[1].count("finished") == 1


def test_a_report_whose_answer_is_lost_is_sent_again(run, book):
    lost = []
    book.faults.append(lambda path: path.endswith("/update") and not lost and not lost.append(path))
    finals = run(make_job(1))

    assert lost
    assert finals[1]["status"] == "finished"


def test_a_log_gap_is_answered_from_where_the_server_is(run, book):
    # The server already has the first three bytes, from an upload whose answer was lost.
    book.logs[1, "payload.stdout"] = b"abc"
    finals = run(make_job(1, "printf", "abcdef"))

    assert book.logs[1, "payload.stdout"] == b"abcdef"
    assert {"name": "payload.stdout", "size_bytes": 6} in finals[1]["logs"]


def test_a_log_that_the_server_does_not_take_does_not_fail_the_job(run, book):
    book.logs[1, "payload.stdout"] = b"more than there is"
    finals = run(make_job(1, "printf", "abc"))

    assert finals[1]["status"] == "finished"


def test_one_unreadable_report_does_not_hold_up_the_others(run, book):
    book.unreadable.add(2)
    finals = run(make_job(1), make_job(2), make_job(3))

    assert [finals[n]["status"] for n in (1, 2, 3)] == ["finished", "failed", "finished"]
    assert finals[2]["error_code"] == 1319


def test_a_refused_token_ends_the_pilot_with_its_own_code(start, book):
    book.token = "another"
    pilot = start()

    assert pilot.wait() == 3
    assert "token" in pilot.log.read_text()


def test_a_rotated_token_is_read_again_from_its_file(start, book, tmp_path):
    book.heartbeat_s = 0.1
    book.waiting.append(make_job(1, "sh", "-c", f"until test -e {tmp_path}/on; do sleep 0.05; done"))
    pilot = start()
    wait_until(book, lambda: book.beats)

    (tmp_path / "token").write_text("rotated")
    book.token = "rotated"
    n_beats = len(book.beats)
    wait_until(book, lambda: len(book.beats) > n_beats)
    (tmp_path / "on").touch()

    assert pilot.wait() == 0
    assert book.finals[1]["status"] == "finished"


def test_a_long_poll_gets_a_job_that_comes_later(start, book):
    pilot = start("--idle-s", "1", "--wait-s", "10")
    wait_until(book, lambda: book.acquires)

    with book.changed:
        book.waiting.append(make_job(1))
        book.changed.notify_all()
    wait_until(book, lambda: 1 in book.finals)
    done_at = time.monotonic()

    assert pilot.wait() == 0
    assert 0.8 < time.monotonic() - done_at < 8.0
    assert book.acquires[0]["wait_s"] == 1


def test_the_pilot_leaves_after_its_last_allowed_job(run, book):
    book.waiting.append(make_job(3))
    finals = run(make_job(1), make_job(2), args=("--max-jobs", "2"))

    assert sorted(finals) == [1, 3]
    assert len(book.waiting) == 1


def test_an_idle_pilot_leaves_a_server_that_never_answers(start, server):
    pilot = start("--outage-s", "0.5", url="http://127.0.0.1:9")

    assert pilot.wait() == 4
