"""Commands whose options are those of a kind of image.

What a kind of image brings is found in ``commands`` of its folder, beside its ``domain``; all of it may be
absent:

``simulate``
    Returns the manifest that it wrote.
``check``
    Reports the faults of a manifest.
``evaluate``, ``EXPERIMENT``
    Returns the evaluation; the MLflow experiment that it is recorded in, ``evaluation`` where none is named.
``COMMANDS``, ``GROUP``
    Commands of its own by name, and the name that they stand under. The module's docstring is its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import partial
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, get_args, get_type_hints

import typer
import typer.core
import typer.main

from medrestore.checks import InputError, require_in_set
from medrestore.cli.record import Experiment, TrackingUri, recorded
from medrestore.kinds import beside, kinds
from medrestore.options import Manifest, report_problems

__all__ = ["add_commands"]

Function = Callable[..., Any]
Named = Annotated[
    str | None,
    typer.Option("--domain", help="The kind of image, where the columns of the table do not tell it."),
]
_KINDS = {point.name.replace("_", "-"): point for point in kinds()}
"""Kinds of image by the name that the command line gives them."""


def add_commands(app: typer.Typer, more: Mapping[str, Mapping[str, Function]]) -> None:
    """Add the commands of all kinds of image, and more of rooms above them, by kind and name."""
    own: dict[str, Any] = {name: _commands_of(name) for name in _KINDS}
    simulate = typer.Typer(no_args_is_help=True, help="Simulate a cohort of a kind of image.")
    for name, module in own.items():
        if hasattr(module, "simulate"):
            function = module.simulate
            simulate.command(name)(_taking(function, partial(_tell_manifest, function)))
        if hasattr(module, "COMMANDS"):
            group = typer.Typer(no_args_is_help=True, help=module.__doc__)
            for command, function in {**module.COMMANDS, **more.get(name, {})}.items():
                group.command(command)(function)
            group.callback()(lambda: None)
            app.add_typer(group, name=module.GROUP)
    app.add_typer(simulate, name="simulate")
    _add(
        app,
        "check",
        {name: _taking(_check_of(name, module), domain=Named) for name, module in own.items()},
        "Report all faults of a manifest at once; ends with code 1 when there is one.",
    )
    _add(
        app,
        "evaluate",
        {
            name: _taking(
                module.evaluate,
                recorded(module.evaluate),
                tracking_uri=TrackingUri,
                experiment=(Experiment, getattr(module, "EXPERIMENT", "evaluation")),
                domain=Named,
            )
            for name, module in own.items()
            if hasattr(module, "evaluate")
        },
        "Compare restorations of a split with the true images: tables, CSV, figure.",
    )


def _commands_of(name: str) -> Any:
    """Return the module of a kind's commands; a package that is broken costs its own alone, and is named."""
    try:
        return beside(_KINDS[name], "commands")
    except InputError as error:
        typer.secho(f"warning: {error}", err=True, fg=typer.colors.YELLOW)
        return None


def _tell_manifest(simulate: Function, **given: Any) -> None:
    typer.echo(f"manifest: {simulate(**given)}")


def _check_of(name: str, module: Any) -> Function:
    """Return the check of a kind of image: its own, or that of its schema."""

    def check(manifest: Manifest) -> None:
        """Report all faults of a manifest and of its files at once; ends with code 1 when there is one."""
        from medrestore.domains.base import domain_called

        report_problems(manifest, domain_called(_KINDS[name].name).schema_of(manifest).check(manifest))

    return getattr(module, "check", check)


def _taking(function: Function, run: Function | None = None, **more: Any) -> Function:
    """Return a function with the parameters and the docstring of one, and more, that calls ``run``."""
    # What a function returns is known to type checkers alone: naming it would import it.
    named = {name: hint for name, hint in function.__annotations__.items() if name != "return"}
    hints = get_type_hints(
        SimpleNamespace(__annotations__=named), globalns=function.__globals__, include_extras=True
    )
    parameters = [
        parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)
        for name, parameter in signature(function).parameters.items()
    ]
    for name, hint in more.items():
        annotation, default = hint if isinstance(hint, tuple) else (hint, None)
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, default=default))

    def call(**given: Any) -> None:
        given.pop("domain", None)
        (run or function)(**given)

    return _declared(call, parameters, function.__doc__)


def _declared(call: Function, parameters: list[Parameter], text: str | None) -> Function:
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = text
    return call


class _ByKind(typer.core.TyperCommand):
    """A command that becomes that of the kind of image its words name."""

    kinds: Mapping[str, typer.core.TyperCommand]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        loose = super().make_context(
            info_name,
            list(args),
            parent,
            resilient_parsing=True,
            ignore_unknown_options=True,
            allow_extra_args=True,
        )
        kind = _kind_of(loose.params.get("manifest"), loose.params.get("domain"))
        if kind is None:
            return super().make_context(info_name, args, parent, **extra)
        require_in_set("--domain", kind, tuple(self.kinds))
        return self.kinds[kind].make_context(info_name, args, parent, **extra)


def _kind_of(manifest: Path | None, named: str | None) -> str | None:
    """Return the kind of image that is named, or that a manifest is of; None where there is neither."""
    if named is not None or manifest is None:
        return named
    from medrestore.domains.base import domain_of_table

    return domain_of_table(manifest).name.replace("_", "-")


def _add(app: typer.Typer, name: str, functions: Mapping[str, Function], text: str) -> None:
    """Add a command that has the options of a kind of image."""
    commands: dict[str, typer.core.TyperCommand] = {}
    for kind, function in functions.items():
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(name)(function)
        commands[kind] = typer.main.get_command(alone)  # type: ignore[assignment]
    every: dict[str, tuple[Parameter, list[str]]] = {}
    for kind, function in functions.items():
        for parameter in signature(function).parameters.values():
            every.setdefault(parameter.name, (parameter, []))[1].append(kind)
    parameters = [
        parameter if len(of) == len(functions) else _in_panel(parameter, ", ".join(of))
        for parameter, of in every.values()
    ]
    help_text = f"{text}\n\nOptions of one kind of image alone: medrestore {name} MANIFEST --help"
    own = type("_Own", (_ByKind,), {"kinds": commands})
    app.command(name, cls=own, help=cleandoc(help_text))(_declared(lambda **_: None, parameters, text))


def _in_panel(parameter: Parameter, title: str) -> Parameter:
    """Return a parameter whose help stands under the names of the kinds of image that have it."""
    hint, info = get_args(parameter.annotation)
    info = copy(info)
    info.rich_help_panel = f"Options of {title}"
    return parameter.replace(annotation=Annotated[hint, info])
