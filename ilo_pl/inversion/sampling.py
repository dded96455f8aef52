"""The sampling stage: draws from what the measurements leave possible, beside the stages that search one answer."""

from __future__ import annotations

import math
import warnings

import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl import seeding
from ilo_pl.generators.point import Point, deviated, synthesise
from ilo_pl.generators.precision import full_precision, without_autocast
from ilo_pl.inversion.chains import WORST_R_HAT, effective_size, split_r_hat
from ilo_pl.inversion.langevin import Langevin
from ilo_pl.inversion.metric import stiff_directions
from ilo_pl.inversion.packing import row_sums, spread, unpacked
from ilo_pl.inversion.posterior import Mixing, Posterior
from ilo_pl.inversion.prior import Prior, dispersed, laplace_energy, normal_energy
from ilo_pl.inversion.samplers import SAMPLERS, ChainDraws
from ilo_pl.inversion.source import Batch
from ilo_pl.inversion.stage import Engine, SearchStage
from ilo_pl.inversion.stage_spec import LrScale, Radii, Sphere, Stage
from ilo_pl.inversion.walking import Walking
from ilo_pl.io.images import GREY_LEVELS, to_bytes

# Greys of so many fields a side are followed to see whether chains mix.
FIELDS = 8


class SamplingStage(SearchStage):
    """Sample the posterior of each image of a batch; the chains of an image are entries of the stage's batch.

    Its variables are those of a :class:`~ilo_pl.inversion.prior.Prior`, also in front of the split, where a search at that
    split leaves them as they were. Its losses only judge the mean; all measurements count, also those that a search holds
    out. The energy is that of y ~ N(A x, sigma^2).

    Args:
        engine: the frozen parts.
        spec: the stage.
        start: where the search ended, at the stage's split.
        front: behind split 0, the solution at split 0 that this split was reached from.
        batch: the measurements.
        noise: standard deviation of their noise, in their units; 0 takes the floor.
        seed: of everything random.

    Attributes:
        samples: pictures of each chain so far, ``(N, S / C, 3, H, W)`` uint8.
        trace: what is followed, of all steps behind the burn-in, ``(T, N, K)``.
    """

    samples: Tensor
    trace: Tensor
    _shown: Tensor
    _followed: Tensor

    def __init__(
        self,
        engine: Engine,
        spec: Stage,
        start: Point,
        front: Point | None,
        batch: Batch,
        noise: float,
        seed: int,
    ) -> None:
        sampling = spec.sampling
        prior = Prior.of(engine, spec)
        variables = prior.begin(start, front, spec.free_noises)
        begin = dispersed(
            variables, spec.free_noises, sampling.chains, sampling.spread, seed, batch.ids
        )
        super().__init__(engine, _unconstrained(spec), begin)
        self._prior, self._sampling, self._seed = prior, sampling, seed
        self._sigma = noise or sampling.floor / GREY_LEVELS
        self._ids = batch.ids
        chosen = [i for i in range(len(batch.ids)) for _ in range(sampling.chains)]
        # In no module: operators are rebuilt on resume, not saved.
        self._batch = Batch(
            tuple(batch.ids[i] for i in chosen),
            batch.measurements[chosen],
            batch.operator.select(chosen),
        )
        self._sampler: Langevin | None = None
        self._make_room(len(chosen))

    def _make_room(self, count: int) -> None:
        """Make room for what is kept; it goes into checkpoints."""
        sampling, like = self._sampling, self.latents
        each = sampling.samples // sampling.chains
        shape = self.engine.generator.image_shape
        shown = torch.zeros(count, *shape, dtype=torch.uint8, device=like.device)
        followed = like.new_zeros(count, FIELDS**2 + 1)
        self.register_buffer("_shown", shown)
        self.register_buffer("_followed", followed)
        self.register_buffer("samples", shown[:, None].repeat(1, each, 1, 1, 1))
        width = followed.shape[1] + 1
        self.register_buffer("trace", like.new_zeros(sampling.draws, count, width))
        for name, value in self._free().items():
            self.register_buffer(
                _kept(name), value.new_zeros(count, each, *value.shape[1:]).detach()
            )

    def _free(self) -> dict[str, nn.Parameter]:
        named = self.point().named()
        return {n: v for n, v in named if isinstance(v, nn.Parameter) and v.requires_grad}

    def forward(self) -> Tensor:
        """Return the images of what the chains propose, ``(N, 3, H, W)``."""
        return self._image(self.point())

    def _image(self, variables: Point) -> Tensor:
        engine, point = self.engine, self._prior.point(variables)
        return synthesise(engine.generator, point, engine.space, run=engine.run)["image"]

    def _residual(self, image: Tensor) -> Tensor:
        """Return how far images are from the measurements, in units of their noise, ``(N, M)``."""
        batch = self._batch
        off = batch.operator.hide(batch.operator(image.float()) - batch.measurements)
        return (off / self._sigma).flatten(1)

    def _stiff(self, at: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Return the directions of each image's variables ``(B, D)`` that the measurements fix."""
        free = self._free()
        named = dict(self.point().detach().named())

        def measure(rows: Tensor) -> Tensor:
            moved = dict(zip(free, unpacked(rows, list(free.values())), strict=True))
            point = Point.from_named(self.split, {**named, **moved})
            return self._residual(self._image(point))

        count = min(self._sampling.directions, at.shape[1])
        probes = seeding.normal(
            (count, at.shape[1]), self._seed, self._ids, "directions", number
        ).to(at)
        with without_autocast(at.device):
            return stiff_directions(measure, at, probes, average=number > 0)

    def objective(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the energy -log p(variables | measurements) of each chain, and what is differentiated."""
        adjusted = self._sampling.sampler in ("hmc", "mala")
        if adjusted:  # of what is accepted nothing may be rounding
            with without_autocast(self.latents.device):
                image = self()
        else:
            image = self()
        free = self._free()
        laplace = [n for n in free if n.startswith("hidden.") and not self._prior.normal]
        with without_autocast(image.device):
            smooth = row_sums(self._residual(image).square()) / 2
            smooth = smooth + normal_energy([v for n, v in free.items() if n not in laplace])
            energy = smooth + laplace_energy([free[n] for n in laplace], smooth)
        self._images, self._energy = image.detach(), energy.detach()
        self._size = self.latents.detach().square().flatten(1).mean(1)
        return energy, smooth

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the sampler; it has no learning rate."""
        sampling, free = self._sampling, self._free()
        self._sampler = SAMPLERS[sampling.sampler](
            list(free.values()),
            self._trusted,
            ChainDraws(self._seed, self._ids, sampling.chains),
            images=len(self._ids),
            walking=Walking(
                sampling.burn_in, sampling.step, sampling.acceptance, sampling.leaps_of_proposal
            ),
            l1=[value for name, value in free.items() if name.startswith("hidden.")],
            directions=self._stiff if sampling.directions else None,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(self._sampler, lambda step: 1.0)
        return {
            "optimizer": self._sampler,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _trusted(self) -> Tensor:
        """Return the energies of what is proposed, infinite where they or their gradients are not finite."""
        energy, gradient = self.guard.trusted(self._energy), self.latents.grad
        if gradient is None:
            return energy
        # The prior's part of a gradient is never 0: this one was erased.
        return torch.where(gradient.flatten(1).any(1), energy, torch.inf)

    @property
    def sampler(self) -> Langevin:
        """What moves the chains."""
        assert self._sampler is not None, "the stage has no optimiser yet"
        return self._sampler

    @torch.no_grad()
    def settle(self) -> None:
        """End a step: note where the chains are, and keep a sample of each when it is due.

        Where what is proposed is not finite the sampler stays; there is nothing to undo.
        """
        sampler, sampling = self.sampler, self._sampling
        self.guard.faults += ~torch.isfinite(self._energy)
        shown, followed = to_bytes(self._images), self._follow()
        for kept, new in ((self._shown, shown), (self._followed, followed)):
            kept.copy_(torch.where(spread(sampler.moved, new), new, kept))
        drawn = sampler.taken - sampling.burn_in
        if drawn <= 0:
            return
        energy = sampler.energy.to(followed)[:, None]
        self.trace[drawn - 1] = torch.cat([self._followed, energy], 1)
        if drawn % sampling.thin == 0:
            place = drawn // sampling.thin - 1
            self.samples[:, place] = self._shown
            for name, value in zip(self._free(), sampler.current(), strict=True):
                self.get_buffer(_kept(name))[:, place] = value

    def _follow(self) -> Tensor:
        """Return what is followed of each chain: greys of fields of its picture, and the size of its latents."""
        greys = F.adaptive_avg_pool2d(self._images.mean(1, keepdim=True), FIELDS).flatten(1)
        return torch.cat([greys, self._size[:, None]], 1)

    @property
    def faults(self) -> Tensor:
        """How often no chain of an image had a finite energy, ``(B,)``."""
        return self.guard.faults.view(len(self._ids), -1).amin(1)

    @torch.no_grad()
    def best_point(self) -> Point:
        """Return the point of each image whose picture is the mean of its samples.

        It is the most probable one that was seen, with a deviation.
        """
        count, chains = len(self._ids), self._sampling.chains
        first = chains * torch.arange(count, device=self.best_loss.device)
        chosen = first + self.best_loss.view(count, chains).argmin(1)
        means = [_of_image(self.samples, i, chains).float().mean(0) for i in range(count)]
        images = torch.stack(means) / GREY_LEVELS - 1
        with full_precision(self.latents.device):
            point = self._prior.point(self.best.point().map(lambda t: t[chosen]))
        return deviated(self.engine.generator, point.detach(), self.engine.space, images)

    def posterior(self, i: int) -> Posterior:
        """Return the samples of an image as they were drawn; warns where its chains have not mixed.

        Args:
            i: its place in the batch.
        """
        chains, mixing = self._sampling.chains, self._mixing(i)
        kept = {n: _of_image(self.get_buffer(_kept(n)), i, chains).cpu() for n in self._free()}
        numbers = {n.partition(".")[2]: kept.pop(n) for n in list(kept) if n.startswith("hidden.")}
        deviation = {f"deviation.{n}": d for n, d in self._prior.deviation(numbers).items()}
        if not mixing.r_hat <= WORST_R_HAT:
            warnings.warn(
                f"The chains of {self._ids[i]!r} have not mixed (split R-hat {mixing.r_hat:.3g}, effective sample size "
                f"{mixing.effective:.3g}): the samples say less than they seem to. Give them more steps "
                "(method.posterior.burn_in and thin).",
                stacklevel=2,
            )
        samples = _of_image(self.samples, i, chains).cpu()
        return Posterior(samples, {**kept, **deviation}, mixing)

    def _mixing(self, i: int) -> Mixing:
        sampling, sampler = self._sampling, self.sampler
        own = slice(i * sampling.chains, (i + 1) * sampling.chains)
        trace = self.trace[:, own].transpose(0, 1).cpu()
        return Mixing(
            r_hat=_largest(split_r_hat(trace)),
            effective=-_largest(-effective_size(trace)),
            acceptance=float(sampler.acceptance[own].mean()),
            step_size=float(sampler.step_size[i]),
            sigma=self._sigma * GREY_LEVELS,
            chains=sampling.chains,
            burn_in=sampling.burn_in,
            draws=sampling.draws,
        )


def _kept(name: str) -> str:
    return f"kept_{name.replace('.', '__')}"  # buffers' names hold no dots


def _largest(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.max()) if len(known) else math.nan


def _of_image(kept: Tensor, i: int, chains: int) -> Tensor:
    """Return what was kept of an image, ``(S, ...)``: the first of all chains, then the second of all."""
    return kept[i * chains : (i + 1) * chains].transpose(0, 1).flatten(0, 1)


def _unconstrained(spec: Stage) -> Stage:
    """Return the stage with all of its variables free: priors hold them."""
    return spec.model_copy(update={"lr_scale": LrScale(), "radii": Radii(), "sphere": Sphere()})
