"""What an experiment sweeps: the runs that its file and a user's choices unroll into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ilo_pl.config.choices import choices
from ilo_pl.config.compose import is_outside, load_config
from ilo_pl.config.overrides import Assignment, override_texts, read_overrides, value_text
from ilo_pl.config.run import RUN_PATHS, RunConfig
from ilo_pl.errors import ConfigurationError, unknown
from ilo_pl.io.folder import RunFolder
from ilo_pl.paper.experiment_file import Experiment, Keys, Quick, Variant, load_experiment

# What an experiment chooses itself, and what it reads before the runs do.
CHOSEN = ("task", "method", "operator", "reference", "simulate", "save_measurements")
READ = ("input", "output", "images", "methods", "levels")
# Ids are names of files: 007 is one.
TEXTS = {"images"}


@dataclass(frozen=True)
class PlannedRun:
    """One run of an experiment: a method at a level (``None`` where nothing is swept)."""

    method: str
    level: int | float | None
    config: RunConfig

    @property
    def folder(self) -> RunFolder:
        """Where it is run."""
        return RunFolder(Path(self.config.output))


@dataclass(frozen=True)
class Plan:
    """An experiment with a user's choices.

    Args:
        name: the experiment.
        spec: its file.
        output: the folder that it writes.
        input: the user's images; ``None`` for the default ones.
        images: ids of those to take, or how many, or ``None`` for all.
        labels: what the legend calls each method.
        runs: its runs, level by level.
    """

    name: str
    spec: Experiment
    output: Path
    input: Path | None
    images: tuple[str, ...] | int | None
    labels: Mapping[str, str]
    runs: tuple[PlannedRun, ...]


def make_plan(name: str, overrides: Sequence[str], quick: bool = False) -> Plan:
    """Unroll an experiment; every configuration is composed, so that a slip is found before any run.

    Args:
        name: the experiment.
        overrides: ``output=DIR``; ``input=``, ``images=``, ``methods=``, ``levels=`` to choose; and keys of the
            runs.
        quick: the small version.

    Raises:
        ConfigurationError: there is no such experiment, or a key cannot be used.
    """
    spec = load_experiment(name)
    read, rest = _divide(spec, overrides)
    if read.get("output") in (None, ""):
        raise ConfigurationError(
            "output must be given.", hint=f"For example: ilo-pl experiment {name} output={name}"
        )
    if not spec.input and {"input", "images"} & set(read):
        raise ConfigurationError(f"{name} has no input images.", hint="samples=4 makes four.")
    output = Path(str(read["output"]))
    small = spec.quick if quick else None
    variants = _variants(spec, read.get("methods"), small)
    _check_lines(spec, variants, rest)
    runs = [
        PlannedRun(m, level, _compose(spec, output, m, variant, level, small, given))
        for level in _levels(spec, read.get("levels"), small)
        for (m, variant), given in zip(variants.items(), _of_lines(variants, rest), strict=True)
    ]
    return Plan(
        name,
        spec,
        output,
        Path(str(read["input"])) if read.get("input") is not None else None,
        _images(read["images"]) if "images" in read else (small.images if small else None),
        {method: variant.label or method for method, variant in variants.items()},
        tuple(runs),
    )


def _of_lines(variants: Mapping[str, Variant], rest: Sequence[Assignment]) -> list[list[str]]:
    """Return the overrides of each line: keys of a search are for those that search.

    Where none does, they are a slip.
    """
    texts = [given.text for given in rest]
    if all(is_outside(v.method) for v in variants.values()):
        return [texts for _ in variants]
    return [not_of_method(texts) if is_outside(v.method) else texts for v in variants.values()]


def _divide(spec: Experiment, overrides: Sequence[str]) -> tuple[Keys, list[Assignment]]:
    """Return the values of the keys that the experiment reads, and the overrides that are for the runs."""
    read: Keys = {}
    rest = []
    for given in read_overrides(overrides, RUN_PATHS | TEXTS):
        key = given.key
        swept = spec.axis is not None and key not in CHOSEN and _overlap(key, spec.axis.key)
        if key in CHOSEN or swept:
            hint = "Use levels=[...]." if swept else "Its file in configs/experiment has it."
            raise ConfigurationError(f"The experiment chooses {key} itself.", hint=hint)
        if key in READ:
            read[key] = given.value
        else:
            rest.append(given)
    return read, rest


def _variants(spec: Experiment, wanted: Any, quick: Quick | None) -> dict[str, Variant]:
    """Return the methods to run; any method with a file can be added to those of the experiment."""
    names = wanted if wanted is not None else (quick.methods if quick else spec.methods)
    known = {m: Variant(method=m) for m in choices("method")} | spec.methods
    if isinstance(names, str) or not isinstance(names, Iterable) or not names:
        raise ConfigurationError(
            f"methods = {names!r}; give a list, for example [csgm,ilo].", choices=known
        )
    found = {}
    for name in map(str, names):
        if name not in known:
            raise unknown("method", name, known)
        keys = {**known[name].keys, **(quick.methods.get(name, {}) if quick else {})}
        found[name] = known[name].model_copy(update={"keys": keys})
    return found


def _check_lines(
    spec: Experiment, variants: Mapping[str, Variant], rest: Sequence[Assignment]
) -> None:
    """Refuse overrides of what makes a line the one that its label says."""
    for given in rest:
        for name in [m for m in variants if m in spec.methods]:
            for key, value in spec.methods[name].keys.items():
                if _overlap(given.key, key):
                    raise ConfigurationError(
                        f"{given.key} cannot be given: the line {name!r} of the figure is the one with "
                        f"{key} = {value_text(value)}.",
                        hint="Leave it out, or take other lines with methods=[...].",
                    )


def _overlap(one: str, other: str) -> bool:
    """Return whether setting one key sets the other: method.radii={...} sets method.radii.hidden too."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _levels(spec: Experiment, wanted: Any, quick: Quick | None) -> list[int | float | None]:
    if spec.axis is None:
        if wanted is not None:
            raise ConfigurationError("levels: this experiment sweeps nothing.")
        return [None]
    given = wanted if wanted is not None else ((quick and quick.levels) or spec.axis.values)
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = [given]
    levels = list(given)
    if not levels or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in levels):
        raise ConfigurationError(
            f"levels = {wanted!r}; give a list of values of {spec.axis.key}, for example "
            f"{list(spec.axis.values)}."
        )
    # 4.0 is 4, to keys that count and in the names of folders.
    return list(dict.fromkeys(int(v) if float(v).is_integer() else v for v in levels))


