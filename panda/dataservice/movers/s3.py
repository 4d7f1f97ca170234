"""Storages that speak S3. `root` is `s3+https://host[:port]/bucket[/prefix]` (`s3+http` for a trusted network).

Objects appear whole by S3's own promise. S3's checksums know no adler32, so what arrived is read back unless
the object carries ours: we write it as metadata (`adler32`) with an object that was measured. Pilots get
presigned links: they need no key, and a link opens one object for one verb until it ends.
"""

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, Literal, NamedTuple, cast
from urllib.parse import urlsplit

from panda.dataservice.credentials import credential_for
from panda.dataservice.movers.base import Content, Place, Space, Stream, Tick, WrongContent
from panda.dataservice.movers.listing import Entry
from panda.errors import ConfigError, TooLarge
from panda.settings import current

BLOCK_BYTES = 1 << 20
#: What is kept in memory of a stream whose length we do not know; the rest goes to a temporary file.
IN_MEMORY_BYTES = 16 << 20
_ABSENT = frozenset({"404", "NoSuchKey", "NotFound"})


class Bucket(NamedTuple):
    """A root, taken apart."""

    endpoint: str
    name: str
    prefix: str

    def key(self, place: Place) -> str:
        """Paths are made of checked names; a wrong row must still not lead out of the storage."""
        if not place.path or place.path.startswith("/") or ".." in place.path.split("/"):
            raise OSError(errno.EINVAL, f"{place.path!r} is no path below the storage", place.root)
        return f"{self.prefix}{place.path}"


class S3Mover:
    """The contracts of `Mover` and `Listing` in S3's verbs. Needs boto3 (`pip install panda-wms[s3]`)."""

    #: S3 encodes names in its lists, by our wish.
    names_are_exact = True

    def write(self, place: Place, stream: Stream, cap_bytes: int, tick: Tick) -> Content:
        bucket, client = _open(place)
        size_bytes, adler32 = 0, 1
        with SpooledTemporaryFile(IN_MEMORY_BYTES) as held:
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                if size_bytes > cap_bytes:
                    raise TooLarge(f"the file is larger than {cap_bytes} bytes")
                adler32 = zlib.adler32(block, adler32)
                held.write(block)
                tick()
            held.seek(0)
            content = Content(size_bytes, f"{adler32:08x}")
            with _explained(place):
                # botocore sends a checksum of the body along, which the server verifies before it keeps anything.
                extra = {"Metadata": {"adler32": content.adler32}}
                client.upload_fileobj(held, bucket.name, bucket.key(place), ExtraArgs=extra, Callback=lambda _: tick())
        return content

    def copy(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        bucket, client = _open(destination)
        origin, _ = _open(source)
        if origin.endpoint != bucket.endpoint or credential_of(source) != credential_of(destination):
            self._carry(source, destination, expected, tick)
            return
        original = {"Bucket": origin.name, "Key": origin.key(source)}
        with _explained(source):
            version = client.head_object(**original)["ETag"]
        found = self.measure(source, tick)
        if found != expected:
            raise WrongContent(source, found, expected)
        with _explained(source):  # the very object that was measured, or none
            client.copy(original, bucket.name, bucket.key(destination), ExtraArgs={"CopySourceIfMatch": version},
                        Callback=lambda _: tick())  # fmt: skip

    def _carry(self, source: Place, destination: Place, expected: Content, tick: Tick) -> None:
        """Between two services the bytes go through us, measured before they are shown."""
        with self.open(source) as stream, SpooledTemporaryFile(IN_MEMORY_BYTES) as held:
            size_bytes, adler32 = 0, 1
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                adler32 = zlib.adler32(block, adler32)
                held.write(block)
                tick()
            found = Content(size_bytes, f"{adler32:08x}")
            if found != expected:
                raise WrongContent(source, found, expected)
            held.seek(0)
            self.write(destination, cast(Stream, held), expected.size_bytes, tick)

    def measure(self, place: Place, tick: Tick) -> Content:
        size_bytes, adler32 = 0, 1
        with self.open(place) as stream:
            while block := stream.read(BLOCK_BYTES):
                size_bytes += len(block)
                adler32 = zlib.adler32(block, adler32)
                tick()
        return Content(size_bytes, f"{adler32:08x}")

    def size(self, place: Place) -> int:
        bucket, client = _open(place)
        with _explained(place):
            return int(client.head_object(Bucket=bucket.name, Key=bucket.key(place))["ContentLength"])

    def open(self, place: Place) -> BinaryIO:
        bucket, client = _open(place)
        with _explained(place):
            return cast(BinaryIO, client.get_object(Bucket=bucket.name, Key=bucket.key(place))["Body"])

    def rename(self, place: Place, path: str) -> None:
        """S3 knows no rename: a copy within the bucket, then the old name goes."""
        bucket, client = _open(place)
        target = bucket.key(Place(place.root, path))
        with _explained(place):
            client.copy({"Bucket": bucket.name, "Key": bucket.key(place)}, bucket.name, target)
        if path != place.path:
            self.remove(place)

    def remove(self, place: Place) -> None:
        bucket, client = _open(place)
        with suppress(FileNotFoundError), _explained(place):
            client.delete_object(Bucket=bucket.name, Key=bucket.key(place))

    def space(self, root: str) -> Space | None:
        """S3 has no word for it."""
        return None

    def entries(self, root: str, folder: str) -> Iterator[Entry]:
        """A folder is what keys begin with, up to a `/`."""
        for page, bucket in _pages(root, folder, Delimiter="/"):
            for each in page.get("CommonPrefixes", ()):
                yield Entry(_below(bucket.prefix, each["Prefix"].removesuffix("/"), folder), is_folder=True)
            yield from _objects(page, bucket.prefix, folder)

    def walk(self, root: str, folder: str) -> Iterator[Entry]:
        """All keys below, page by page: no request per folder."""
        for page, bucket in _pages(root, folder):
            yield from _objects(page, bucket.prefix, folder)

    def link(self, root: str, path: str, verb: Literal["GET", "PUT"], for_s: float) -> str:
        """A presigned link."""
        place = Place(root, path)
        bucket, client = _open(place)
        method = "get_object" if verb == "GET" else "put_object"
        values = {"Bucket": bucket.name, "Key": bucket.key(place)}
        # Seven days is the longest that signatures of version 4 last.
        return str(client.generate_presigned_url(method, Params=values, ExpiresIn=int(min(for_s, 7 * 86_400))))


def credential_of(place: Place) -> Any:
    """What opens this place."""
    return credential_for(place.root, current().data.credentials)


def _pages(root: str, folder: str, **more: str) -> Iterator[tuple[Any, Bucket]]:
    """Answers to ListObjectsV2, at most 1,000 keys each. Raises OSError, also where pages lead in a circle."""
    place = Place(root, folder)
    bucket, client = _open(place)
    below = f"{bucket.prefix}{folder}/" if folder else bucket.prefix
    with _explained(place):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket.name, Prefix=below, **more):
            yield page, bucket


