"""The YAML groups in ``configs/``: where they are and what can be chosen.

Shell completion reads this between two keys: it imports nothing that takes long.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

GROUPS = (
    "generator",
    "operator",
    "noise",
    "task",
    "method",
    "follow",
    "trainer",
    "logger",
    "engine",
)


def config_dir() -> Path:
    """Return the folder of the YAML groups, in an installed package or in a checkout."""
    packaged = Path(str(resources.files("ilo_pl"))) / "configs"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "configs"


def choices(group: str) -> list[str]:
    """Return the names of a config group, without the ones that only others build on."""
    return sorted(
        p.stem for p in (config_dir() / group).glob("*.yaml") if not p.stem.startswith("_")
    )