def _images(given: Any) -> tuple[str, ...] | int:
    if isinstance(given, str) and re.fullmatch("[1-9][0-9]{0,8}", given):
        return int(given)
    if isinstance(given, list) and given:
        return tuple(map(str, given))
    raise ConfigurationError(
        f"images = {given}; give how many, or a list of ids, for example [face1,portrait]."
    )


def _compose(
    spec: Experiment,
    output: Path,
    method: str,
    variant: Variant,
    level: int | float | None,
    small: Quick | None,
    rest: Sequence[str],
) -> RunConfig:
    folder = method if level is None else f"{method}-{level}"
    paths: Keys = {"output": str(output / "runs" / folder)}
    if spec.input:
        paths |= {name: str(output / "images") for name in ("input", "reference")}
    common: Keys = {"task": spec.task, **spec.keys, **(small.keys if small else {})}
    shared = override_texts(common)
    if is_outside(variant.method):
        shared = not_of_method(shared)
    own = shared + override_texts(variant.keys)
    swept = override_texts({spec.axis.key: level} if spec.axis else {})
    config = ["save_measurements=false", f"method={variant.method}"]
    return load_config([*config, *own, *swept, *rest, *override_texts(paths)])


def not_of_method(texts: Sequence[str]) -> list[str]:
    """Return the overrides without keys of a search, which methods outside the engine do not have."""
    return [text for text in texts if not text.lstrip("+").startswith("method.")]