def _objects(page: Any, prefix: str, folder: str) -> Iterator[Entry]:
    """Empty objects whose names end in `/` stand for folders, and are left out."""
    for each in page.get("Contents", ()):
        key, size_bytes = each["Key"], int(each["Size"])
        if size_bytes or not key.endswith("/"):
            yield Entry(_below(prefix, key, folder), False, size_bytes, each["LastModified"].timestamp())


def _below(prefix: str, key: str, folder: str) -> str:
    """A key as a path below the root, in the folder that was asked for."""
    path = key.removeprefix(prefix)
    if not key.startswith(prefix) or not path or not (not folder or path.startswith(f"{folder}/")):
        raise OSError(errno.EBADMSG, f"S3 lists {key[:300]!r}, which is not in the folder", folder)
    return path


@cache
def _bucket(root: str) -> Bucket:
    parts = urlsplit(root)
    name, _, prefix = parts.path.strip("/").partition("/")
    if parts.scheme not in ("s3+https", "s3+http") or not parts.netloc or not name:
        raise ConfigError(f"an S3 storage's root is s3+https://host/bucket, not {root!r}")
    return Bucket(f"{parts.scheme.removeprefix('s3+')}://{parts.netloc}", name, f"{prefix}/" if prefix else "")


def _open(place: Place) -> tuple[Bucket, Any]:
    bucket = _bucket(place.root)
    credential = credential_of(place)
    return bucket, _client(bucket.endpoint, credential.access_key, credential.secret_key, credential.region,
                           credential.ca)  # fmt: skip


@cache
def _client(endpoint: str, access_key: str, secret_key: str, region: str, ca: str) -> Any:
    """boto3 is asked for only where a storage speaks S3: it is an extra, and slow to import."""
    try:
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415
    except ImportError:
        raise ConfigError("a storage of kind s3 needs boto3: pip install 'panda-wms[s3]'") from None
    config = Config(
        connect_timeout=10, read_timeout=60, retries={"max_attempts": 2, "mode": "standard"},
        signature_version="s3v4", s3={"addressing_style": "path"}, max_pool_connections=16,
    )  # fmt: skip
    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint, aws_access_key_id=access_key or None, aws_secret_access_key=secret_key or None,
        region_name=region, config=config, verify=ca or None,
    )  # fmt: skip


@contextmanager
def _explained(place: Place) -> Iterator[None]:
    """boto's troubles as OSError, by kind."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as problem:
        told = problem.response.get("Error", {})
        code = str(told.get("Code", ""))
        if code in _ABSENT:
            raise FileNotFoundError(errno.ENOENT, "no such object", place.path) from problem
        kind = errno.EACCES if code in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch") else (
            errno.ENOSPC if code in ("QuotaExceeded", "EntityTooLarge", "507") else errno.EIO
        )  # fmt: skip
        raise OSError(kind, f"S3 says {code}: {told.get('Message', '')}", place.path) from problem
    except BotoCoreError as problem:
        raise OSError(errno.EIO, f"S3 does not answer: {problem}", place.path) from problem
