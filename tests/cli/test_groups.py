"""Option groups become options of a command, once each, and come back as the groups."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from nibt.cli.groups import OptionGroup, expand_groups
from nibt.cli.main import app


@dataclass(frozen=True, kw_only=True)
class Model(OptionGroup, panel="Model"):
    model: Annotated[str, typer.Option("--model", "-m", help="A model.")] = "lite"
    size: Annotated[int | None, typer.Option(min=1, max=9)] = None


@dataclass(frozen=True, kw_only=True)
class Method(OptionGroup, panel="Method"):
    set: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE")] = None
    tolerance: Annotated[float, typer.Option()] = 0.1

    def __post_init__(self) -> None:
        if self.tolerance == 0:
            raise typer.BadParameter("tolerance must not be 0")


@dataclass(frozen=True, kw_only=True)
class Inputs(OptionGroup):
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...")]
    labels: Annotated[Path | None, typer.Option()] = None


@dataclass(frozen=True, kw_only=True)
class LargeModel(Model):
    model: Annotated[str, typer.Option("--model", "-m", help="A model.")] = "scenes"
    layers: Annotated[int, typer.Option()] = 12


def run(command: Any, *words: str) -> Any:
    app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(command)
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "100", "TERM": "dumb"})


@pytest.fixture
def called() -> list[Any]:
    return []


@pytest.fixture
def command(called: list[Any]) -> Any:
    @expand_groups
    def explain(
        model: Model, inputs: Inputs, method: Method, quiet: Annotated[bool, typer.Option("--quiet", "-q")] = False
    ) -> None:
        """Explain."""
        called.append((model, inputs, method, quiet))

    return explain


def test_defaults_are_those_of_the_groups(command: Any, called: list[Any]) -> None:
    assert run(command, "a").exit_code == 0
    assert called == [(Model(), Inputs(images=["a"]), Method(), False)]


def test_options_reach_their_groups_from_any_place(command: Any, called: list[Any]) -> None:
    words = ["-m", "scenes", "a", "--set", "x=1", "-q", "b", "--set", "y=-2", "--tolerance", "-0.5", "--", "-c"]
    assert run(command, *words).exit_code == 0
    model, inputs, method, quiet = called[0]
    assert (model, inputs.images, quiet) == (Model(model="scenes"), ["a", "b", "-c"], True)
    assert (method.set, method.tolerance) == (["x=1", "y=-2"], -0.5)


def test_a_list_is_not_shared_between_calls(command: Any, called: list[Any]) -> None:
    run(command, "a", "--set", "x=1")
    run(command, "a")
    assert [method.set for _, _, method, _ in called] == [["x=1"], None]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "--size", "0"], "--size"),
        (["a", "--size", "x"], "--size"),
        (["a", "--modle", "x"], "--model"),
        (["a", "--tolerance", "0"], "tolerance must not be 0"),
        ([], "IMAGE..."),
    ],
)
def test_a_mistake_exits_with_2_and_names_the_option(
    command: Any, called: list[Any], words: list[str], message: str
) -> None:
    result = run(command, *words)
    assert (result.exit_code, called) == (2, [])
    assert message in result.output


def test_help_has_a_panel_per_group(command: Any) -> None:
    output = run(command, "-h").output
    panels = ("Arguments", "Model", "Method")
    assert [output.count(f"─ {panel} ") for panel in panels] == [1, 1, 1]
    assert min(panels, key=lambda panel: output.index(f"─ {panel} ")) == "Arguments"
    model = output.index("─ Model ")
    assert model < output.index("--size") < output.index("╰", model)


def test_a_subclass_adds_options_and_changes_defaults(called: list[Any]) -> None:
    @expand_groups
    def explain(model: LargeModel) -> None:
        called.append(model)

    assert run(explain).exit_code == 0
    assert called == [LargeModel(model="scenes", layers=12)]
    assert "─ Model " in run(explain, "-h").output


def test_a_group_is_left_as_it_was(command: Any) -> None:
    from typing import get_type_hints

    run(command, "a")
    option = get_type_hints(Model, include_extras=True)["size"].__metadata__[0]
    assert option.rich_help_panel is None


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)  # pyright: ignore[reportAttributeAccessIssue]
def test_no_two_options_of_a_command_share_a_flag(name: str) -> None:
    """Typer would silently use the last one."""
    command = typer.main.get_command(app).commands[name]  # pyright: ignore[reportAttributeAccessIssue]
    flags = [flag for option in command.params for flag in (*option.opts, *option.secondary_opts)]
    assert len(flags) == len(set(flags))
