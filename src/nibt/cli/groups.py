"""Option groups: dataclasses whose fields are the options of a command.

A group is declared once, and used by every command that has its options. The parameters of a command are groups::

    @dataclass(frozen=True, kw_only=True)
    class ModelOptions(OptionGroup, panel="Model"):
        model: Annotated[str, typer.Option("--model", "-m", help="A model.")] = "lite"

    @app.command()
    @expand_groups
    def explain(inputs: Inputs, model: ModelOptions) -> None: ...

``nibt explain a.jpg -m scenes`` then calls ``explain(inputs, ModelOptions(model="scenes"))``.
"""

import inspect
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from inspect import Parameter, Signature
from typing import Annotated, ClassVar, get_args, get_origin, get_type_hints

from typer.models import ArgumentInfo, OptionInfo

from nibt.options import field_types, parsed


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """The options of a help panel: a dataclass whose ``__post_init__`` checks what ranges of fields cannot."""

    panel: ClassVar[str | None] = None

    def __init_subclass__(cls, panel: str | None = None, **options: object) -> None:
        """Set the heading of the options in ``--help``; None means that of the parent class."""
        super().__init_subclass__(**options)
        if panel is not None:
            cls.panel = panel


def expand_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for typer, in which fields replace groups; positional arguments come first."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, type[OptionGroup]] = {}
    parameters: list[Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints.get(name)
        if isinstance(hint, type) and issubclass(hint, OptionGroup):
            groups[name] = hint
            parameters += _expanded(hint)
        else:
            parameters.append(parameter.replace(annotation=hint, kind=Parameter.KEYWORD_ONLY))

    parameters.sort(key=lambda parameter: not isinstance(_typer_info(parameter.annotation), ArgumentInfo))

    @wraps(command)
    def run(**values: object) -> None:
        built = {}
        for name, group in groups.items():
            # typer checks only that a number is one; its range is checked here, with the message of nibt
            options = {key: parsed(key, values.pop(key), type_) for key, type_ in field_types(group).items()}
            built[name] = group(**options)

        return command(**built, **values)

    # typer reads options from the signature, and ``wraps`` has set that of the command with its groups
    run.__signature__ = Signature(parameters)  # pyright: ignore[reportAttributeAccessIssue]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _expanded(group: type[OptionGroup]) -> Iterator[Parameter]:
    """Yield a parameter for each field of a group."""
    hints = get_type_hints(group, include_extras=True)
    plain_types = get_type_hints(group)
    for field in fields(group):
        # a copy, since subclasses share the option of an inherited field and may have another panel
        info = copy(_typer_info(hints[field.name]))
        assert info is not None, f"{group.__name__}.{field.name} is not an option"
        info.rich_help_panel = group.panel

        default = Parameter.empty if field.default is MISSING else field.default
        annotation = Annotated[plain_types[field.name], info]
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _typer_info(annotation: object) -> OptionInfo | ArgumentInfo | None:
    """Return the option or argument of typer in an annotation, or None if there is none."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((info for info in get_args(annotation)[1:] if isinstance(info, OptionInfo | ArgumentInfo)), None)
