"""From a job-set file to the request."""

from math import prod
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from panda.cli.checking import checked
from panda.cli.documents import parse_yaml
from panda.cli.jobsetfile import draft
from panda.cli.problems import FileProblem
from panda.cli.variables import filled

WHOLE = """
apiVersion: panda/v1
name: skim-v7
defaults: {cores: 4, memory: 16GB, disk: 1GiB, walltime: 6h, max_attempts: 3, env: {OMP_NUM_THREADS: 4, FLAG: true}}
inputs:  {AOD: {dataset: "mc26:mc26.118204.reco", match: "*.root", files_per_job: 3}}
outputs: {SKIM: {dataset: "user.ann:skim.v7", file: "_${seq:06d}.root"}}
matrix:  {syst: [nominal, up, down], seed: {range: [1, 100]}}
upload:  [skim.py, "conf/*.json"]
command: [python, skim.py, --in, "${AOD.files}", --syst, "${syst}", --seed, "${seed}", --out, "${SKIM.file}"]
brokerage: {sites: ["GOOD-*", "!MERIDIAN-*"], prefer: GOOD-1, requirements: queue.corepower > 8}
depends_on: [set: 9120, "set:9121", 9122]
on_parent_failure: hold
"""


def test_the_whole_example_becomes_one_request() -> None:
    made = draft(parse_yaml(WHOLE))

    assert made.request == {
        "name": "skim-v7",
        "defaults": {
            "cores": 4,
            "memory_mb": 16_000,
            "disk_mb": 1_074,
            "walltime_s": 21_600,
            "max_attempts": 3,
            "env": {"OMP_NUM_THREADS": "4", "FLAG": "true"},
        },
        "template": {
            "command": [
                "python", "skim.py", "--in", "${AOD.files}", "--syst", "${syst}", "--seed", "${seed}",
                "--out", "SKIM_${seq:06d}.root",
            ],
            "matrix": {"syst": ["nominal", "up", "down"], "seed": {"range": [1, 100]}},
            "inputs": {"AOD": {"dataset": "mc26:mc26.118204.reco", "match": "*.root", "files_per_job": 3}},
            "outputs": ["SKIM_${seq:06d}.root"],
        },
        "output_dataset": "user.ann:skim.v7",
        "on_parent_failure": "hold",
        "brokerage": {
            "sites": ["GOOD-*"],
            "exclude": ["MERIDIAN-*"],
            "prefer": ["GOOD-1"],
            "requirements": "queue.corepower > 8",
        },
        "depends_on": [9120, 9121, 9122],
    }  # fmt: skip
    assert made.upload == ("skim.py", "conf/*.json")


def test_a_sandbox_joins_the_defaults() -> None:
    request = draft({"name": "a", "command": ["x"], "defaults": {"cores": 2}}).with_sandbox("0" * 64)

    assert request["defaults"] == {"cores": 2, "sandbox": "0" * 64}


def test_jobs_that_are_spelt_out_keep_their_own_values() -> None:
    document = {
        "name": "two",
        "jobs": [
            {"command": ["a", 1, 2.5, True], "memory": "2GB"},
            {"command": ["b"], "inputs": ["mc:x/f"], "outputs": ["o"], "env": {"N": 1}},
        ],
    }

    assert draft(document).request["jobs"] == [
        {"command": ["a", "1", "2.5", "true"], "memory_mb": 2000},
        {"command": ["b"], "inputs": ["mc:x/f"], "outputs": ["o"], "env": {"N": "1"}},
    ]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("%IN", "${IN.files}"),
        ("--in=%IN", "--in=${IN.files}"),
        ("%OUT", "OUT_${seq:06d}"),
        ("${OUT.file}", "OUT_${seq:06d}"),
        ("%SEQ", "${seq}"),
        ("100%INPUT", "100%INPUT"),
        ("%%IN", "%%IN"),
        ("%INDEX", "%INDEX"),
    ],
)
def test_the_old_names_stand_for_inputs_outputs_and_numbers(command: str, expected: str) -> None:
    document = {"name": "a", "inputs": {"IN": "mc:x"}, "outputs": {"OUT": {}}, "command": [command]}

    assert draft(document).request["template"]["command"] == [expected]


def test_the_old_name_means_the_only_input_whatever_it_is_called() -> None:
    document = {"name": "a", "inputs": {"AOD": "mc:x"}, "command": ["%IN"]}

    assert draft(document).request["template"]["command"] == ["${AOD.files}"]


