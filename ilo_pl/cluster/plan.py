"""What a run of a cluster is: its batches, and what its output already holds.

    config.yaml, state/cluster.json  what the run is
    results/part-00000007.parquet    batch 7 is done: a row for each image that has a result
    failures/part-00000007.parquet   its images that have none, and why
    reconstructions/, measurements/, latents/   as a run folder has them, with engine.results=files or both

A part appears whole, is named by its batch, and holds the same whoever writes it: a batch that is searched twice, because
a worker died behind its last line, writes the same part twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import OmegaConf

from ilo_pl.config.differences import anchored, changes
from ilo_pl.config.run import RunConfig
from ilo_pl.errors import ConfigurationError, InputError, OutputError
from ilo_pl.io.remote import Item, Storage

MANIFEST = "state/cluster.json"
RESULTS, FAILURES = "results", "failures"
PART = re.compile(r"part-(\d+)\.parquet")
# A table without rows has more.
LEAST_BYTES = 100


def part(unit: int) -> str:
    """Return the name of a batch's tables."""
    return f"part-{unit:08d}.parquet"


@dataclass(frozen=True)
class Unit:
    """A batch of images; which are in it depends on nothing but the input and the batch size.

    Args:
        number: its index.
        items: its images.
        references: paths of their true images, where there are any.
    """

    number: int
    items: tuple[Item, ...]
    references: tuple[str | None, ...]

    def row(self) -> dict[str, Any]:
        """Return the batch as a row of a dataset."""
        return {"unit": self.number, "content": json.dumps(asdict(self))}

    @classmethod
    def of(cls, content: str) -> Unit:
        """Undo :meth:`row`."""
        loaded = json.loads(content)
        items = tuple(Item(**item) for item in loaded["items"])
        return cls(loaded["number"], items, tuple(loaded["references"]))


def plan(config: RunConfig) -> list[Unit]:
    """Return the batches of a run.

    Raises:
        InputError: input or reference cannot be read, or an image has no true image.
    """
    assert config.input is not None and isinstance(config.batch_size, int)
    items = Storage(config.input).items()
    truths: dict[str, str] = {}
    if config.reference is not None:
        found = Storage(config.reference).items()
        if any(item.start is not None for item in found):
            raise InputError(
                f"{config.reference} holds shards, which references cannot be read from.",
                hint="Give a folder of true images with the inputs' names.",
            )
        truths = {item.id: item.path for item in found}
        missing = [item.id for item in items if item.id not in truths]
        if missing:
            raise InputError(
                f"{config.reference} holds no true image for {missing[0]!r}.",
                hint="A folder of references holds one file for each input, with the input's name.",
            )
    size = config.batch_size
    chunks = [tuple(items[i : i + size]) for i in range(0, len(items), size)]
    return [
        Unit(number, chunk, tuple(truths.get(item.id) for item in chunk))
        for number, chunk in enumerate(chunks)
    ]


def begin(config: RunConfig, output: Storage, units: Sequence[Unit]) -> set[int]:
    """Begin a run, or take up the one in its output; return the batches that are done.

    Raises:
        OutputError: the output holds something else, or cannot be written.
        ConfigurationError: the run in it was begun with another configuration, or other images.
    """
    now: dict[str, Any] = {
        "config": anchored(config).model_dump(mode="json"),
        "results": _results(config),
        "images": _digest(units),
    }
    known = output.sizes("state")
    if MANIFEST.rpartition("/")[2] in known:
        if not config.resume:
            raise OutputError(
                f"There is a run in {output.address} already.",
                hint="Go on with it by resume=true, or give another output=...",
            )
        _compare(json.loads(output.read(output.path(MANIFEST))), now, config, output)
    elif known or output.sizes() or output.sizes(RESULTS):
        raise OutputError(
            f"The output {output.address} is not empty, and no run of engine=ray is in it.",
            hint="Give another output=...",
        )
    else:
        output.write("config.yaml", OmegaConf.to_yaml(OmegaConf.create(now["config"])).encode())
        output.write(MANIFEST, json.dumps(now).encode())
    return done(output)


def done(output: Storage) -> set[int]:
    """Return the batches whose results are there."""
    found = output.sizes(RESULTS).items()
    parts = ((PART.fullmatch(name), size) for name, size in found)
    return {int(match[1]) for match, size in parts if match and size > LEAST_BYTES}


def _compare(
    before: dict[str, Any], now: dict[str, Any], config: RunConfig, output: Storage
) -> None:
    lines = changes(before["config"], now["config"])
    if before["results"] != now["results"]:
        lines.append(f"engine.results = {before['results']} before, {now['results']} now")
    if before["images"] != now["images"]:
        lines.append("images were added, removed or moved")
    if lines:
        raise ConfigurationError(
            f"The run in {output.address} was begun otherwise: {'; '.join(lines)}.",
            hint="Resume with what it was begun with, or give another output=...",
        )


def _results(config: RunConfig) -> str:
    assert config.engine.name == "ray"
    return config.engine.results


def _digest(units: Sequence[Unit]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for unit in units:
        digest.update(json.dumps(asdict(unit)).encode())
    return digest.hexdigest()
