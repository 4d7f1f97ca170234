"""`panda datasets`, `panda put`, `panda get`: data in and out."""

import errno
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path

import click

from panda.cli import columns, exits
from panda.cli.commands.lists import SORT
from panda.cli.completions import complete_sources
from panda.cli.filling import as_they_come, look_at
from panda.cli.parallel import at_once
from panda.cli.problems import CommandProblem, sentence_of
from panda.cli.progress import bytes_shown
from panda.cli.selectors import newest, parse
from panda.cli.session import connect
from panda.cli.show import Item, Look, emit, output_options, say
from panda.cli.verbs import Verb
from panda.cli.waits import seconds_of
from panda.client import Client, DatasetFile
from panda.client.checksums import is_intact
from panda.client.datasets import content_told
from panda.names import checked

#: A disk or a quota is full, or no file may be that large.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@click.command(
    cls=Verb,
    examples=(
        "panda datasets",
        "panda datasets mc26:mc26.118204.reco      # its files",
        "panda datasets --filter 'owner:ann size>1000000 created:7d'",
        "panda datasets --create user.ann:input",
        "panda datasets --close user.ann:input",
        "panda datasets set:9120                   # the data of a job set, part by part",
    ),
)
@click.argument("dataset", required=False, metavar="[SCOPE:NAME|SET]")
@click.option("--create", metavar="SCOPE:NAME", help="Make an empty dataset.")
@click.option("--close", metavar="SCOPE:NAME", help="Let no more files join it.")
@click.option("--freeze", metavar="SCOPE:NAME", help="The same, for ever.")
@click.option("--reopen", metavar="SCOPE:NAME", help="Let files join a closed one again.")
@click.option("--match", default="*", metavar="PATTERN", help="Only names that fit.")
@click.option("--filter", "text", metavar="FILTER", help="Only datasets that fit, as 'owner:ann created:7d'.")
@SORT
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@output_options
def datasets(
    dataset: str | None,
    create: str | None,
    close: str | None,
    freeze: str | None,
    reopen: str | None,
    match: str,
    text: str | None,
    sort: str | None,
    limit: int | None,
    look: Look,
) -> None:
    """List datasets, or the files of one, the datasets of a container, the parts of a job set's data."""
    if text and dataset:
        raise click.UsageError("--filter is for the list of datasets")
    client = connect()
    changes = ((create, client.datasets.create), (close, client.datasets.close), (freeze, client.datasets.freeze),
               (reopen, client.datasets.reopen))  # fmt: skip
    changed = [change(name) for name, change in changes if name]
    if changed:
        emit(look, [each.raw for each in changed], columns.DATASETS, columns.dataset_name, single=len(changed) == 1)
    elif dataset and (dataset == "last" or dataset.startswith(("set:", "last:"))):
        found = (part.raw for part in client.jobset_datasets(_jobset(client, dataset)))
        emit(look, found, columns.PARTS, lambda part: str(part.get("dataset") or part.get("storage") or ""))
    elif dataset and client.datasets.show(dataset).kind == "container":
        inside = (each.raw for each in client.datasets.members(dataset) if fnmatchcase(each.dataset, match))
        emit(look, inside, columns.DATASETS, columns.dataset_name)
    elif dataset:
        files = (file.raw for file in client.datasets.files(dataset, limit=limit) if fnmatchcase(file.lfn, match))
        emit(look, files, columns.FILES, columns.file_name)
    else:
        listed = client.find("datasets", text, sort=sort, limit=limit)
        found = (each.raw for each in listed if fnmatchcase(each.dataset, match))
        emit(look, found, columns.DATASETS, columns.dataset_name)


@click.command(
    cls=Verb,
    examples=(
        "panda put run*.root --dataset user.ann:input",
        "panda put big.root --dataset user.ann:input --storage NORTH-DISK",
    ),
)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dataset", required=True, metavar="SCOPE:NAME", help="Made if it does not exist.")
@click.option("--storage", metavar="NAME", help="Where they are kept; needed if there are several.")
@click.option("--close", is_flag=True, help="Close the dataset afterwards.")
@output_options
def put(files: Sequence[Path], dataset: str, storage: str | None, close: bool, look: Look) -> None:
    """Upload files into a dataset. Checksums are computed here and compared there.

    Nothing is made before the storage and the names of the files are known to be good.

    What was broken off goes on when the same command is given again: files that are there are not sent again.
    """
    names = [checked(file.name, str(file)) for file in files]
    if len(set(names)) < len(names):
        raise click.UsageError("two of the files have one name")
    client = connect()
    place = _place(client, storage)  # before anything is made
    client.datasets.create(dataset)
    with _broken_off("what is there is not sent again"):
        emit(look, _sent(client, files, dataset, place), columns.FILES, columns.file_name)
    if close:
        client.datasets.close(dataset)


