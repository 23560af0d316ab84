"""``nibt explain``, which explains images with captions, or compares two images or two captions."""

from dataclasses import dataclass
from typing import Annotated, Any

from typer import Option

from nibt.cli.groups import expand_groups
from nibt.cli.inputs import CliInputs, ExplainInputOptions
from nibt.cli.options import (
    BatchedModelOptions,
    MethodOptions,
    OutputOptions,
    TargetOptions,
    read_lines,
    set_options,
)
from nibt.cli.output import Output, input_paths, model_name, suffix, with_stems
from nibt.errors import BadOption
from nibt.options import Keywords, Megabytes
from nibt.progress import Progress


@dataclass(frozen=True, kw_only=True)
class ExplainModelOptions(BatchedModelOptions):
    """The model, and the memory of its hidden states."""

    memory_mb: Annotated[
        Megabytes | None,
        Option(help="The approximate memory for hidden states that go through the model together, in MB."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExplainMethodOptions(MethodOptions):
    """The method, and whether its maps are checked."""

    check: Annotated[
        bool,
        Option(
            "--check",
            help="Check the map of the image: it must differ with random weights and for another caption, and removal "
            "of its top region must lower the similarity more than removal of other regions.",
        ),
    ] = False


@expand_groups
def explain(
    inputs: ExplainInputOptions,
    method: ExplainMethodOptions,
    model: ExplainModelOptions,
    output: OutputOptions,
    target: TargetOptions,
) -> None:
    """Explain which parts of an image, and which words of a caption, make the model match them.

    With --compare, explain which parts of two images, or words of two captions, make them similar. Writes an image and
    a JSON file into the current folder, or the files of --out. A page (--out x.html) is interactive; for nib and the
    cosine it also shows the region of each word.
    """
    typed, drawing, spec = CliInputs.of(inputs), output.drawing, method.spec
    if inputs.labels is not None and (target.target != "cosine" or target.against or target.template):
        raise BadOption(
            "--labels explains the best label against the second: leave --target, --against and --template out"
        )
    if typed.same_modality and target.template:
        raise BadOption("--template is for an image with a caption: leave it out with --compare")
    if method.check and (typed.same_modality or inputs.labels or target.target != "cosine" or target.against):
        raise BadOption(
            "--check checks the map of an image for the cosine: leave --compare, --labels, --target and --against out"
        )
    name_suffix = suffix(
        *spec.words,
        model_name(model.model),
        target.target if target.target != "cosine" else None,
        **set_options(against=target.against, template=target.template, **drawing),
    )
    named = with_stems(spec.options.values(), typed.images or [""])
    read_paths = input_paths(*typed.images, inputs.labels, model.model, target.against_images, named)
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths)
    targets = files.check(typed.stems, "comparison" if typed.same_modality else "explanation")
    needs = {need for file in targets for need in file.file_format.needs}
    if "curve" in needs:
        from nibt.cli.panels import check_curve

        check_curve(spec, bool(inputs.labels or target.against or target.template or typed.same_modality))
    lines = read_lines(inputs.labels) if inputs.labels else None
    from nibt.engine.explain import read_labels

    items, labels = typed.read(), None if lines is None else read_labels(lines)
    loaded = model.loaded(files.silent)
    options: Keywords = {"method": spec, "batch_size": model.batch_size, "memory_mb": model.memory_mb}
    if typed.same_modality:
        options |= {"target": target.target, "against": tuple(target.against or ())}
    elif not inputs.labels:
        options |= target.contrast
    answers: Any = items.explain(loaded, labels, files.silent, options)
    if method.check:
        from nibt.cli.progress import show_progress
        from nibt.evaluation.audit.pair import with_checks

        with show_progress("checking", files.silent, len(answers)) as on_progress:
            for row, answer in enumerate(answers):
                answers[row] = with_checks(loaded, answer, spec)
                on_progress(Progress(row + 1))
    if needs:
        from nibt.cli.panels import panels

        answers = panels(loaded, answers, spec, needs, files.silent)
    from nibt.cli.console import show

    files.write(answers, targets, lambda written: show(written, output.look, output.verbose), drawing)
