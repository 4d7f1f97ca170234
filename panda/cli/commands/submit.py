"""`panda submit`: job sets, from files or from flags."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from panda.cli import columns, exits
from panda.cli.checking import Size, checked
from panda.cli.documents import STDIN, as_yaml, read
from panda.cli.flags import Flags, document_of, laid_over, variables_of
from panda.cli.jobsetfile import Draft, draft
from panda.cli.selectors import Selection
from panda.cli.session import connect
from panda.cli.show import Item, Look, emit, output_options, plain, say
from panda.cli.variables import filled
from panda.cli.verbs import Verb
from panda.cli.waits import wait_for
from panda.client import Accepted, Client, ClientError

COMMAND = "panda.command"
USER = "${user}"
#: Characters of a command that --dry-run shows.
LONGEST = 120


class SubmitVerb(Verb):
    """Keeps what follows `--` apart: it is the job's command, never a file or an option of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[COMMAND] = tuple(args[at + 1 :])
            if at + 1 == len(args):
                raise click.UsageError("there is no command after --", ctx)
            args = args[:at]
        return super().parse_args(ctx, args)


@dataclass(frozen=True)
class Source:
    """A job set to be: its document, the request that it stands for, the folder that paths in it start from."""

    base: Path
    document: dict[str, Any]
    draft: Draft
    size: Size


