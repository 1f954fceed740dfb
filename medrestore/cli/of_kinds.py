"""Commands whose options are those of a kind of image.

What a kind of image brings is found in ``commands`` of its folder, beside its ``domain``; all of it may be
absent:

``DEMO``
    What is said of its demonstration, which is ``demo.yaml``.
``simulate``
    Simulates a cohort.
``check``
    Reports the faults of a manifest.
``evaluate``, ``EXPERIMENT``
    Returns the evaluation; the MLflow experiment that it is recorded in, ``evaluation`` where none is named.
``RESTORE``
    Options of ``restore``, by the name of what is set: ``samples`` where there is none.
``COMMANDS``, ``GROUP``
    Commands of its own by name, and the name that they stand under, the kind's where none is said. The
    module's docstring is its help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from importlib.metadata import EntryPoint
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import typer.core
import typer.main

from medrestore import options
from medrestore.checks import InputError, require_in_set
from medrestore.cli.record import Experiment, TrackingUri, recorded
from medrestore.cli.restore import restore
from medrestore.kinds import beside, kinds

__all__ = ["add_commands"]

Function = Callable[..., Any]
Named = Annotated[
    str | None,
    typer.Option("--domain", help="The kind of image, where the columns of the table do not tell it."),
]


def add_commands(app: typer.Typer, more: Mapping[str, Mapping[str, Function]]) -> None:
    """Add the commands of all kinds of image, and more of rooms above them, by kind and name."""
    points = _points()
    own: dict[str, Any] = {name: _commands_of(point) for name, point in points.items()}
    simulate = typer.Typer(no_args_is_help=True, help="Simulate a cohort of a kind of image.")
    app.add_typer(simulate, name="simulate")
    for name, module in own.items():
        if hasattr(module, "simulate"):
            simulate.command(name)(module.simulate)
        commands = {**getattr(module, "COMMANDS", {}), **more.get(name, {})}
        if commands:
            text = module.__doc__ if module else f"The commands of {name}."
            group = typer.Typer(no_args_is_help=True, help=text)
            for command, function in commands.items():
                group.command(command)(function)
            group.callback()(lambda: None)
            app.add_typer(group, name=getattr(module, "GROUP", name))
    for command, (of, text) in _SHARED.items():
        every: dict[str, tuple[Parameter, list[str]]] = {}
        for name, module in own.items():
            for parameter in signature(of(points[name], module)).parameters.values():
                every.setdefault(parameter.name, (parameter, []))[1].append(name)
        parameters = [
            parameter if len(having) == len(own) else _in_panel(parameter, ", ".join(having))
            for parameter, having in every.values()
        ]
        by = "--weights model.pt" if "weights" in every else "MANIFEST"
        help_text = f"{text}\n\nOptions of one kind of image alone: medrestore {command} {by} --help"
        own_class = type("_Own", (_ByKind,), {"of": staticmethod(of)})
        app.command(command, cls=own_class, help=help_text)(_declared(lambda **_: None, parameters, text))


def _points() -> dict[str, EntryPoint]:
    """Return the kinds of image by the name that the command line gives them."""
    return {point.name.replace("_", "-"): point for point in kinds()}


def _commands_of(point: EntryPoint) -> Any:
    """Return the module of a kind's commands; a package that is broken costs its own alone, and is named."""
    try:
        return beside(point, "commands")
    except InputError as error:
        typer.secho(f"warning: {error}", err=True, fg=typer.colors.YELLOW)
        return None


def _check_of(point: EntryPoint, module: Any) -> Function:
    """Return the check of a kind of image: its own, or that of its schema."""

    def check(manifest: options.Manifest) -> None:
        """Report all faults of a manifest and of its files at once; ends with code 1 when there is one."""
        from medrestore.domains.base import domain_called

        options.report_problems(manifest, domain_called(point.name).schema_of(manifest).check(manifest))

    return _taking(getattr(module, "check", check), domain=Named)


def _evaluate_of(point: EntryPoint, module: Any) -> Function:
    """Return the evaluation of a kind of image: its own, or that of pairs of volumes."""

    def evaluate(
        manifest: options.Manifest,
        output: options.OutputFolder,
        methods: options.Methods = None,
        split: options.EvaluatedSplit = "test",
        seed: options.Seed = 0,
    ) -> Any:
        """Compare restorations with the true volumes of the same scans: PSNR, SSIM, RMSE.

        Folders of restored volumes hold SUBJECT_SESSION_restored.nii.gz.
        """
        from medrestore.domains.base import domain_called

        return domain_called(point.name).evaluate(
            manifest, methods=options.folders_of(methods), output=output, split=split, seed=seed
        )

    function = getattr(module, "evaluate", evaluate)
    experiment = (Experiment, getattr(module, "EXPERIMENT", "evaluation"))
    return _taking(
        function, recorded(function), tracking_uri=TrackingUri, experiment=experiment, domain=Named
    )


def _restore_of(_: EntryPoint, module: Any) -> Function:
    """Return what restores a kind of image."""
    return _taking(restore, **getattr(module, "RESTORE", {"samples": options.Samples}))


_SHARED: dict[str, tuple[Callable[[EntryPoint, Any], Function], str]] = {
    "check": (_check_of, "Report all faults of a manifest at once; ends with code 1 when there is one."),
    "restore": (_restore_of, cleandoc(restore.__doc__ or "")),
    "evaluate": (_evaluate_of, "Compare restorations of a split with the true images: tables, CSV, figure."),
}
"""What makes the command of a kind of image, and what is said of it."""


def _taking(function: Function, run: Function | None = None, **more: Any) -> Function:
    """Return a function with the parameters and the docstring of one, and more, that calls ``run``."""
    parameters = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in signature(function, eval_str=True).parameters.values()
        if parameter.kind is not Parameter.VAR_KEYWORD
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

    of: Callable[[EntryPoint, Any], Function]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        loose = super().make_context(
            info_name,
            list(args),
            parent,
            resilient_parsing=True,
            ignore_unknown_options=True,
            allow_extra_args=True,
        )
        kind = _kind_of(**loose.params)
        if kind is None:
            return super().make_context(info_name, args, parent, **extra)
        return self.for_kind(kind).make_context(info_name, args, parent, **extra)

    def for_kind(self, kind: str) -> Any:
        """Return the command of a kind of image."""
        points = _points()
        require_in_set("--domain", kind, tuple(points))
        alone = typer.Typer(add_completion=False, rich_markup_mode="rich")
        alone.command(self.name)(self.of(points[kind], beside(points[kind], "commands")))
        return typer.main.get_command(alone)


def _kind_of(
    *, manifest: Path | None = None, domain: str | None = None, weights: Path | None = None, **_: Any
) -> str | None:
    """Return the kind of image that is named, or that a manifest or weights are of; None without them."""
    if weights is not None:
        from medrestore.inference.restorer import kind_of_weights

        return kind_of_weights(weights).replace("_", "-")
    if domain is not None or manifest is None:
        return domain
    from medrestore.domains.base import domain_of_table

    return domain_of_table(manifest).name.replace("_", "-")


def _in_panel(parameter: Parameter, title: str) -> Parameter:
    """Return a parameter whose help stands under the names of the kinds of image that have it."""
    hint, info = get_args(parameter.annotation)
    info = copy(info)
    info.rich_help_panel = f"Options of {title}"
    return parameter.replace(annotation=Annotated[hint, info])
