"""The zip archives of ``torch.save``, read member by member; nothing is ever unpacked to the disk."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path, PurePosixPath
from types import TracebackType

# Of the list of members; real archives have some thousand of about a hundred bytes.
MAX_DIRECTORY = 16 << 20
# Of the pickle that says how the tensors are called.
MAX_PICKLE = 64 << 20
END = b"PK\x05\x06"
END_SIZE = 22
ENCRYPTED = 0x1


class DamagedError(Exception):
    """The file is not what it should be."""


class ProgramError(Exception):
    """The archive is one of TorchScript: a program."""


class Archive:
    """An archive whose members were found to be plain, stored as they are, and each there once.

    Args:
        path: the file.

    Raises:
        DamagedError: it is not such an archive.
        ProgramError: it is one of TorchScript.
    """

    def __init__(self, path: Path) -> None:
        _check_directory(path)
        self._zip = zipfile.ZipFile(path)
        try:
            self._top = self._check()
        except Exception:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._zip.close()

    def _check(self) -> str:
        """Look at every member; return the folder that they lie in."""
        members = self._zip.infolist()
        names = [member.filename for member in members]
        if any(n.endswith("constants.pkl") or "/code/" in f"/{n}" for n in names):
            raise ProgramError
        if len(set(names)) != len(names):
            raise DamagedError("it holds a member twice")
        for member in members:
            path = PurePosixPath(member.filename.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts:
                raise DamagedError("it holds a member outside of its folder")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise DamagedError("it holds a link")
            if member.flag_bits & ENCRYPTED:
                raise DamagedError("it is encrypted")
            if member.compress_type != zipfile.ZIP_STORED or (
                member.file_size != member.compress_size
            ):
                raise DamagedError("it is compressed, which files of torch.save never are")
        tops = [n.removesuffix("data.pkl") for n in names if n.endswith("/data.pkl")]
        if len(tops) != 1:
            raise DamagedError("it is no archive of torch.save")
        if f"{tops[0]}byteorder" in names and self._zip.read(f"{tops[0]}byteorder") != b"little":
            raise DamagedError("its numbers have another byte order")
        return tops[0]

    def read(self, name: str, size: int | None = None) -> bytes:
        """Return the bytes of a member.

        Args:
            name: its name inside the folder.
            size: how many they must be; a pickle's limit by default.

        Raises:
            DamagedError: it is not there, or has another size.
        """
        try:
            member = self._zip.getinfo(self._top + name)
        except KeyError:
            raise DamagedError(f"{name[:80]!r} is missing in it") from None
        if size is None and member.file_size > MAX_PICKLE:
            raise DamagedError(f"its {name[:80]} has {member.file_size} bytes")
        if size is not None and member.file_size != size:
            raise DamagedError(
                f"its {name[:80]} has {member.file_size} bytes for {size} that are declared"
            )
        return self._zip.read(member)


def _check_directory(path: Path) -> None:
    """Refuse a list of members so long that reading it would be the attack."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - END_SIZE - (1 << 16)))
        tail = file.read()
    place = tail.rfind(END)
    if place < 0 or len(tail) - place < END_SIZE:
        raise DamagedError("its end is missing")
    length = int.from_bytes(tail[place + 12 : place + 16], "little")
    if length == 0xFFFFFFFF or length > MAX_DIRECTORY:
        raise DamagedError("its list of members is longer than any that is real")
