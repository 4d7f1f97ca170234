"""Where settings of the client come from, which one is stronger, and what is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from panda.cli.settingsfile import with_setting
from panda.client import Client, Invalid
from panda.client import configuration as places
from panda.client.configuration import Configuration, user_file
from panda.client.credentials import credentials_file, forget, keep, kept, server_of
from panda.client.environment import DEFAULT_URL, surroundings, token_from, url_from

USER = """
profile = "lab"
output = "csv"
[profiles.lab]
url = "https://lab.example.org"
timeout = 7
[profiles.home]
url = "http://127.0.0.1:4711"
output = "json"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a home of its own; the current folder is empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(places, "SYSTEM_FILE", tmp_path / "etc.toml")
    return {"HOME": str(tmp_path)}


@pytest.fixture
def written(home: dict[str, str], tmp_path: Path) -> Callable[..., None]:
    """Write the files of settings."""

    def write(user: str = "", system: str = "", local: str = "") -> None:
        user_file(home).parent.mkdir(parents=True, exist_ok=True)
        for path, text in ((user_file(home), user), (tmp_path / "etc.toml", system), (Path(".panda.toml"), local)):
            if text:
                path.write_text(text)

    return write


def test_a_stronger_place_wins_and_each_is_told(
    home: dict[str, str], written: Callable[..., None], tmp_path: Path
) -> None:
    written(
        USER, system='ca = "/etc/ca.pem"\noutput = "plain"\nurl = "https://old.example.org"', local='output = "name"'
    )

    config = Configuration(home | {"PANDA_TIMEOUT": "9"})

    file = str(user_file(home))
    assert config.get("profile") == ("lab", file)
    assert config.get("url") == ("https://lab.example.org", f"{file} [profiles.lab]")
    assert config.get("output") == ("name", ".panda.toml")
    assert config.get("timeout") == ("9", "PANDA_TIMEOUT")
    assert config.get("ca") == ("/etc/ca.pem", str(tmp_path / "etc.toml"))
    assert config.get("token_file") == ("", "built in")
    assert config.profiles() == ["home", "lab"]


def test_a_profile_is_chosen_by_file_folder_environment_and_flag(
    home: dict[str, str], written: Callable[..., None]
) -> None:
    written(USER)
    assert url_from(home) == "https://lab.example.org"
    assert url_from(home | {"PANDA_PROFILE": "home"}) == "http://127.0.0.1:4711"
    assert url_from(home | {"PANDA_URL": "http://x:1"}) == "http://x:1"
    written(USER, local='profile = "home"')
    assert url_from(home) == "http://127.0.0.1:4711"
    # What a call names is stronger than the environment.
    assert surroundings(home | {"PANDA_URL": "http://x:1"}, profile="lab").url.value == "https://lab.example.org"
    assert surroundings(home, url="http://y:1", profile="lab").url == ("http://y:1", "--url")


