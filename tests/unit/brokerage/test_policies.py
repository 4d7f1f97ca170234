"""Policies: which criteria, in which order, for whom; and what a file may not say."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from panda.brokerage import policies
from panda.brokerage.criteria import ORDER
from panda.errors import ConfigError, Invalid, PandaError, UnknownName
from panda.settings import Brokerage, Settings, Store
from tests.unit.brokerage.subjects import wishes

CONFIG = Path(__file__).parents[3] / "config"


def names(policy):
    return [criterion.name for criterion in policy.criteria]


def of_text(tmp_path, text):
    file = tmp_path / "brokerage.toml"
    file.write_text(text)
    return policies.load_file(file)


def test_the_shipped_file_says_what_holds_without_one():
    shipped, built_in = policies.load_file(CONFIG / "brokerage.toml"), policies.built_in()

    assert [(p.name, names(p), p.exponents, p.kinds, p.working_groups) for p in shipped.all] == [
        (p.name, names(p), p.exponents, p.kinds, p.working_groups) for p in built_in.all
    ]
    assert names(built_in.all[0]) == list(ORDER)


def test_the_example_of_the_documentation_can_be_meant(tmp_path):
    page = (CONFIG.parent / "docs/explanation/brokerage.md").read_text()
    [text] = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)

    assert [policy.name for policy in of_text(tmp_path, text).all] == ["reprocessing", "analysis"]


def test_a_job_set_is_brokered_by_its_working_group_or_kind(tmp_path):
    known = of_text(
        tmp_path,
        '[policies.rest]\n[policies.prod]\nkinds=["production"]\n[policies.higgs]\nworking_groups=["higgs-*"]\n',
    )

    assert known.of(wishes()).name == "rest"
    assert known.of(wishes(kind="production")).name == "prod"
    assert known.of(wishes(kind="production", working_group="higgs-4")).name == "prod"  # the first one that fits
    assert known.of(wishes(working_group="higgs-4")).name == "higgs"
    assert known.of(wishes(kind="unheard-of")).name == "rest"
    assert policies.built_in().of(wishes(kind="production")).exponents == {"locality": 0.5}


def test_a_policy_orders_its_criteria_leaves_some_out_and_gives_them_options(tmp_path):
    known = of_text(
        tmp_path,
        '[policies.all]\ncriteria=["resources", "status", "occupancy"]\nwithout=["status"]\n'
        "weights={locality=0, backlog=2.5}\n[policies.all.occupancy]\nper_running=3\nat_least=10\n",
    )

    [policy] = known.all
    assert names(policy) == ["resources", "occupancy"]
    assert policy.exponents == {"locality": 0.0, "backlog": 2.5}
    assert policy.criteria[1]._per_running == 3


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("[policies", ConfigError, "brokerage.toml"),
        ("[policy.a]", UnknownName, "did you mean 'policies'?"),
        ("", ConfigError, "got none"),
        ("policies = 3", ConfigError, "wants tables"),
        ("[policies]\na = 3", ConfigError, "[policies.a] wants a table"),
        ('[policies."a/b"]', Invalid, "is no name"),
        ("[policies.a]\n[policies.b]", ConfigError, "got a, b"),
        ('[policies.a]\nkinds=["x"]', ConfigError, "got none"),
        ('[policies.a]\nkinds="x"', ConfigError, "kinds wants a list of words"),
        ("[policies.a]\nworking_groups=[1]", ConfigError, "working_groups wants a list of words"),
        ('[policies.a]\ncriteria=["statsu"]', UnknownName, "did you mean 'status'?"),
        ('[policies.a]\ncriteria=["status", "status"]', ConfigError, "names one twice"),
        ('[policies.a]\nwithout=["statu"]', UnknownName, "did you mean 'status'?"),
        ("[policies.a]\ncriterai=[]", UnknownName, "did you mean 'criteria'?"),
        ('[policies.a]\nwithout=["occupancy"]\n[policies.a.occupancy]\nat_least=3', UnknownName, "setting 'occupancy'"),
        ("[policies.a]\nstatus=3", ConfigError, "status wants a table of its options"),
        ("[policies.a.status]\nat_least=3", ConfigError, "takes no arguments"),
        ("[policies.a.occupancy]\nper_running='x'", ConfigError, "per_running is a number"),
        ("[policies.a.occupancy]\nper_runing=2", ConfigError, "per_runing"),
        ("[policies.a]\nweights=3", ConfigError, "weights wants a table"),
        ("[policies.a.weights]\nlocalty=3", UnknownName, "did you mean 'locality'?"),
        ("[policies.a.weights]\nlocality='x'", ConfigError, "locality is a number from 0 to 10"),
        ("[policies.a.weights]\nlocality=11", ConfigError, "locality is a number from 0 to 10"),
        ("[policies.a.weights]\nlocality=nan", ConfigError, "locality is a number from 0 to 10"),
        ("[policies.a.weights]\nlocality=true", ConfigError, "locality is a number from 0 to 10"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_its_place(tmp_path, text, kind, words):
    with pytest.raises(kind) as caught:
        of_text(tmp_path, text)

    assert words in str(caught.value)


def test_a_file_in_the_data_folder_counts_and_so_does_its_change(tmp_path):
    settings = Settings(store=Store(data_dir=str(tmp_path)))
    file = tmp_path / "brokerage.toml"
    assert [policy.name for policy in policies.current(settings).all] == ["production", "analysis"]

    file.write_text("[policies.mine]\n")
    assert [policy.name for policy in policies.current(settings).all] == ["mine"]
    assert policies.current(settings) is policies.current(settings)

    file.write_text("[policies.mine]\nwithout = 3\n")
    with pytest.raises(PandaError):
        policies.current(settings)

    file.write_text("[policies.yours]\n")
    os.utime(file, ns=(1, 1))
    assert [policy.name for policy in policies.current(settings).all] == ["yours"]


def test_a_file_that_is_named_must_be_there(tmp_path):
    settings = replace(Settings(), brokerage=Brokerage(policies=str(tmp_path / "nowhere.toml")))

    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        policies.current(settings)
