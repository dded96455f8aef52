"""Langevin and Hamiltonian samplers as torch optimisers: a step moves every chain towards a draw, not to a minimum.

A chain that is at x draws a velocity u = sqrt(1 - t / 2) M^(1/2) n, n from N(0, I), and takes leapfrog steps of length
e = sqrt(2 t): u -= e M g / 2, x += e u, u -= e M g / 2, where g is the gradient of the energy U = -log p at x, and M is a
:class:`~ilo_pl.inversion.metric.Metric`. One of them is Langevin's x' = x - t M g + sqrt(t (2 - t)) M^(1/2) n, several are
Hamiltonian. Steps of any length keep a Gaussian of covariance M, as the proposals of Cotter et al. (2013, arXiv 1202.0709)
keep their prior: so variables of which the measurements tell nothing neither slow the others down nor get a bias. While
chains burn in, M and t adapt to each image, from all of its chains; from then on both stay as they are, so that one
distribution is drawn from.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.inversion.metric import Metric
from ilo_pl.inversion.packing import pack, row_sums, unpack, unpacked
from ilo_pl.inversion.walking import Walking, gain

# A diagonal M adapts for the first part of the burn-in, t for all of it.
PRECONDITIONED = 0.75
# M's directions are looked for where the chains begin, and again when this part of the burn-in is behind them.
SETTLED = 0.4
FIRST_STEP = 0.1
# What a sampler remembers of each chain: where it is, the gradient there, where its proposal was, and how fast it was.
ROWS = ("at", "gradient", "far", "velocity")

Draw = Callable[[int, int], tuple[Tensor, Tensor]]
"""Returns, given a step and a size, normal numbers ``(N, size)`` and uniform ones ``(N, 2)``."""

Directions = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""Returns, given chains ``(N, D)`` and how often it was asked before, basis ``(B, r, D)`` and stiffness ``(B, r)``."""


