"""
One pixel in ten
================

Nine tenths of a photo's pixels are lost. ILO looks for the latent, then for the layers behind it, from which the generator
draws a picture that has the pixels that are left; what the generator cannot draw is added, and the result has those
pixels exactly.
"""

import pytorch_lightning as pl
import torch
from matplotlib import pyplot as plt
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, Mask, MobileStyleGAN, Resized, load_image, load_method
from ilo_pl.paper.demo import portrait

generator = Resized(MobileStyleGAN.pretrained(), 256)
photo = F.interpolate(load_image(portrait()).rgb[None], generator.image_shape[1:], mode="area")

operator = Mask.random(generator.image_shape, 0.1, seed=0, image_ids=["photo"])
measurements = operator(photo)

# %%
# The schedule is that of the method ``ilo``, with fewer steps.

schedule = load_method("ilo", steps=8)
task = InverseTask(generator, operator, measurements, schedule=schedule, ids=["photo"])
inversion = ILOInversion(task, compile=False)
trainer = pl.Trainer(
    accelerator="cpu",
    precision="bf16-mixed",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(inversion)
result = inversion.results["photo"]

# %%
# Each stage left a picture behind.


def show(axis, image, title):
    """Draw an image in [-1, 1]."""
    axis.imshow(((image + 1) / 2).clamp(0, 1).permute(1, 2, 0))
    axis.set_title(title)
    axis.axis("off")


pictures = {"truth": photo[0], "given": measurements[0]}
for record in result.stages:
    pictures[f"split {record.split}"] = record.image[0] / 127.5 - 1
pictures["result"] = result.image
figure, axes = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
for axis in axes.flat:
    axis.axis("off")
for axis, (title, image) in zip(axes.flat, pictures.items(), strict=False):
    show(axis, image, title)

# %%
# How far it is from the truth, and from what was measured.

mse = float((result.image - photo[0]).square().mean()) / 4
print(f"PSNR {-10 * torch.tensor(mse).log10():.2f} dB")
print(f"RMS of A x - y: {result.measured_error[1]:.4f} grey levels")
