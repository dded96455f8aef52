"""Every registered operator, noise model and loss on a second device, which ``meta`` stands for.

It computes shapes and holds no values: what mixes devices fails there, and so does what reads a value on
the host, which on a GPU would wait for it in every step. An operator is tried here by being registered.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from ilo_pl.config.choices import config_dir
from ilo_pl.errors import ConfigurationError
from ilo_pl.inversion.objective import Objective
from ilo_pl.inversion.source import Batch, InMemory, MeasurementSource
from ilo_pl.io.images import LoadedImage
from ilo_pl.losses import LOSSES, CrossEntropy, SuperimposedLPIPS
from ilo_pl.operators import (
    Classifier,
    ForwardOperator,
    FunctionOperator,
    Grey,
    Identity,
    LinearOperator,
    Mask,
    Separable,
    compose,
)
from ilo_pl.operators.config import OPERATORS
from ilo_pl.operators.makers import Fixed, OperatorMaker
from ilo_pl.operators.noise import NOISES, NoiseModel

SHAPE = (3, 64, 64)
META = torch.device("meta")
IDS = ("ann", "bob")
# Where the file in configs/operator leaves to the user what to measure.
KEYS: dict[str, dict[str, Any]] = {
    "composition": {
        "parts": [
            {"name": "blur", "sigma": 1.0},
            {"name": "grey"},
            {"name": "mask", "fraction": 0.3},
        ]
    },
    "mask": {"fraction": 0.3},
}


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no autocast on ``meta``, not even one to switch off."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())


def classifier() -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 5, 4), nn.Flatten(), nn.Linear(4 * 16, 5))
    return Classifier(net, SHAPE, size=18)


def shipped(group: str, name: str) -> dict[str, Any]:
    """Return the keys of a choice that its file sets."""
    keys = yaml.safe_load((config_dir() / group / f"{name}.yaml").read_text())
    return {key: value for key, value in keys.items() if value not in (None, [])}


def maker(name: str) -> OperatorMaker:
    """Return the maker of a registered operator; classifiers that can be named are too large for a test."""
    if name == "classifier":
        return Fixed(classifier())
    return OPERATORS[name](**shipped("operator", name), **KEYS.get(name, {})).maker(SHAPE, 0)


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(0)) * 2 - 1


def noise_model(name: str) -> NoiseModel:
    return NOISES[name](**shipped("noise", name))


class Simulated(MeasurementSource):
    """Measures on the CPU whenever it is asked, as a folder of images does."""

    def __init__(self, made: OperatorMaker, noise: NoiseModel) -> None:
        self.ids, self.made, self.noise = IDS, made, noise

    def load(self, indices: Sequence[int]) -> Batch:
        ids = [IDS[i] for i in indices]
        images = pictures()[list(indices)]
        operator = self.made.make(ids, [LoadedImage(image, None) for image in images])
        measured = operator.hide(self.noise.apply(operator(images), 0, ids))
        return Batch(tuple(ids), measured, operator)


def step(batch: Batch, *losses: str) -> None:
    """Do what the search does with a batch in a step, forwards and backwards."""
    image = torch.zeros(len(batch.ids), *SHAPE, device=META).requires_grad_()
    latents = torch.zeros(len(batch.ids), 4, 16, device=META)
    fidelity, total = Objective(batch, dict.fromkeys(losses, 1.0), noise=0.1)(image, latents, 3)
    assert fidelity.device == total.device == META
    total.sum().backward()
    if isinstance(batch.operator, LinearOperator):
        assert batch.operator.adjoint(batch.measurements).shape == image.shape
    batch.operator.picture(batch.measurements)
    assert batch.operator.select([0]).observed().device == META


def tensors(operator: ForwardOperator) -> dict[str, Tensor]:
    return {
        name: value.clone()
        for name, value in [*operator.named_buffers(), *operator.named_parameters()]
    }


def unmoved(operator: ForwardOperator, before: dict[str, Tensor]) -> bool:
    now = tensors(operator)
    return now.keys() == before.keys() and all(torch.equal(now[n], before[n]) for n in before)


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise", NOISES)
def test_batches_move_and_their_source_stays(name: str, noise: str) -> None:
    if name in ("circulant", "gaussian") and noise == "poisson":
        pytest.skip("Poisson noise is for intensities")
    source = Simulated(
        maker(name), noise_model(noise) if name != "classifier" else noise_model("none")
    )
    first = source.load([0, 1])
    before = tensors(first.operator)
    for indices in (
        [0],
        [1],
        [0, 1],
        [0],
    ):  # two batches, a larger one, and the first again: a resume
        again = source.load(indices)
        expected = first.measurements[indices]
        # Sums of batches of different sizes are rounded otherwise.
        torch.testing.assert_close(again.measurements, expected, rtol=1e-5, atol=1e-5)
        moved = again.to(META)
        assert {t.device for t in tensors(moved.operator).values()} == {META}
        step(moved, "cross_entropy" if name == "classifier" else "mse")
        assert unmoved(first.operator, before)


@pytest.mark.parametrize("name", OPERATORS)
def test_measurements_in_memory_serve_many_batches(name: str) -> None:
    operator = maker(name).make(IDS, [LoadedImage(image, None) for image in pictures()])
    source = InMemory(operator, operator(pictures()).detach(), IDS)
    before = tensors(operator)
    for indices in ([0], [1], [0, 1], [0]):
        step(source.load(indices).to(META), "cross_entropy" if name == "classifier" else "mse")
        assert unmoved(operator, before)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_read_nothing_on_the_host(name: str) -> None:
    term = LOSSES[name]
    operator: ForwardOperator = Identity(SHAPE)
    if term is CrossEntropy:
        operator = classifier()
    elif term is SuperimposedLPIPS:
        operator = Mask.random(SHAPE, 0.3, 0, IDS)
    y = operator(pictures()).detach()
    losses = {name} if term.is_fidelity else {name, "mse"}
    for _ in range(2):
        step(InMemory(operator, y, IDS).load([0, 1]).to(META), *losses)
    # What losses share stays on the CPU too.
    batch = InMemory(operator, y, IDS).load([0, 1])
    value, _ = Objective(batch, dict.fromkeys(losses, 1.0))(pictures(), torch.ones(2, 4, 16))
    assert bool(torch.isfinite(value).all())


def test_one_copy_serves_all_batches_until_the_original_changes() -> None:
    blur = Separable.gaussian_blur(SHAPE, 2.0)
    chain = compose([blur, Mask.random(SHAPE, 0.3, 0, IDS)])
    assert blur.on(META) is blur.on(META)
    assert blur.on(torch.device("cpu")) is blur
    first, second = (chain.select([i]).on(META) for i in (0, 1))
    # The matrices of the blur are copied once; the masks are those of each image.
    assert first.operators[0] is second.operators[0] is blur.on(META)  # type: ignore[attr-defined]
    old = blur.on(META)
    blur.rows.mul_(2)
    assert blur.on(META) is not old
    assert blur.double().on(META).rows.dtype == torch.float64


def test_a_spectrum_is_that_of_the_copy() -> None:
    circulant = maker("circulant").make(IDS, [])
    circulant(pictures())  # its spectrum is kept from here on
    twin = copy.deepcopy(circulant).double()
    expected = twin(pictures().double())
    assert expected.dtype == torch.float64
    torch.testing.assert_close(expected.float(), circulant(pictures()), rtol=1e-4, atol=1e-4)
    assert circulant.on(META)(pictures().to(META)).device == META


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x * self.scale)

    def other(self, x: Tensor) -> Tensor:
        return x[:, :1] * self.scale


@pytest.mark.parametrize("function", [torch.sigmoid, Scaled(), Scaled().other])
def test_functions_and_modules_move(function: Callable[[Tensor], Tensor]) -> None:
    operator = compose([Grey(SHAPE), FunctionOperator(function, (1, 64, 64))])
    before = tensors(operator)
    source = InMemory(operator, operator(pictures()))
    for _ in range(2):
        step(source.load([0]).to(META), "mse")
    assert unmoved(operator, before)


def test_a_tensor_that_cannot_move_is_explained() -> None:
    weight = torch.rand(64, 64)
    operator = FunctionOperator(lambda x: x * weight, SHAPE)
    batch = InMemory(operator, operator(pictures()).detach()).load([0])
    with pytest.raises(ConfigurationError, match=r"images on meta(.|\n)*torch\.nn\.Module"):
        batch.to(META)
