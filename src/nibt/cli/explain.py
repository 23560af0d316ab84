"""``nibt explain``, which explains or compares images and captions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import CliInputs, ExplainInputOptions
from nibt.cli.options import BatchedModelOptions, MethodOptions, OutputOptions, TargetOptions, set_options
from nibt.cli.output import Output, input_paths, model_name, suffix
from nibt.cli.terminal import show_progress
from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.progress import Progress

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.registry import MethodSpec
    from nibt.report.html.view_data import Panel
    from nibt.results.explanation import Explanation


_FROM_ANSWER = {"layer", "image_layer", "text_layer", "amounts", "image_amounts", "seed"}
"""Options that do not apply to a word-region table, or that are taken from the explanation."""


@dataclass(frozen=True, kw_only=True)
class ExplainMethodOptions(MethodOptions):
    """The method, and what is found out about its maps."""

    check: Annotated[
        bool,
        Option(
            "--check",
            help="Check the map of the image: it must differ with random weights and for another caption, and removal "
            "of its top region must lower the similarity more than removal of other regions.",
        ),
    ] = False
    decisive: Annotated[
        str | None,
        Option(
            metavar="keep|change",
            help="Find a small part of the map that keeps what the model decides if all else is removed, or whose "
            "removal changes it: half of the similarity, or with --labels, --rank, or the targets difference and "
            "softmax (--against), what is first.",
        ),
    ] = None


@expand_groups
def explain(
    inputs: ExplainInputOptions,
    method: ExplainMethodOptions,
    model: BatchedModelOptions,
    output: OutputOptions,
    target: TargetOptions,
) -> None:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    With --compare, explain which parts of two images, or words of two captions, make them similar. Writes an image and
    a JSON file into the current folder, or the files of --out. A page (--out x.html) is interactive; for nib and the
    cosine it also shows the region of each word.
    """
    typed, spec, drawing = CliInputs.of(inputs), method.spec, output.drawing
    compares = target.target not in (None, "cosine") or target.against
    if typed.ranked and (target.target or target.against or target.template):
        explains = f"--{'labels' if inputs.labels else 'rank'} explains the best against the second"
        if inputs.replace:
            explains = "--replace explains the caption against a replacement"
        raise BadOption(f"{explains}: leave --target, --against and --template out")
    if typed.same_modality and target.template:
        raise BadOption("--template is for an image with a caption: leave it out with --compare")
    if method.check and (typed.same_modality or typed.ranked or compares):
        raise BadOption(
            "--check checks the map of an image for the cosine: leave --compare, --labels, --rank, --replace, --target "
            "and --against out"
        )
    if method.decisive not in (None, "keep", "change"):
        raise BadOption(f"--decisive must be keep or change (got {method.decisive!r:.60})")
    if method.decisive and typed.same_modality:
        raise BadOption("--decisive is for an image with a caption: leave it out with --compare")
    name_suffix = suffix(
        *spec.words,
        model_name(model.model),
        None if target.target == "cosine" else target.target,
        **set_options(
            replace=inputs.replace,
            against=target.against,
            template=target.template,
            decisive=method.decisive,
            **drawing,
        ),
    )
    read_paths = input_paths(
        *typed.images,
        inputs.labels,
        *(inputs.replace or "").split("="),
        model.model,
        target.against_images,
        spec.options,
    )
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, drawing=drawing)
    targets = files.check(typed.stems, "comparison" if typed.same_modality else "explanation")
    items = typed.read()
    loaded = model.loaded(files.silent)
    options: Keywords = {"method": spec, "batch_size": model.batch_size}
    if typed.same_modality:
        options |= {"target": target.target, "against": tuple(target.against or ())}
    elif not typed.ranked:
        options |= target.contrast
    answers: Any = items.explain(loaded, files.silent, options)
    if method.check:
        from nibt.evaluation.audit.pair import with_checks

        answers = _each(answers, "checking", files.silent, lambda answer: with_checks(loaded, answer, spec))
    if method.decisive:
        from nibt.evaluation.decisive import decisive_region

        region: Any = method.decisive
        answers = _each(
            answers, "the decisive region", files.silent, lambda answer: decisive_region(loaded, answer, region)
        )
    if any(file.file_format.with_table for file in targets):
        answers = _panels(loaded, answers, spec, files.silent)
    from nibt.cli.console import show

    files.write(answers, targets, lambda written: show(written, output.look))


def _each(
    answers: "Sequence[Explanation]", label: str, quiet: bool, change: "Callable[[Explanation], Explanation]"
) -> "list[Explanation]":
    """Return what becomes of each result, while the number of those that are done is shown."""
    changed = []
    with show_progress(label, quiet, len(answers)) as on_progress:
        for answer in answers:
            changed.append(change(answer))
            on_progress(Progress(len(changed)))
    return changed


def _panels(
    model: "Model",
    answers: "Sequence[Explanation]",
    method: "MethodSpec",
    quiet: bool,
) -> "list[Panel]":
    """Return the results with the word-region tables of nib with the cosine, at their layers."""
    from nibt.engine.regions import regions
    from nibt.report.html.view_data import Panel

    options = {name: value for name, value in method.options.items() if name not in _FROM_ANSWER}
    tabled = [_has_table(answer) for answer in answers]
    several = len({answer.source for answer in answers if not answer.is_comparison}) > 1
    result, done = [], 0
    with show_progress("words and regions", quiet or not any(tabled), sum(tabled)) as on_progress:
        for index, answer in enumerate(answers):
            table: Any = None
            if tabled[index]:
                assert answer.image.input is not None, "a new explanation has its image"
                layers = {f"{side}_layer": list(answer.method.get(side, {})["layer"]) for side in ("image", "text")}
                table = regions(model, answer.image.input, answer.caption, variant=method.variant, **layers, **options)
                done += 1
                on_progress(Progress(done))
            title = f"{answer.caption} ({answer.source})" if several else ""
            result.append(Panel(answer, table, title))
    return result


def _has_table(answer: "Explanation") -> bool:
    """Return whether a page shows the word-region table of a result: that of nib with the cosine, without noise."""
    method = answer.method
    return (
        not answer.is_comparison
        and method["name"] == "nib"
        and answer.target["name"] == "cosine"
        and not method.get("along_path")
        and all(method.get(side, {})["noise"] == "none" for side in ("image", "text"))
    )
