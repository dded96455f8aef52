"""Get a registered file once, and never use an unverified one."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ilo_pl.errors import WeightsError
from ilo_pl.weights.registry import WeightsEntry, sha256_of

log = logging.getLogger(__name__)

CACHE_VARIABLE = "ILO_PL_CACHE"
TIMEOUT = 60.0


def cache_dir() -> Path:
    """Return the folder that downloaded weights are kept in: ``$ILO_PL_CACHE``, or the platform's."""
    if given := os.environ.get(CACHE_VARIABLE):
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("ilo_pl", appauthor=False, opinion=False))


def fetch(entry: WeightsEntry, folder: Path | None = None) -> Path:
    """Return the path of a registered file in the cache, downloaded if it is not there.

    A file that is there already is used without a network, once its sha256 is found right; another file
    of its name is replaced. What does not arrive whole leaves nothing behind.

    Args:
        entry: the file.
        folder: the cache; :func:`cache_dir` by default.

    Raises:
        WeightsError: the registry does not know the file's sha256, the download failed, or what arrived
            is another file.
    """
    path = (folder or cache_dir()) / entry.file
    if not entry.sha256:
        raise WeightsError(
            f"{entry.name} is not downloaded: the registry does not know its sha256, and an unverified "
            "file is never used.",
            hint=f"Get it yourself from {entry.url} (licence: {entry.licence}) and give its path.",
        )
    try:
        if path.is_file() and sha256_of(path) == entry.sha256:
            return path
        log.info("downloading %s from %s", entry.name, entry.url)
        return _download(entry, path)
    except (OSError, ValueError) as error:  # pooch's word for a wrong sha256 is ValueError
        raise WeightsError(
            f"{entry.name} could not be had from {entry.url} as {path}: {str(error)[:300]}",
            hint=f"Try again, or put the file with the sha256 {entry.sha256} there yourself.",
        ) from None


def _download(entry: WeightsEntry, path: Path) -> Path:
    # pooch brings requests along, which takes 0.2 s to import.
    import pooch

    # It says on stderr what it does, where our messages go.
    pooch.get_logger().setLevel(logging.WARNING)
    return Path(
        pooch.retrieve(
            entry.url,
            known_hash=f"sha256:{entry.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=TIMEOUT),
        )
    )
