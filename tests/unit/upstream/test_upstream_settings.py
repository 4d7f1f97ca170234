"""The switches for upstream's clients."""

import pytest

from panda.errors import ConfigError
from panda.settings import load


def test_it_is_off_until_somebody_switches_it_on():
    settings = load([], {})

    assert not settings.upstream.enabled
    assert not settings.upstream.anonymous


def test_guests_are_let_in_only_by_a_server_that_others_cannot_reach():
    assert load([], {"PANDA_UPSTREAM_ANONYMOUS": "true"}).upstream.anonymous
    with pytest.raises(ConfigError, match="loopback"):
        load([], {"PANDA_UPSTREAM_ANONYMOUS": "true", "PANDA_API_HOST": "0.0.0.0"})
