"""Transfers move as many at a time as storages and links allow, the most wanted first, from the nearest site."""

import pytest

from panda.dataservice import admission, flow, transfers
from panda.db import lists
from panda.query import read


def request(lab, panda_ids):
    with lab.begin() as connection:
        transfers.request_inputs(connection, panda_ids, deadline_s=3600)


def due_ids(lab, n=100):
    with lab.begin() as connection:
        return admission.due_ids(connection, n, 60)


def moving(lab):
    return {(row.planned, row.destination) for row in lab.transfers() if row.status == "moving"}


def test_a_storage_is_given_no_more_than_it_bears_and_others_do_not_wait_for_it(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"x")
    request(lab, lab.bound_jobs(inputs=["s:d"]) + lab.bound_jobs(queue="WEST-Q", inputs=["s:d"]))
    lab.do("UPDATE storages SET max_transfers = 2 WHERE name = 'SOUTH-DISK'")

    first = due_ids(lab)

    assert len(first) == 5
    assert due_ids(lab) == []
    transfers.carry_out(lab.begin, first, lab.settings)
    assert len(due_ids(lab)) == 1


def test_a_storage_that_is_read_from_counts_too(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"x")
    request(lab, lab.bound_jobs(inputs=["s:d"]) + lab.bound_jobs(queue="WEST-Q", inputs=["s:d"]))
    lab.do("UPDATE storages SET max_transfers = 4 WHERE name = 'NORTH-DISK'")

    assert len(due_ids(lab)) == 4


def test_a_link_has_its_own_limit(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"x")
    request(lab, lab.bound_jobs(inputs=["s:d"]) + lab.bound_jobs(queue="WEST-Q", inputs=["s:d"]))
    lab.do("INSERT INTO links VALUES ('slow', 'NORTH', 'WEST', 10, 1)")

    assert len(due_ids(lab)) == 4


def downtime(lab, kind, target):
    lab.do(
        "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by) VALUES"
        f" ('cooling', '{kind}', '{target}', panda_now(), panda_now() + interval '1 hour', '', 'olga')"
    )


@pytest.mark.parametrize(("kind", "target"), [("storage", "NORTH-DISK"), ("site", "NORTH")])
def test_nothing_is_read_from_a_storage_in_downtime(lab, kind, target):
    lab.put("s:d/a", b"x")
    lab.put("s:d/b", b"x")
    lab.put("s:d/b", b"x", "WEST-DISK")
    request(lab, lab.bound_jobs(inputs=["s:d"]))
    downtime(lab, kind, target)

    assert len(due_ids(lab)) == 1
    assert moving(lab) == {("WEST-DISK", "SOUTH-DISK")}
    [held] = [row for row in lab.transfers() if row.status == "queued"]
    assert held.tries == 0

    lab.do("DELETE FROM downtimes")
    lab.do("UPDATE transfers SET due_at = panda_now() WHERE status = 'queued'")
    assert due_ids(lab) == [held.transfer_id]


def test_what_only_storages_in_downtime_have_is_due_when_the_first_of_them_comes_back(lab):
    lab.put("s:d/a", b"abc", "NORTH-DISK")
    lab.put("s:d/a", b"abc", "WEST-DISK")
    lab.put("s:d/b", b"abc", "NORTH-DISK")
    request(lab, lab.bound_jobs(inputs=["s:d/a", "s:d/b"]))
    lab.do("UPDATE transfers SET created_at = panda_now() - interval '1 h'")
    for name, target, ends in (("n1", "NORTH-DISK", "20 s"), ("n2", "NORTH-DISK", "2 h"), ("w", "WEST-DISK", "40 s")):
        lab.do(
            "INSERT INTO downtimes (name, kind, target, starts_at, ends_at, reason, made_by) VALUES"
            " (%(name)s, 'storage', %(target)s, panda_now(), panda_now() + %(ends)s::interval, 'r', 'o')",
            name=name, target=target, ends=ends,
        )  # fmt: skip

    assert due_ids(lab) == []

    waits = lab.query(
        "SELECT extract(epoch FROM due_at - panda_now()) AS s FROM transfers JOIN files USING (file_id) ORDER BY lfn"
    )
    assert 30 < waits[0].s <= 40  # WEST comes back first
    assert 590 < waits[1].s <= 600  # a downtime may be cancelled


