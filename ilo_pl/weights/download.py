"""Get a registered file once, resume where a download stopped, and never use an unverified one."""

from __future__ import annotations

import http.client
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

from ilo_pl.errors import WeightsError
from ilo_pl.weights.registry import WeightsEntry, sha256_of

CACHE_VARIABLE = "ILO_PL_CACHE"
CHUNK = 1 << 20
TIMEOUT = 60.0
RANGE_NOT_SATISFIABLE = 416


def cache_dir() -> Path:
    """Return the folder that downloaded weights are kept in: ``$ILO_PL_CACHE``, or the platform's."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ilo_pl"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ilo_pl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ilo_pl"


def fetch(entry: WeightsEntry, folder: Path | None = None) -> Path:
    """Return the path of a registered file in the cache, downloaded if it is not there.

    A file that is there already is used without a network, once its sha256 is found right.

    Args:
        entry: the file.
        folder: the cache; :func:`cache_dir` by default.

    Raises:
        WeightsError: the registry does not know the file's sha256, the download failed (what has
            arrived is kept, and the next call goes on from there), or the file is another one
            (it is deleted).
    """
    path = (folder or cache_dir()) / entry.file
    if not entry.sha256:
        raise WeightsError(
            f"{entry.name} is not downloaded: the registry does not know its sha256, and an unverified "
            "file is never used.",
            hint=f"Get it yourself from {entry.url} (licence: {entry.licence}) and give its path.",
        )
    if not path.is_file():
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _download(entry.url, part)
            _verify(part, entry)
            part.replace(path)
        except (OSError, http.client.HTTPException) as error:
            raise WeightsError(
                f"{entry.name} could not be downloaded from {entry.url} to {path}: {error}.",
                hint="Try again: what has arrived is kept. Or put the file there yourself.",
            ) from None
    else:
        _verify(path, entry)
    return path


def _verify(path: Path, entry: WeightsEntry) -> None:
    found = sha256_of(path)
    if found != entry.sha256:
        path.unlink()
        raise WeightsError(
            f"{path} was not the file registered as {entry.name} and is deleted: its sha256 was "
            f"{found}, expected {entry.sha256}.",
            hint=f"Get it again; if that does not help, the file at {entry.url} has changed.",
        )


def _download(url: str, part: Path) -> None:
    """Write what an address holds to a file, going on behind what the file holds already."""
    if not url.startswith(("https://", "http://")):
        raise WeightsError(f"{url} is no web address.")
    done = part.stat().st_size if part.is_file() else 0
    headers = {"User-Agent": "ilo_pl"} | ({"Range": f"bytes={done}-"} if done else {})
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != RANGE_NOT_SATISFIABLE or not done:
            raise
        # All of it is there already, or it is another file's; the sha256 will tell.
        return
    with response:
        resumed = re.match(rf"bytes {done}-", response.headers.get("Content-Range", ""))
        if not (response.status == http.client.PARTIAL_CONTENT and resumed):
            done = 0
        total = done + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if done else "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
    if done < total:
        raise OSError(f"the connection ended after {done} of {total} bytes")
