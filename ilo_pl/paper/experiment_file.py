"""Files of ``configs/experiment``, typed."""

from __future__ import annotations

from typing import Annotated, Any

from omegaconf import OmegaConf
from pydantic import Field

from ilo_pl.config.choices import choices, config_dir
from ilo_pl.errors import unknown
from ilo_pl.paper.figures import Panel
from ilo_pl.spec import Number, Spec, Whole

# What an experiment folder says of itself; it has a checksum for each of the user's images.
RECORD = "experiment.yaml"
MOST_OF_RECORD = 2**24
Keys = dict[str, Any]
Level = Whole | Number
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Variant(Spec):
    """A line of the figure: a method, with other values for some keys.

    Args:
        method: a file of ``configs/method``.
        label: what the legend calls it; its name by default.
        keys: run keys that it sets.
    """

    method: str
    label: str | None = None
    keys: Keys = Field(default_factory=dict)


class Axis(Spec):
    """What is swept: a run key and its values."""

    key: str
    values: Annotated[tuple[Level, ...], Field(min_length=1)]


class Quick(Spec):
    """What the small version changes.

    Args:
        levels: instead of the axis' values.
        images: how many, the first ones.
        keys: run keys that it sets.
        methods: those that it runs, each with run keys.
    """

    levels: tuple[Level, ...] = ()
    images: Annotated[Whole, Field(ge=1)] = 2
    keys: Keys = Field(default_factory=dict)
    methods: Annotated[dict[Name, Keys], Field(min_length=1)]


class Experiment(Spec):
    """A file of ``configs/experiment``.

    Args:
        title: above the figure.
        task: a file of ``configs/task``.
        input: whether it measures images.
        keys: run keys for all methods.
        axis: what is swept; null: nothing.
        methods: the lines, by name.
        panels: what the figure shows.
        grid: level of the pictures in ``grid.png``; with one method, all levels are shown.
        trace: steps between two looks at the search (``trace.csv``); 0: none.
        quick: the small version.
    """

    title: str
    task: str
    input: bool = True
    keys: Keys = Field(default_factory=dict)
    axis: Axis | None = None
    methods: Annotated[dict[Name, Variant], Field(min_length=1)]
    panels: Annotated[tuple[Panel, ...], Field(min_length=1)]
    grid: Level | None = None
    trace: Annotated[Whole, Field(ge=0)] = 0
    quick: Quick


def load_experiment(name: str) -> Experiment:
    """Read a file of ``configs/experiment``.

    Raises:
        ConfigurationError: there is no such experiment, or its file cannot be used.
    """
    if name not in choices("experiment"):
        raise unknown("experiment", name, choices("experiment"))
    loaded = OmegaConf.to_container(OmegaConf.load(config_dir() / "experiment" / f"{name}.yaml"))
    assert isinstance(loaded, dict)
    return Experiment(**{str(key): value for key, value in loaded.items()})
