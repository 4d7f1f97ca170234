"""How figures are written down. No test asserts a time."""

import json

from benchmarks.figures import Figure, percentile, write

FACTS = {
    "date": "2026-11-22T20:00:00+00:00", "cores": 2, "memory_gb": 25.0, "python": "3.11.9", "kernel": "6.8",
    "postgres": "16.14", "versions": {"celery": "5.7.0"},
}  # fmt: skip
B2 = Figure(
    value=2345.6, unit="jobs/s", asked="≥ 2,000 jobs/s", met=True, cpu_ms_per_job=0.51, reference="57 times the chain",
    parts={"api": 0.1, "postgres": 0.3},
)  # fmt: skip
B7 = Figure(value=900.0, unit="MB", asked="≤ 800 MB", met=False)


def test_a_figure_becomes_a_row_beside_what_was_asked_and_a_list_of_its_parts(tmp_path):
    write({"B2": B2}, FACTS, tmp_path / "latest.json", tmp_path / "docs" / "benchmarks.md")

    page = (tmp_path / "docs" / "benchmarks.md").read_text()
    assert (
        "| B2 | 2,346 jobs/s | 0.51 | ≥ 2,000 jobs/s | yes | 57 times the chain | 2026-11-22T20:00:00+00:00 |" in page
    )
    assert "- B2, by part: postgres 0.3, api 0.1" in page
    assert "on 2 cores, 25.0 GB; Python 3.11.9, PostgreSQL 16.14, celery 5.7.0." in page


def test_figures_that_were_not_measured_this_time_keep_what_stood_there(tmp_path):
    data, page = tmp_path / "latest.json", tmp_path / "benchmarks.md"
    write({"B7": B7}, FACTS, data, page)

    write({"B2": B2}, FACTS, data, page)

    assert list(json.loads(data.read_text())) == ["B2", "B7", "machine"]
    assert "| B7 | 900 MB |  | ≤ 800 MB | no |  | 2026-11-22T20:00:00+00:00 |" in page.read_text()


def test_a_percentile_is_one_of_the_values():
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([1.0], 99) == 1.0
