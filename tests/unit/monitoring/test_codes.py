"""Codes in words: exit codes of payloads mean what the shell and signals mean by them."""

import signal

import pytest

from monitoring.show.codes import advice, meaning


@pytest.mark.parametrize("number", [1, 2, 126, 127, 130, 134, 137, 139, 143, 152])
def test_common_exit_codes_have_a_meaning_and_advice(number):
    assert f"exit code {number}" in meaning(f"payload:{number}") or f"128 + {number - 128}" in meaning(
        f"payload:{number}"
    )
    assert advice(f"payload:{number}")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT", "SIGABRT", "SIGBUS", "SIGKILL", "SIGSEGV", "SIGTERM", "SIGXCPU"])
def test_above_128_is_the_signal_of_that_number(name):
    assert name in meaning(f"payload:{128 + signal.Signals[name]}")


def test_any_other_exit_code_is_the_payloads_own():
    assert meaning("payload:77") == "The payload ended with this exit code"
    assert advice("payload:77") == "It is the payload's own: read its log."
