"""Which generator, as configurations, the command line and files of latents say it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from ilo_pl.generators import SplitGenerator, make_generator
from ilo_pl.generators.resized import with_size
from ilo_pl.spec import PathText, Spec

Seed = Annotated[int, Field(ge=0, lt=2**63)]


class GeneratorConfig(Spec):
    """Which generator, and where its weights are (``null``: those in the package).

    ``class_index`` fixes the class of a network that has classes; ``null`` searches the class too.
    ``size`` makes its images smaller, see :class:`~ilo_pl.generators.resized.Resized`; ``null`` leaves them.
    """

    name: str
    weights: PathText | None = None
    seed: Seed = 0
    class_index: Annotated[int, Field(ge=0)] | None = None
    size: Annotated[int, Field(ge=1)] | None = None

    def make(self, *, imports: bool) -> SplitGenerator:
        """Return the generator, frozen.

        Args:
            imports: whether the user typed the name; see :func:`make_generator`.

        Raises:
            ConfigurationError: there is no such generator, class or size, or it has no weights file.
            WeightsError: the weights cannot be used.
        """
        weights = Path(self.weights) if self.weights else None
        made = make_generator(
            self.name, weights, self.seed, imports=imports, class_index=self.class_index
        )
        return with_size(made, self.size)
