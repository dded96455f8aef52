"""Langevin samplers as torch optimisers: a step of one moves every chain by a draw, not to a minimum.

A chain that is at x proposes x' = x - t M g + sqrt(t (2 - t) M) n, where g is the gradient of the energy U = -log p at
x, n is N(0, I), and M is diagonal. To first order in t that is Langevin's equation; the noise is such that any step keeps
a Gaussian of covariance M, as the proposals of Cotter et al. (2013, arXiv 1202.0709) keep their prior: so variables of
which the measurements tell nothing neither slow the others down nor get a bias. While chains burn in, M and t adapt to
each image, from all of its chains; from then on both stay as they are, so that one distribution is drawn from.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.inversion.packing import row_sums, spread

# M adapts for the first part of the burn-in, t for all of it.
PRECONDITIONED = 0.75
# How fast what is adapted forgets: its gain falls with this power of the step.
FORGETTING = 0.6
FIRST_STEP = 0.1
# Variables are in units of their prior, whose curvature of 1 no direction goes below.
LEAST_CURVATURE = 1.0

Draw = Callable[[int, int], tuple[Tensor, Tensor]]
"""Returns, given a step and a size, normal numbers ``(N, size)`` and uniform ones ``(N,)``."""


def proposal(at: Tensor, gradient: Tensor, scale: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of what a chain proposes.

    Args:
        at: x.
        gradient: g.
        scale: M.
        t: the step, in (0, 1]; 1 forgets where a Gaussian of covariance M was.
    """
    return at - t * scale * gradient, t * (2 - t) * scale


