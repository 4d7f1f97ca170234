"""`panda`: the entry point. It loads click and nothing else until a verb runs."""

import os
import sys
from collections.abc import Sequence

import click

from panda import __version__
from panda.cli import exits
from panda.cli.problems import Told, told
from panda.cli.verbs import Entry, LazyGroup

JOBS, DATA, PLACES, HERE = "Jobs", "Data", "Places and people", "This machine"


def _entry(section: str, module: str, attribute: str, summary: str, hidden: bool = False) -> Entry:
    return Entry(section, f"panda.cli.commands.{module}", attribute, summary, hidden)


VERBS = {
    "submit": _entry(JOBS, "submit", "submit", "Submit job sets, from files or from flags."),
    "status": _entry(JOBS, "status", "status", "Show my job sets, or one job set or job closely."),
    "st": _entry(JOBS, "status", "status", "The same as status.", hidden=True),
    "jobs": _entry(JOBS, "lists", "jobs", "List jobs."),
    "sets": _entry(JOBS, "lists", "sets", "List job sets."),
    "count": _entry(JOBS, "lists", "count", "Count jobs by what they have in common."),
    "errors": _entry(JOBS, "lists", "errors", "Count failed jobs by their error."),
    "attempts": _entry(JOBS, "nouns", "attempts", "List attempts that have ended."),
    "why": _entry(JOBS, "why", "why", "Tell why a job is where it is."),
    "debug": _entry(JOBS, "debug", "debug", "Show all that is known of one job."),
    "logs": _entry(JOBS, "logs", "logs", "Show a job's log, all of it or as it is written."),
    "wait": _entry(JOBS, "wait", "wait", "Wait until jobs have ended."),
    "watch": _entry(JOBS, "watch", "watch", "Show the moves of jobs as they happen."),
    "retry": _entry(JOBS, "actions", "retry", "Give failed jobs a new attempt."),
    "cancel": _entry(JOBS, "actions", "cancel", "Cancel jobs that have not ended."),
    "hold": _entry(JOBS, "actions", "hold", "Let jobs stand still until they are released."),
    "release": _entry(JOBS, "actions", "release", "Let held jobs go on."),
    "priority": _entry(JOBS, "actions", "priority", "Give waiting jobs another priority."),
    "rebroker": _entry(JOBS, "actions", "rebroker", "Let brokerage look again at jobs that no pilot has."),
    "views": _entry(JOBS, "views", "views", "Keep filters under names; @NAME stands for one."),
    "actions": _entry(JOBS, "actions", "actions", "Show actions on many jobs, and how far they are."),
    "datasets": _entry(DATA, "data", "datasets", "List datasets, or the files of one."),
    "files": _entry(DATA, "nouns", "files", "List files."),
    "put": _entry(DATA, "data", "put", "Upload files into a dataset."),
    "get": _entry(DATA, "data", "get", "Fetch the files of a dataset or the outputs of a job set."),
    "keep": _entry(DATA, "datasets", "keep", "Say how long a dataset is kept."),
    "delete": _entry(DATA, "datasets", "delete", "Delete datasets with their files."),
    "replicate": _entry(DATA, "datasets", "replicate", "Have a dataset on a further storage."),
    "container": _entry(DATA, "datasets", "container", "Make containers of datasets, and change them."),
    "lineage": _entry(DATA, "datasets", "lineage", "Tell what wrote a file, and what read it."),
    "transfers": _entry(
        DATA, "moves", "transfers", "List files on their way between storages, or how busy the ways are."
    ),
    "queues": _entry(PLACES, "nouns", "queues", "List the queues that run jobs."),
    "queue": _entry(PLACES, "queue", "queue", "Show a queue, and what pilots there have too little of."),
    "sites": _entry(
        PLACES, "places", "sites", "List the sites; show what was known of places when, and go back to it."
    ),
    "storages": _entry(PLACES, "nouns", "storages", "List the storages."),
    "pilots": _entry(PLACES, "nouns", "pilots", "List the pilots that came for work."),
    "nodes": _entry(PLACES, "nouns", "nodes", "List the machines that pilots came from."),
    "site": _entry(PLACES, "places", "site", "Open or close a queue, or all queues of a site."),
    "switches": _entry(PLACES, "switches", "switches", "List what operators paused."),
    "pause": _entry(PLACES, "switches", "pause", "Stop brokerage or the handing out of jobs, somewhere or everywhere."),
    "resume": _entry(PLACES, "switches", "resume", "End a pause."),
    "downtimes": _entry(PLACES, "downtimes", "downtimes", "List downtimes of places; plan, change and cancel them."),
    "shares": _entry(PLACES, "shares", "shares", "Show whose part of the machines is how large, or change it."),
    "login": _entry(PLACES, "login", "login", "Log in to a server."),
    "logout": _entry(PLACES, "login", "logout", "Forget the token that login kept."),
    "quota": _entry(PLACES, "quota", "quota", "Show how somebody stands to their quotas, or change them."),
    "whoami": _entry(PLACES, "server", "whoami", "Show who the server takes me for."),
    "users": _entry(PLACES, "people", "users", "List users; make, ban and let in again."),
    "token": _entry(PLACES, "people", "token", "Make tokens, list and end them."),
    "incidents": _entry(PLACES, "people", "incidents", "List what operators should know, and answer it."),
    "audit-log": _entry(PLACES, "nouns", "audit_log", "List what people with power did."),
    "usage": _entry(PLACES, "usage", "usage", "Show what was used, by whom and where, or by one job."),
    "health": _entry(PLACES, "server", "health", "Show which part of the server is well."),
    "config": _entry(PLACES, "config", "config", "Show and change settings, and where they come from."),
    "web": _entry(PLACES, "web", "web", "Tell the address of a page, or open it."),
    "api": _entry(PLACES, "server", "api", "Call the HTTP interface directly."),
    "up": _entry(HERE, "local", "up", "Start a whole system on this machine."),
    "down": _entry(HERE, "local", "down", "End the system that `up` started."),
    "doctor": _entry(HERE, "local", "doctor", "Check an installation."),
    "audit": _entry(HERE, "local", "audit", "Check the invariants of the database."),
    "storage": _entry(HERE, "storage", "storage", "Compare a storage with the catalogue; show quotas."),
    "quarantine": _entry(HERE, "recovery", "quarantine", "List outputs that were written and are not published."),
    "secrets": _entry(HERE, "secrets", "secrets", "Look after the key that users' secrets are sealed with."),
    "recover": _entry(HERE, "recovery", "recover", "Make a restored database safe to start."),
    "chaos": _entry(HERE, "chaos", "chaos", "Break a system of its own, and prove that no job was lost."),
    "simulate": _entry(HERE, "simulate", "simulate", "Play a fleet of pilots against a server."),
    "help": _entry(HERE, "help", "help_of", "Show the help of a verb."),
    "completion": _entry(HERE, "server", "completion", "Print the completion script of a shell."),
}
EXAMPLES = (
    "panda submit jobs.yaml --wait",
    "panda submit --memory 2GB --walltime 1h -- python fit.py",
    "panda status last",
    "panda jobs --set last --status failed -q | panda logs -",
    "panda why 7000412958",
)


