"""What pilots had too little of, told for each queue."""

import pytest

from panda.db.session import run

COUNTS = """
INSERT INTO dispatch_counts (hour, queue, shape_id, word, n, most, last_at)
SELECT date_trunc('hour', panda_now()) - make_interval(hours => ago), 'HOLLAND-CPU', shape_id, word, n, most, panda_now()
FROM (VALUES (0, 0, 'nothing_fits', 7, 0), (0, 0, 'got', 9, 0), (30, 0, 'got', 100, 0),
    (0, %(shape)s, 'memory_mb', 5, 1500), (1, %(shape)s, 'memory_mb', 1, 1000), (0, %(shape)s, 'tags', 2, 0)
) AS t(ago, shape_id, word, n, most)
"""
SHAPE = """
INSERT INTO shapes (cores, memory_mb, disk_mb, walltime_s, tags) VALUES (1, 8000, 1, 60, ARRAY['avx512'])
RETURNING shape_id
"""


@pytest.fixture
def counted(begin, sites):
    with begin() as connection:
        shape = connection.exec_driver_sql(SHAPE).scalar_one()
        run(connection, COUNTS, {"shape": shape})


@pytest.mark.usefixtures("counted")
def test_a_queue_tells_how_asks_ended_and_what_was_too_little(anna):
    answer = anna.get("/v1/queues/HOLLAND-CPU/mismatches")

    assert answer.status_code == 200
    assert [(each["outcome"], each["n"]) for each in answer.json["asks"]] == [("got", 9), ("nothing_fits", 7)]
    memory, tags = answer.json["mismatches"]
    assert (memory["what"], memory["n"], memory["needed"], memory["most"]) == ("memory_mb", 6, 8000, 1500)
    assert (tags["what"], tags["needed"], tags["tags"]) == ("tags", None, ["avx512"])


def test_a_queue_where_nobody_asked_tells_nothing_and_one_that_there_is_not_is_not_found(anna, sites):
    assert anna.get("/v1/queues/HOLLAND-CPU/mismatches").json == {"queue": "HOLLAND-CPU", "asks": [], "mismatches": []}
    assert anna.get("/v1/queues/NOSUCH/mismatches").status_code == 404