def misfit(to: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return minus the logarithm of a proposal's density, but for a constant: ``(N,)`` in double precision."""
    return row_sums(((to - mean).square() / variance).flatten(1)) / 2


def gain(step: int) -> float:
    """Return how much of what a step says is adapted to."""
    return float((step + 1) ** -FORGETTING)


class Langevin(torch.optim.Optimizer, abc.ABC):
    """A sampler of several images, each with as many chains.

    The parameters hold what is proposed; whether a chain goes there is known once the energy there is. So a step needs one
    gradient, and parameters are one step ahead of the chains: :meth:`current` says where those are.

    Args:
        parameters: ``(N, ...)`` each, the chains of an image behind each other.
        energy: returns U of what the parameters hold, ``(N,)``, as it was when the gradient was taken; infinite where the
            gradient is not to be trusted.
        draw: random numbers of a step.
        images: how many images there are, of which N is a multiple.
        burn_in: steps that adapt.
        step: t; ``None`` adapts it.
        acceptance: the share of proposals that adapting t aims at, :attr:`target` by default.
        l1: parameters x for which U has the term ||x||_1.

    Attributes:
        target: the default of ``acceptance``.
        moved: which chains went where they had proposed, in the last step, ``(N,)``.
    """

    target: ClassVar[float]
    moved: Tensor

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        energy: Callable[[], Tensor],
        draw: Draw,
        *,
        images: int,
        burn_in: int,
        step: float | None = None,
        acceptance: float | None = None,
        l1: Sequence[nn.Parameter] = (),
    ) -> None:
        first = parameters[0]
        count = len(first)
        # What a group holds is restored as it is; of a state torch casts all numbers to the parameters' type.
        own = {
            "taken": 0,
            "log_step": first.new_full((images,), math.log(step or FIRST_STEP)),
            "energy": row_sums(first.new_zeros(count, 1)),
            "accepted": first.new_zeros(count),
        }
        super().__init__(parameters, {"lr": 1.0, **own})
        self._energy = energy
        self._draw = draw
        self._images = images
        self._burn_in = burn_in
        self._fixed = step is not None
        self._aim = self.target if acceptance is None else acceptance
        self._l1 = {id(parameter) for parameter in l1}
        self.moved = torch.ones(count, dtype=torch.bool, device=first.device)

    @abc.abstractmethod
    def accepts(self, ratio: Tensor, uniform: Tensor) -> Tensor:
        """Return which proposals chains go to, bool ``(N,)``.

        Args:
            ratio: logarithm of the Metropolis-Hastings ratio, ``(N,)``.
            uniform: uniform numbers, ``(N,)``.
        """

    def force(self, parameter: nn.Parameter, at: Tensor, gradient: Tensor, width: Tensor) -> Tensor:
        """Return the gradient that a proposal follows, given what was differentiated.

        Args:
            parameter: of which.
            at: where it is.
            gradient: there.
            width: t M.
        """
        return gradient

    def cost(self, parameter: nn.Parameter, at: Tensor, width: Tensor) -> Tensor | float:
        """Return what the energy that is sampled has beside U, ``(N,)``; arguments as for :meth:`force`."""
        return 0.0

    @property
    def taken(self) -> int:
        """How many steps have been taken."""
        return int(self._group["taken"])

    @property
    def step_size(self) -> Tensor:
        """The step t of each image, ``(B,)``."""
        log_step: Tensor = self._group["log_step"]
        return log_step.exp()

    @property
    def acceptance(self) -> Tensor:
        """Share of proposals behind the burn-in that each chain went to, ``(N,)``."""
        accepted: Tensor = self._group["accepted"]
        return accepted / max(self.taken - self._burn_in, 1)

    @property
    def energy(self) -> Tensor:
        """U where the chains are, ``(N,)``."""
        energy: Tensor = self._group["energy"]
        return energy

    def current(self, parameter: nn.Parameter) -> Tensor:
        """Return where the chains are."""
        at: Tensor = self.state[parameter]["at"]
        return at

    @property
    def _group(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _parameters(self) -> list[nn.Parameter]:
        parameters: list[nn.Parameter] = self._group["params"]
        return parameters

    def problems(self, taken: int) -> list[str]:
        """Return why a restored state cannot be that behind some steps."""
        found = []
        if self.taken != taken:
            found.append("the sampler's steps are not as many")
        held = [state for p in self._parameters if (state := self.state.get(p))]
        if taken and len(held) < len(self._parameters):
            found.append("the sampler does not know where its chains are")
        tensors = [value for state in held for value in state.values()]
        if not all(bool(torch.isfinite(value).all()) for value in tensors):
            found.append("chains are where nothing is finite")
        return found

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Decide on what was proposed, adapt, and propose again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group, parameters = self._group, self._parameters
        for name in ("log_step", "energy", "accepted"):  # a checkpoint's are on the CPU
            group[name] = group[name].to(parameters[0].device)
        sizes = [p[0].numel() for p in parameters]
        normal, uniform = self._draw(self.taken, sum(sizes))
        self._decide(uniform.to(parameters[0].device))
        self._adapt()
        for parameter, numbers in zip(parameters, torch.split(normal, sizes, 1), strict=True):
            state = self.state[parameter]
            mean, variance = self._proposal(parameter, state["at"], state["gradient"])
            parameter.copy_(mean + variance.sqrt() * numbers.to(mean).view_as(mean))
        group["taken"] += 1
        return loss

    def _decide(self, uniform: Tensor) -> None:
        """Go where was proposed, or stay."""
        group, energy = self._group, self._energy()
        self._chance = torch.ones_like(uniform)
        if self.taken == 0:
            self.moved = torch.ones_like(self.moved)
        else:
            ratio = torch.where(torch.isfinite(energy), self._ratio(energy), -math.inf)
            ratio = torch.where(ratio.isnan(), -math.inf, ratio)
            self.moved = self.accepts(ratio, uniform) & torch.isfinite(energy)
            self._chance = ratio.clamp(max=0).exp().to(uniform)
        group["energy"] = torch.where(self.moved, energy, group["energy"])
        if self.taken >= self._burn_in:
            group["accepted"] += self.moved
        for parameter in self._parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            state = self.state[parameter]
            if self.taken == 0:
                state.update(at=parameter.clone(), gradient=gradient.clone())
                state["curvature"] = self._curvature(gradient)
            moved = spread(self.moved, parameter)
            state["at"] = torch.where(moved, parameter, state["at"])
            state["gradient"] = torch.where(moved, gradient, state["gradient"])

    def _ratio(self, energy: Tensor) -> Tensor:
        """Return the logarithm of p(x') q(x | x') / p(x) q(x' | x)."""
        ratio: Tensor = self._group["energy"] - energy
        for parameter in self._parameters:
            if parameter.grad is None:
                continue
            here, there = self.state[parameter]["at"], parameter.detach()
            forth = self._proposal(parameter, here, self.state[parameter]["gradient"])
            back = self._proposal(parameter, there, parameter.grad)
            ratio = ratio + misfit(there, *forth) - misfit(here, *back)
            t, scale = self._step_and_scale(parameter)
            ratio = ratio + self.cost(parameter, here, t * scale)
            ratio = ratio - self.cost(parameter, there, t * scale)
        return ratio

    def _proposal(
        self, parameter: nn.Parameter, at: Tensor, gradient: Tensor
    ) -> tuple[Tensor, Tensor]:
        t, scale = self._step_and_scale(parameter)
        return proposal(at, self.force(parameter, at, gradient, t * scale), scale, t)

    def _step_and_scale(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor]:
        """Return t and M, broadcasting to a parameter."""
        chains = len(parameter) // self._images
        t = spread(self.step_size.repeat_interleave(chains), parameter)
        curvature: Tensor = self.state[parameter]["curvature"]
        scale = curvature.clamp(min=LEAST_CURVATURE).reciprocal()
        return t, scale.repeat_interleave(chains, 0)

    def _adapt(self) -> None:
        """Move M towards the inverse of the mean squared gradient, and t to the acceptance aimed at."""
        taken = self.taken
        if taken < PRECONDITIONED * self._burn_in:
            for parameter in self._parameters:
                state = self.state[parameter]
                new = self._curvature(state["gradient"])
                state["curvature"] = torch.lerp(state["curvature"], new, gain(taken))
        if 0 < taken < self._burn_in and not self._fixed:
            chance = self._chance.view(self._images, -1).mean(1)
            self._group["log_step"] += gain(taken) * (chance - self._aim)
            self._group["log_step"].clamp_(max=0)

    def _curvature(self, gradient: Tensor) -> Tensor:
        """Return the mean square of a gradient over the chains of each image, ``(B, ...)``."""
        return gradient.view(self._images, -1, *gradient.shape[1:]).square().mean(1)
