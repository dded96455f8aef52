"""The command ``ilo-pl app``."""

from __future__ import annotations

from importlib import util
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ilo_pl.config import completion as completing
from ilo_pl.errors import ConfigurationError

PACKAGES = ("starlette", "uvicorn")


@click.command()
@click.argument("keys", nargs=-1, metavar="[key=value ...]", shell_complete=completing.complete_run)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: a free one."
)
@click.option("--name", "names", multiple=True, help="Further name that the machine is reached by.")
@click.option(
    "--token/--no-token",
    default=None,
    help="Ask for a token, which the printed address holds. Always beyond this machine.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Where photos and results are kept.  [default: the user's cache]",
)
@click.option(
    "--hours",
    type=click.FloatRange(0.01, 1e5),
    default=24.0,
    show_default=True,
    help="How long they are kept when nobody looks.",
)
@click.option(
    "--megabytes",
    type=click.FloatRange(0.001, 1e4),
    default=40.0,
    show_default=True,
    help="Largest photo.",
)
@click.option(
    "--megapixels",
    type=click.FloatRange(0.001, 170),
    default=52.0,
    show_default=True,
    help="And its pixels.",
)
def app(keys: tuple[str, ...], **options: Any) -> None:
    """Restore photos in the browser, on this machine.

    \b
    ilo-pl app
    ilo-pl app --port 9000 generator.size=256 compile=false
    ilo-pl app generator=stylegan2 generator.weights=mine.safetensors

    Keys are those of "ilo-pl invert" and hold for every search; they replace what the page says. docs/app.md says who
    can reach it. Ctrl-C ends it; a search that runs is stopped, and can be gone on with when the app runs again.
    """  # noqa: D301  # click knows its mark by the character itself
    missing = [name for name in PACKAGES if util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"The app needs {' and '.join(missing)}, not installed here.",
            hint='Run pip install "ilo_pl[app]".',
        )
    from ilo_pl.app.run import Asked, serve

    serve(Asked(keys, **options), Console())
