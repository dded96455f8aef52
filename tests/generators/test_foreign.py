"""Files of other codes: what is read from them, and that nothing in them is ever run."""

from __future__ import annotations

import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ilo_pl.errors import WeightsError
from ilo_pl.generators import make_generator
from ilo_pl.generators.stylegan2.checkpoint import read_checkpoint
from ilo_pl.generators.stylegan2.network import StyleGAN2
from tests.conftest import command
from tests.generators.foreign_files import (
    Built,
    rosinality_state,
    write_nvidia,
    write_rosinality,
)


@pytest.fixture(scope="module")
def network() -> StyleGAN2:
    return StyleGAN2.random(
        64, channel_base=512, channel_max=16, dim=32, mapping_layers=4, conv_clamp=None, seed=2
    )


@pytest.fixture(scope="module")
def published(network: StyleGAN2) -> dict[str, Tensor]:
    return {n: v for n, v in network.state_dict().items() if not n.startswith("v_")}


@pytest.fixture
def z() -> Tensor:
    return torch.randn(2, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nvidias_pickle(
    network: StyleGAN2,
    published: dict[str, Tensor],
    z: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    protocol: int,
) -> None:
    path = write_nvidia(tmp_path / "n.pkl", published, monkeypatch, protocol=protocol)
    checkpoint = read_checkpoint(path)
    assert checkpoint.arguments["synthesis_kwargs.conv_clamp"] == "None"
    assert checkpoint.state.keys() == published.keys()
    assert torch.equal(StyleGAN2.pretrained(path)(z), network(z))


def test_nvidias_clamp_is_kept(
    published: dict[str, Tensor], z: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_nvidia(tmp_path / "n.pkl", published, monkeypatch, Built(clamp=0.5))
    loaded = StyleGAN2.pretrained(path)
    assert loaded.architecture.conv_clamp == 0.5
    assert all(layer.clamp == 0.5 for layer in loaded.layers)


@pytest.mark.parametrize(("average", "zipped"), [(True, True), (False, False)])
def test_rosinalitys_checkpoint_gives_the_same_image(
    network: StyleGAN2,
    published: dict[str, Tensor],
    z: Tensor,
    tmp_path: Path,
    average: bool,
    zipped: bool,
) -> None:
    path = write_rosinality(tmp_path / "r.pt", published, average=average, zipped=zipped)
    loaded = StyleGAN2.pretrained(path)
    torch.testing.assert_close(loaded(z), network(z), atol=1e-4, rtol=0)
    tolerance = 0 if average else 0.05
    torch.testing.assert_close(loaded.mapping.w_avg, network.mapping.w_avg, atol=tolerance, rtol=0)


@pytest.mark.parametrize("foreign", ["nvidia", "rosinality"])
def test_convert(
    network: StyleGAN2,
    published: dict[str, Tensor],
    z: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    foreign: str,
) -> None:
    if foreign == "nvidia":
        path = write_nvidia(tmp_path / "n.pkl", published, monkeypatch, Built(clamp=256))
    else:
        path = write_rosinality(tmp_path / "r.pt", published)
    out = tmp_path / "own.safetensors"
    assert command(monkeypatch, "convert", str(path), str(out), "--licence", "CC0") == 0
    shown = capsys.readouterr().out
    assert "64 x 64" in shown and "4 layers of 32" in shown and "CC0" in shown
    own = read_checkpoint(out)
    assert own.metadata["architecture"] == "stylegan2" and own.metadata["licence"] == "CC0"
    assert own.architecture.conv_clamp == (256.0 if foreign == "nvidia" else None)
    loaded = make_generator("stylegan2", out)
    torch.testing.assert_close(loaded(z), network(z), atol=1e-4, rtol=0)
    assert torch.equal(loaded.v_std, StyleGAN2.pretrained(path).v_std)  # type: ignore[arg-type]


def broken_files(
    published: dict[str, Tensor], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[Path, str]]:
    """Files that are no StyleGAN2 generator, by name, with what the error must say."""
    folder.mkdir()
    nvidia = write_nvidia(folder / "whole.pkl", published, monkeypatch)
    rosinality = write_rosinality(folder / "whole.pt", published)

    def cut(path: Path, name: str) -> Path:
        (folder / name).write_bytes(path.read_bytes()[:-1000])
        return folder / name

    def checkpoint(name: str, state: dict[str, Any]) -> Path:
        torch.save(state, folder / name)
        return folder / name

    def network(
        name: str, state: dict[str, Tensor], built: Built | None = None, **options: Any
    ) -> Path:
        return write_nvidia(folder / name, state, monkeypatch, built, **options)

    one = torch.zeros(1)
    three = {"synthesis.input.weight": one, "synthesis.L0_36_64.weight": one, "mapping.w_avg": one}
    own = folder / "other.safetensors"
    import safetensors.torch

    safetensors.torch.save_file({"a": one}, own)
    thin = {n: v[:8] if n == "synthesis.b8.conv0.bias" else v for n, v in published.items()}
    lame = {n: v * float("nan") if n == "mapping.w_avg" else v for n, v in published.items()}
    r = rosinality_state(published)
    return {
        "truncated pickle": (cut(nvidia, "cut.pkl"), "incomplete"),
        "truncated checkpoint": (cut(rosinality, "cut.pt"), "incomplete"),
        "discriminator alone": (network("d.pkl", published, key="D"), "discriminator"),
        "discriminator as generator": (
            network("dg.pkl", {"b64.fromrgb.weight": one}),
            "discriminator",
        ),
        "stylegan3": (network("s3.pkl", three), "StyleGAN3"),
        "resnet without its shortcuts": (
            network("rn.pkl", published, Built(kind="resnet")),
            "b16.skip.resample_filter is missing",
        ),
        "embeddings of nothing": (
            network("c.pkl", {**published, "mapping.embed.weight": torch.zeros(8, 3)}),
            "mapping.embed.bias is missing",
        ),
        "wrong shape": (network("t.pkl", thin), "synthesis.b8.conv0.bias has shape"),
        "not finite": (network("nan.pkl", lame), "not finite"),
        "block missing": (
            network("bm.pkl", {n: v for n, v in published.items() if ".b16." not in n}),
            "blocks of \\[4, 8, 32, 64\\]",
        ),
        "clamp that is no number": (
            network("cl.pkl", published, Built(clamp="much")),
            "unknown build",
        ),
        "names that are none": (checkpoint("nn.pt", {"g_ema": {1: one}}), "no averaged generator"),
        "mapping missing": (
            network("mm.pkl", {n: v for n, v in published.items() if ".fc" not in n}),
            "0 mapping layers",
        ),
        "stylegan1": (
            checkpoint("s1.pt", {"g_ema": {"generator.progression.0.conv1.weight": one}}),
            "StyleGAN \\(1\\)",
        ),
        "rosinality's discriminator": (
            checkpoint("rd.pt", {"g_ema": {"final_conv.0.weight": one}}),
            "discriminator",
        ),
        "no generator": (checkpoint("none.pt", {"d": {}}), "no averaged generator"),
        "part missing": (
            checkpoint(
                "m.pt", {"g_ema": {n: v for n, v in r.items() if n != "convs.1.noise.weight"}}
            ),
            "synthesis.b8.conv1.noise_strength is missing",
        ),
        "other safetensors": (own, "unknown origin"),
        "nothing": (folder / "nowhere.pkl", "no file"),
        "text": (Path(__file__), "no file of a StyleGAN2"),
    }


def test_what_is_no_stylegan2_is_refused(
    published: dict[str, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, (path, message) in broken_files(published, tmp_path / "in", monkeypatch).items():
        with pytest.raises(WeightsError, match=message):
            StyleGAN2.pretrained(path)
        out = tmp_path / "out.safetensors"
        assert command(monkeypatch, "convert", str(path), str(out)) == 2, name
        shown = capsys.readouterr()
        assert "error:" in shown.err and "Traceback" not in shown.err
        assert not out.exists()
    assert command(monkeypatch, "convert", str(path), "out.pt") == 2


class Reduce:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def op_global(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def stack_global(module: str, name: str) -> bytes:
    return (
        b"\x8c"
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + (name.encode() + b"\x93")
    )


def call(function: bytes, *arguments: str) -> bytes:
    """The opcodes of a call with strings."""
    texts = b"".join(b"X" + len(a).to_bytes(4, "little") + a.encode() for a in arguments)
    return function + b"(" + texts + b"tR"


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that would write ``marker``, each by another trick."""
    code = f"open({str(marker)!r}, 'w')"
    shell = f"touch {marker}"
    start = b"\x80\x04"

    def raw(body: bytes) -> bytes:
        return start + body + b"."

    import builtins
    import copyreg
    import functools
    import runpy

    script = marker.with_suffix(".py")
    script.write_text(code)
    source_meta = {
        "type": "class",
        "version": 6,
        "module_src": code,
        "class_name": "Generator",
        "state": {},
    }
    pickled_meta = pickle.dumps(source_meta, 3)[2:-1]
    persistence = op_global("torch_utils.persistence", "_reconstruct_persistent_obj")
    ordered = op_global("collections", "OrderedDict")
    storage = op_global("torch.storage", "_load_from_bytes")
    inner = pickle.dumps(Reduce(os.system, shell), 2)
    return {
        "os.system": pickle.dumps(Reduce(os.system, shell)),
        "builtins.eval": pickle.dumps(Reduce(builtins.eval, code)),
        "builtins.exec": raw(call(op_global("builtins", "exec"), code)),
        "python 2's name": raw(call(op_global("__builtin__", "eval"), code)),
        "nested name": raw(call(stack_global("torch.serialization", "os.system"), shell)),
        "nested name of an admitted module": raw(call(stack_global("torch", "os.system"), shell)),
        "attribute of an admitted name": raw(
            call(stack_global("collections", "OrderedDict.fromkeys"), shell)
        ),
        "persistent id": raw(b"X" + len(shell).to_bytes(4, "little") + shell.encode() + b"Q"),
        "persistent id that is a call": raw(call(op_global("posix", "system"), shell) + b"Q"),
        "getattr": raw(call(op_global("builtins", "getattr"), shell, "upper")),
        "operator.attrgetter": raw(call(op_global("operator", "attrgetter"), "system")),
        "runpy": pickle.dumps(Reduce(runpy.run_path, str(script))),
        "numpy array of objects": raw(
            call(op_global("numpy.core.multiarray", "_reconstruct"), "O8")
        ),
        "numpy scalar of objects": raw(
            op_global("numpy", "dtype") + b"(X\x02\x00\x00\x00O8\x89\x88tR"
        ),
        "numpy.load": raw(call(op_global("numpy", "load"), str(marker))),
        "builtins.__import__": pickle.dumps(Reduce(builtins.__import__, "this")),
        "functools.partial": pickle.dumps(functools.partial(os.system, shell)),
        "copyreg": raw(call(op_global("copyreg", "_reconstructor"), shell)),
        "copyreg's registry": raw(b"\x82\x01"),
        "copyreg.pickle": pickle.dumps(Reduce(copyreg.add_extension, "os", "system", 99)),
        "INST": start
        + b"(X"
        + len(shell).to_bytes(4, "little")
        + shell.encode()
        + b"ios\nsystem\n.",
        "write to a function": raw(persistence + b"N}X\x0c\x00\x00\x00__defaults__N\x73\x86b"),
        "write to a class": raw(
            op_global("dnnlib.util", "EasyDict") + b"N}X\x08\x00\x00\x00__init__N\x73\x86b"
        ),
        "pickle in a tensor": raw(
            storage + b"(B" + len(inner).to_bytes(4, "little") + inner + b"tR"
        ),
        "torch.load": raw(call(op_global("torch", "load"), str(marker))),
        "source that is hidden in a network": start
        + b"}X\x05\x00\x00\x00G_ema"
        + persistence
        + b"("
        + pickled_meta
        + b"tRs.",
        "call of a result": raw(ordered + b"(tR(tR"),
        "class by NEWOBJ": raw(op_global("subprocess", "Popen") + b"(]X\x02\x00\x00\x00lsat\x81"),
        "TensorFlow's network": raw(call(op_global("dnnlib.tflib.network", "Network"))),
    }


def test_hostile_pickles_are_refused_with_nothing_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "hostile.pkl"

    cases = hostile(marker)
    for name, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(WeightsError):
            read_checkpoint(path)
        assert not marker.exists(), name
    assert "this" not in sys.modules
    path.write_bytes(cases["TensorFlow's network"])
    with pytest.raises(WeightsError, match=r"legacy\.py"):
        read_checkpoint(path)


def test_hostile_pickles_inside_checkpoints_are_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"g_ema": {}}, tmp_path / "plain.pt")
    for name, data in hostile(marker).items():
        path = tmp_path / "hostile.pt"
        with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(path, "w") as target:
            for entry in source.namelist():
                hidden = data if entry.endswith("data.pkl") else source.read(entry)
                target.writestr(entry, hidden)
        with pytest.raises(WeightsError):
            read_checkpoint(path)
        assert not marker.exists(), name
