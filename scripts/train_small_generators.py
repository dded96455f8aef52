#!/usr/bin/env python
"""Train a DCGAN and a VAE on scikit-learn's 8 x 8 digits, then restore held-out digits with both.

    python scripts/train_small_generators.py [--steps 1200] [--digits 24] [--all]

Takes about a minute on one core and needs scikit-learn. Each network learns for the given steps; then 24
digits that none of them saw lose half of their pixels and are restored by CSGM and by ILO in equally many
steps, with settings that were chosen on other held-out digits. ``--all`` runs the same job, in three steps,
on MobileStyleGAN and on a random StyleGAN2 of 256 x 256 too. Prints the tables of docs/generators.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, Mask, MobileStyleGAN, load_method
from ilo_pl.generators import SequentialGenerator, SplitGenerator
from ilo_pl.generators.stylegan2.network import StyleGAN2
from ilo_pl.runs.trainer import quiet_lightning

LATENT = 12
FRACTION = 0.5
STEPS = 300
BATCH = 64


def digits(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return digits to learn from, to tune on and to test on, ``(N, 1, 8, 8)`` in [0, 1]."""
    images = torch.from_numpy(load_digits().images).float()[:, None] / 16
    order = np.random.default_rng(seed).permutation(len(images))
    images = images[order]
    return images[:-200], images[-200:-100], images[-100:]


def decoder() -> nn.Sequential:
    """Return a decoder of five parts, from a latent to an image in [0, 1]."""
    return nn.Sequential(
        nn.Sequential(nn.Linear(LATENT, 64 * 4), nn.Unflatten(1, (64, 2, 2)), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(64, 64, 4, 2, 1), nn.BatchNorm2d(64), nn.ReLU()),
        nn.Sequential(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU()),
        nn.Sequential(nn.Conv2d(32, 16, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid()),
    )


def encoder(outputs: int) -> nn.Sequential:
    """Return a network from images to ``outputs`` numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64 * 4, outputs),
    )


def batches(images: Tensor, count: int) -> Iterator[Tensor]:
    """Yield so many batches."""
    rng = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield images[torch.randint(len(images), (BATCH,), generator=rng)]


def train_vae(images: Tensor, steps: int) -> nn.Sequential:
    """Train a variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114); return its decoder."""
    decode, encode = decoder(), encoder(2 * LATENT)
    optimiser = torch.optim.Adam([*decode.parameters(), *encode.parameters()], 1e-3)
    for batch in batches(images, steps):
        mean, log_variance = encode(batch).chunk(2, 1)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        error = F.binary_cross_entropy(decode(z), batch, reduction="sum")
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum() / 2
        optimiser.zero_grad()
        ((error + divergence) / BATCH).backward()
        optimiser.step()
    return decode


def train_dcgan(images: Tensor, steps: int) -> nn.Sequential:
    """Train a DCGAN (Radford et al. 2015, arXiv 1511.06434); return its generator.

    The gradient penalty R1 (Mescheder et al. 2018, arXiv 1801.04406) keeps it from ending in one digit.
    """
    generate, judge = decoder(), encoder(1)
    of_generator, of_judge = (
        torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.0, 0.99)) for net in (generate, judge)
    )
    for batch in batches(images, steps):
        fake, real = generate(torch.randn(BATCH, LATENT)), batch.requires_grad_()
        says = judge(real)
        slope = torch.autograd.grad(says.sum(), real, create_graph=True)[0]
        penalty = slope.square().sum((1, 2, 3)).mean() / 2
        loss = F.softplus(judge(fake.detach())).mean() + F.softplus(-says).mean() + penalty
        of_judge.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        of_judge.step()
        of_generator.zero_grad()
        F.softplus(-judge(fake)).mean().backward()  # type: ignore[no-untyped-call]
        of_generator.step()
    return generate


def wrapped(network: nn.Sequential) -> SequentialGenerator:
    """Return a decoder behind the split contract."""
    return SequentialGenerator(list(network), latent=LATENT, output_range=(0, 1))


def restore(generator: SplitGenerator, images: Tensor, method: str, **columns: Any) -> Tensor:
    """Restore images ``(B, 3, H, W)`` in [-1, 1] from a part of their pixels; the same job for all."""
    ids = [f"image{i}" for i in range(len(images))]
    operator = Mask.random(generator.image_shape, FRACTION, 0, ids)
    task = InverseTask(
        generator,
        operator,
        operator(images),
        schedule=load_method(method, **columns),
        ids=ids,
        batch_size=len(images),
    )
    module = ILOInversion(task, compile=False)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module)
    return torch.stack([module.results[i].image for i in ids])


def psnr(restored: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each image in [-1, 1], in dB."""
    return -10 * ((restored - truth) / 2).square().flatten(1).mean(1).log10()


