"""The command ``ilo-pl``."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
import warnings
from dataclasses import asdict
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import shell_complete
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ilo_pl.app.command import app
from ilo_pl.config import completion as completing
from ilo_pl.config.typed_command import TypedCommand
from ilo_pl.errors import SOME_FAILED, IloError, Stopped, let_interrupts_unwind
from ilo_pl.paper.report_command import report
from ilo_pl.prepare.command import prepare

if TYPE_CHECKING:
    from ilo_pl.paper.theory_keys import TheoryKeys

PROGRAM = "ilo-pl"
# In this variable a shell asks for completions; click knows how.
COMPLETE = "_ILO_PL_COMPLETE"
# What a compiler has to say can be pages.
WARNING_LENGTH = 500

# Keys of a run, key=value.
run_keys = partial(click.argument, "overrides", nargs=-1, shell_complete=completing.complete_run)

# Everything that takes long to import is imported by the command that needs it.


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ilo_pl", prog_name=PROGRAM)
def cli() -> None:
    """Solve inverse problems by searching the inputs of a frozen generator."""


@cli.command()
@run_keys(metavar="input=FILE_OR_FOLDER output=DIR [key=value ...]")
@click.option("-m", "--multirun", is_flag=True, help="A run for every combination of values.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but warnings and errors.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each image and the end.")
def invert(overrides: tuple[str, ...], multirun: bool, quiet: bool, as_json: bool) -> None:
    """Invert an image or a folder of images.

    \b
    ilo-pl invert input=photo.png task=random_inpainting method=ilo output=results
    ilo-pl invert input=photo.png task=inpainting operator.file=mask.png output=results
    ilo-pl invert input=faces/ reference=faces/ output=results batch_size=4
    ilo-pl invert input=faces/ output=results trainer.devices=4 resume=true
    ilo-pl invert input=s3://bucket/faces output=s3://bucket/results engine=ray batch_size=8
    ilo-pl invert --multirun input=faces/ reference=faces/ method=ilo,csgm seed=0,1 output=sweep

    Ends with status 0; 2 when something asked for cannot be done; 3 when some images could not be used
    (failures.csv); 128 and the signal's number when a signal stopped it: the same command with resume=true
    goes on. Every key is explained in configs/default.yaml and the groups beside it; "ilo-pl info" lists the
    choices.
    """  # noqa: D301  # click knows its mark by the character itself
    from pytorch_lightning.utilities import rank_zero_only

    from ilo_pl.config.compose import load_config
    from ilo_pl.runs.multirun import run_all
    from ilo_pl.runs.run import run
    from ilo_pl.runs.telling import Teller

    if multirun:
        if as_json:
            raise click.UsageError("--json is of one run; a sweep has multirun.csv.")
        let_interrupts_unwind()
        out, progress = Console(quiet=quiet), Console(stderr=True, quiet=quiet)
        complete = run_all(overrides, out, progress)
        click.get_current_context().exit(0 if complete else SOME_FAILED)
    config = load_config(overrides)
    let_interrupts_unwind()
    teller = Teller(config, quiet=quiet, as_json=as_json)
    if config.engine.name == "ray":
        from ilo_pl.cluster.engine import run_ray

        done = run_ray(config, teller.console)
        lines = done.lines(config.output)
        complete = teller.end_of_cluster(done.complete, lines, asdict(done))
    else:
        scores = run(config, teller.console, config.method.name, launch=True, each=teller.each)
        if rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        complete = teller.end(scores)
    click.get_current_context().exit(0 if complete else SOME_FAILED)


cli.add_command(app)
cli.add_command(prepare)
cli.add_command(report)
completing.register()


@cli.command()
@run_keys(metavar="[output=DIR] [key=value ...]")
def demo(overrides: tuple[str, ...]) -> None:
    """Restore the shipped portrait from 10 % of its pixels, with CSGM and with ILO.

    Writes to the folder "demo" unless output=DIR is given.
    """
    from ilo_pl.paper.demo import run_demo

    let_interrupts_unwind()
    run_demo(overrides, Console())


@cli.command()
@click.argument("name", shell_complete=completing.complete_choice("experiment"))
@run_keys(metavar="output=DIR [key=value ...]")
@click.option("--quick", is_flag=True, help="Fewer levels, images and steps.")
def experiment(name: str, overrides: tuple[str, ...], quick: bool) -> None:
    """Run an experiment of the paper: its tables and figures, from the runs behind them.

    \b
    ilo-pl experiment figure2_inpainting output=results --quick
    ilo-pl experiment table1_sna output=results input=faces/ methods=[ilo,bm3d] levels=[25,50]

    The same command resumes an experiment that was stopped. Without input= it takes four generated faces
    and the shipped portrait; images=[face1,portrait] or images=2 takes some of them. Other keys are those of
    "ilo-pl invert". "ilo-pl info" lists the experiments.
    """  # noqa: D301
    from ilo_pl.paper.experiment import run_experiment
    from ilo_pl.paper.sweep import make_plan

    plan = make_plan(name, overrides, quick)
    let_interrupts_unwind()
    run_experiment(plan, Console(), Console(stderr=True))


@cli.command()
@click.argument("latents", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--generator", "name", help="Its generator; for one of your own, module:function.")
@click.option("--weights", help="The generator's weights.")
@click.option("--seed", type=click.IntRange(min=0), help="The generator's seed.")
@click.option(
    "--size", type=click.IntRange(min=1), help="Size of the image, up to the generator's own."
)
def render(
    latents: Path,
    output: Path,
    name: str | None,
    weights: str | None,
    seed: int | None,
    size: int | None,
) -> None:
    """Generate the image of a latents file again: LATENTS.safetensors OUTPUT.png.

    The file names its generator, weights, seed and size; the options replace them. Code of your own is imported only
    when --generator names it.
    """
    from ilo_pl.generators.point import render as render_point
    from ilo_pl.io.folder import RunFolder
    from ilo_pl.runs.latents import check_point, generator_of, load_point

    if output.suffix.lower() != ".png":
        raise click.BadParameter("must end in .png", param_hint="OUTPUT")
    point, about = load_point(latents)
    made = generator_of(about, name, weights, seed, size)
    # What the file names is never imported, what the user names may be.
    generator = made.make(imports=name is not None)
    if size not in (None, int(about.get("size", 0))):
        point = point.bare()  # what was beside the generator's picture is of one size
    check_point(generator, point, about["space"])
    let_interrupts_unwind()
    image = render_point(generator, point, about["space"])[0]
    written = RunFolder(output.parent).write_image(".", output.stem, image)
    Console().print(f"Written to {written}", markup=False, soft_wrap=True)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--licence", default="unknown", help="Licence of the weights, kept in the file.")
def convert(file: Path, output: Path, licence: str) -> None:
    """Turn a StyleGAN2 of NVIDIA's or rosinality's code into OUTPUT.safetensors.

    FILE is a path or a registered name. Nothing that the file holds is run.
    """
    from ilo_pl.generators.stylegan2.convert import convert_stylegan2
    from ilo_pl.io.folder import atomic

    if output.suffix.lower() != ".safetensors":
        raise click.BadParameter("must end in .safetensors", param_hint="OUTPUT")
    converted = convert_stylegan2(file, licence)
    let_interrupts_unwind()
    with atomic(output) as temporary:
        converted.save(temporary)
    table = Table(show_header=False, box=None)
    for key, value in converted.found.items():
        table.add_row(key, escape(value))
    Console().print(table)


@cli.command(name="check-generator")
@click.argument("name", metavar="NAME_OR_MODULE:FUNCTION")
@click.option("--weights", help="The generator's weights.")
@click.option("--size", type=click.IntRange(min=1), help="Size of its images, up to its own.")
@click.pass_context
def check_generator(
    context: click.Context, name: str, weights: str | None, size: int | None
) -> None:
    """Test whether a generator keeps the contract of docs/generators.md; ends with 1 if it does not."""
    from ilo_pl.generators import check
    from ilo_pl.generators.config import GeneratorConfig

    generator = GeneratorConfig(name=name, weights=weights, size=size).make(imports=True)
    console, failed = Console(), False
    for result in check.check_generator(generator):
        word = "[green]pass[/]" if result.passed else "[bold red]FAIL[/]"
        problem = f": {escape(result.problem)}" if result.problem else ""
        console.print(f"{word} {result.name}{problem}", highlight=False, soft_wrap=True)
        failed |= not result.passed
    context.exit(1 if failed else 0)


@cli.command(cls=TypedCommand, keys="ilo_pl.paper.theory_keys:TheoryKeys")
def theory(keys: TheoryKeys) -> None:
    """Evaluate the paper's bounds and estimate gamma of random matrices."""
    from ilo_pl.paper.theory import run_theory

    let_interrupts_unwind()
    run_theory(keys, Console())


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes keys, choices and paths in a shell.

    \b
    bash: eval "$(ilo-pl completion bash)"               in ~/.bashrc
    zsh:  eval "$(ilo-pl completion zsh)"                in ~/.zshrc
    fish: ilo-pl completion fish > ~/.config/fish/completions/ilo-pl.fish
    """  # noqa: D301
    shell_complete(cli, {}, PROGRAM, COMPLETE, f"{shell}_source")


@cli.command()
def info() -> None:
    """List versions, devices and everything that can be chosen."""
    import torch

    from ilo_pl.config.choices import choices
    from ilo_pl.losses import LOSSES
    from ilo_pl.operators.config import OPERATORS
    from ilo_pl.operators.noise import NOISES
    from ilo_pl.weights.registry import registry

    table = Table(show_header=False, box=None)
    packages = ("ilo_pl", "torch", "pytorch-lightning", "torchmetrics", "lpips", "omegaconf")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cpu = f"CPU ({torch.get_num_threads()} threads)"
    table.add_row("versions", f"Python {platform.python_version()}, {versions}")
    table.add_row("devices", ", ".join([cpu, *gpus]))
    table.add_row("operators", ", ".join(OPERATORS))
    table.add_row("noise models", ", ".join(NOISES))
    table.add_row("losses", ", ".join(LOSSES))
    for group in ("generator", "task", "method", "trainer", "logger", "experiment"):
        table.add_row(f"{group}s", ", ".join(choices(group)))
    for entry in registry().values():
        table.add_row("weights", f"{entry.name}: {entry.source}; {entry.licence}")
    table.add_row("package", str(resources.files("ilo_pl")))
    Console().print(table)


def main() -> None:
    """Run the command; a user's mistake ends with a message and status 2, never with a traceback."""
    asked = os.environ.get(COMPLETE)
    if asked:
        sys.exit(shell_complete(cli, {}, PROGRAM, COMPLETE, asked))
    errors = Console(stderr=True, soft_wrap=True)

    def tell(message: Warning | str, *place: Any, **source: Any) -> None:
        """Print a warning as one line, without the line of code that gave it."""
        text = textwrap.shorten(str(message), WARNING_LENGTH, placeholder=" ...")
        errors.print("[bold yellow]warning:[/]", escape(text), highlight=False)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = tell
            status = cli(prog_name=PROGRAM, standalone_mode=False)
    except IloError as error:
        # Names of files may hold what no terminal can show.
        text = str(error).encode(errors="backslashreplace").decode()
        errors.print("[bold red]error:[/]", escape(text))
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except Stopped as stop:
        errors.print("stopped before the end; the same command with resume=true goes on")
        sys.exit(128 + stop.signum)
    except (click.Abort, KeyboardInterrupt, SystemExit):
        # Lightning turns Ctrl-C and SIGTERM into an exit of its own.
        errors.print("stopped before the end")
        sys.exit(130)
    if isinstance(status, int):
        sys.exit(status)
