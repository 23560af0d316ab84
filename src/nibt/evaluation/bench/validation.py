"""Checks of plans before a model is loaded: names, variants, options and data sets."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from nibt.data.images import ImageInput
from nibt.datasets._opening import FolderMissing, open_dataset
from nibt.datasets.base import Dataset
from nibt.engine.encode import encode
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError, UnknownName, check_names
from nibt.evaluation.bench.choice import Choice, MethodChoice, MetricChoice
from nibt.evaluation.bench.plan import Plan
from nibt.methods._path import along_path
from nibt.methods.base import SIDES
from nibt.metrics.base import Metric
from nibt.models._embedded import EMBEDDED
from nibt.models._failures import WrongFiles
from nibt.models._loading import check_name, download_size
from nibt.models._mean_states import FILE_NAME
from nibt.models._request import LoadOptions, check_device, check_source
from nibt.models.base import Model
from nibt.options import field_types, parsed
from nibt.registry import find


def check_plan(plan: Plan) -> dict[str, Dataset]:
    """Check a plan, and return its data sets by their labels."""
    check_plugins(plan)
    return {choice.label: open_data(choice, plan.count) for choice in plan.data}


def check_plugins(plan: Plan) -> None:
    """Check the targets, models, methods and metrics of a plan."""
    for position, target in enumerate(plan.targets):
        with error_key(f"targets[{position}]"):
            _check_target(target, plan)

    for model in plan.models:
        with error_key(model.key):
            _check_model(model)

    for method in plan.methods:
        with error_key(method.key):
            _check_method(method)

    for metric in plan.metrics:
        with error_key(metric.key):
            _check_metric(metric, plan)

    scores = {*plan.targets, *(metric.measured for metric in plan.metrics)} - {"explained"}
    if plan.against and all(find("targets", name).others == "none" for name in scores):
        raise BadOption(
            f"against has no effect, since {', '.join(sorted(scores))} compares with nothing: leave it out, or add "
            "difference or softmax to targets"
        )


def _check_target(name: str, plan: Plan) -> None:
    """Check that a plan has the captions with which a target compares, or that its models ship a default."""
    target = find("targets", name)
    if target.others == "none":
        return

    wanted = "one caption" if target.others == "one" else "captions"
    is_shipped = target.shipped_default and all((EMBEDDED / model.name / FILE_NAME).exists() for model in plan.models)
    is_missing = not plan.against and not is_shipped
    if is_missing or (target.others == "one" and len(plan.against) > 1):
        raise BadOption(f"{name} compares with {wanted} (got {len(plan.against)}): list {wanted} in against")


def _check_model(choice: Choice) -> None:
    check_names("options", choice.options, [field.name for field in fields(LoadOptions)])
    check_device(LoadOptions(**choice.options).device)
    if choice.instance is None:
        check_source(choice.name)
        check_name(choice.name)


def _check_metric(choice: MetricChoice, plan: Plan) -> None:
    metric = build_metric(choice)
    if not {*metric.sides} & {*plan.sides}:
        raise BadOption(
            f"{choice.name} measures the side {' or '.join(metric.sides)} (got sides {', '.join(plan.sides)}): "
            "add one to sides, or leave the metric out"
        )
    if "regions" in metric.sides and ("cosine" not in plan.targets or choice.measured != "explained"):
        raise BadOption(
            f"{choice.name} measures the regions of the target cosine (got targets {', '.join(plan.targets)}, "
            f"measured {choice.measured}): add cosine to targets, and leave measured out"
        )


def dry_run(plan: Plan) -> Iterator[str]:
    """Check a plan without a model, and yield lines about what it would measure.

    Data that are missing have a line, and models that would be downloaded, with their size.
    """
    check_plugins(plan)
    for key, choices in {"models": plan.models, "methods": plan.methods, "metrics": plan.metrics}.items():
        yield f"{key} ({len(choices)}): {', '.join(choice.label for choice in choices)}"
    for key, values in {"targets": plan.targets, "sides": plan.sides, "seeds": plan.seeds}.items():
        yield f"{key}: {', '.join(map(str, values))}"

    for model in plan.models:
        if model.instance is None and (missing := _missing_model(model)):
            yield f"model {model.label}: {missing}"

    explanations = 0
    for choice in plan.data:
        try:
            length = len(open_data(choice, plan.count))
        except BadInput as error:
            yield f"data {choice.label}: missing ({error})"
            continue

        for model in plan.models:
            explanations += sum(plan.length(cell.method, length) for cell in plan.cells(model, choice))
        yield f"data {choice.label}: {min(length, plan.count or length):,} pairs"

    yield f"explanations of each side: {explanations:,}"


def _missing_model(model: Choice) -> str:
    """Return that a model is not on this machine, with its size; empty if nothing would be downloaded."""
    try:
        size = download_size(model.name, LoadOptions(**model.options).variant)
    except WrongFiles as error:
        return f"cannot be loaded with these options ({error})"
    except CannotLoad as error:
        return f"missing, of unknown size ({error})"
    return f"missing ({size / 1e6:,.0f} MB would be downloaded)" if size else ""


def build_metric(choice: MetricChoice) -> Metric:
    """Build a metric with its options."""
    if choice.instance is not None:
        return choice.instance

    metric = choice.plugin
    check_names("options", choice.options, [field.name for field in fields(metric)])
    if choice.measured != "explained":
        find("targets", choice.measured)
    return metric(**choice.options)


def override_plan(
    plan: Plan,
    folders: Mapping[str, str],
    without: Sequence[str] = (),
    models: Sequence[str] = (),
    device: str | None = None,
    count: int | None = None,
) -> Plan:
    """Return a plan with values replaced by those of the command line."""
    _check_data_names(plan, [*folders, *without])
    if "" in models:
        raise BadOption("a model must be named (got '')")

    measured = [choice for choice in plan.data if choice.name not in without and choice.label not in without]
    if not measured:
        raise BadOption("no data set of the plan remains: leave out fewer data sets")

    left_out = [choice.label for choice in plan.data if choice not in measured]
    data = tuple(_in_folder(choice, folders) for choice in measured)

    labels = _model_labels(models)
    entries = _named_models(plan, labels) if labels else plan.models
    if device is not None:
        entries = tuple(choice.with_options(device=device) for choice in entries)

    title = _overridden_title(plan, left_out, list(labels.values()), count)
    return plan.model_copy(update={"data": data, "models": entries, "count": count or plan.count, "about": title})


def _check_data_names(plan: Plan, names: Sequence[str]) -> None:
    """Check that a plan has data sets of these names, or of these labels."""
    known = {name for choice in plan.data for name in (choice.name, choice.label)}
    for name in names:
        if name not in known:
            raise BadOption(str(UnknownName("data sets", name, known)))


def _overridden_title(plan: Plan, left_out: Sequence[str], models: Sequence[str], count: int | None) -> str:
    """Return the title of a plan with what the command line replaced."""
    changes = [plan.about] if plan.about else []
    if left_out:
        changes.append(f"without {', '.join(left_out)}")
    if models:
        changes.append(f"with {', '.join(models)}")
    if count is not None:
        changes.append(f"{count} pairs of each data set")
    return "; ".join(changes)


def _model_labels(models: Sequence[str]) -> dict[str, str]:
    """Return the labels of the models of the command line: their names, or those of their folders."""
    labels = {name: Path(name).name if Path(name).is_dir() else name for name in models}
    if len(set(labels.values())) < len(models):
        raise BadOption("two models have the same name: measure them in two runs")
    return labels


def _in_folder(choice: Choice, folders: Mapping[str, str]) -> Choice:
    """Return a data set with the folder of the command line, which names it by its label or by its name."""
    if choice.label not in folders and choice.name not in folders:
        return choice
    return choice.with_options(folder=folders.get(choice.label) or folders[choice.name])


def _named_models(plan: Plan, labels: Mapping[str, str]) -> tuple[Choice, ...]:
    """Return the models of the command line, which are loaded with the options of the only one of the plan."""
    options = plan.models[0].options if len(plan.models) == 1 else {}
    choices = []
    for name, label in labels.items():
        choice = Choice.model_validate({"name": name, "label": label, "options": options})
        choices.append(choice.placed("--model"))
    return tuple(choices)


@contextmanager
def error_key(key: str) -> Iterator[None]:
    """Prefix the messages of errors with a key of the plan."""
    try:
        yield
    except UnknownName as error:
        raise BadOption(f"{key}: {error}") from error
    except NibtError as error:
        raise type(error)(f"{key}: {error}") from error


def _check_method(choice: MethodChoice) -> None:
    if choice.instance is not None:
        return

    along = choice.options.get("along_path", False)
    method = along_path(choice.name) if along is True else find("methods", choice.name)
    names = [field.name for field in fields(method)]
    sided = [f"{side}_{name}" for side in SIDES for name in names]
    check_names("options", choice.options, [*names, *sided, "along_path"])

    types = field_types(method)
    for name, value in choice.options.items():
        if name.endswith("baseline") and value == "against":
            raise BadOption(f"{name} must not be against in a plan, whose pairs have no other image")
        option = name.removeprefix("image_").removeprefix("text_")
        if value is not None and option in types and option != "layer":  # which may be a share of the depth
            parsed(name, value, types[option])

    check_names("variants", [choice.variant], method.variants)
    if "seed" in choice.options:
        raise BadOption("seed cannot be an option of a method in a plan: set the key seeds of the plan")


def open_data(choice: Choice, count: int | None = None) -> Dataset:
    """Open a data set of a plan, of which at most ``count`` pairs are measured, without what needs a model."""
    with error_key(choice.key):
        if choice.instance is not None:
            return choice.instance

        options = {option: value for option, value in choice.options.items() if not _needs_model(choice, option)}
        if count is not None and isinstance(options.get("count"), int):
            options["count"] = min(count, options["count"])
        if "scorer" in options:
            raise BadOption(
                "scorer cannot be an option in a plan: with choice = 'best' the model of the plan chooses the captions"
            )

        name, _, source = choice.name.partition(":")
        folder = options.pop("folder", "")  # NAME:FOLDER, or grid:NAME, whose folder is that of NAME
        try:
            data = open_dataset(":".join(text for text in (name, source, str(folder)) if text), options)
        except FolderMissing as error:
            raise BadInput(f"{error}, or --data {choice.label}=FOLDER") from error

        if not len(data):
            raise BadInput("the data set is empty")
        return data


def with_best_caption(data: Dataset, choice: Choice, model: Model) -> Dataset:
    """Return the data set, in which ``choice = "best"`` chooses the most similar caption for each image."""
    if not any(_needs_model(choice, name) for name in choice.options):
        return data

    def similarities(image: ImageInput, captions: Sequence[str]) -> list[float]:
        return model.similarity.to_each(encode(model.image, [image]), encode(model.text, captions))[0].tolist()

    return replace(data, choice="best", scorer=similarities)  # pyright: ignore[reportCallIssue]


def _needs_model(choice: Choice, option: str) -> bool:
    """Return whether an option of a data set needs a model."""
    return option == "choice" and choice.options[option] == "best"
