"""
Four methods, one engine
========================

CSGM, PULSE, Sparse-Gen and ILO are four files for the same engine; see :doc:`../searches` for what each minimises. Here each has
16 steps on a photo that was reduced eight times, and what is shown is the generator's own picture
(``consistency=False``, no deviation).
"""

import pytorch_lightning as pl
from matplotlib import pyplot as plt
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, MobileStyleGAN, Resized, load_image, load_method
from ilo_pl.operators.separable import Separable
from ilo_pl.paper.demo import portrait

generator = Resized(MobileStyleGAN.pretrained(), 256)
photo = F.interpolate(load_image(portrait()).rgb[None], generator.image_shape[1:], mode="area")
operator = Separable.bicubic(generator.image_shape, 8)
measurements = operator(photo)

plain = {"deviation": {"steps": 0}}
schedules = {
    "csgm": load_method("csgm", steps=16, **plain),
    "pulse": load_method("pulse", steps=16, **plain),
    "sparse_gen": load_method("sparse_gen", steps=[12, 4], **plain),
    "ilo": load_method("ilo", "super_resolution", steps=[6, 5, 5], **plain),
}

# %%
# The same few lines for all of them.

pictures = {"truth": photo[0], "given": F.interpolate(measurements, photo.shape[2:])[0]}
for name, schedule in schedules.items():
    task = InverseTask(generator, operator, measurements, schedule=schedule, consistency=False)
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
    found = inversion.results["image0"].image
    psnr = -10 * ((found - photo[0]).square().mean() / 4).log10()
    pictures[f"{name}, {psnr:.1f} dB"] = found

figure, axes = plt.subplots(2, 3, figsize=(9, 6.4), layout="constrained")
for axis, (title, image) in zip(axes.flat, pictures.items(), strict=True):
    axis.imshow(((image + 1) / 2).clamp(0, 1).permute(1, 2, 0))
    axis.set_title(title)
    axis.axis("off")
