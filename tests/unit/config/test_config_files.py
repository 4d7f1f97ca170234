"""The files in config/ say what they claim to say."""

import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from panda.jobs import shares
from panda.jobs.share_tree import DEFAULT
from panda.local.shipped import shipped
from panda.settings import Settings, load
from panda.sites import siteinfo

CONFIG = Path(__file__).parents[3] / "config"


def test_default_toml_has_every_setting_with_its_default():
    assert tomllib.loads((CONFIG / "default.toml").read_text()) == asdict(Settings())


@pytest.mark.parametrize("name", ["default.toml", "development.toml", "production.example.toml"])
def test_a_settings_file_can_be_loaded(name):
    assert isinstance(load([CONFIG / name], {}), Settings)


def test_the_shipped_sites_are_two_that_run_on_one_machine():
    config = siteinfo.load_file(shipped("config/sites.toml"))

    assert shipped("config/sites.toml") == CONFIG / "sites.toml"
    assert [queue.name for queue in config.queues] == ["NORTH-Q", "SOUTH-Q"]


def test_the_shipped_shares_are_one_that_has_everything():
    assert [share.name for share in shares.load_file(shipped("config/shares.toml"))] == [DEFAULT]
