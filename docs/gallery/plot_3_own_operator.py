"""
An operator of one's own
========================

Any differentiable function of images can be inverted. This one sees the sums of rows and columns, on the tiny
generator for tests, whose pictures are 32 x 32 and mean nothing.
"""

import pytorch_lightning as pl
import torch
from matplotlib import pyplot as plt

from ilo_pl import ILOInversion, InverseTask, TinyGenerator, load_method

generator = TinyGenerator()
draw = torch.Generator().manual_seed(1)
truth = generator(torch.randn(1, 16, generator=draw)).clamp(-1, 1)


def columns_and_rows(images):
    """Return the means of columns and rows, (B, 3, H + W)."""
    return torch.cat([images.mean(2), images.mean(3)], 2)


measurements = columns_and_rows(truth)
schedule = load_method("ilo", splits=[0, 2, 3], steps=60, free_noises=0)
inversion = ILOInversion(InverseTask(generator, columns_and_rows, measurements, schedule=schedule))
pl.Trainer(
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(inversion)
found = inversion.results["image0"].image

# %%
# The picture is one of those that have these sums; its own sums are those that were given.

figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for axis, title, image in ((axes[0], "truth", truth[0]), (axes[1], "found", found)):
    axis.imshow(((image + 1) / 2).clamp(0, 1).permute(1, 2, 0))
    axis.set_title(title)
    axis.axis("off")
axes[2].plot(measurements[0].mean(0), label="given")
axes[2].plot(columns_and_rows(found[None])[0].mean(0), "--", label="of what was found")
axes[2].set_title("columns, then rows")
axes[2].legend()
