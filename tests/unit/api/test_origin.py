"""Who a caller is behind proxies, and who only says so."""

import pytest

from panda.api.origin import Origin, networks, origin
from panda.errors import ConfigError

OURS = networks("10.0.0.1, 192.168.0.0/24")


def asked(peer, trusted=OURS, **headers):
    return origin(
        {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"} | {f"HTTP_{k}": v for k, v in headers.items()}, trusted
    )


def test_without_proxies_it_is_the_peer():
    assert asked("203.0.113.9") == Origin("203.0.113.9", "http")


def test_a_proxy_of_ours_tells_the_caller_and_the_scheme():
    told = asked("10.0.0.1", X_FORWARDED_FOR="203.0.113.9, 192.168.0.7", X_FORWARDED_PROTO="https")

    assert told == Origin("203.0.113.9", "https")


def test_what_a_caller_puts_before_our_proxies_words_counts_for_nothing():
    told = asked("10.0.0.1", X_FORWARDED_FOR="127.0.0.1, 203.0.113.9")

    assert told.address == "203.0.113.9"


def test_a_strangers_headers_are_not_believed():
    told = asked("203.0.113.9", X_FORWARDED_FOR="127.0.0.1", X_FORWARDED_PROTO="https")

    assert (told.scheme, told.is_this_machine) == ("http", False)


def test_a_proxy_on_this_machine_that_nobody_told_us_of_does_not_make_its_callers_local():
    assert asked("127.0.0.1", ()).is_this_machine
    assert not asked("127.0.0.1", (), X_FORWARDED_FOR="203.0.113.9").is_this_machine
    assert not asked("127.0.0.1", networks("127.0.0.1"), X_FORWARDED_FOR="203.0.113.9").is_this_machine


def test_nonsense_is_refused_when_the_process_starts():
    with pytest.raises(ConfigError, match="trusted_proxies"):
        networks("10.0.0.0/99")
