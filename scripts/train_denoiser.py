"""Train the denoiser that the package ships, on pictures of the generator that the package ships.

    python scripts/train_denoiser.py OUTPUT [--pictures 1200] [--minutes 40] [--seed 0]

No photograph is used. Each picture is drawn from z by seed, in half of the cases with two latents mixed, and is seen
whole at a quarter of its size and in crops at a half and at full size.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ilo_pl.denoisers.network import DenoisingNetwork
from ilo_pl.generators.mobilestylegan import MobileStyleGAN
from ilo_pl.inversion.allocator import keep_freed_memory

SIZE = 256
PATCH = 96
BATCH = 16
MAX_SIGMA = 80 / 127.5


@torch.no_grad()
def pictures(count: int, random: torch.Generator) -> Tensor:
    """Return pictures of the generator as bytes ``(N, 3, 256, 256)``, three of each."""
    keep_freed_memory()
    generator = MobileStyleGAN.pretrained().eval().to(memory_format=torch.channels_last)
    noises = generator.noise_shapes
    found = []
    for number in range(count):
        z = torch.randn(2, generator.latent_dim, generator=random)
        styles = generator.to_styles(z[:, None], "z")
        cross = (
            int(torch.randint(2, generator.num_slots, (), generator=random)) if number % 2 else 0
        )
        slots = [1 if i < cross else 0 for i in range(generator.num_slots)]
        drawn = [torch.randn(1, *shape, generator=random) for shape in noises]
        with torch.autocast("cpu", torch.bfloat16):
            image = generator.run({}, styles[slots, 0][None], drawn)["image"].float()
        # As the patches are drawn: the smallest size is seen half of the time.
        for size in (SIZE, 2 * SIZE, 4 * SIZE):
            small = (
                F.interpolate(image, (size, size), mode="bicubic", antialias=True)
                if size < 1024
                else image
            )
            top, left = (int(torch.randint(0, size - SIZE + 1, (), generator=random)) for _ in "yx")
            crop = small[0, :, top : top + SIZE, left : left + SIZE]
            found.append(((crop.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8))
        if number % 50 == 49:
            print(f"{number + 1} pictures", flush=True)
    return torch.stack(found)


def patches(data: Tensor, random: torch.Generator) -> Tensor:
    """Return random crops ``(B, 3, h, w)`` in [-1, 1], turned and mirrored; half of them are whole faces' crops."""
    # Of three sizes the smallest is seen half of the time: its detail is as sharp as a photograph's.
    which = torch.tensor([0, 0, 1, 2])[torch.randint(0, 4, (BATCH,), generator=random)]
    index = 3 * torch.randint(0, len(data) // 3, (BATCH,), generator=random) + which
    corners = torch.randint(0, SIZE - PATCH + 1, (BATCH, 2), generator=random).tolist()
    crops = torch.stack(
        [data[i, :, y : y + PATCH, x : x + PATCH] for i, (y, x) in zip(index, corners, strict=True)]
    ).float()
    turn = int(torch.randint(0, 4, (), generator=random))
    crops = torch.rot90(crops, turn, (2, 3))
    if torch.rand((), generator=random) < 0.5:
        crops = crops.flip(3)
    # Other colours and contrasts than the generator's.
    gain = 0.6 + 0.6 * torch.rand(BATCH, 3, 1, 1, generator=random)
    return ((crops / 127.5 - 1) * gain).contiguous()


def main() -> None:
    """Train for a given time and write the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--minutes", type=float, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    random = torch.Generator().manual_seed(given.seed)
    torch.manual_seed(given.seed)
    cache = given.output / "pictures.pt"
    data = (
        torch.load(cache, weights_only=True) if cache.exists() else pictures(given.pictures, random)
    )
    torch.save(data, cache)
    network = DenoisingNetwork()
    if given.start is not None:
        network.load_state_dict({k: v.float() for k, v in load_file(given.start).items()})
    network = network.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=given.rate, weight_decay=0)
    start, step, running = time.monotonic(), 0, 0.0
    while (share := (time.monotonic() - start) / (60 * given.minutes)) < 1:
        rate = given.rate * min(1, step / 200) * 0.5 * (1 + math.cos(math.pi * share)) + 1e-6
        for group in optimizer.param_groups:
            group["lr"] = rate
        clean = patches(data, random).to(memory_format=torch.channels_last)
        sigma = MAX_SIGMA * torch.rand(BATCH, 1, 1, 1, generator=random) ** 1.5
        noisy = clean + sigma * torch.randn(clean.shape, generator=random)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(noisy, sigma)
        # Weighted so that weak noise counts too: its errors are small.
        loss = ((found.float() - clean).abs() / (sigma + 0.02).sqrt()).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        decay = min(0.999, step / (step + 20))
        with torch.no_grad():
            for old, new in zip(averaged.parameters(), network.parameters(), strict=True):
                old.lerp_(new, 1 - decay)
        running = loss.item() if step == 1 else 0.99 * running + 0.01 * loss.item()
        if step % 200 == 0:
            print(f"{step} steps, {time.monotonic() - start:.0f} s, loss {running:.5f}", flush=True)
            save_file(
                {k: v.half().contiguous() for k, v in averaged.state_dict().items()},
                given.output / "denoiser.safetensors",
            )
    (given.output / "training.json").write_text(
        json.dumps(
            {
                "steps": step,
                "pictures": given.pictures,
                "minutes": given.minutes,
                "seed": given.seed,
                "loss": running,
            }
        )
    )


if __name__ == "__main__":
    main()
