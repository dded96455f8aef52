"""Bodies of requests in, files of answers out."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request

from ilo_pl.app.session import Photo, Session
from ilo_pl.app.wish import FACE
from ilo_pl.errors import InputError
from ilo_pl.io.formats import SUFFIXES, UNREADABLE

# Requests other than a photo: a wish with what was painted.
MOST_BODY = 8_000_000
MOST_NAME = 150


class Answer(Exception):  # noqa: N818
    """An answer with a status of its own."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def too_large(most: int) -> Answer:
    """Return the answer to a body of more bytes."""
    return Answer(413, f"This is larger than {most / 1e6:.0f} MB, which is the most that is taken.")


async def receive(request: Request, received: Any, most: int) -> None:
    """Write a body to a file as it comes, and stop when it is too large."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large(most)
        await asyncio.to_thread(received.write, chunk)
    if size == 0:
        raise InputError("The file is empty.")


def photo_of(session: Session) -> Photo:
    """Return a session's photo.

    Raises:
        Answer: it has none.
    """
    if session.state.photo is None:
        raise Answer(404, "There is no photo yet.")
    return session.state.photo


def painting(value: Any) -> bytes | None:
    """Return what was painted, from a data URI's base64."""
    if value is None:
        return None
    try:
        return base64.b64decode(str(value).rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError):
        raise InputError("What was painted is no picture.") from None


def shown_name(name: str) -> str:
    """Return a name that can be shown: without folders, without what cannot be printed."""
    base = re.split(r"[/\\]", name)[-1]
    return "".join(c for c in base if c.isprintable()).strip()[:MOST_NAME] or "photo"


def known_suffix(name: str) -> str:
    """Return a suffix that is known, for formats are told apart by it, too; it is no stranger's text any more."""
    suffix = os.path.splitext(name.lower())[1]
    return next((known for known in (*SUFFIXES, *UNREADABLE) if known == suffix), ".png")


def stem_of(session: Session) -> str:
    """Return what a photo is called, without its suffix."""
    return os.path.splitext(photo_of(session).name)[0]


def download_name(session: Session, path: Path) -> str:
    """Return what a downloaded file is called: by its owner's name of the photo, and what it is of it."""
    if path.stem != FACE:
        return f"{stem_of(session)} {path.name}"
    what = {"reconstructions": "face"}.get(path.parent.name, path.parent.name)
    return f"{stem_of(session)} {what}{path.suffix}"


def attachment(name: str) -> str:
    """Return the header by which a browser saves a file under a name (RFC 6266)."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def zipped(files: Mapping[str, Path], folder: Path) -> Path:
    """Write files, by their paths in it, to an archive in a folder, and return its path."""
    handle, name = tempfile.mkstemp(suffix=".zip", prefix=".", dir=folder)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for inner, path in files.items():
            # Pictures are compressed already.
            archive.write(path, inner, zipfile.ZIP_STORED)
    return Path(name)


def check_length(request: Request, most: int) -> None:
    """Refuse a body that says it is too large.

    Raises:
        Answer: it does.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large(most)


async def read_json(request: Request) -> dict[str, Any]:
    """Return the object that a request holds.

    Raises:
        Answer: it is too large.
        InputError: it holds something else.
    """
    check_length(request, MOST_BODY)
    with tempfile.SpooledTemporaryFile(max_size=MOST_BODY) as received:
        await receive(request, received, MOST_BODY)
        received.seek(0)
        try:
            body = json.loads(received.read())
        except (ValueError, RecursionError):
            raise InputError("The request holds no JSON.") from None
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise InputError("The request holds no JSON object.")
    return body
