"""Files that torchvision publishes: from its cache or its address, checked, and read without being run."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch

from ilo_pl.errors import WeightsError
from ilo_pl.weights.pickles import load_tensors
from ilo_pl.weights.registry import sha256_of


def hub_tensors(url: str) -> Any:
    """Return the tensors of a file of torchvision, downloaded if it is not in the cache of torch.hub.

    ``torch.hub`` itself checks a file only where it downloads it, and unpickles what lies in its cache.

    Args:
        url: its address, whose name ends in the first digits of its sha256.

    Raises:
        WeightsError: the file is not to be had, or is another one.
    """
    name = PurePosixPath(urlparse(url).path).name
    found = re.search(r"-([0-9a-f]{8,})\.pth?$", name)
    if found is None:
        raise WeightsError(f"{url} does not say its sha256, and an unverified file is never used.")
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), found[1], progress=False)
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"{name} could not be downloaded: {error}.",
                hint=f"Download {url} elsewhere and put it into {path.parent}.",
            ) from None
    if not sha256_of(path).startswith(found[1]):
        raise WeightsError(
            f"{path} is another file than its name says: its sha256 does not begin with {found[1]}.",
            hint="Delete it and try again.",
        )
    return load_tensors(path, lenient=False)
