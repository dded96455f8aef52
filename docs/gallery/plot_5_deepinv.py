"""
Among DeepInverse's reconstructors
==================================

:class:`ilo_pl.deepinv.ILOReconstructor` is called as they are, ``model(y, physics)``, with images in [0, 1]. The tiny generator
stands for one that knows the images.
"""

import deepinv
import torch
from matplotlib import pyplot as plt

from ilo_pl import TinyGenerator, load_method
from ilo_pl.deepinv import ILOReconstructor

generator = TinyGenerator()
images = (generator(torch.randn(3, 16, generator=torch.Generator().manual_seed(1))) + 1) / 2
images = images.clamp(0, 1)
schedule = load_method("ilo", splits=[0, 2, 3], steps=40, free_noises=0)
model = ILOReconstructor(generator, schedule)
physics = deepinv.physics.Downsampling((3, 32, 32), factor=4, filter="bicubic")
measured = physics(images)
restored = model(measured, physics)

figure, axes = plt.subplots(3, 3, figsize=(6, 6.4), layout="constrained")
for row, (title, batch) in zip(
    axes, {"truth": images, "given": measured, "ILO": restored}.items(), strict=True
):
    for axis, image in zip(row, batch, strict=True):
        axis.imshow(image.clamp(0, 1).permute(1, 2, 0))
        axis.set_title(title)
        axis.axis("off")

# %%
# PSNR as DeepInverse computes it, beside its simplest reconstruction.

psnr = deepinv.loss.metric.PSNR()
print("ILO    ", [round(v, 2) for v in psnr(restored, images).tolist()], "dB")
print("A^+ y  ", [round(v, 2) for v in psnr(physics.A_dagger(measured), images).tolist()], "dB")
