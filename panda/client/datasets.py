"""Datasets and their files: make, fill, list, fetch. What is fetched is verified before it appears."""

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from panda.client.calls import Calls, decoded, mapping, segment
from panda.client.checksums import BLOCK_BYTES, Moved, adler32_of, is_intact, safe_name, write_verified
from panda.client.errors import Unavailable
from panda.client.pages import Pages, pages
from panda.client.replies import Dataset, DatasetFile, parsed
from panda.client.transport import Response

#: Times that a download is begun when it breaks off in the middle.
DOWNLOADS = 3


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
        moved: Moved = _silent,
    ) -> DatasetFile:
        """Upload a file under the name `lfn` (unset: its own).

        The server registers it only if the checksum, computed here first, is what arrived.
        `moved` hears the bytes of each block that is sent, those of a repeat again.
        """
        path = Path(file)
        adler32, size_bytes = adler32_of(path)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(size_bytes),
            "X-Adler32": adler32,
        }
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

        Returns: whether anything was fetched.
        Raises:
            ChecksumMismatch: it arrived damaged; nothing is left behind.
        """
        path = Path(folder) / safe_name(file.lfn)
        if is_intact(path, file.size_bytes, file.adler32):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        for n_left in reversed(range(DOWNLOADS)):
            try:
                with self._calls.response("GET", f"{_path(dataset)}/files/{segment(file.lfn)}") as response:
                    write_verified(_blocks(response), path, file.size_bytes, file.adler32, moved)
                break
            except Unavailable as problem:
                if problem.code != "lost_reply" or not n_left:
                    raise
        return True


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
    while block := response.read(BLOCK_BYTES):
        yield block
