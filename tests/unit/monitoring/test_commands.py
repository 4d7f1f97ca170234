import pytest

from monitoring.show.commands import page_of


@pytest.mark.parametrize(
    ("line", "page"),
    [
        ("panda jobs", "/jobs"),
        ("panda jobs 'status:failed queue:NORTH*' --limit 5", "/jobs?q=status%3Afailed+queue%3ANORTH%2A"),
        ("panda why 4711", "/jobs/4711"),
        ("panda logs 4711 -f", "/jobs/4711"),
        ("panda status set:12", "/jobsets/12"),
        ("panda status", "/jobsets"),
        ("panda retry 4711 --stage broker", "/jobs/4711/retry"),
        ("panda cancel set:12", "/jobsets/12/cancel"),
        ("panda hold 'owner:anna'", "/jobs/bulk/hold?q=owner%3Aanna"),
        ("panda hold 4711", "/jobs/4711/hold"),
        ("panda priority 4711 --to 5", "/jobs/4711/priority"),
        ("panda hold set:12", "/jobs/bulk/hold?q=jobset%3A12"),
        ("panda queues", "/queues"),
        ("panda datasets user.me:input", "/datasets/user.me:input"),
        ("panda token list", "/tokens"),
        ("panda errors", "/errors"),
        ("panda errors 'set:9120'", "/errors"),
        ("panda nodes", "/pilots"),
        ("panda nodes wn-1", "/pilots"),
        ("panda storages", "/transfers"),
        ("panda actions 12 --wait", "/jobs/actions/12"),
        ("panda pause dispatch", "/admin/switches/pause?what=dispatch"),
        ("panda pause brokerage --site NORTH --reason x", "/admin/switches/pause?what=brokerage&place=site%3ANORTH"),
        ("panda pause dispatch --queue=N-Q --node wn/1", "/nodes/N-Q/wn%2F1/pause"),
        ("panda resume dispatch --queue N-Q", "/admin/switches/resume?what=dispatch&queue=N-Q"),
        ("panda pause lunch", None),
        ("panda", None),
        ("panda jobs 'status:", None),
        ("panda jobs status", None),
        ("panda retry 'no:field'", None),
        ("panda frobnicate 7", None),
        ("rm -rf /", None),
    ],
)  # fmt: skip
def test_a_command_leads_to_the_page_that_shows_the_same(line, page):
    assert page_of(line) == page
