"""Datasets and their files: make, fill, list, fetch. What is fetched is verified before it appears."""

from collections.abc import Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from panda.client.calls import Calls, decoded, mapping, segment
from panda.client.checksums import Content, Moved, content_of, is_intact, safe_name
from panda.client.errors import ChecksumMismatch, Invalid, Unavailable
from panda.client.pages import Pages, one_page, pages
from panda.client.partial import PartFile
from panda.client.replies import Dataset, DatasetFile, Reply, parsed
from panda.client.transport import Response

#: Times that a download breaks off without a byte that is new, before it is given up.
DOWNLOADS = 3
#: The method of this name hides it from annotations below.
_List = list


def _silent(n_bytes: int) -> None:
    pass


class Datasets:
    """/v1/datasets; a dataset is named `scope:name`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def list(self, *, filter: str | None = None, limit: int | None = None) -> Pages[Dataset]:
        """Datasets that fit, fetched as they are asked for."""
        return pages(self._calls, "/v1/datasets", Dataset, {"filter": filter}, limit)

    def show(self, dataset: str) -> Dataset:
        """Raises NotFound."""
        return parsed(Dataset, self._calls.get(_path(dataset)))

    def create(self, dataset: str) -> Dataset:
        """Make an empty, open dataset; the caller's own, made again, stays as it is.

        Raises:
            Conflict: it is somebody else's.
        """
        document = {"dataset": dataset}
        return parsed(Dataset, self._calls.json("POST", "/v1/datasets", document, idempotent=True))

    def close(self, dataset: str) -> Dataset:
        """No more files join it. Closing a closed one changes nothing."""
        return parsed(Dataset, self._calls.json("POST", f"{_path(dataset)}/close", idempotent=True))

    def freeze(self, dataset: str) -> Dataset:
        """No more files join it, for ever."""
        return parsed(Dataset, self._calls.json("POST", f"{_path(dataset)}/freeze", idempotent=True))

    def reopen(self, dataset: str) -> Dataset:
        """Files may join a closed one again.

        Raises:
            Conflict: it is frozen.
        """
        return parsed(Dataset, self._calls.json("POST", f"{_path(dataset)}/reopen", idempotent=True))

    def create_container(self, dataset: str) -> Dataset:
        """Make an empty container; the caller's own, made again, stays as it is. Raises Conflict."""
        document = {"dataset": dataset, "kind": "container"}
        return parsed(Dataset, self._calls.json("POST", "/v1/datasets", document, idempotent=True))

    def members(self, container: str) -> _List[Dataset]:
        """The datasets of a container. Raises Conflict: it is a dataset."""
        return one_page(self._calls, f"{_path(container)}/members", Dataset)

    def add(self, container: str, datasets: Sequence[str]) -> Dataset:
        """Put datasets into a container. Raises NotFound, Conflict."""
        document = {"datasets": [*datasets]}
        return parsed(Dataset, self._calls.json("POST", f"{_path(container)}/members", document, idempotent=True))

    def remove(self, container: str, dataset: str) -> Dataset:
        """Take a dataset out of a container. Raises NotFound, Conflict."""
        path = f"{_path(container)}/members/{segment(dataset)}"
        return parsed(Dataset, self._calls.json("DELETE", path, idempotent=True))

    def rules(self, dataset: str) -> _List[Reply]:
        """The storages that it is wanted on; facts in `.raw`."""
        return one_page(self._calls, f"{_path(dataset)}/rules", Reply)

    def want(self, dataset: str, storage: str) -> _List[Reply]:
        """Have all its files on a storage too. Returns all its rules."""
        return self._ruled("PUT", dataset, storage)

    def unwant(self, dataset: str, storage: str) -> _List[Reply]:
        """Want it there no more; what is there stays. Returns all its rules. Raises NotFound."""
        return self._ruled("DELETE", dataset, storage)

    def _ruled(self, verb: str, dataset: str, storage: str) -> _List[Reply]:
        found = self._calls.json(verb, f"{_path(dataset)}/rules/{segment(storage)}", idempotent=True)
        return [parsed(Reply, each) for each in mapping(found, "rules", data=list)["data"]]

    def delete(self, dataset: str) -> Dataset:
        """Let it go: jobs that read it are waited for, then its files are removed.

        Raises:
            Conflict: it is pinned.
        """
        return parsed(Dataset, self._calls.json("DELETE", _path(dataset), idempotent=True))

    def keep(self, dataset: str, *, lifetime_s: float | None = None, pinned: bool = False) -> Dataset:
        """Let it be deleted `lifetime_s` seconds from now (None: never); one that is pinned stays in any case."""
        document = {"lifetime_s": lifetime_s, "pinned": pinned}
        return parsed(Dataset, self._calls.json("PUT", f"{_path(dataset)}/lifetime", document, idempotent=True))

    def lineage(self, dataset: str, lfn: str) -> dict[str, Any]:
        """What wrote a file (`panda_id`, `made_from`) and what read it (`read_by`). Raises NotFound."""
        found = self._calls.get(f"{_path(dataset)}/files/{segment(lfn)}/lineage")
        return mapping(found, "lineage", made_from=list, read_by=list)

    def files(self, dataset: str, *, limit: int | None = None) -> Pages[DatasetFile]:
        """The dataset's files, fetched as they are asked for."""
        return pages(self._calls, f"{_path(dataset)}/files", DatasetFile, limit=limit)

    def put(
        self,
        dataset: str,
        file: Path | str,
        *,
        lfn: str = "",
        storage: str | None = None,
        md5: str | None = None,
        guid: str | None = None,
        moved: Moved = _silent,
    ) -> DatasetFile:
        """Upload a file under the name `lfn` (unset: its own).

        The server registers it only if adler32 and SHA-256, computed here first, and `md5`, if you know one, are those
        of what arrived. `guid`: the file's, if it has one already.
        `moved` hears the bytes of each block that is sent, those of a repeat again.
        """
        path = Path(file)
        content = content_of(path, with_sha256=True)
        told = {"X-Adler32": content.adler32, "X-Sha256": content.sha256, "X-Md5": md5, "X-Guid": guid}
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(content.size_bytes)}
        headers |= {name: word for name, word in told.items() if word is not None}
        with self._calls.response(
            "PUT",
            f"{_path(dataset)}/files/{segment(lfn or path.name)}",
            query={"storage": storage},
            headers=headers,
            body=lambda: cast(BinaryIO, CountedFile(path, moved)),
        ) as response:
            return parsed(DatasetFile, decoded(response))

    def get(self, dataset: str, file: DatasetFile, folder: Path | str, *, moved: Moved = _silent) -> bool:
        """Fetch `file` into `folder`, unless an intact copy is already there.

        It appears whole and verified, or not at all. What broke off stays in a hidden file (`.NAME.ADLER32.part`)
        and is gone on from, here and in a later call; `moved` hears at once of what was there.

        Returns: whether anything was fetched.
        Raises:
            ChecksumMismatch: it arrived damaged, twice; nothing is left behind.
        """
        path = Path(folder) / safe_name(file.lfn)
        wanted = content_told(file)
        if is_intact(path, wanted):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        with PartFile(path, wanted) as part:
            moved(part.n_bytes)
            begun_with = part.n_bytes
            self._complete(dataset, file, part, moved)
            try:
                part.finish()
            except ChecksumMismatch:
                if not begun_with:
                    raise
                part.start_over()  # what an earlier call left was damaged, not what came now
                self._complete(dataset, file, part, moved)
                part.finish()
        return True

    def _complete(self, dataset: str, file: DatasetFile, part: PartFile, moved: Moved) -> None:
        """Fetch what is missing of a file, over as many connections as it takes while each brings something."""
        n_vain = 0
        while part.n_bytes < file.size_bytes:
            n_before = part.n_bytes
            try:
                self._fetch(dataset, file, part, moved)
            except Unavailable as problem:
                n_vain = 0 if part.n_bytes > n_before else n_vain + 1
                if problem.code != "lost_reply" or n_vain == DOWNLOADS:
                    raise
            else:
                return

    def _fetch(self, dataset: str, file: DatasetFile, part: PartFile, moved: Moved) -> None:
        address = f"{_path(dataset)}/files/{segment(file.lfn)}"
        headers = {"Range": f"bytes={part.n_bytes}-"} if part.n_bytes else {}
        with self._calls.response("GET", address, headers=headers) as response:
            wanted = f"bytes {part.n_bytes}-{file.size_bytes - 1}/{file.size_bytes}"
            if part.n_bytes and (response.status != 206 or response.header("Content-Range") != wanted):
                part.start_over()  # a server that knows no parts, or another file
                if response.status == 206:
                    raise Invalid(f"{file.lfn} is not what the catalogue said a moment ago", code="changed_meanwhile")
            part.append(_blocks(response), moved)


def content_told(file: DatasetFile) -> Content:
    """What the catalogue says that a file holds."""
    return Content(file.size_bytes, file.adler32.lower(), file.sha256.lower() if file.sha256 else None)


class CountedFile(FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, moved: Moved) -> None:
        super().__init__(path, "rb")
        self._moved = moved

    def read(self, size: int | None = -1) -> bytes:
        block = super().read(-1 if size is None else size) or b""
        self._moved(len(block))
        return block


def _path(dataset: str) -> str:
    return f"/v1/datasets/{segment(dataset)}"


def _blocks(response: Response) -> Iterator[bytes]:
    while block := response.some():
        yield block