@click.command(
    cls=SubmitVerb,
    examples=(
        "panda submit jobs.yaml",
        "panda submit --memory 2GB --walltime 1h -- python -c 'print(42)'",
        "panda submit --input mc26:mc26.118204.reco --output user.ann:skim.v7 \\",
        "    --upload skim.py -- python skim.py --in %IN --out %OUT",
        "panda submit scan.yaml --set year=26 --wait --timeout 2h",
        "panda submit jobs.yaml --dry-run",
        "panda submit --count 10 --print-yaml -- ./run.sh %SEQ > jobs.yaml",
    ),
)
@click.argument("files", nargs=-1, metavar="[FILE]... [-- COMMAND...]")
@click.option("--name", metavar="NAME", help="Of the job set; otherwise as the file or the command is called.")
@click.option("--input", "inputs", multiple=True, metavar="SCOPE:NAME[/PATTERN]", help="A dataset to read; %IN.")
@click.option("--files-per-job", metavar="N|all", help="Input files that one job gets; otherwise 1.")
@click.option(
    "--output", "outputs", multiple=True, metavar="[SCOPE:NAME/]FILE", help="A file that each job writes; %OUT."
)
@click.option("--output-storage", metavar="NAME", help="Ship the outputs there.")
@click.option("--upload", multiple=True, metavar="PATH", help="A file, folder or pattern that every job needs.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="So many copies; %SEQ tells them apart.")
@click.option("--cores", type=click.IntRange(1), metavar="N")
@click.option("--memory", metavar="SIZE", help="For example 2GB.")
@click.option("--disk", metavar="SIZE", help="For example 10GB.")
@click.option("--walltime", metavar="TIME", help="For example 6h.")
@click.option("--gpus", type=click.IntRange(0), metavar="N")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="What a queue must have.")
@click.option("--site", "sites", multiple=True, metavar="SITE", help="Only there; !SITE: not there; * fits anything.")
@click.option("--prefer", multiple=True, metavar="SITE", help="Rather there than elsewhere.")
@click.option("--requirements", metavar="EXPRESSION", help="What a queue must be, as 'queue.corepower >= 12'.")
@click.option("--kind", metavar="NAME", help="analysis, production, …: how brokerage treats it.")
@click.option("--vo", metavar="NAME", help="The virtual organisation that it is done for.")
@click.option("--working-group", metavar="NAME", help="The working group that it is done for.")
@click.option("--priority", type=int, metavar="N")
@click.option("--max-attempts", type=click.IntRange(1), metavar="N")
@click.option("--direct-read", is_flag=True, help="Read inputs where they lie, where a queue allows it.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="In the job's environment.")
@click.option("--share", metavar="NAME", help="The share that pays for it.")
@click.option("--after", multiple=True, metavar="SET", help="Start when this job set has finished.")
@click.option("--set", "variables", multiple=True, metavar="NAME=VALUE", help="Stands for ${NAME} in the file.")
@click.option("--key", metavar="KEY", help="Submitted again under the same key, it is the same job set.")
@click.option(
    "--dry-run", is_flag=True, help="Check; show the request, the first jobs, and which queues would take them."
)
@click.option("--print-yaml", is_flag=True, help="Write the job-set file that this is; send nothing.")
@click.option("--wait", "waiting", is_flag=True, help="Wait until the jobs have ended; see panda wait.")
@click.option("--timeout", metavar="TIME", help="With --wait: give up after this.")
@output_options
def submit(
    files: Sequence[str],
    variables: Sequence[str],
    key: str | None,
    dry_run: bool,
    print_yaml: bool,
    waiting: bool,
    timeout: str | None,
    look: Look,
    **flags: Any,
) -> int:
    """Submit job sets, from files (YAML, JSON, or JSON Lines with a job per line) or from flags.

    Everything is checked before anything is sent. A file and flags together: the flags win.
    """
    given = document_of(Flags(command=click.get_current_context().meta.get(COMMAND, ()), **flags))
    if not files and "command" not in given:
        raise click.UsageError("name a file, or give a command after --")
    if len(files) > 1 and ("name" in given or key):
        raise click.UsageError("--name and --key are for one job set")
    sources = [_source(file, given, variables) for file in files or [""]]
    if print_yaml:
        click.echo("---\n".join(as_yaml(source.document) for source in sources), nl=False)
        return exits.OK
    if dry_run:
        _show_requests(sources, look)
        return exits.OK
    client = connect()
    accepted = [_sent(client, source, key or "") for source in sources]
    if not waiting:
        is_single = len(accepted) == 1
        emit(look, [each.raw for each in accepted], columns.ACCEPTED, columns.set_name, single=is_single)
        return exits.OK
    selection = Selection(jobsets=tuple(each.jobset_id for each in accepted))
    say(f"accepted {', '.join(selection.names)}: {sum(each.n_jobs for each in accepted)} jobs")
    return wait_for(client, selection, look, timeout=timeout)


def _source(file: str, given: Mapping[str, Any], variables: Sequence[str]) -> Source:
    """A file with the flags laid over it, or the flags alone. Raises FileProblem."""
    document = read(file) if file else {}
    joined = laid_over(document, given)
    if "name" not in joined:
        joined = {"name": _name_of(file, given), **joined}
    document = filled(joined, variables_of(variables))
    base = Path(file).parent if file and file != STDIN else Path()
    made = draft(document)
    return Source(base, document, made, checked(_without_user(made.request)))


def _name_of(file: str, given: Mapping[str, Any]) -> str:
    """A name for a set that has none: that of its file, or of its program."""
    import re

    told = (
        Path(file).stem if file not in ("", STDIN) else os.path.basename(next(iter(given.get("command", [])), "jobs"))
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", told).strip("-._")[:100] or "jobs"


def _without_user(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as if the user were called `me`: only the server knows the name."""
    dataset = request.get("output_dataset")
    return {**request, "output_dataset": dataset.replace(USER, "me")} if isinstance(dataset, str) else dict(request)


def _sent(client: Client, source: Source, key: str) -> Accepted:
    request = source.draft.request
    if USER in str(request.get("output_dataset", "")):
        request = {**request, "output_dataset": request["output_dataset"].replace(USER, client.whoami()["subject"])}
    if source.draft.upload:
        sandbox = client.upload_sandbox(source.draft.upload, source.base)
        request = Draft(request).with_sandbox(sandbox.sha256)
    return client.submit(request, idempotency_key=key)


def _show_requests(sources: Sequence[Source], look: Look) -> None:
    """What would be sent, with the hash that the upload would have, and how many jobs that makes."""
    requests: list[Item] = []
    for source in sources:
        requests.append(_packed(source))
        name = source.draft.request["name"]
        if source.size.n_jobs is None:
            say(f"{name}: valid. The number of jobs only the server can tell: {source.size.because}")
        else:
            say(f"{name}: valid, {source.size.n_jobs} job{'' if source.size.n_jobs == 1 else 's'}")
            say(f"  at most {_core_hours(source.size):g} core hours")
        for job in source.size.first:
            say(f"  job {job['seq']}: {plain(shlex.join(job['command']))[:LONGEST]}")
        _show_queues(source)
    if look.form in ("", "table", "plain"):
        click.echo("---\n".join(as_yaml(request) for request in requests), nl=False)
    else:
        emit(look, requests, (), columns.own_name, single=len(requests) == 1)


def _core_hours(size: Size) -> float:
    """If every job were as the first ones, and used all its time."""
    hours = [job["cores"] * job["walltime_s"] / 3600 for job in size.first]
    return round((size.n_jobs or 0) * max(hours, default=0.0), 1)


def _show_queues(source: Source) -> None:
    """Which queues would take the jobs; without a server, why that cannot be told."""
    from panda.cli.matching import verdicts

    try:
        queues = [queue.raw for queue in connect(tries=1).queues()]
    except ClientError as problem:
        say(f"  which queues would take them only the server can tell: {problem}")
        return
    wishes = source.draft.request.get("brokerage") or {}
    would: dict[str, bool] = {}
    for job in source.size.first:
        for queue, refusal in verdicts(job, wishes, queues):
            name = f"{plain(queue.get('name'))} ({plain(queue.get('site'))})"
            would[name] = would.get(name, True) and not refusal
            if refusal and job is source.size.first[0]:
                say(f"  not {name}: {plain(refusal)}")
    taking = [name for name, takes in would.items() if takes]
    say(f"  queues that would take them: {', '.join(taking) or 'none; they would wait'}")


def _packed(source: Source) -> dict[str, Any]:
    if not source.draft.upload:
        return source.draft.request
    from panda.client.sandbox import pack

    with open(os.devnull, "wb") as nowhere:
        sandbox = pack(source.draft.upload, nowhere, source.base)
    say(f"upload: {len(sandbox.names)} files, {sandbox.size_bytes} bytes packed")
    return source.draft.with_sandbox(sandbox.sha256)
