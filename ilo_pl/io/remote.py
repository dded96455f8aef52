"""Files that are not on this machine, by fsspec: object stores, archives, shards; errors that pass are waited out.

``s3://bucket/folder``, ``gs://...``, ``hf://datasets/...``, ``zip://::s3://bucket/faces.zip``, a ``.tar`` shard as
WebDataset writes it, or a folder of them. Credentials and endpoints are the environment's, as the clients of each
store read them (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``, ...); no configuration holds any.
"""

from __future__ import annotations

import random
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.io.encoded import Encoded
from ilo_pl.io.find import find_images, keyed
from ilo_pl.io.folder import atomic
from ilo_pl.io.formats import SUFFIXES, UNREADABLE

Result = TypeVar("Result")
SHARD = ".tar"
# Errors of these packages concern the way to a store, unless they are of the kinds below.
CLIENTS = ("botocore", "aiobotocore", "aiohttp", "urllib3", "requests", "httpx", "gcsfs", "s3fs")
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
# A file appears there whole or not at all; elsewhere it is renamed.
WHOLE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "hf", "memory")
# Seconds after which an answer that has not come is asked for again; S3 alone lets us say.
S3_TIMES = {"connect_timeout": 10, "read_timeout": 30}


@dataclass(frozen=True)
class Patience:
    """How errors that may pass are waited out: by twice as long each time, and a random share of that.

    Args:
        tries: how often something is tried.
        first: seconds after the first failure, at most.
        most: seconds after any, at most.
    """

    tries: int = 7
    first: float = 0.5
    most: float = 30.0

    def __call__(self, act: Callable[[], Result]) -> Result:
        """Return what a function returns, once it does.

        Raises:
            Exception: its last error, or one that will not pass.
        """
        for turn in range(self.tries):
            try:
                return act()
            except Exception as error:
                if turn + 1 == self.tries or not passes(error):
                    raise
                limit = min(self.most, self.first * 2**turn)
                time.sleep(random.uniform(0, limit))  # so that not all come back at once
        raise AssertionError("a try returns or raises")


def passes(error: BaseException) -> bool:
    """Return whether an error may be gone at the next try."""
    if isinstance(error, FINAL):
        return False
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError | TimeoutError | EOFError) or package in CLIENTS


@dataclass(frozen=True)
class Item:
    """A picture that is somewhere.

    Args:
        id: its id.
        path: the path of its file, as the file system of its storage has it.
        start: where it begins in the file, ``None`` where it is the file.
        length: how many bytes it has, likewise.
    """

    id: str
    path: str
    start: int | None = None
    length: int | None = None


def is_remote(address: str) -> bool:
    """Return whether text is an address of fsspec's, not a path of this machine."""
    return "://" in address or "::" in address


