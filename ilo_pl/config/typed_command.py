"""Commands whose keys are a specification: ``key=value`` and ``--key value``, help and completion from one place."""

from __future__ import annotations

import types
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem

from ilo_pl.config.completion import complete_assignment
from ilo_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from ilo_pl.spec import Spec

WORDS = {int: "NUMBER", float: "NUMBER", str: "TEXT"}


class TypedCommand(click.Command):
    """A command that is called with one specification, filled from its arguments.

    Args:
        keys: ``module:class`` of the specification, imported when the command is used; the descriptions of its
            fields are the help.
    """

    def __init__(self, *args: Any, keys: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._keys = keys

    @property
    def spec(self) -> type[Spec]:
        """The specification."""
        module, _, name = self._keys.partition(":")
        return getattr(import_module(module), name)  # type: ignore[no-any-return]

    @property
    def _paths(self) -> frozenset[str]:
        from ilo_pl.spec import path_keys  # imports pydantic

        return path_keys(self.spec)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return ``key=value`` and an option for each key."""
        fields, paths = self.spec.model_fields, self._paths
        needed = [
            f"{name}={_word(field.annotation, name in paths)}"
            for name, field in fields.items()
            if field.is_required()
        ]
        overrides = click.Argument(
            ["overrides"],
            nargs=-1,
            metavar=" ".join([*needed, "[key=value ...]"]),
            shell_complete=self._complete,
        )
        options = [_option(name, field, name in paths) for name, field in fields.items()]
        return [overrides, *options, *super().get_params(ctx)]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Say that every option is a key."""
        formatter.write_paragraph()
        formatter.write_text(
            "Each option can be written as key=value, too: --output DIR is output=DIR."
        )
        super().format_epilog(ctx, formatter)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command with its keys.

        Raises:
            ConfigurationError: a key is unknown, missing, ill-typed or given twice.
        """
        # Hydra's parser takes a moment to import.
        from ilo_pl.config.overrides import once, read_overrides, value_text

        overrides, paths = ctx.params.pop("overrides"), self._paths
        texts = [
            f"{name}={value_text(value) if isinstance(value, bool) or name in paths else value}"
            for name, value in ctx.params.items()
            if value not in (None, ())
        ]
        keys = self._keys_of(once(read_overrides([*overrides, *texts], paths)), ctx.command_path)
        assert self.callback is not None
        return ctx.invoke(self.callback, keys)

    def _keys_of(self, values: dict[str, Any], command: str) -> Spec:
        try:
            return self.spec(**values)
        except ConfigurationError as error:
            fields = self.spec.model_fields
            missing = [n for n, f in fields.items() if f.is_required() and n not in values]
            told = f"{' and '.join(missing)} must be given." if missing else ""
            hint = f"{error.hint} {told} {command} --help explains every key."
            raise ConfigurationError(
                error.what, choices=error.choices, hint=" ".join(hint.split())
            ) from None

    def _complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        fields = self.spec.model_fields
        values = {name: _choices(field.annotation) for name, field in fields.items()}
        help_of = {name: field.description or "" for name, field in fields.items()}
        return complete_assignment(incomplete, values, self._paths, help_of)


def _option(name: str, field: FieldInfo, is_path: bool) -> click.Option:
    """Return the option ``--name`` of a key; what is not given stays with the specification."""
    told = field.description or ""
    default = "required" if field.is_required() else f"default: {_shown(field.default)}"
    help_text = f"{told[:1].upper()}{told[1:]}.  [{default}]"
    if field.annotation is bool:
        return click.Option([f"--{name}/--no-{name}", name], default=None, help=help_text)
    several = is_path and _is_list(field.annotation)
    choices = _choices(field.annotation)
    kind: Any = click.Choice(choices) if choices else click.STRING
    return click.Option(
        [f"--{name}", name],
        type=click.Path() if is_path else kind,
        multiple=several,
        metavar=None if choices else _word(field.annotation, is_path),
        help=f"{help_text}  Give it once for each." if several else help_text,
    )


def _shown(default: Any) -> str:
    """Return a default as it would be typed."""
    if isinstance(default, tuple):
        return f"[{','.join(map(str, default))}]"
    return "none" if default is None else str(default).lower()


def _members(annotation: Any) -> list[Any]:
    """Return the types that a type is a union of, without ``None``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [m for a in get_args(annotation) for m in _members(a) if m is not type(None)]
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    return [annotation]


def _is_list(annotation: Any) -> bool:
    return get_origin(_members(annotation)[0]) is tuple


def _choices(annotation: Any) -> list[str]:
    """Return what can be chosen for a key; none where anything can be given."""
    if annotation is bool:
        return ["true", "false"]
    literals = [m for m in _members(annotation) if get_origin(m) is Literal]
    return [str(choice) for literal in literals for choice in get_args(literal)]


def _word(annotation: Any, is_path: bool) -> str:
    """Return what a key takes, in a word."""
    if _is_list(annotation):
        return "[PATH,PATH,...]" if is_path else "[LIST]"
    return "PATH" if is_path else WORDS.get(_members(annotation)[0], "VALUE")