@click.group(
    cls=LazyGroup,
    verbs=VERBS,
    examples=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option("--profile", metavar="NAME", help="Settings of this name in config.toml (PANDA_PROFILE).")
@click.option("--url", metavar="URL", help="Address of the server (PANDA_URL).")
@click.version_option(__version__, prog_name="panda")
def panda(url: str | None, profile: str | None) -> None:
    """PanDA: submit jobs, watch them, fetch what they made.

    Results go to stdout, talk to stderr. In a pipe, lists are plain and tab-separated; -o json, jsonl, csv
    or name chooses another form. Server and token: `panda login`, or PANDA_URL, PANDA_TOKEN and PANDA_TOKEN_FILE;
    `panda config list --origin` tells what goes.
    """


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run one command line; returns its exit code."""
    try:
        result = panda.main(list(words), prog_name="panda", standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        return exits.INTERRUPTED
    except click.exceptions.Exit as end:
        return end.exit_code
    except BrokenPipeError:
        # Whoever read us has seen enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.ERROR
    except Exception as problem:
        tale = told(problem)
        if tale is None:
            raise
        complain(tale, as_json=wants_json(words))
        return tale.exit_code
    return result if isinstance(result, int) else exits.OK


def complain(tale: Told, *, as_json: bool) -> None:
    """Say on stderr what went wrong."""
    if as_json:
        import json

        facts = {"code": tale.code, "message": tale.message, "hint": tale.hint, "request_id": tale.request_id}
        click.echo(json.dumps({"error": facts}), err=True)
        return
    request = f" (request {tale.request_id})" if tale.request_id else ""
    click.echo(f"panda: {tale.message}{request}", err=True)
    if tale.hint:
        click.echo(f"  {tale.hint}", err=True)


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; told from its words alone, since they may not even parse."""
    ours = list(words[: words.index("--")] if "--" in words else words)
    form = os.environ.get("PANDA_OUTPUT", "")
    for word, following in zip(ours, [*ours[1:], ""], strict=True):
        if word in ("-o", "--format"):
            form = following
        elif word.startswith("--format="):
            form = word.removeprefix("--format=")
        elif word.startswith("-o") and not word.startswith("--"):
            form = word[2:].removeprefix("=")
    return form in ("json", "jsonl")


if __name__ == "__main__":
    main()