# Chosen on the digits to tune on: --tune prints how.
ILO: dict[str, Any] = {"splits": [0, 1, 2], "lr": 0.1, "radii": {"hidden": 0.1}}


def ilo(**columns: Any) -> dict[str, Any]:
    """Return ILO's settings with as many steps in all as CSGM has."""
    chosen = {**ILO, **columns}
    return {**chosen, "steps": STEPS // len(chosen["splits"]), "free_noises": 0}


def tune(generator: SplitGenerator, images: Tensor) -> None:
    """Print what other settings of ILO reach."""
    for splits, radius in itertools.product(([0, 1], [0, 2], [0, 1, 2]), (0.05, 0.2)):
        found = restore(generator, images, "ilo", **ilo(splits=splits, radii={"hidden": radius}))
        print(splits, radius, f"{float(psnr(found, images).median()):.2f} dB", flush=True)


def main() -> None:
    """Train, restore, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1200, help="training steps of each network")
    parser.add_argument("--digits", type=int, default=24, help="how many digits to restore")
    parser.add_argument("--tune", action="store_true", help="compare settings of ILO instead")
    parser.add_argument("--all", action="store_true", help="run the job on the large networks too")
    options = parser.parse_args()
    torch.manual_seed(0)
    learn, other, held_out = digits()
    started = time.process_time()
    trained = {
        "DCGAN": wrapped(train_dcgan(learn, options.steps)),
        "VAE decoder": wrapped(train_vae(learn, options.steps)),
    }
    print(f"trained in {time.process_time() - started:.0f} s of one core")
    images = (other if options.tune else held_out)[: options.digits].expand(-1, 3, -1, -1) * 2 - 1
    print("| generator | CSGM, median dB | ILO, median dB | median gain | ILO is better on |")
    print("|---|---|---|---|---|")
    for name, generator in trained.items():
        csgm = psnr(restore(generator, images, "csgm", steps=STEPS, lr=0.1), images)
        if options.tune:
            print(name, f"CSGM {float(csgm.median()):.2f} dB")
            tune(generator, images)
            continue
        with_ilo = psnr(restore(generator, images, "ilo", **ilo()), images)
        better, gain = int((with_ilo > csgm).sum()), float((with_ilo - csgm).median())
        print(
            f"| {name} | {float(csgm.median()):.2f} | {float(with_ilo.median()):.2f} | {gain:+.2f} "
            f"| {better} of {len(images)} |"
        )
    if options.all:
        run_all(
            {
                **trained,
                "MobileStyleGAN": MobileStyleGAN.pretrained(),
                "random StyleGAN2-256": StyleGAN2.random(256),
            }
        )


def run_all(generators: dict[str, SplitGenerator]) -> None:
    """Run the same short job on each generator, on an image that it made itself."""
    print("| generator | image | splits | CSGM, dB | ILO, dB | s |")
    print("|---|---|---|---|---|---|")
    for name, generator in generators.items():
        z = torch.randn(1, generator.latent_dim, generator=torch.Generator().manual_seed(1))
        image = generator(z).clamp(-1, 1)
        started = time.monotonic()
        splits = [0, 1, 2]
        csgm = restore(generator, image, "csgm", steps=3)
        found = restore(generator, image, "ilo", splits=splits, steps=1, free_noises=0)
        size = " x ".join(map(str, generator.image_shape))
        print(
            f"| {name} | {size} | {splits} | {float(psnr(csgm, image)):.2f} "
            f"| {float(psnr(found, image)):.2f} | {time.monotonic() - started:.1f} |"
        )


if __name__ == "__main__":
    main()
