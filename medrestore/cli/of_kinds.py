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
from functools import cache
from importlib.metadata import EntryPoint
from inspect import Parameter, Signature, cleandoc, signature
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer
import typer.core
import typer.main
from typer.models import ParameterInfo

from medrestore import options
from medrestore.checks import InputError, one_line, require_in_set
from medrestore.cli.record import Experiment, TrackingUri, recorded
from medrestore.cli.restore import restore
from medrestore.kinds import beside, kinds, refused_kinds, spoken

__all__ = ["add_groups", "add_shared", "command_modules"]

Function = Callable[..., Any]
Named = Annotated[
    str | None,
    typer.Option("--domain", help="The kind of image, where the columns of the table do not tell it."),
]


def add_shared(app: typer.Typer) -> None:
    """Add the commands that each kind of image has with options of its own: check, restore, evaluate."""
    own = command_modules()
    for command, (of, text) in _SHARED.items():
        every: dict[str, list[tuple[str, Parameter]]] = {}
        for name, module in own.items():
            for parameter in signature(of(_points()[name], module)).parameters.values():
                every.setdefault(parameter.name, []).append((name, parameter))
        parameters = [_for_all(having, len(own)) for having in every.values()]
        by = "--weights model.pt" if "weights" in every else "MANIFEST"
        help_text = f"{text}\n\nOptions of one kind of image alone: medrestore {command} {by} --help"
        own_class = type("_Own", (_ByKind,), {"of": staticmethod(of)})
        app.command(command, cls=own_class, help=help_text)(_declared(lambda **_: None, parameters, text))


def add_groups(app: typer.Typer, more: Mapping[str, Mapping[str, Function]]) -> None:
    """Add the commands that stand under a name of their own, and more of rooms above, by kind and name.

    All others are there already: a kind of another package takes the name of none.
    """
    simulate = typer.Typer(no_args_is_help=True, help="Simulate a cohort of a kind of image.")
    app.add_typer(simulate, name="simulate")
    taken = set(typer.main.get_group(app).commands)
    for name, module in command_modules().items():
        _add_simulation(simulate, name, module)
        group = _group_of(name, module, more.get(name, {}))
        if group is not None and group.info.name in taken:
            _warn(f"{module.__name__}: the command {group.info.name} is there already. Remedy: another GROUP")
        elif group is not None:
            taken.add(str(group.info.name))
            app.add_typer(group)


def _add_simulation(simulate: typer.Typer, name: str, module: Any) -> None:
    if hasattr(module, "simulate"):
        simulate.command(name)(module.simulate)


def _group_of(name: str, module: Any, more: Mapping[str, Function]) -> typer.Typer | None:
    """Return the commands of a kind of image alone, None where there are none."""
    commands = {**getattr(module, "COMMANDS", {}), **more}
    if not commands:
        return None
    text = module.__doc__ if module else f"The commands of {name}."
    group = typer.Typer(name=getattr(module, "GROUP", name), no_args_is_help=True, help=text)
    for command, function in commands.items():
        group.command(command)(function)
    group.callback()(lambda: None)
    return group


def _points() -> dict[str, EntryPoint]:
    """Return the kinds of image by the name that the command line gives them."""
    return {spoken(point.name): point for point in kinds()}


@cache
def command_modules() -> dict[str, Any]:
    """Return the commands of all kinds; a package that is broken costs its own alone, and is named."""
    for fault in refused_kinds():
        _warn(fault)
    modules: dict[str, Any] = {}
    for name, point in _points().items():
        modules[name] = None
        try:
            modules[name] = _commands_of(point)
        except InputError as error:
            _warn(str(error))
    return modules


def _commands_of(point: EntryPoint) -> Any:
    """Return the module of a kind's commands, None where it has none.

    Raises
    ------
    InputError
        When that of another package cannot be loaded, or is none that commands can be made of.
    """
    module = beside(point, "commands")
    if module is None or point.module.startswith("medrestore."):
        return module
    try:
        trial = typer.Typer()
        trial.callback()(lambda: None)
        _add_simulation(trial, "simulate", module)
        for command, (of, _) in _SHARED.items():
            trial.command(command)(of(point, module))
        group = _group_of(spoken(point.name), module, {})
        if group is not None:
            trial.add_typer(group)
        typer.main.get_group(trial)
    except Exception as error:
        raise InputError(
            f"{module.__name__} makes no commands ({type(error).__name__}: {one_line(error)}). "
            "Remedy: repair or uninstall that package"
        ) from error
    return module


def _warn(fault: str) -> None:
    typer.secho(f"warning: {fault}", err=True, fg=typer.colors.YELLOW)


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
        alone.command(self.name)(self.of(points[kind], _commands_of(points[kind])))
        return typer.main.get_command(alone)


def _kind_of(
    *, manifest: Path | None = None, domain: str | None = None, weights: Path | None = None, **_: Any
) -> str | None:
    """Return the kind of image that is named, or that a manifest or weights are of; None without them."""
    if weights is not None:
        from medrestore.inference.restorer import kind_of_weights

        return spoken(kind_of_weights(weights))
    if domain is not None or manifest is None:
        return domain
    from medrestore.domains.base import domain_of_table

    return spoken(domain_of_table(manifest).name)


def _for_all(having: list[tuple[str, Parameter]], kinds_of_image: int) -> Parameter:
    """Return a parameter as the help of all kinds of image shows it, from those that have it.

    It stands under their names where others do not have it, and tells no default where theirs differ.
    """
    parameter = having[0][1]
    info = _said_of(parameter)
    if len(having) < kinds_of_image:
        info.rich_help_panel = f"Options of {', '.join(name for name, _ in having)}"
    if any(other.default != parameter.default for _, other in having):
        info.show_default = "by the kind of image"
    if isinstance(parameter.default, type(info)):
        return parameter.replace(default=info)
    hint = parameter.annotation
    return parameter.replace(annotation=Annotated[get_args(hint)[0] if _is_annotated(hint) else hint, info])


def _said_of(parameter: Parameter) -> Any:
    """Return a copy of what typer is told of a parameter: beside its type, as its default, or not at all."""
    if _is_annotated(parameter.annotation):
        return copy(get_args(parameter.annotation)[1])
    if isinstance(parameter.default, ParameterInfo):
        return copy(parameter.default)
    return typer.Argument() if parameter.default is Parameter.empty else typer.Option()


def _is_annotated(hint: Any) -> bool:
    return get_origin(hint) is Annotated
