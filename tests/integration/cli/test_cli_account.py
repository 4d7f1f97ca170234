"""Logging in, settings, pages and the look at one job: through the command line, at a server that does as it is told."""

import json
import os
from pathlib import Path

import pytest
from cli_scripted import Panda, Reply, Scripted

ME = {"subject": "ann", "roles": ["user"], "queue": None}


@pytest.fixture
def nobody(script: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    """A server that knows me by the token `secret`; the environment says nothing."""
    for name in ("PANDA_URL", "PANDA_TOKEN", "PANDA_TOKEN_FILE", "PANDA_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    script.on("GET", "/v1/whoami", ME)
    return script


def folder(tmp_path: Path) -> Path:
    return tmp_path / "config" / "panda"


def test_a_login_is_tried_kept_used_and_forgotten(nobody: Scripted, panda: Panda, tmp_path: Path) -> None:
    logged_in = panda("login", nobody.url, "--as", "lab", "--with-token", stdin="secret\n")
    who = panda("whoami", "-q")
    origins = panda("config", "list", "--origin", "-o", "json").json
    out = panda("logout")
    after = panda("whoami", "-q")

    assert (logged_in.code, who.out) == (0, "ann\n")
    assert "secret" not in logged_in.err + logged_in.out + json.dumps(origins)
    assert {each["name"]: each["origin"] for each in origins} == {
        "profile": str(folder(tmp_path) / "config.toml"),
        "url": f"{folder(tmp_path) / 'config.toml'} [profiles.lab]",
        "token": str(folder(tmp_path) / "credentials.toml"),
        **dict.fromkeys(("token_file", "ca", "timeout", "output"), "built in"),
    }
    assert (folder(tmp_path) / "credentials.toml").stat().st_mode & 0o777 == 0o600
    assert f"logged out of {nobody.url}" in out.err
    assert after.code == 0
    assert [each.headers.get("Authorization") for each in nobody.received] == ["Bearer secret"] * 2 + [None]


@pytest.mark.parametrize(
    ("reply", "stdin", "code"),
    [
        (Reply(401, {"code": "unauthenticated", "detail": "no"}), "secret", 4),
        (Reply(503, {"detail": "later"}, {"Retry-After": "0"}), "secret", 7),
        (Reply(200, b"<html>"), "secret", 1),
        (ME, "", 2),
        (ME, "two words", 2),
        (ME, "se\ncret", 2),
        (ME, "s\u00e9cret", 2),
    ],
)
def test_a_login_that_fails_keeps_nothing(
    nobody: Scripted,
    panda: Panda,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reply: object,
    stdin: str,
    code: int,
) -> None:
    monkeypatch.setattr("panda.client.calls.pause_s", lambda *_: 0.0)
    nobody.on("GET", "/v1/whoami", reply)

    ended = panda("login", nobody.url, "--as", "lab", "--with-token", stdin=stdin)

    assert ended.code == code, ended.err
    assert not folder(tmp_path).exists()


def test_without_a_terminal_a_token_comes_by_stdin(nobody: Scripted, panda: Panda) -> None:
    ended = panda("login", nobody.url)

    assert (ended.code, "--with-token" in ended.err) == (2, True)


def test_settings_are_written_and_go(nobody: Scripted, panda: Panda, tmp_path: Path) -> None:
    assert panda("config", "path").out == f"{folder(tmp_path) / 'config.toml'}\n"
    assert panda("config", "set", "profiles.lab.url", nobody.url).code == 0
    assert panda("config", "set", "output", "json").code == 0
    assert panda("--profile", "lab", "whoami").json["subject"] == "ann"
    assert panda("--profile", "lab", "config", "get", "url").out == f"{nobody.url}\n"
    assert panda("config", "set", "profile", "lab").code == 0
    assert panda("whoami").json["subject"] == "ann"
    assert panda("config", "set", "output", "").code == 0
    assert panda("whoami").out == "ann\tuser\n"
    assert (folder(tmp_path) / "config.toml").read_text() == f'profile = "lab"\n[profiles.lab]\nurl = "{nobody.url}"\n'


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("config", "set", "utl", "x"), 2),
        (("config", "set", "profiles.lab.profile", "x"), 2),
        (("config", "set", "profiles.l b.url", "x"), 2),
        (("config", "set", "timeout", "soon"), 2),
        (("config", "set", "url", "a\nb"), 2),
        (("config", "get", "token"), 2),
        (("--profile", "none", "whoami"), 6),
        (("config", "set", "profile", "none"), 0),  # it may be written down later; who uses it is told
    ],
)
def test_a_setting_that_is_none_is_refused(nobody: Scripted, panda: Panda, words: tuple[str, ...], code: int) -> None:
    assert panda(*words).code == code