SMALL: dict[str, Any] = {"name": "a", "command": ["x"]}


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        ({"comand": 1}, "comand", "did you mean 'command'"),
        ({"cores": 4}, "cores", "belongs under defaults"),
        ({"defaults": {"memory_mb": 5}}, "defaults.memory_mb", "did you mean 'memory'"),
        ({"defaults": {"memory": 16}}, "defaults.memory", "16GB"),
        ({"defaults": {"walltime": "6"}}, "defaults.walltime", "6h"),
        ({"defaults": {"cores": "four"}}, "defaults.cores", "Expected `int"),
        ({"defaults": []}, "defaults", "wants names"),
        ({"apiVersion": "panda/v2"}, "apiVersion", "this is panda/v1"),
        ({"command": "python x.py"}, "command", "bash"),
        ({"command": [["x"]]}, "command[0]", "one word"),
        ({"command": ["${nobody}"]}, "template.command[0]", "unknown placeholder"),
        ({"command": ["%IN"]}, "command[0]", "stands for no input"),
        ({"matrix": {"x": 5}}, "matrix.x", "wants a list"),
        ({"matrix": {"exclude": []}}, "matrix.exclude", "not known yet"),
        ({"matrix": {"x": []}}, "template.matrix.x", "no values"),
        ({"inputs": {"A": {}}}, "inputs.A", "no dataset"),
        ({"inputs": {"A": {"dataset": "noscope"}}}, "template.inputs.A.dataset", "write scope:name"),
        ({"outputs": {"A": {"dataset": "a:b"}, "B": {"dataset": "a:c"}}}, "outputs", "more than one dataset"),
        ({"outputs": ["fixed"], "count": 2}, "template.outputs[0]", "add ${seq}"),
        ({"output_dataset": "x:y", "outputs": {"A": {"dataset": "x:y"}}}, "output_dataset", "cannot both"),
        ({"jobs": []}, "command", "cannot both"),
        ({"depends_on": ["calib-v3"]}, "depends_on", "its number"),
        ({"depends_on": [True]}, "depends_on", "its number"),
        ({"brokerage": {"rank": "data"}}, "brokerage.rank", "known are"),
        ({"brokerage": {"prefer": {"a": 1}}}, "brokerage.prefer", "wants a list"),
        ({"name": "no/slash"}, "name", "is no name"),
        ({"count": 0}, "template.count", ">= 1"),
        ({"upload": ["x"], "defaults": {"sandbox": "0" * 64}}, "upload", "cannot both"),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(change: dict[str, Any], where: str, says: str) -> None:
    with pytest.raises(FileProblem) as refused:
        checked(draft({**SMALL, **change}).request)

    told = f"{refused.value.message} ({refused.value.hint})"
    assert told.startswith(where)
    assert says in told


@pytest.mark.parametrize("missing", ["name", "command"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(FileProblem, match=f"{missing}: is missing"):
        draft({key: value for key, value in SMALL.items() if key != missing})


axes = st.dictionaries(
    st.sampled_from(["syst", "seed", "year", "run"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=5)
    | st.integers(-5, 5).flatmap(lambda first: st.integers(0, 6).map(lambda n: {"range": [first, first + n]})),
    max_size=4,
)


@given(axes, st.integers(1, 7))
def test_the_number_of_jobs_is_the_product_of_the_matrix_and_the_copies(matrix: dict[str, Any], count: int) -> None:
    command = [f"${{{name}}}" for name in matrix] or ["x"]

    size = checked(draft({"name": "a", "command": command, "matrix": matrix, "count": count}).request)

    lengths = [
        len(axis) if isinstance(axis, list) else axis["range"][1] - axis["range"][0] + 1 for axis in matrix.values()
    ]
    assert size.n_jobs == prod(lengths) * count


def test_files_of_a_dataset_are_not_guessed() -> None:
    document = {"name": "a", "command": ["%IN"], "inputs": {"IN": {"dataset": "mc:x", "files_per_job": 2}}, "count": 3}

    size = checked(draft(document).request)

    assert size.n_jobs is None
    assert size.because == "3 for each group of files of mc:x"


def test_a_whole_dataset_for_every_job_does_not_change_their_number() -> None:
    document = {
        "name": "a",
        "command": ["x"],
        "inputs": {"IN": {"dataset": "mc:x", "files_per_job": "all"}},
        "count": 3,
    }

    assert checked(draft(document).request).n_jobs == 3


def test_variables_are_filled_in_and_keep_their_kind() -> None:
    document = {"vars": {"year": 26, "n": 2}, "name": "y${year}", "count": "${n}", "command": ["${year}", "${seq}"]}

    assert filled(document, {"year": 27}) == {"name": "y27", "count": 2, "command": [27, "${seq}"]}


def test_a_set_variable_takes_the_place_of_an_axis() -> None:
    document = {"matrix": {"seed": {"range": [1, 100]}, "s": ["a"]}, "command": ["${seed}"]}

    assert filled(document, {"seed": 7}) == {"matrix": {"seed": [7], "s": ["a"]}, "command": ["${seed}"]}


def test_a_set_variable_that_nothing_uses_is_an_error() -> None:
    with pytest.raises(FileProblem, match=r"nothing in the job set uses \$\{yaer\}"):
        filled({"command": ["${year}"]}, {"yaer": 26})


def test_an_escaped_placeholder_is_left_alone() -> None:
    assert filled({"command": ["$${year}"], "name": "${year}"}, {"year": 1})["command"] == ["$${year}"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_document_is_a_request_or_a_refusal(found: Any) -> None:
    for document in ({"name": "a", "command": ["x"], "outputs": found}, {"name": "a", "jobs": found}, {"name": found}):
        try:
            checked(draft(document).request)
        except FileProblem as problem:
            assert problem.message