def test_a_transfer_whose_source_went_into_downtime_takes_another_one(lab):
    lab.put("s:d/a", b"x")
    lab.put("s:d/a", b"x", "WEST-DISK")
    [panda_id] = lab.bound_jobs(inputs=["s:d/a"])
    request(lab, [panda_id])
    ids = due_ids(lab)
    assert moving(lab) == {("NORTH-DISK", "SOUTH-DISK")}
    downtime(lab, "storage", "NORTH-DISK")

    transfers.carry_out(lab.begin, ids, lab.settings)

    [row] = lab.transfers()
    assert (row.status, row.source) == ("done", "WEST-DISK")


def test_nothing_is_brought_to_a_storage_in_downtime(lab):
    lab.put("s:d/a", b"x")
    request(lab, lab.bound_jobs(inputs=["s:d"]) + lab.bound_jobs(queue="WEST-Q", inputs=["s:d"]))
    downtime(lab, "storage", "SOUTH-DISK")

    due_ids(lab)

    assert moving(lab) == {("NORTH-DISK", "WEST-DISK")}


def test_what_most_jobs_wait_for_goes_first(lab):
    lab.put("s:d/early", b"x")
    lab.put("s:d/wanted", b"x")
    request(lab, lab.bound_jobs(1, inputs=["s:d/early"]))
    request(lab, lab.bound_jobs(5, inputs=["s:d/wanted"]))

    early, wanted = (row.transfer_id for row in lab.transfers())
    assert due_ids(lab, 1) == [wanted]
    assert due_ids(lab, 1) == [early]


def test_a_file_comes_from_the_nearest_site_that_has_it(lab):
    lab.put("s:d/a", b"x", "NORTH-DISK")
    file_id = lab.query("SELECT file_id FROM files")[0].file_id
    lab.do(
        "INSERT INTO replicas SELECT file_id, 'WEST-DISK', path, created_at FROM replicas WHERE file_id = %(id)s",
        id=file_id,
    )
    lab.do("INSERT INTO links VALUES ('near', 'WEST', 'SOUTH', 3, 0)")
    request(lab, lab.bound_jobs(inputs=["s:d/a"]))

    due_ids(lab)

    assert moving(lab) == {("WEST-DISK", "SOUTH-DISK")}


def test_of_two_relays_each_transfer_is_given_to_one(lab):
    for lfn in "abcd":
        lab.put(f"s:d/{lfn}", b"x")
    request(lab, lab.bound_jobs(inputs=["s:d"]))

    first, second = due_ids(lab, 2), due_ids(lab, 4)

    assert len(first) == len(second) == 2
    assert not set(first) & set(second)


def listed(lab, text=""):
    with lab.begin() as connection:
        return lists.page(connection, flow.TRANSFERS, read(text, flow.TRANSFERS.fields)).items


def test_transfers_are_listed_with_where_they_go_and_who_waits(lab):
    lab.put("s:d/a", b"abc")
    lab.put("s:d/b", b"abc")
    request(lab, lab.bound_jobs(3, inputs=["s:d/a"]))
    request(lab, lab.bound_jobs(queue="WEST-Q", inputs=["s:d/b"]))
    transfers.carry_out(lab.begin, due_ids(lab, 1), lab.settings)

    [under_way] = listed(lab, "status:queued,moving")
    [done] = listed(lab, "status:done destination:SOUTH-DISK ended:1h")
    assert (under_way.dataset, under_way.lfn, under_way.destination, under_way.n_waiting) == (
        "s:d",
        "b",
        "WEST-DISK",
        1,
    )
    assert (done.lfn, done.source, done.n_waiting, done.tries) == ("a", "NORTH-DISK", 0, 1)
    assert [row.transfer_id for row in listed(lab)] == [under_way.transfer_id, done.transfer_id]


def test_the_ways_between_storages_tell_their_queue_and_their_throughput(lab):
    for lfn in "abc":
        lab.put(f"s:d/{lfn}", b"xyz")
    request(lab, lab.bound_jobs(inputs=["s:d"]))
    transfers.carry_out(lab.begin, due_ids(lab, 1), lab.settings)
    due_ids(lab, 1)

    with lab.begin() as connection:
        found = [tuple(row) for row in flow.links(connection)]

    assert found == [
        (None, "SOUTH-DISK", 1, 0, 0, 0, 0), ("NORTH-DISK", "SOUTH-DISK", 0, 1, 1, 0, 3)
    ]  # fmt: skip