def test_a_file_that_is_broken_is_not_written_over(nobody: Scripted, panda: Panda, tmp_path: Path) -> None:
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "config.toml").write_text("url = \n")

    ended = panda("config", "set", "output", "json")

    assert ended.code == 6
    assert (folder(tmp_path) / "config.toml").read_text() == "url = \n"
    assert os.listdir(folder(tmp_path)) == ["config.toml"]


def test_the_output_of_a_file_that_is_none_is_refused(nobody: Scripted, panda: Panda) -> None:
    panda("config", "set", "output", "prose")

    ended = panda("whoami")

    assert (ended.code, "'prose' is not one of" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("selector", "path"),
    [
        ((), "/"), (("7",), "/jobs/7"), (("set:9",), "/jobsets/9"), (("status:failed site:A*",), "/jobs?q=status%3Afailed+site%3AA%2A"),
        (("7-8",), "/jobs?q=panda_id%3A7%2C8"),
    ],
)  # fmt: skip
def test_pages_have_addresses(at_script: Scripted, panda: Panda, selector: tuple[str, ...], path: str) -> None:
    at_script.on("GET", "/", {"links": {"monitor": "https://panda.example.org/"}})

    assert panda("web", *selector).out == f"https://panda.example.org{path}\n"


@pytest.mark.parametrize("monitor", [None, "javascript:alert(1)", 7])
def test_a_page_that_is_none_is_not_opened(
    at_script: Scripted, panda: Panda, monkeypatch: pytest.MonkeyPatch, monitor: object
) -> None:
    monkeypatch.setattr("click.launch", lambda _: pytest.fail("opened"))
    at_script.on("GET", "/", {"links": {"monitor": monitor}})

    ended = panda("web", "--open")

    assert (ended.code, ended.out) == (3, "")


@pytest.mark.parametrize(
    ("words", "out", "code"),
    [
        (("--query", "[?status=='failed'].panda_id"), "[8]\n", 0),
        (("--query", "[0].name"), "first\n", 0),
        (("--query", "length(@)"), "2\n", 0),
        (("--jq", ".[] | .name"), "first\nsecond\n", 0),
        (("--jq", ".[0]", "--fields", "panda_id"), '{"panda_id": 7}\n', 0),
        (("--query", "[?"), "", 2),
        (("--query", "nofunction(@)"), "", 2),
        (("--query", "length(`5`)"), "", 2),
        (("--jq", ".["), "", 2),
        (("--jq", ".[0].name.x"), "", 2),
        (("--jq", ".", "--query", "@"), "", 2),
        (("--jq", ".", "-q"), "", 2),
    ],
)
def test_a_part_of_an_answer_is_picked(
    at_script: Scripted, panda: Panda, words: tuple[str, ...], out: str, code: int
) -> None:
    jobs = [
        {"panda_id": 7, "status": "finished", "name": "first"},
        {"panda_id": 8, "status": "failed", "name": "second"},
    ]
    at_script.on("GET", "/v1/jobs", {"data": jobs, "page": {"next": None}})

    ended = panda("jobs", *words)

    assert (ended.code, ended.out) == (code, out), ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("option", "package"), [("--query", "jmespath"), ("--jq", "jq")])
def test_what_reads_an_expression_may_be_missing(
    at_script: Scripted, panda: Panda, monkeypatch: pytest.MonkeyPatch, option: str, package: str
) -> None:
    at_script.on("GET", "/v1/jobs", {"data": [], "page": {"next": None}})
    monkeypatch.setitem(__import__("sys").modules, package, None)

    ended = panda("jobs", option, "x")

    assert (ended.code, f"wants the package {package}" in ended.err) == (1, True)


@pytest.mark.parametrize("user_made", [True, False])
def test_a_token_tells_of_a_user_that_was_made_with_it(at_script: Scripted, panda: Panda, user_made: bool) -> None:
    made = {"token": "panda_x", "owner": "nosuchuser", "roles": ["user"], "user_made": user_made}
    at_script.on("POST", "/v1/tokens", Reply(201, made))

    ended = panda("token", "create", "nosuchuser", "--role", "user", "-q")

    assert (ended.code, ended.out) == (0, "panda_x\n")
    assert ("user nosuchuser was made" in ended.err) == user_made
