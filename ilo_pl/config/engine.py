"""What a configuration says of who places the batches of a run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ilo_pl.spec import Spec


class PlainEngine(Spec):
    """The processes of the command itself."""

    name: Literal["plain"] = "plain"


class RayEngine(Spec):
    """Ray Data; ``configs/engine/ray.yaml`` explains the keys."""

    name: Literal["ray"]
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=10**5)] = "auto"
    cpus: Annotated[float, Field(gt=0, le=10**4)] = 1
    gpus: Literal["auto"] | Annotated[float, Field(ge=0, le=100)] = "auto"
    retries: Annotated[int, Field(ge=0, le=10**3)] = 5
    results: Literal["tables", "files", "both"] = "tables"
    address: Annotated[str, Field(min_length=1)] | None = None


EngineConfig = Annotated[PlainEngine | RayEngine, Field(discriminator="name")]
