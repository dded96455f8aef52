"""ILO as a reconstructor of DeepInverse (https://deepinv.github.io): ``model(y, physics)``.

    model = ILOReconstructor(MobileStyleGAN.pretrained(), "ilo")
    deepinv.test(model, loader, physics, metrics=deepinv.loss.metric.PSNR())

DeepInverse's images are in [0, 1], ours in [-1, 1]. Of a linear physics, y = A u with u = (x + 1) / 2 says that
2 y - A 1 = A x, with twice the noise, and that is the problem that is solved; any other physics is asked for
(x + 1) / 2 itself. The reverse, physics as operators here, is :mod:`ilo_pl.operators.deepinv`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from ilo_pl.config.compose import load_method
from ilo_pl.config.trainer import TrainerConfig
from ilo_pl.errors import ConfigurationError, InputError, unknown
from ilo_pl.generators.base import SplitGenerator
from ilo_pl.inversion.arguments import as_measurements
from ilo_pl.inversion.compilation import CompileMode
from ilo_pl.inversion.module import ILOInversion
from ilo_pl.inversion.reconstruction import Reconstruction
from ilo_pl.inversion.schedule import Schedule
from ilo_pl.inversion.task import InverseTask
from ilo_pl.operators.base import ForwardOperator, LinearOperator
from ilo_pl.operators.deepinv import CONVERSIONS, deepinv_operator, to_unit
from ilo_pl.operators.deepinv_batches import noise_sigmas, singles_of
from ilo_pl.operators.function import as_real
from ilo_pl.operators.pointwise import Grey
from ilo_pl.runs.trainer import Precision, choose_precision, quiet_lightning

try:
    from deepinv.models import Reconstructor
except ImportError as missing:
    raise ConfigurationError(
        f"The package deepinv cannot be imported: {missing}.",
        hint="pip install 'ilo_pl[deepinv]'",
    ) from missing

# What a task's name is found from; a mask does not say whether its holes are pixels or regions.
TASKS = {
    "Denoising": "denoising",
    "Downsampling": "super_resolution",
    "DownsamplingMatlab": "super_resolution",
}
DIGITS = 16
TOLERANCE = 1e-4


class Part(NamedTuple):
    """Images of a batch that are one inverse problem: their places, their operator and their noise."""

    places: tuple[int, ...]
    operator: ForwardOperator
    sigma: float | None


@final
class ILOReconstructor(Reconstructor):  # type: ignore[misc]
    """Solve a physics' inverse problem by searching a generator: ``model(y, physics)``.

    The search runs where ``y`` is. An image's random draws are keyed by ``seed`` and its measurements, so that
    its result does not depend on the batch that it is in. Sensor models are not inverted.

    Args:
        generator: the frozen generator; its ``image_shape`` is the shape of the images that are sought.
        method: a file of ``configs/method``, or a schedule.
        task: a file of ``configs/task``, for what the method does otherwise in it; ``None``: nothing.
            ``"auto"``: denoising and super-resolution are known by the physics, others are not; give
            ``"inpainting"`` where whole regions are missing. A schedule is taken as it is.
        seed: seed of every random draw.
        precision: ``"auto"``, ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``.
        batch_size: how many images are searched at a time; all that are given by default.
        compile: as for :class:`~ilo_pl.ILOInversion`.
        consistency: as for :class:`~ilo_pl.InverseTask`.
        to_input: what the physics takes: ``"rgb"``, the image; ``"grey"``, its luma ``(B, 1, H, W)``;
            ``"two_channels"``, the luma with an imaginary part that is 0, ``(B, 2, H, W)``. This is what is
            returned too.
        complex_input: hand the physics complex numbers, as phase retrieval needs.
        trainer: further options of ``pytorch_lightning.Trainer``, for example ``{"callbacks": [...]}``.
        device: where the generator is put.

    Attributes:
        results: what the last call found, one :class:`~ilo_pl.Reconstruction` for each image in order.

    Raises:
        ConfigurationError: there is no such method, task or conversion.
    """

    def __init__(  # noqa: PLR0913  # each is a choice of its own
        self,
        generator: SplitGenerator,
        method: str | Schedule = "ilo",
        *,
        task: str | None = "auto",
        seed: int = 0,
        precision: Literal["auto"] | Precision = "auto",
        batch_size: int | None = None,
        compile: CompileMode = "auto",
        consistency: bool | Literal["auto"] = "auto",
        to_input: Literal["rgb", "grey", "two_channels"] = "rgb",
        complex_input: bool = False,
        trainer: Mapping[str, Any] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        if to_input not in CONVERSIONS:
            raise unknown("conversion to_input =", to_input, CONVERSIONS)
        if isinstance(method, str):
            load_method(method, None if task == "auto" else task)  # a slip is found here
        self.generator = generator.freeze().to(device)
        self.method = method
        self.task = task
        self.seed = seed
        self.precision = TrainerConfig(precision=precision).precision
        self.batch_size = batch_size
        self.compile: CompileMode = compile
        self.consistency = consistency
        self.to_input = to_input
        self.complex_input = complex_input
        self.trainer = dict(trainer or {})
        self.results: tuple[Reconstruction, ...] = ()

    def forward(self, y: Tensor, physics: Any, **options: Any) -> Tensor:
        """Return reconstructions in [0, 1], without a graph, on the device of ``y``.

        Args:
            y: measurements ``(B, ...)``, as ``physics(x)`` gives them for x in [0, 1].
            physics: a ``deepinv.physics.Physics``. Its noise model says how strong the noise is: none,
                or Gaussian of known sigma; other noise counts as of unknown strength.
            options: none is known.

        Returns:
            ``(B, 3, H, W)``, or with the channels of ``to_input``.

        Raises:
            ConfigurationError: the physics cannot be used, or an option is given.
            InputError: ``y`` are not measurements of it.
        """
        if options:
            raise ConfigurationError(
                f"ILOReconstructor has no option {next(iter(options))!r}.",
                hint="Leave plot_convergence_metrics off; results[i].stages says how stages ended.",
            )
        if not isinstance(y, Tensor) or y.ndim < 2:
            raise InputError(f"y is a tensor of measurements (B, ...); got {type(y).__name__}.")
        # Evaluations call this without gradients, and the search follows them.
        with torch.inference_mode(False), torch.enable_grad():
            y = as_real(y.detach().clone())
            ids = measured_ids(y)
            found: dict[str, Reconstruction] = {}
            for part in self._parts(y, physics):
                chosen = [ids[i] for i in part.places]
                found |= self._search(part, y[list(part.places)], chosen, type(physics).__name__)
        self.results = tuple(found[image_id] for image_id in ids)
        images = torch.stack([result.image for result in self.results]).to(y.device)
        return self._converted(to_unit(images))

    def _search(
        self, part: Part, y: Tensor, ids: Sequence[str], physics: str
    ) -> dict[str, Reconstruction]:
        """Return what is found for images that are one inverse problem, by their ids."""
        operator, sigma = part.operator.on(y.device), part.sigma
        y = as_measurements(y, operator.measurement_shape)
        if isinstance(operator, LinearOperator):
            white = torch.ones(1, *self.generator.image_shape, device=y.device)
            y, sigma = 2 * y - operator(white), None if sigma is None else 2 * sigma
        inversion = ILOInversion(
            InverseTask(
                self.generator,
                operator,
                y,
                schedule=self._schedule(physics, sigma),
                ids=ids,
                seed=self.seed,
                batch_size=self.batch_size or len(y),
                noise_sigma=sigma,
                consistency=self.consistency,
            ),
            compile=self.compile,
        )
        with quiet_lightning():
            self._trainer_on(y.device).fit(inversion)
        return inversion.results

    def _schedule(self, physics: str, sigma: float | None) -> Schedule:
        if isinstance(self.method, Schedule):
            return self.method
        task = TASKS.get(physics) if self.task == "auto" else self.task
        # What is done otherwise in noise needs noise of known strength.
        if self.task == "auto" and task == "denoising" and not sigma:
            task = None
        return load_method(self.method, task)

    def _trainer_on(self, device: torch.device) -> pl.Trainer:
        accelerator = "gpu" if device.type == "cuda" else device.type
        precision = choose_precision(
            TrainerConfig(accelerator=accelerator, precision=self.precision)
        )
        quiet = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger")
        options: dict[str, Any] = {
            "accelerator": accelerator,
            "devices": [device.index or 0] if device.type == "cuda" else 1,
            "precision": precision,
            **dict.fromkeys(quiet, False),
        }
        return pl.Trainer(**{**options, **self.trainer})

    def _converted(self, images: Tensor) -> Tensor:
        """Return images in [0, 1] as the physics takes them."""
        if self.to_input == "rgb":
            return images
        grey = Grey(self.generator.image_shape).on(images.device)(images)
        return grey if self.to_input == "grey" else torch.cat([grey, torch.zeros_like(grey)], 1)

    def _parts(self, y: Tensor, physics: Any) -> list[Part]:
        """Divide a batch into inverse problems: images share one if they share operator and noise."""
        count, sigmas = len(y), noise_sigmas(physics, len(y))
        try:
            shared = self._operator(physics)
        except ConfigurationError as error:
            singles = singles_of(physics, count)
            if not singles:
                raise
            operators = [self._operator(single) for single in singles]
            self._check_singles(physics, operators, error)
            return [Part((i,), operators[i], sigmas[i]) for i in range(count)]
        if shared.count not in (None, count):
            raise InputError(
                f"The physics is of {shared.count} images and there are {count} measurements."
            )
        parts = []
        for sigma in dict.fromkeys(sigmas):
            places = tuple(i for i in range(count) if sigmas[i] == sigma)
            parts.append(Part(places, shared.select(places), sigma))
        return parts

    def _operator(self, physics: Any) -> ForwardOperator:
        return deepinv_operator(
            physics,
            self.generator.image_shape,
            to_input=self.to_input,
            complex_input=self.complex_input,
        )

    @torch.no_grad()
    def _check_singles(
        self, physics: Any, operators: Sequence[ForwardOperator], error: ConfigurationError
    ) -> None:
        """See that the physics of single images measure what the one of the batch does."""
        shape = (len(operators), *self.generator.image_shape)
        images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        taken = self._converted(images).to(operators[0].device)
        both = as_real(physics.A(taken.to(torch.cfloat) if self.complex_input else taken))
        for i, operator in enumerate(operators):
            image = images[i : i + 1].to(both.device)
            image = image if isinstance(operator, LinearOperator) else 2 * image - 1
            if not torch.allclose(operator(image)[0], both[i], rtol=TOLERANCE, atol=TOLERANCE):
                raise ConfigurationError(
                    f"{error.what} It could not be divided into one physics for each image either.",
                    hint="Reconstruct the images one by one, each with its own physics.",
                ) from error


def measured_ids(y: Tensor) -> list[str]:
    """Return an id for each image's measurements, by their content; equal ones are numbered."""
    seen: Counter[str] = Counter()
    ids = []
    for values in y.detach().cpu():
        digest = hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:DIGITS]
        seen[digest] += 1
        ids.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return ids