class Storage:
    """A folder, here or elsewhere.

    Args:
        address: a path, or an address of fsspec's.
        patience: how errors that may pass are waited out.
        options: for the file system.

    Raises:
        ConfigurationError: its kind is unknown, or the package for it is not installed.
    """

    def __init__(
        self,
        address: str,
        patience: Patience = Patience(),  # immutable
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.address = address
        self._patience = patience
        self._local = not is_remote(address)
        given = dict(options or {})
        if address.startswith(("s3://", "s3a://")):
            given = {"config_kwargs": S3_TIMES, **given}
        fsspec = _fsspec()
        try:
            self.fs, self.root = fsspec.core.url_to_fs(
                str(Path(address).absolute()) if self._local else address, **given
            )
        except (ImportError, ValueError) as error:
            raise ConfigurationError(
                f"{address} cannot be reached: {error}.",
                hint='pip install "ilo_pl[remote]" brings s3://; gs:// needs gcsfs, hf:// huggingface_hub.',
            ) from error

    def path(self, name: str) -> str:
        """Return the path of a file of this folder, as its file system has it."""
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, path: str, start: int | None = None, length: int | None = None) -> bytes:
        """Return the bytes of a file, or a part of them.

        Raises:
            InputError: they cannot be read, however often it is tried.
        """
        end = None if start is None or length is None else start + length

        def cat() -> bytes:
            data: bytes = self.fs.cat_file(path, start=start, end=end)
            if length is not None and len(data) < length:
                raise EOFError(f"{len(data)} of {length} bytes")
            return data

        try:
            return self._patience(cat)
        except Exception as error:  # every client has its own
            raise InputError(f"{path} cannot be read: {_said(error)}.") from error

    def picture(self, item: Item) -> Encoded:
        """Return a picture's file.

        Raises:
            InputError: it cannot be read.
        """
        data = self.read(item.path, item.start, item.length)
        name = item.path if item.start is None else f"{item.path}: {item.id}"
        return Encoded(name, data)

    def write(self, name: str, data: bytes) -> None:
        """Write a file of this folder: whole, or not at all.

        Raises:
            OutputError: it cannot be written, however often it is tried.
        """
        path = self.path(name)
        if self._local:
            with atomic(Path(path)) as temporary:
                temporary.write_bytes(data)
            return
        kind = self.fs.protocol
        whole = (kind if isinstance(kind, str) else kind[0]) in WHOLE

        def put() -> None:
            if whole:
                self.fs.pipe_file(path, data)
                return
            self.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            self.fs.pipe_file(f"{path}.part", data)
            self.fs.mv(f"{path}.part", path)

        try:
            self._patience(put)
        except Exception as error:
            raise OutputError(
                f"{path} could not be written: {_said(error)}.", hint="Go on with resume=true."
            ) from error

    def has(self, path: str) -> bool:
        """Return whether there is a file at a path.

        Raises:
            InputError: that cannot be found out.
        """
        try:
            return bool(self._patience(lambda: self.fs.exists(path)))
        except Exception as error:
            raise InputError(f"{path} cannot be looked for: {_said(error)}.") from error

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return the files of a folder in this one, by name, with their bytes; none where it is not there.

        Raises:
            InputError: that cannot be found out.
        """
        where = self.path(folder) if folder else self.root

        def listed() -> list[dict[str, Any]]:
            self.fs.invalidate_cache()
            try:
                found: list[dict[str, Any]] = self.fs.ls(where, detail=True)
            except FileNotFoundError:
                return []
            return found

        try:
            entries = self._patience(listed)
        except Exception as error:
            raise InputError(f"{where} cannot be read: {_said(error)}.") from error
        files = (e for e in entries if e["type"] == "file")
        return {PurePosixPath(e["name"]).name: int(e["size"] or 0) for e in files}

    # ---- what there is to read ---------------------------------------------------------------------

    def items(self) -> list[Item]:
        """Return the pictures here, sorted, each with the id that its name gives: those of a folder, list, archive or shard.

        Raises:
            InputError: there are none, or two would have one id.
        """
        if self._local and not self._shards():
            here = find_images(Path(self.address))
            return [Item(image_id, str(path.absolute())) for image_id, path in here.items()]
        try:
            found = [item for path in self._files() for item in self._within(path)]
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{self.address} cannot be read: {_said(error)}.") from error
        if not found:
            raise InputError(f"{self.address} holds no image.", choices=SUFFIXES)
        keyed([(item.id, item.path) for item in found], self.address)
        return sorted(found, key=lambda item: item.id)

    def _shards(self) -> bool:
        path = Path(self.address)
        if path.is_dir():
            return any(f.suffix == SHARD for f in path.iterdir() if f.is_file())
        return path.suffix == SHARD and path.is_file()

    def _files(self) -> list[str]:
        """Return the files here that are pictures or shards: of an archive all, of a folder its own."""

        def found() -> list[str]:
            if self.fs.isfile(self.root):
                return [self.root]
            if "::" in self.address:
                return sorted(self.fs.find(self.root))
            return sorted(
                e["name"] for e in self.fs.ls(self.root, detail=True) if e["type"] == "file"
            )

        names = self._patience(found)
        return [n for n in names if not PurePosixPath(n).name.startswith(".")]

    def _within(self, path: str) -> Iterator[Item]:
        """Yield the picture at a path, or those of a shard, whose bytes lie one after the other."""
        name = PurePosixPath(path)
        if name.suffix.lower() != SHARD:
            if name.suffix.lower() in (*SUFFIXES, *UNREADABLE):
                yield Item(name.stem, path)
            return
        yield from self._patience(lambda: self._members(path))

    def _members(self, path: str) -> list[Item]:
        with self.fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as shard:
            return [
                Item(PurePosixPath(m.name).stem, path, m.offset_data, m.size)
                for m in shard
                if m.isfile() and PurePosixPath(m.name).suffix.lower() in SUFFIXES
            ]


@contextmanager
def fetched(address: str) -> Iterator[Path]:
    """Yield a temporary folder with the pictures at an address, by id, gone behind this.

    Raises:
        InputError: they cannot be read.
    """
    storage = Storage(address)
    items = storage.items()
    with TemporaryDirectory() as folder:
        for item in items:
            suffix = PurePosixPath(item.path).suffix if item.start is None else ".png"
            (Path(folder) / f"{item.id}{suffix}").write_bytes(storage.picture(item).data)
        yield Path(folder)


def _fsspec() -> Any:
    import fsspec.core

    return fsspec


def _said(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300].rstrip(".")
