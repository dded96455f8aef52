"""Shell completion of ``key=value``: keys, choices and paths.

It runs between two keys of a user, so that it reads the YAML files themselves: composing them, or importing
torch, would take longer than anyone waits.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from ilo_pl.config.choices import GROUPS, choices, config_dir

# The path keys of a run; tests compare them with the typed configuration, which takes long to import.
RUN_PATHS = (
    "input",
    "output",
    "reference",
    "generator.weights",
    "operator.file",
    "operator.weights",
)


def complete_assignment(
    incomplete: str,
    values: Mapping[str, Sequence[str]],
    paths: Collection[str],
    help_of: Mapping[str, str] | None = None,
) -> list[CompletionItem[str]]:
    """Return what ``key=value`` may be going to be.

    Args:
        incomplete: what is typed so far.
        values: the choices of each key; none where anything can be given.
        paths: keys of files and folders.
        help_of: what each key is.
    """
    key, equals, value = incomplete.partition("=")
    if not equals:
        told = help_of or {}
        return [
            CompletionItem(f"{name}=", help=told.get(name))
            for name in values
            if name.startswith(key)
        ]
    if key in paths:
        # Of a list, the last path is being typed.
        start = max(value.rfind(","), value.rfind("[")) + 1
        return [CompletionItem(f"{key}={value[:start]}{path}") for path in _entries(value[start:])]
    return [CompletionItem(f"{key}={v}") for v in values.get(key, ()) if v.startswith(value)]


def complete_run(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem[str]]:
    """Complete a key of a run."""
    return complete_assignment(incomplete, _run_values(), RUN_PATHS)


def complete_choice(group: str) -> Any:
    """Return what completes the name of a file of a config group."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        return [name for name in choices(group) if name.startswith(incomplete)]

    return complete


def _run_values() -> dict[str, list[str]]:
    """Return the keys of a run with their choices."""
    # The command line is up before a YAML parser is needed.
    import yaml

    def load(path: str) -> Any:
        return yaml.load(
            (config_dir() / path).read_text("utf-8"),
            Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader),
        )

    top = {k: v for k, v in load("default.yaml").items() if k != "defaults"}
    found = {key: _switch(value) for key, value in top.items()}
    for group in GROUPS:
        found[group] = choices(group)
        files = ["_base"] if group == "method" else [] if group == "task" else choices(group)
        for name in files:
            for key, value in _leaves(load(f"{group}/{name}.yaml"), f"{group}."):
                if key != f"{group}.name" or name == "custom":
                    found.setdefault(key, _switch(value))
    return found


def _switch(value: Any) -> list[str]:
    return ["true", "false"] if isinstance(value, bool) else []


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _entries(typed: str) -> list[str]:
    """Return the files and folders that a path may be going to be, folders with a slash."""
    folder, name = os.path.split(typed)
    try:
        found = sorted(os.scandir(folder or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    hidden = name.startswith(".")
    return [
        os.path.join(folder, entry.name) + ("/" if entry.is_dir() else "")
        for entry in found
        if entry.name.startswith(name) and (hidden or not entry.name.startswith("."))
    ]


class _Bash(BashComplete):
    """Bash takes ``=`` for the end of a word: it is given, and gives back, what stands behind it."""

    source_template = """\
%(complete_func)s() {
    local IFS=$'\\n' response completion type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD %(complete_var)s=bash_complete $1)
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ $value == *[=/] ]] && compopt -o nospace
                ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = split_arg_string(os.environ["COMP_WORDS"])
        current = int(os.environ["COMP_CWORD"])
        words = [*words[:current], words[current] if current < len(words) else ""]
        self._cut = ""
        whole: list[str] = []
        for word in words[1:]:
            if whole and (word == "=" or whole[-1].endswith("=")):
                self._cut = whole[-1] if word != "=" else f"{whole[-1]}="
                whole[-1] += word
            else:
                self._cut = ""
                whole.append(word)
        return whole[:-1], whole[-1] if whole else ""

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._cut)}"


class _Zsh(ZshComplete):
    """Adds no space behind ``key=`` and ``folder/``."""

    source_template = ZshComplete.source_template.replace(
        "compadd -U -V unsorted -a completions",
        "compadd -U -S '' -V unsorted -- ${(M)completions:#*[=/]}\n"
        "        compadd -U -V unsorted -- ${completions:#*[=/]}",
    )

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return an item; what is shown beside a value would bring the space back."""
        bare = item.value.endswith(("=", "/"))
        return super().format_completion(CompletionItem(item.value, item.type) if bare else item)


def register() -> None:
    """Make click use these instead of its own."""
    add_completion_class(_Bash)
    add_completion_class(_Zsh)