class Langevin(torch.optim.Optimizer, abc.ABC):
    """A sampler of several images, each with as many chains.

    The parameters hold where a proposal has come to; whether a chain goes there is known at its end, once the energy there
    is. So a step needs one gradient, and parameters are ahead of the chains: :meth:`current` says where those are.

    Args:
        parameters: ``(N, ...)`` each, the chains of an image behind each other; D numbers a chain in all.
        energy: returns U of what the parameters hold, ``(N,)``, as it was when the gradient was taken; infinite where the
            gradient is not to be trusted.
        draw: random numbers of a proposal.
        images: how many images there are, of which N is a multiple.
        walking: how chains walk.
        l1: parameters x for which U has the term ||x||_1.
        directions: finds the directions in which an image's energy is stiff; without it M is diagonal, the inverse of the
            mean squared gradient.

    Attributes:
        target: the acceptance that is aimed at by default.
        stray: by how much the lengths of leapfrog steps vary from proposal to proposal.
        moved: which chains went where they had proposed, in the last step, ``(N,)``.
    """

    target: ClassVar[float]
    stray: ClassVar[float] = 0.0
    moved: Tensor

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        energy: Callable[[], Tensor],
        draw: Draw,
        *,
        images: int,
        walking: Walking,
        l1: Sequence[nn.Parameter] = (),
        directions: Directions | None = None,
    ) -> None:
        first = parameters[0]
        count, size = len(first), sum(p[0].numel() for p in parameters)
        begin = walking.step or min(FIRST_STEP, walking.longest)
        # What a group holds is restored as it is; of a state torch casts all numbers to the parameters' type.
        own = {
            "taken": 0,
            "proposed": 0,
            "log_step": first.new_full((images,), math.log(begin)),
            "energy": row_sums(first.new_zeros(count, 1)),
            "kinetic": row_sums(first.new_zeros(count, 1)),
            "accepted": first.new_zeros(count),
            "t": first.new_ones(count),
            **{name: first.new_zeros(count, size) for name in ROWS},
            **Metric.unit(images, size, first).pack(),
        }
        super().__init__(parameters, {"lr": 1.0, **own})
        self._energy = energy
        self._draw = draw
        self._images = images
        self._walking = walking
        self._aim = self.target if walking.acceptance is None else walking.acceptance
        chosen = {id(parameter) for parameter in l1}
        self._l1 = torch.cat([torch.full_like(p[0].flatten(), id(p) in chosen) for p in parameters])
        self._directions = directions
        self.moved = torch.ones(count, dtype=torch.bool, device=first.device)

    @abc.abstractmethod
    def accepts(self, ratio: Tensor, uniform: Tensor) -> Tensor:
        """Return which proposals chains go to, bool ``(N,)``.

        Args:
            ratio: logarithm of the Metropolis-Hastings ratio, ``(N,)``.
            uniform: uniform numbers, ``(N,)``.
        """

    def force(self, at: Tensor, gradient: Tensor, l1: Tensor, width: Tensor) -> Tensor:
        """Return the gradient that a proposal follows, given what was differentiated.

        Args:
            at: where chains are, ``(N, D)``.
            gradient: there, ``(N, D)``.
            l1: 1 for the numbers whose energy has an l1 term, ``(D,)``.
            width: t M, without what directions add, ``(N, D)``.
        """
        return gradient

    def cost(self, at: Tensor, l1: Tensor, width: Tensor) -> Tensor | float:
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
        return accepted / max(int(self._group["proposed"]), 1)

    @property
    def energy(self) -> Tensor:
        """U where the chains are, ``(N,)``."""
        energy: Tensor = self._group["energy"]
        return energy

    @property
    def metric(self) -> Metric:
        """The metric M."""
        return Metric.unpack(self._group)

    def current(self) -> list[Tensor]:
        """Return where the chains are, one tensor for each parameter."""
        at: Tensor = self._group["at"]
        return unpacked(at, self._parameters)

    @property
    def _group(self) -> dict[str, Any]:
        return self.param_groups[0]

    @property
    def _parameters(self) -> list[nn.Parameter]:
        parameters: list[nn.Parameter] = self._group["params"]
        return parameters

    def problems(self, taken: int) -> list[str]:
        """Return why a restored state cannot be that behind some steps."""
        held = [self._group.get(name) for name in ROWS]
        shape = (len(self.moved), sum(p[0].numel() for p in self._parameters))
        if not all(isinstance(rows, Tensor) and rows.shape == shape for rows in held):
            return ["the sampler does not know where its chains are"]
        found = []
        if self.taken != taken:
            found.append("the sampler's steps are not as many")
        if not all(bool(torch.isfinite(rows).all()) for rows in held if rows is not None):
            found.append("chains are where nothing is finite")
        return found

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Go on with what is proposed; where that is finished decide on it, adapt, and begin another."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        group, parameters = self._group, self._parameters
        for name, value in group.items():  # a checkpoint's are on the CPU
            if isinstance(value, Tensor):
                group[name] = value.to(parameters[0].device)
        there = pack(parameters)
        gradient = pack([torch.zeros_like(p) if p.grad is None else p.grad for p in parameters])
        if self.taken % self._walking.leaps == 0:
            normal, uniform = self._draw(self.taken, there.shape[1])
            chance, stray = uniform.to(there.device).unbind(1)
            self._decide(there, gradient, chance)
            self._adapt()
            self._begin(normal.to(there), stray)
        else:
            self.moved = torch.zeros_like(self.moved)
            self._push(there, gradient, 2)
        unpack(self._group["far"] + self._stride() * group["velocity"], parameters)
        group["taken"] += 1
        return loss

    def _begin(self, normal: Tensor, stray: Tensor) -> None:
        """Draw a velocity where chains are, and push it half."""
        group = self._group
        t = self.step_size.repeat_interleave(len(normal) // self._images)
        # Strides that are all alike may come back to where they began.
        group["t"] = t * (1 + self.stray * (2 * stray - 1)).square()
        group["velocity"] = (1 - group["t"][:, None] / 2).sqrt() * self.metric.root(normal)
        group["kinetic"] = self._kinetic()
        self._push(group["at"], group["gradient"], 1)

    def _push(self, at: Tensor, gradient: Tensor, halves: int) -> None:
        """Push the velocity by what the gradient is at a point, half a leapfrog step or a whole one."""
        group, width = self._group, self._widths()
        push = self.metric.times(self.force(at, gradient, self._l1, width))
        group["far"] = at
        group["velocity"] = group["velocity"] - halves / 2 * self._stride() * push

    def _kinetic(self) -> Tensor:
        """Return the energy of the velocity, ``(N,)``."""
        squared = self.metric.squared(self._group["velocity"])
        energy: Tensor = squared / (2 - self._group["t"])
        return energy

    def _stride(self) -> Tensor:
        t: Tensor = self._group["t"]
        return (2 * t)[:, None].sqrt()

    def _widths(self) -> Tensor:
        t: Tensor = self._group["t"]
        return t[:, None] * self.metric.widths(len(t))

    def _decide(self, there: Tensor, gradient: Tensor, chance: Tensor) -> None:
        """Go where was proposed, or stay."""
        group, energy = self._group, self._energy()
        self._chance = torch.ones_like(chance)
        if self.taken == 0:
            self.moved = torch.ones_like(self.moved)
        else:
            ratio = torch.where(
                torch.isfinite(energy), self._ratio(energy, there, gradient), -math.inf
            )
            ratio = torch.where(ratio.isnan(), -math.inf, ratio)
            self.moved = self.accepts(ratio, chance) & torch.isfinite(energy)
            self._chance = ratio.clamp(max=0).exp().to(chance)
        group["energy"] = torch.where(self.moved, energy, group["energy"])
        if self.taken >= self._walking.burn_in:
            group["accepted"] += self.moved
            group["proposed"] += 1
        moved = self.moved[:, None]
        group["at"] = torch.where(moved, there, group["at"])
        group["gradient"] = torch.where(moved, gradient, group["gradient"])

    def _ratio(self, energy: Tensor, there: Tensor, gradient: Tensor) -> Tensor:
        """Return the logarithm of the Metropolis-Hastings ratio: what energy, with the velocity's, was lost."""
        group, width = self._group, self._widths()
        before, here = group["kinetic"], group["at"]
        self._push(there, gradient, 1)
        ratio: Tensor = group["energy"] - energy + before - self._kinetic()
        return ratio + self.cost(here, self._l1, width) - self.cost(there, self._l1, width)

    def _adapt(self) -> None:
        """Adapt M, and t to the acceptance aimed at."""
        group, leaps = self._group, self._walking.leaps
        now, until = self.taken // leaps, self._walking.burn_in // leaps
        settled = int(SETTLED * until)
        since = now - settled if self._directions is not None and now > settled else now
        if self._directions is not None and now in (0, settled):
            found = self._directions(group["at"], int(now > 0))
            group.update(Metric(torch.ones_like(group["curvature"]), *found).pack())
        elif self._directions is None and now < PRECONDITIONED * until:
            squares = group["gradient"].view(self._images, -1, group["at"].shape[1]).square()
            group.update(self.metric.blend(squares.mean(1), gain(now)).pack())
        if 0 < now < until and self._walking.step is None:
            chance = self._chance.view(self._images, -1).mean(1)
            group["log_step"] += gain(since) * (chance - self._aim)
            group["log_step"].clamp_(max=math.log(self._walking.longest))
