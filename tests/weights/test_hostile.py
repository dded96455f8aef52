"""Files of attackers over all formats of weights: nothing runs, each is refused, soon and in little memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ilo_pl.errors import WeightsError
from ilo_pl.generators.biggan.network import BigGANDeep
from ilo_pl.generators.stylegan2.network import StyleGAN2
from ilo_pl.losses.perceptual import load_lpips
from ilo_pl.operators.classifier_models import make_classifier
from ilo_pl.weights.hub import hub_tensors
from ilo_pl.weights.load import read_safetensors
from tests.weights import files

# Of this process, so that other work on the machine does not count.
SECONDS = 5.0
GIGABYTE = 1 << 30
SHAPE = (3, 64, 64)
Reader = Callable[[Path], object]


def vgg(path: Path) -> object:
    return load_lpips("vgg", path)


READERS: dict[str, Reader] = {
    "stylegan2": StyleGAN2.pretrained,
    "biggan": BigGANDeep.pretrained,
    "robust": lambda path: make_classifier("robust/resnet18", path, SHAPE),
    "torchvision": lambda path: make_classifier("torchvision/resnet18", path, SHAPE),
    "safetensors": read_safetensors,
    "vgg": vgg,
}


@pytest.fixture(scope="module", autouse=True)
def ready() -> None:
    """Import what takes long before anything is timed."""
    import lpips  # noqa: F401
    import torchvision  # noqa: F401


def hostile(folder: Path, canary: Path) -> Iterator[tuple[str, Path, tuple[str, ...]]]:
    """Yield every file with the readers that are tried on it."""
    torch_readers = ("stylegan2", "biggan", "robust", "torchvision")
    pickles = {**files.programs(canary), **files.bombs(), "gzip bomb": files.gzip_bomb()}
    for name, data in pickles.items():
        (folder / "n.pkl").write_bytes(data)
        yield f"pickle: {name}", folder / "n.pkl", ("stylegan2", "robust")
    inner = {**files.programs(canary), **files.bombs(), **files.tensors()}
    for name, data in inner.items():
        yield f"archive: {name}", files.archive(folder / "a.pt", data), torch_readers
        (folder / "l.pt").write_bytes(files.legacy(data, files.pickle.dumps(["0"], 2)))
        yield f"old file: {name}", folder / "l.pt", torch_readers
    for name, path in files.archives(folder, canary).items():
        yield f"archive: {name}", path, torch_readers
    for name, data in files.legacies().items():
        (folder / "l.pt").write_bytes(data)
        yield f"old file: {name}", folder / "l.pt", torch_readers
    for name, data in files.safetensors_files().items():
        (folder / "s.safetensors").write_bytes(data)
        yield f"safetensors: {name}", folder / "s.safetensors", ("safetensors", "stylegan2", "vgg")
    torch.save(files.state_that_declares(200_000), folder / "b.bin")
    yield "BigGAN of 200,000 channels", folder / "b.bin", ("biggan",)
    classes = {"fc.bias": torch.zeros(3_000_000), "fc.weight": torch.zeros(3_000_000, 1)}
    torch.save({"model": {f"module.model.{k}": v for k, v in classes.items()}}, folder / "r.pt")
    yield "classifier of three million classes", folder / "r.pt", ("robust",)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_every_file_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count = 0
    for name, path, readers in hostile(tmp_path, canary):
        # One of those that read all formats, and one of the others in turn.
        for reader in {readers[0], readers[count % len(readers)]}:
            start = time.process_time()
            with pytest.raises(WeightsError) as refusal:
                READERS[reader](path)
            taken = time.process_time() - start
            assert not canary.exists(), f"{name} ran, by {reader}"
            assert taken < SECONDS, f"{name} took {reader} {taken:.1f} s"
            assert len(str(refusal.value)) < 2000, name
        count += 1
    assert count >= 150
    assert "this" not in sys.modules
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    # The makers themselves hold some hundred megabytes.
    assert grown << 10 < 2 * GIGABYTE


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_canary_sings_where_torch_loads_the_archive(tmp_path: Path) -> None:
    path = files.script(tmp_path / "evil.pt", tmp_path / "canary")
    assert not (tmp_path / "canary").exists()
    torch.jit.load(str(path))
    assert (tmp_path / "canary").exists()
    with pytest.raises(WeightsError, match=r"archive of TorchScript(.|\n)*state_dict"):
        READERS["robust"](path)


def test_the_hub_checks_what_lies_in_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = "https://example.org/models/net-01234567.pth"
    path = tmp_path / "hub" / "checkpoints" / "net-01234567.pth"
    path.parent.mkdir(parents=True)
    torch.save({"a": torch.ones(2)}, path)
    with pytest.raises(WeightsError, match="does not begin with 01234567"):
        hub_tensors(url)
    digest = files_sha256(path)[:8]
    right = path.with_name(f"net-{digest}.pth")
    path.rename(right)
    assert torch.equal(hub_tensors(f"https://example.org/{right.name}")["a"], torch.ones(2))
    with pytest.raises(WeightsError, match="does not say its sha256"):
        hub_tensors("https://example.org/net.pth")


def files_sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_within_a_gigabyte_of_address_space(tmp_path: Path) -> None:
    """The worst of them again, where the system gives no more memory than is promised."""
    names = (
        "bytes of four gigabytes",
        "bytes of exabytes",
        "marks",
        "deep lists",
        "keys that collide",
    )
    bombs = files.bombs()
    for number, name in enumerate(names):
        (tmp_path / f"{number}.pkl").write_bytes(bombs[name])
    (tmp_path / "9.pkl").write_bytes(files.gzip_bomb())
    code = f"""
        import resource
        from pathlib import Path
        from ilo_pl.errors import WeightsError
        from ilo_pl.generators.stylegan2.checkpoint import read_checkpoint
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + {GIGABYTE},) * 2)
        for path in sorted(Path({str(tmp_path)!r}).glob("*.pkl")):
            try:
                read_checkpoint(path)
            except WeightsError as error:
                print(path.name)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted(p.name for p in tmp_path.glob("*.pkl"))