BAD_FILES = {
    "no TOML": ("user", "url = ", "is no TOML"),
    "no text": ("user", 'url = "\udcff"', "is no TOML"),
    "a word that there is not": ("user", 'utl = "http://x"', "there is no such setting; did you mean 'url'"),
    "a wrong type": ("user", "url = 4", "4 is not a text"),
    "a number as text": ("user", 'timeout = "4"', "is not a number"),
    "yes and no": ("user", "timeout = true", "is not a number"),
    "a token": ("user", 'token = "panda_x"', "a token does not belong here"),
    "a token of a profile": ("user", '[profiles.lab]\ntoken = "panda_x"', "a token does not belong here"),
    "profiles that are none": ("user", "profiles = 3", "write [profiles.NAME]"),
    "a profile that is none": ("user", "[profiles]\nlab = 3", "write [profiles.NAME]"),
    "a profile of a profile": ("user", '[profiles.lab]\nprofile = "x"', "cannot be set in this file"),
    "a profile that there is not": (
        "user",
        'profile = "lba"\n[profiles.lab]',
        "there is no profile 'lba'; there are: lab",
    ),
    "a stranger's server": ("local", 'url = "http://evil"', "cannot be set in this file"),
    "a stranger's roots": ("local", 'ca = "evil.pem"', "cannot be set in this file"),
    "a stranger's file": ("local", 'token_file = "/etc/passwd"', "cannot be set in this file"),
    "a stranger's profile": ("local", '[profiles.x]\nurl = "http://evil"', "there is no such setting"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_a_file_cannot_mean_is_refused(home: dict[str, str], case: str) -> None:
    which, text, told = BAD_FILES[case]
    path = user_file(home) if which == "user" else Path(".panda.toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))

    with pytest.raises(Invalid) as refused:
        Client.from_env(home)

    assert told in refused.value.message
    assert str(path) in refused.value.message
    assert refused.value.code in ("config", "no_such_profile")


def test_a_file_that_cannot_be_read_is_named(home: dict[str, str]) -> None:
    user_file(home).mkdir(parents=True)

    with pytest.raises(Invalid, match=r"config\.toml: Is a directory"):
        url_from(home)


def test_a_token_that_is_kept_goes_to_its_server_alone(home: dict[str, str]) -> None:
    keep(home, "https://Lab.example.org", {"token": 'a"b\\c', "token_id": 7})
    keep(home, "http://other:1", {"token": "second"})

    assert token_from(home, "https://lab.example.org:443/") == 'a"b\\c'
    assert kept(home, "https://lab.example.org")["token_id"] == 7
    assert token_from(home, "http://lab.example.org") == ""
    assert token_from(home, "https://lab.example.org.evil.org") == ""
    assert token_from(home, "https://lab.example.org/prefix") == ""
    assert token_from(home | {"PANDA_TOKEN": "said"}, "http://other:1") == "said"
    assert credentials_file(home).stat().st_mode & 0o777 == 0o600
    assert (forget(home, "http://other:1"), forget(home, "http://other:1")) == (True, False)
    assert token_from(home, "http://other:1") == ""
    assert [path.name for path in credentials_file(home).parent.iterdir()] == ["credentials.toml"]


def test_the_token_of_a_profile_that_is_named_goes_before_that_of_the_environment(
    home: dict[str, str], written: Callable[..., None]
) -> None:
    written(USER)
    keep(home, "https://lab.example.org", {"token": "of the lab"})
    environ = home | {"PANDA_TOKEN": "of the shell"}

    assert surroundings(environ).token.value == "of the shell"
    assert surroundings(environ, profile="lab").token.value == "of the lab"
    assert surroundings(environ, profile="home").token.value == "of the shell"


@pytest.mark.parametrize(
    ("text", "mode", "told"),
    [
        ('["http://x:80"]\ntoken = "t"', 0o644, "can be read by others: chmod 600"),
        ('["http://x:80"]\nname = "t"', 0o600, "holds no token"),
        ('"http://x:80" = "t"', 0o600, "holds no token"),
        ("[", 0o600, "is no TOML"),
    ],
)
def test_credentials_that_cannot_be_meant_are_refused(home: dict[str, str], text: str, mode: int, told: str) -> None:
    path = credentials_file(home)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(mode)

    with pytest.raises(Invalid, match=told):
        token_from(home, "http://x")


def test_a_folder_that_came_from_somewhere_sends_nobody_to_another_machine(home: dict[str, str]) -> None:
    (Path("data") / "run").mkdir(parents=True)
    (Path("data") / "run" / "supervisor.json").write_text('{"api": "http://evil.example.org:80"}')

    assert url_from(home) == DEFAULT_URL


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("https://A.b", "https://a.b:443"), ("http://a.b/", "http://a.b:80"), ("http://a.b:8/x/", "http://a.b:8/x"),
        ("nonsense", "://:0nonsense"), ("http://a:99999", "http://a:0"),
    ],
)  # fmt: skip
def test_servers_are_told_apart(url: str, server: str) -> None:
    assert server_of(url) == server


@pytest.mark.parametrize(
    ("text", "table", "value", "then"),
    [
        ("", "", '"x"', 'url = "x"\n'),
        ("", "[profiles.a]", '"x"', '[profiles.a]\nurl = "x"\n'),
        ("# mine\nurl = 1 # old\n\n[profiles.a]\n", "", '"x"', '# mine\nurl = "x"\n\n[profiles.a]\n'),
        ("output = 1\n\n[profiles.a]\n", "", '"x"', 'output = 1\nurl = "x"\n\n[profiles.a]\n'),
        ("[profiles.a]\nurl = 1\n[profiles.b]\nurl = 2\n", "[profiles.b]", '"x"', '[profiles.a]\nurl = 1\n[profiles.b]\nurl = "x"\n'),
        ("[profiles.a]\n\n[profiles.b]\n", "[profiles.a]", '"x"', '[profiles.a]\nurl = "x"\n\n[profiles.b]\n'),
        ("url = 1\noutput = 2\n", "", "", "output = 2\n"),
        ("output = 2\n", "[profiles.a]", "", "output = 2\n"),
        ("url = 1\n", "", "", ""),
    ],
)  # fmt: skip
def test_one_line_of_a_file_is_changed(text: str, table: str, value: str, then: str) -> None:
    assert with_setting(text, table, "url", value) == then
