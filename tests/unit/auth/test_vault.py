"""The vault: what it seals only it opens, and only for whom it was sealed; its keys are for nobody else to read."""

import threading

import pytest

from panda.auth.vault import FILE, Vault, is_sealed
from panda.errors import ConfigError


def test_what_is_sealed_opens_for_its_owner_and_its_name_alone(tmp_path):
    vault = Vault(tmp_path)
    sealed = vault.seal("ann", "grid", "pässwörd")

    assert is_sealed(sealed)
    assert "pässwörd" not in sealed
    assert sealed != vault.seal("ann", "grid", "pässwörd")
    assert vault.open("ann", "grid", sealed) == "pässwörd"
    assert vault.open("bob", "grid", sealed) is None
    assert vault.open("ann", "gri", sealed) is None
    assert vault.open("an", "n:grid", sealed) is None
    assert Vault(tmp_path / "elsewhere").open("ann", "grid", sealed) is None
    assert Vault(tmp_path).open("ann", "grid", sealed) == "pässwörd"


def test_what_was_stored_before_there_was_a_vault_is_read(tmp_path):
    vault = Vault(tmp_path)

    assert (vault.open("ann", "k", "plain"), vault.is_fresh("plain")) == ("plain", False)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-4],
        lambda s: s[:-2] + "==",
        lambda s: s + "AAAA",
        lambda s: s[:20],
        lambda s: s.replace(":", "", 3),
    ],
)
def test_what_was_changed_does_not_open(tmp_path, change):
    vault = Vault(tmp_path)
    sealed = vault.seal("ann", "k", "value")

    assert vault.open("ann", "k", change(sealed)) != "value"


def test_a_new_key_leaves_the_one_before_it_for_what_it_sealed(tmp_path):
    vault, other = Vault(tmp_path), Vault(tmp_path)  # two processes
    first = vault.seal("ann", "k", "one")
    assert other.open("ann", "k", first) == "one"

    vault.renew()
    second = other.seal("ann", "k", "two")

    assert [vault.open("ann", "k", each) for each in (first, second)] == ["one", "two"]
    assert (vault.is_fresh(first), vault.is_fresh(second)) == (False, True)
    vault.renew()
    assert [other.open("ann", "k", each) for each in (first, second)] == [None, "two"]
    assert len((tmp_path / FILE).read_text().split()) == 2
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_processes_that_start_at_once_make_one_key(tmp_path):
    sealed = []
    threads = [threading.Thread(target=lambda: sealed.append(Vault(tmp_path).seal("a", "b", "c"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {Vault(tmp_path).open("a", "b", each) for each in sealed} == {"c"}
    assert len((tmp_path / FILE).read_text().split()) == 1


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ("", 0o600, "is empty"),
        ("nonsense", 0o600, "holds no keys"),
        ("a:c2hvcnQ=", 0o600, "has 5 bytes instead of 32"),
        ("../a:" + "A" * 43 + "=", 0o600, "holds no keys"),
        ("\u00e4", 0o600, "holds no keys"),
        ("a:" + "A" * 43 + "=", 0o640, "can be read by others: chmod 600"),
        ("a:" + "A" * 43 + "=", 0o604, "can be read by others: chmod 600"),
    ],
)
def test_a_file_of_keys_that_is_not_right_is_refused(tmp_path, content, mode, told):
    (tmp_path / FILE).write_text(content, encoding="utf-8")
    (tmp_path / FILE).chmod(mode)

    with pytest.raises(ConfigError, match=told):
        Vault(tmp_path).seal("ann", "k", "v")
    assert (tmp_path / FILE).read_text(encoding="utf-8") == content


def test_a_folder_that_is_none_is_named(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match=r"secrets\.key"):
        Vault(tmp_path / "file").seal("ann", "k", "v")
