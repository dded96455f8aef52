"""
How sure is it?
===============

Where little was measured, many pictures explain it. ``ilo_posterior`` draws from them: here on the tiny generator, at a
tenth of the pixels and with noise.
"""

import pytorch_lightning as pl
import torch
from matplotlib import pyplot as plt

from ilo_pl import ILOInversion, InverseTask, Mask, TinyGenerator, load_method

generator = TinyGenerator()
truth = generator(torch.randn(1, 16, generator=torch.Generator().manual_seed(1)), "v")
mask = Mask.random((3, 32, 32), 0.1, seed=0, image_ids=["face"])
noise = 0.1 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2))
measurements = mask.hide(mask(truth) + noise)

schedule = load_method("ilo_posterior", posterior={"samples": 20, "burn_in": 300, "thin": 15})
task = InverseTask(generator, mask, measurements, schedule=schedule, ids=["face"], noise_sigma=0.1)
inversion = ILOInversion(task, compile=False)
pl.Trainer(
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
).fit(inversion)
drawn = inversion.results["face"].posterior

# %%
# The mean has the least expected squared error; the standard deviation says where it is not to be relied on.

figure, axes = plt.subplots(2, 3, figsize=(8, 5.6), layout="constrained")
pictures = {
    "truth": truth[0],
    "given": measurements[0],
    "mean": inversion.results["face"].image,
    "a sample": drawn.samples[0] / 127.5 - 1,
    "another": drawn.samples[-1] / 127.5 - 1,
}
for axis, (title, image) in zip(axes.flat, pictures.items(), strict=False):
    axis.imshow(((image + 1) / 2).clamp(0, 1).permute(1, 2, 0))
    axis.set_title(title)
drawing = axes[1, 2].imshow(drawn.std.mean(0))
axes[1, 2].set_title("standard deviation")
figure.colorbar(drawing)
for axis in axes.flat:
    axis.axis("off")
print(f"inside their 90 % intervals: {float(drawn.coverage(truth[0], 0.9)):.2f} of the pixels")
