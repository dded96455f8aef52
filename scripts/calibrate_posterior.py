"""Simulation-based calibration of ``ilo_posterior`` on the tiny generator (Talts et al. 2018, arXiv 1804.06788).

Truths are drawn from the model, measured with noise and sampled from their measurements alone. Then the rank of a true
value among its samples is uniform, and a credible interval of 90 % holds it in 90 % of all cases. Prints both for latents,
deviations and pixels, and exits with 1 where they are not so. Everything goes the way of users: a task, a Trainer.

    python scripts/calibrate_posterior.py                 # more than 15 minutes of one core
    python scripts/calibrate_posterior.py --draws 20 --burn-in 200 --thin 20
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
import warnings

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, Mask, TinyGenerator, load_method
from ilo_pl.inversion.allocator import keep_freed_memory
from ilo_pl.inversion.posterior import bounds
from ilo_pl.io.images import to_bytes

SPLIT = 2
RADIUS = 0.1
NOISE = 0.2  # on [-1, 1]
OBSERVED = 0.2
SAMPLES = 20
CHAINS = 4
FREE_NOISES = 2
BATCH = 25  # more images at a time take no less of it for each
BINS = 7  # of three ranks each
LEAST_P = 0.01
COVERED = (0.87, 0.93)


def draw(generator: TinyGenerator, count: int, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return latents and deviations drawn from the model, and their images ``(count, 3, 32, 32)``."""
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, 1, generator.latent_size("v"), generator=random)
    noises: list[Tensor | None] = [None] * len(generator.noise_shapes)
    for index in range(FREE_NOISES):
        noises[index] = torch.randn(count, *generator.noise_shapes[index], generator=random)
    styles = generator.to_styles(latents, "v").expand(-1, generator.num_slots, -1)
    state = generator.run({}, styles, noises, 0, SPLIT)
    drawn = {"latents": latents}
    for name, value in state.items():
        # The difference of two exponential numbers is Laplace.
        two = torch.empty(2, *value.shape).exponential_(generator=random)
        drawn[f"deviation.{name}"] = RADIUS * (two[0] - two[1])
        state[name] = value + drawn[f"deviation.{name}"]
    image = generator.run(state, styles[:, SPLIT:], noises[SPLIT:], SPLIT)["image"]
    return drawn, image


def problem(images: Tensor, generator: TinyGenerator, options: argparse.Namespace) -> InverseTask:
    """Measure images."""
    ids = [f"draw{i}" for i in range(len(images))]
    mask = Mask.random((3, 32, 32), OBSERVED, seed=options.seed, image_ids=ids)
    random = torch.Generator().manual_seed(options.seed + 1)
    measured = mask.hide(mask(images) + NOISE * torch.randn(images.shape, generator=random))
    posterior = {
        "samples": SAMPLES,
        "chains": CHAINS,
        "burn_in": options.burn_in,
        "thin": options.thin,
        "sampler": options.sampler,
        "directions": options.directions,
        "leaps": options.leaps,
    }
    schedule = load_method(
        "ilo_posterior",
        splits=[0, SPLIT],
        steps=100,
        free_noises=FREE_NOISES,
        radii={"hidden": RADIUS},
        posterior=posterior,
    )
    return InverseTask(
        generator,
        mask,
        measured,
        schedule=schedule,
        ids=ids,
        noise_sigma=NOISE,
        batch_size=BATCH,
        seed=options.seed,
    )


def invert(task: InverseTask) -> dict[str, dict[str, Tensor]]:
    """Return the samples of measurements by image and name, ``(S, ...)``."""
    inversion = ILOInversion(task)
    trainer = pl.Trainer(
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(inversion)
    found = {i: result.posterior for i, result in inversion.results.items() if result.posterior}
    mixing = [drawn.mixing for drawn in found.values()]
    print(
        f"split R-hat {max(m.r_hat for m in mixing):.3f} at most, effective samples "
        f"{min(m.effective for m in mixing):.0f} at least; of the median image "
        f"{statistics.median(m.r_hat for m in mixing):.3f} and "
        f"{statistics.median(m.effective for m in mixing):.0f}; step "
        f"{statistics.median(m.step_size for m in mixing):.2f}"
    )
    return {i: {**drawn.variables, "pixels": drawn.samples} for i, drawn in found.items()}


def ranks(samples: Tensor, truth: Tensor, random: torch.Generator) -> Tensor:
    """Return how many samples ``(S, N)`` are below each true value ``(N,)``; ties are broken at random."""
    below, same = (samples < truth).sum(0), (samples == truth).sum(0)
    return below + (torch.rand(same.shape, generator=random) * (same + 1)).long()


def chi_square(found: Tensor) -> float:
    """Return the p-value of ranks in 0 ... S being uniform."""
    counts = torch.histc(found.double(), BINS, 0, SAMPLES + 1)
    expected = len(found) / BINS
    statistic = ((counts - expected) ** 2 / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((BINS - 1) / 2), statistic / 2))


def main() -> None:
    """Draw, sample, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--burn-in", type=int, default=240)
    parser.add_argument("--thin", type=int, default=30)
    parser.add_argument("--sampler", default="hmc")
    parser.add_argument("--directions", type=int, default=64)
    parser.add_argument("--leaps", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    started = time.monotonic()
    keep_freed_memory()
    generator = TinyGenerator()
    truths, images = draw(generator, options.draws, options.seed)
    found = invert(problem(images, generator, options))
    truths["pixels"] = to_bytes(images)
    random = torch.Generator().manual_seed(0)
    right = True
    for name, values in truths.items():
        one, covered = [], []
        for truth, samples in zip(values, (each[name] for each in found.values()), strict=True):
            flat, true = samples.flatten(1), truth.flatten()
            low, high = bounds(flat, 0.9)
            covered.append(((low <= true) & (true <= high)).float().mean())
            # One number of each draw: those of one image depend on each other.
            place = torch.randint(true.numel(), (1,), generator=random)
            one.append(ranks(flat[:, place], true[place], random))
        p, share = chi_square(torch.cat(one)), float(torch.stack(covered).mean())
        right &= p > LEAST_P and COVERED[0] <= share <= COVERED[1]
        print(f"{name:20} ranks uniform: p = {p:.3f}; intervals of 90 % hold {share:.1%}")
    print(f"{options.sampler}, {options.draws} draws, {time.monotonic() - started:.0f} s")
    sys.exit(not right)


if __name__ == "__main__":
    main()
