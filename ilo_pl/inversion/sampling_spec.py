"""How a stage samples the posterior instead of searching for one answer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ilo_pl.spec import Spec, Whole


class Sampling(Spec):
    """Draws from p(variables | measurements), by chains that start from the search's answer (docs/posterior.md).

    Args:
        samples: how many are kept of each image; a multiple of ``chains``.
        chains: how many walk beside each other.
        burn_in: steps of each chain before the first sample, in which step size and preconditioner adapt.
        thin: steps from one sample of a chain to its next.
        sampler: ``hmc``: Hamiltonian, exact; ``mala``: Metropolis-adjusted Langevin, exact; ``langevin``: preconditioned and unadjusted (pSGLD);
            ``proximal``: the same, proximal in the Laplace prior (MYULA).
        directions: how many directions, those that the measurements fix most, are preconditioned by what they fix; 0 has a
            diagonal preconditioner of squared gradients.
        step: the step size t, up to 1; null adapts it.
        leaps: leapfrog steps, each with a gradient, of a proposal of ``hmc``.
        acceptance: share of proposals to be accepted, which the step adapts to; null: 0.7 for hmc, 0.574 for mala, 0.95 for the
            others, which accept all, so that it bounds their bias.
        prior: of the deviation at a split behind 0, whose mean size is the stage's radius: ``laplace``, or ``ball``,
            uniform on the l1 ball.
        floor: standard deviation of the measurements in 8-bit grey levels where they have no noise.
        spread: how far chains start from the search's answer towards draws from the prior, in [0, 1].
    """

    samples: Annotated[Whole, Field(ge=1, le=10**4)] = 16
    chains: Annotated[Whole, Field(ge=1, le=10**4)] = 4
    burn_in: Annotated[Whole, Field(ge=0, le=10**8)] = 500
    thin: Annotated[Whole, Field(ge=1, le=10**6)] = 50
    sampler: Literal["hmc", "mala", "langevin", "proximal"] = "hmc"
    directions: Annotated[Whole, Field(ge=0, le=10**4)] = 64
    step: Annotated[float, Field(gt=0, le=1)] | None = None
    acceptance: Annotated[float, Field(gt=0, lt=1)] | None = None
    leaps: Annotated[Whole, Field(ge=1, le=10**4)] = 6
    prior: Literal["laplace", "ball"] = "laplace"
    floor: Annotated[float, Field(gt=0, le=255)] = 4.0
    spread: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _whole_rounds(self) -> Self:
        if self.samples % self.chains:
            raise ValueError(
                f"samples = {self.samples} is no multiple of chains = {self.chains}, each of which gives as many."
            )
        if self.thin < self.leaps_of_proposal:
            raise ValueError(
                f"thin = {self.thin} is less than leaps = {self.leaps}, the steps of one proposal of sampler = 'hmc': "
                "samples would be the same."
            )
        return self

    @property
    def leaps_of_proposal(self) -> int:
        """How many steps a proposal has."""
        return self.leaps if self.sampler == "hmc" else 1

    @property
    def draws(self) -> int:
        """How many steps each chain has behind its burn-in."""
        return self.samples // self.chains * self.thin

    @property
    def steps(self) -> int:
        """How many it has."""
        return self.burn_in + self.draws