def _place(client: Client, storage: str | None) -> str:
    """The storage that takes the files. Raises CommandProblem: none of that name, or none named of several."""
    known = sorted(str(each.raw.get("name")) for each in client.storages())
    if storage in known:
        return storage
    if storage is not None:
        near = get_close_matches(storage, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
        message = f"there is no storage {storage}"
        raise CommandProblem(message, code="not_found", exit_code=exits.NOT_FOUND, hint=hint)
    if len(known) != 1:
        message = f"say which storage takes the files: {', '.join(known) or 'there is none'}"
        raise CommandProblem(message, code="storage_missing", exit_code=exits.INVALID, hint="--storage NAME")
    return known[0]


def _sent(client: Client, files: Sequence[Path], dataset: str, storage: str) -> Iterator[Item]:
    there = _there(client, dataset, [file.name for file in files])
    for file in files:
        known = there.get(file.name)
        if known is not None and is_intact(file, content_told(known)):
            say(f"{file.name} is there")
            yield known.raw
            continue
        with bytes_shown(file.name, file.stat().st_size) as moved:
            registered = client.datasets.put(dataset, file, storage=storage, moved=moved)
        yield registered.raw


def _there(client: Client, dataset: str, names: Sequence[str]) -> dict[str, DatasetFile]:
    """Files of the dataset that have one of these names; they are not sent again if they are the same."""
    wanted = set(names)
    return {file.lfn: file for file in client.datasets.files(dataset) if file.lfn in wanted}


@contextmanager
def _broken_off(told: str) -> Iterator[None]:
    """Ctrl-C or a full disk in the middle: how to go on is said, where the same command can."""
    try:
        yield
    except KeyboardInterrupt:
        raise CommandProblem(
            "broken off", code="interrupted", exit_code=exits.INTERRUPTED, hint=f"the same command goes on: {told}"
        ) from None
    except BrokenPipeError:
        raise
    except OSError as problem:
        hint = f"with more room the same command goes on: {told}" if problem.errno in NO_ROOM else ""
        raise CommandProblem(sentence_of(problem), code="os_error", exit_code=exits.ERROR, hint=hint) from None


@click.command(
    cls=Verb,
    examples=(
        "panda get last                               # the outputs of my newest job set",
        "panda get set:9120 --dest results --match '*.root'",
        "panda get last --wait                        # also those that come yet",
        "panda get user.ann:skim.v7",
    ),
)
@click.argument("source", metavar="SET|SCOPE:NAME", shell_complete=complete_sources)
@click.option(
    "--dest", type=click.Path(file_okay=False, path_type=Path), help="Folder; otherwise named by the dataset."
)
@click.option("--match", default="*", metavar="PATTERN", help="Only names that fit.")
@click.option(
    "-j", "--jobs", "n_at_once", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at once."
)
@click.option("--dry-run", is_flag=True, help="Tell what would be fetched; fetch nothing.")
@click.option("--wait", "waits", is_flag=True, help="Fetch what comes, too, until all jobs ended or it is closed.")
@click.option("--timeout", metavar="TIME", help="With --wait: give up after this, for example 2h.")
@output_options
def get(
    source: str,
    dest: Path | None,
    match: str,
    n_at_once: int,
    dry_run: bool,
    waits: bool,
    timeout: str | None,
    look: Look,
) -> int:
    """Fetch the files of a dataset or the outputs of a job set. Each is verified; intact ones are not fetched again.

    While jobs still write into it, what is there is fetched, and how many have not ended is said; --wait fetches the
    rest as it comes, and then exits with 9 if some jobs did not finish, with 8 when the time ran out. A dataset that
    is named and has no file that fits is an error (3), but with --wait.
    What was broken off goes on when the same command is given again, also in the middle of a file.
    """
    if (waits and dry_run) or (timeout and not waits):
        raise click.UsageError("--timeout goes with --wait, and --wait not with --dry-run")
    timeout_s = None if timeout is None else seconds_of(timeout)
    client = connect()
    jobset_id, dataset = _dataset(client, source)
    folder = dest or Path(dataset.partition(":")[2].replace("/", "_") or ".")
    with _broken_off("what is here is not fetched again"):
        fetch = _bringer(client, dataset, match, folder, 0 if dry_run else n_at_once)
        if waits:
            found = as_they_come(
                lambda: look_at(client, dataset, jobset_id), fetch, timeout_s=timeout_s, is_quiet=look.form == "name"
            )
        else:
            seen = look_at(client, dataset, jobset_id)
            found = ({name: value for name, value in item.items() if name != "at"} for item in fetch(frozenset()))
        n_files = emit(look, found, columns.FILES, columns.file_name)
    if not n_files:
        none = f"{dataset} has no file{'' if match == '*' else f' that fits {match}'}"
        if jobset_id is None and not waits:
            hint = f"{seen.to_come}; --wait waits for it" if seen.to_come else ""
            raise CommandProblem(none, code="no_files", exit_code=exits.NOT_FOUND, hint=hint)
        say(none)
    elif not dry_run:
        say(f"{n_files} file{'' if n_files == 1 else 's'} of {dataset} in {folder}")
    if waits:
        seen = look_at(client, dataset, jobset_id)
    for told in filter(None, (seen.to_come, seen.missing)):
        say(told)
    return exits.JOBS_FAILED if waits and seen.missing else exits.OK


def _bringer(
    client: Client, dataset: str, match: str, folder: Path, n_at_once: int
) -> Callable[[Set[str]], Iterator[Item]]:
    """What fetches the files that fit and are not named (`dataset/lfn`), `n_at_once` at a time; 0: not fetched. Those
    of a container come by dataset, each into a folder of its own."""

    def bring(known: Set[str]) -> Iterator[Item]:
        places = {dataset: folder}
        if client.datasets.show(dataset).kind == "container":
            inside = [each.dataset for each in client.datasets.members(dataset)]
            places = {each: folder / each.partition(":")[2] for each in inside}
        for each, place in places.items():
            wanted = _wanted(client, each, match, known)
            items = _fetched(client, each, wanted, place, n_at_once) if n_at_once else (file.raw for file in wanted)
            yield from ({**item, "at": f"{each}/{item['lfn']}"} for item in items)

    return bring


def _wanted(client: Client, dataset: str, match: str, known: Set[str]) -> Iterator[DatasetFile]:
    for file in client.datasets.files(dataset):
        if fnmatchcase(file.lfn, match) and f"{dataset}/{file.lfn}" not in known:
            yield file


def _jobset(client: Client, source: str) -> int:
    """The one job set that `source` means."""
    words = parse([source])
    if words.jobs or words.filters or len(words.jobsets) + words.n_last != 1:
        raise click.UsageError(f"{source!r} is neither one job set nor a dataset: write set:9120, last or scope:name")
    return words.jobsets[0] if words.jobsets else newest(client, 1)[0]


def _dataset(client: Client, source: str) -> tuple[int | None, str]:
    """The job set that `source` names, if it does, and the dataset. Raises CommandProblem: a job set without one."""
    if ":" in source and not source.startswith(("set:", "last:")):
        return None, source
    jobset_id = _jobset(client, source)
    dataset = client.jobset(jobset_id).output_dataset
    if not dataset:
        raise CommandProblem(f"set:{jobset_id} has no output dataset", code="no_outputs", exit_code=exits.NOT_FOUND)
    return jobset_id, dataset


def _fetched(
    client: Client, dataset: str, files: Iterator[DatasetFile], folder: Path, n_at_once: int
) -> Iterator[Item]:
    """Fetch files, `n_at_once` at a time; they are told in order, each once it is there."""
    is_over = threading.Event()
    with bytes_shown(dataset, client.datasets.show(dataset).size_bytes) as advance:

        def moved(n_bytes: int) -> None:
            if is_over.is_set():
                raise _BrokenOff
            advance(n_bytes)

        def fetch(file: DatasetFile) -> Item:
            client.datasets.get(dataset, file, folder, moved=moved)
            return file.raw

        try:
            yield from at_once(fetch, files, n_at_once)
        finally:
            is_over.set()


class _BrokenOff(Exception):
    """Another file of the same command could not be fetched: this one is left for the next try."""
