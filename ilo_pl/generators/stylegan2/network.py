"""StyleGAN2 (Karras et al. 2020, arXiv 1912.04958), 4 x 4 to 1024 x 1024, in plain PyTorch.

Parameters have the names and shapes of NVIDIA's PyTorch code, so that a published network is a state
dictionary of this one. How files are read: :mod:`ilo_pl.generators.stylegan2.checkpoint`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.generators.base import Split, SplitGenerator, State
from ilo_pl.generators.latents import SPACES, v_statistics, v_to_w
from ilo_pl.generators.stylegan2.architecture import Architecture, channels_by_size
from ilo_pl.generators.stylegan2.checkpoint import Checkpoint, check_tensors, read_checkpoint
from ilo_pl.generators.stylegan2.layers import Mapping, SynthesisBlock, SynthesisLayer

# A mean over this many draws is known to 1/141 of the standard deviation.
V_SAMPLES = 20_000


class StyleGAN2(SplitGenerator):
    """StyleGAN2 of any published architecture, with the class fixed or searched where it has classes.

    The splits are the latent, the features behind each block but the last, and the image. With the
    architecture "skip" every block adds to an RGB image. The colours of a block are drawn behind its cut,
    because they share their style with the next block's first convolution: split k has the features of
    its own size and, from the second on, the RGB image of half that size. With S = 2 log2(resolution) - 2
    style slots, split k >= 1 starts at slot and noise 2k - 1.

    Latents of the spaces v and w have ``dim`` numbers. Those of z have ``z_dim``; without a class, where
    there are classes, the class's embedding follows, standardised by the mean and standard deviation of
    all classes' embeddings. Images of one colour become three equal ones; transparency is dropped.

    Args:
        architecture: what it is built of.
        class_index: the fixed class; ``None`` searches the class's embedding too, where there are classes.
        truncation: psi; styles mapped from z are w_avg + psi (w - w_avg).

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    latent_spaces: ClassVar[tuple[str, ...]] = SPACES
    skip_states: ClassVar[tuple[str, ...]] = ("rgb",)
    v_mean: Tensor
    v_std: Tensor

    def __init__(
        self,
        architecture: Architecture,
        *,
        class_index: int | None = None,
        truncation: float = 1.0,
    ) -> None:
        super().__init__()
        architecture.check()
        _check_class(class_index, architecture.classes)
        self.architecture = architecture
        self.class_index = class_index
        self.truncation = truncation
        self.sizes = architecture.sizes
        self.mapping = Mapping(architecture)
        self.synthesis = nn.Module()
        for i, size in enumerate(self.sizes):
            self.synthesis.add_module(f"b{size}", SynthesisBlock(architecture, i))
        self.register_buffer("v_mean", torch.zeros(architecture.dim))
        self.register_buffer("v_std", torch.ones(architecture.dim))
        searched = architecture.embed_features if class_index is None else 0
        self.latent_dim = architecture.z_dim + searched
        self.num_slots = 2 * len(self.sizes)
        sizes = [self.sizes[(i + 1) // 2] for i in range(self.num_slots - 1)]
        self.noise_shapes = tuple((1, s, s) for s in sizes if architecture.use_noise)
        self.splits = self._make_splits()

    def _make_splits(self) -> tuple[Split, ...]:
        a = self.architecture
        inner: list[Split] = []
        for i, (size, c) in enumerate(zip(a.sizes[:-1], a.channels, strict=False)):
            shapes = {"features": (c, size, size)}
            if i and a.kind == "skip":
                shapes["rgb"] = (a.colours, size // 2, size // 2)
            slot = 2 * i + 1
            inner.append(Split(f"b{size}", shapes, slot, slot if a.use_noise else 0))
        image = {"image": (3, a.resolution, a.resolution)}
        end = Split("image", image, self.num_slots, len(self.noise_shapes))
        return (Split("latent", {}, 0, 0), *inner, end)

    @classmethod
    def random(
        cls,
        resolution: int,
        *,
        channel_base: int = 32768,
        channel_max: int = 512,
        seed: int = 0,
        class_index: int | None = None,
        **options: Any,
    ) -> StyleGAN2:
        """Return a frozen network of random weights: what training starts from, with some noise.

        Args:
            resolution: side of the images.
            channel_base: see :func:`channels_by_size`.
            channel_max: see :func:`channels_by_size`.
            seed: seed of the weights.
            class_index: see :class:`StyleGAN2`.
            options: more of :class:`Architecture`; z and the mapping network are as wide as w by default.
        """
        channels = channels_by_size(resolution, channel_base, channel_max)
        dim = options.get("dim", 512)
        sizes = {"z_dim": dim, "layer_features": dim}
        architecture = Architecture(resolution=resolution, channels=channels, **sizes | options)
        network = cls(architecture, class_index=class_index)
        network._draw(torch.Generator().manual_seed(seed))
        network._measure_latents()
        network.freeze()
        return network

    @torch.no_grad()
    def _draw(self, rng: torch.Generator) -> None:
        """Draw all weights."""
        for name, value in self.named_parameters():
            value.normal_(generator=rng)
            if name.startswith("mapping.fc") and name.endswith("weight"):
                value.mul_(1 / self.architecture.mapping_lr)
            elif name.endswith(("bias", "noise_strength")):
                value.mul_(0.1)
            if name.endswith("affine.bias"):
                value.add_(1)
        for layer in self.layers:
            if layer.use_noise:
                layer.noise_const.normal_(generator=rng)

    @classmethod
    def pretrained(
        cls, weights: Path | None, *, class_index: int | None = None, truncation: float = 1.0
    ) -> StyleGAN2:
        """Return the frozen network of a file: NVIDIA's, rosinality's or our own.

        Raises:
            WeightsError: there is no file, or it does not hold a StyleGAN2 generator.
            ConfigurationError: the network has no such class.
        """
        if weights is None:
            raise WeightsError(
                "StyleGAN2 has no weights in the package.",
                hint="Set generator.weights=FILE: NVIDIA's .pkl, rosinality's .pt, or what "
                "`ilo-pl convert` made of one.",
            )
        checkpoint = read_checkpoint(weights)
        return cls.from_checkpoint(checkpoint, class_index=class_index, truncation=truncation)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, *, class_index: int | None = None, truncation: float = 1.0
    ) -> StyleGAN2:
        """Build the frozen network that a checkpoint holds.

        Raises:
            WeightsError: names or shapes are not those of its architecture.
            ConfigurationError: the network has no such class.
        """
        state = checkpoint.state
        _check_class(class_index, checkpoint.architecture.classes)
        # Shapes are compared before any memory is taken: a few numbers can declare a huge network.
        architecture = checkpoint.architecture
        with torch.device("meta"):
            network = cls(architecture, class_index=class_index, truncation=truncation)
        measured = {"mapping.w_avg", "v_mean", "v_std"}
        check_tensors(state, network.state_dict(), measured, checkpoint.path)
        network._take({name: torch.zeros(architecture.dim) for name in measured} | state)
        network._measure_latents(known=state.keys())
        network.freeze()
        return network

    def _take(self, state: dict[str, Tensor]) -> None:
        """Take the tensors as they are, and filters of any shape."""
        tensors = {name: value.float().contiguous() for name, value in state.items()}
        for name, module in self.named_modules():
            if isinstance(getattr(module, "resample_filter", None), Tensor):
                module.resample_filter = tensors[f"{name}.resample_filter"]
        self.load_state_dict(tensors, assign=True)

    @torch.no_grad()
    def _measure_latents(self, known: Collection[str] = ()) -> None:
        """Estimate what a file does not tell of the distribution of w."""
        rng = torch.Generator().manual_seed(0)
        if self.architecture.classes:
            # Those of the file, where it knows them, are of all classes.
            known = set(known) - ({"v_mean", "v_std"} if self.class_index is not None else set())

        def mapped(z: Tensor) -> Tensor:
            if not self.architecture.classes or self.class_index is not None:
                return self._map(z)
            table = self.mapping.embeddings()
            return self.mapping.forward(
                z, table[torch.randint(len(table), (len(z),), generator=rng)]
            )

        if "v_mean" not in known or "v_std" not in known:
            mean, std = v_statistics(mapped, self.architecture.z_dim, V_SAMPLES)
            self.v_mean.copy_(mean)
            self.v_std.copy_(std)
        if "mapping.w_avg" not in known:
            rng = torch.Generator().manual_seed(0)
            z = torch.randn(V_SAMPLES, self.architecture.z_dim, generator=rng)
            self.mapping.w_avg.copy_(mapped(z).mean(0))

    def _block(self, index: int) -> SynthesisBlock:
        block = self.synthesis.get_submodule(f"b{self.sizes[index]}")
        assert isinstance(block, SynthesisBlock)
        return block

    @property
    def layers(self) -> list[SynthesisLayer]:
        """The convolutions with noise inputs, in order."""
        return [m for m in self.synthesis.modules() if isinstance(m, SynthesisLayer)]

    def block(self, k: int, state: State, styles: Tensor, noises: Sequence[Tensor | None]) -> State:
        """See :meth:`SplitGenerator.block`. Block 0 starts from the constant, the last ends in colours."""
        block = self._block(k)
        rgb = None
        if k == 0:
            x = block.first(styles[:, 0], next(iter(noises), None))
        else:
            if self.architecture.kind == "skip":
                before = self._block(k - 1)
                rgb = before.colours(state["features"], state.get("rgb"), styles[:, 0])
            x = block.features(state["features"], styles, noises)
        if k < len(self.sizes) - 1:
            return {"features": x} if rgb is None else {"features": x, "rgb": rgb}
        image = block.colours(x, rgb, styles[:, -1])
        return {"image": image[:, :3].expand(-1, 3, -1, -1)}

    def latent_size(self, space: str) -> int:
        """See :meth:`SplitGenerator.latent_size`; z need not be as wide as w."""
        return self.latent_dim if space == "z" else self.architecture.dim

    def _map(self, z: Tensor) -> Tensor:
        """Map latents of z ``(N, latent_dim)`` to w ``(N, dim)``, not truncated."""
        if not self.architecture.classes:
            return self.mapping.forward(z)
        table = self.mapping.embeddings()
        if self.class_index is not None:
            embedding = table[self.class_index].expand(len(z), -1)
        else:
            spread = table.std(0, correction=0)
            embedding = table.mean(0) + spread * z[:, self.architecture.z_dim :]
        return self.mapping.forward(z[:, : self.architecture.z_dim], embedding)

    def to_styles(self, latents: Tensor, space: str) -> Tensor:
        """Map latents of z, v or w to styles; those of z are truncated."""
        if space == "w":
            return latents
        if space == "v":
            return v_to_w(latents, self.v_mean, self.v_std)
        styles = self._map(latents.flatten(0, 1)).view(*latents.shape[:2], -1)
        if self.truncation == 1:
            return styles
        return self.mapping.w_avg + self.truncation * (styles - self.mapping.w_avg)

    def from_normal(self, normal: Tensor, space: str) -> Tensor:
        """Turn N(0, 1) numbers into latents of z, v or w; the centre of w is ``w_avg``.

        A draw of w is a z sent through the mapping network, or one of v where z is not as wide as w.
        """
        if space != "w":
            return normal
        with torch.no_grad():
            if not normal.any():
                return self.mapping.w_avg.expand_as(normal).clone()
            return self.to_styles(normal, "z" if self.latent_dim == normal.shape[-1] else "v")

    def stored_noise(self, index: int) -> Tensor:
        """Return the trained network's fixed noise map of one input, on the scale of N(0, 1)."""
        return self.layers[index].noise_const[None, None]


def _check_class(index: int | None, classes: int) -> None:
    if index is not None and not 0 <= index < classes:
        numbers = f"they are 0 to {classes - 1}" if classes else "the network has no classes"
        raise ConfigurationError(f"There is no class {index}: {numbers}.")
