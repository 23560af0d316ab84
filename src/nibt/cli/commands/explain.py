"""``nibt explain``, which explains or compares images and captions, and ``nibt regions``, which relates their parts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from nibt.cli.command import Command
from nibt.cli.groups import expand_groups
from nibt.cli.inputs import CliInputs, ExplainInputOptions, InputOptions, split_inputs
from nibt.cli.options import (
    BatchedModelOptions,
    MethodOptions,
    MethodsOptions,
    ModelOptions,
    OutputOptions,
    TargetOptions,
    set_options,
)
from nibt.cli.output import Output, input_paths, model_name, slug, stem, suffix
from nibt.cli.terminal import show_progress
from nibt.errors import BadOption
from nibt.options import Keywords
from nibt.progress import Progress
from nibt.registry import MethodSpec

if TYPE_CHECKING:
    from nibt.models.base import Model
    from nibt.report.html.view_data import Panel
    from nibt.results.explanation import Explanation
    from nibt.results.parts import Parts


_FROM_EXPLANATION = {"layer", "image_layer", "text_layer", "amounts", "image_amounts", "seed"}
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
            help="Find a small part of the map that alone keeps the decision of the model (keep), or whose removal "
            "changes it (change). The decision is which caption or image ranks first (with --labels, --rank or "
            "--against). Without them, a part keeps the decision if it keeps more than half of what the image adds to "
            "the similarity.",
        ),
    ] = None
    parts: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Show which known parts are in the image, and how much of the score each carries: a JSON file of "
            "nibt parts.",
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
    typed = CliInputs.of(inputs)
    spec = method.spec
    drawing = output.drawing
    _check_choices(inputs, typed, method, target)

    name_suffix = suffix(
        *spec.words,
        model_name(model.model),
        None if target.target == "cosine" else target.target,
        **set_options(
            replace=inputs.replace,
            against=target.against,
            template=target.template,
            decisive=method.decisive,
            parts=method.parts and method.parts.stem,
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
        method.parts,
    )
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, drawing=drawing)

    # whatever can be wrong is found before a model is loaded
    targets = files.check(typed.stems, "comparison" if typed.same_modality else "explanation")
    items = typed.read()
    known_parts = _known_parts(method.parts)

    # what imports torch is imported as late as possible, so that --help and wrong options answer at once
    from nibt.engine.spec import check_options

    check_options(spec)

    loaded = model.loaded(files.silent)
    options: Keywords = {"method": spec, "batch_size": model.batch_size}
    if typed.same_modality:
        options |= {"target": target.target, "against": tuple(target.against or ())}
    elif not typed.ranked:  # a ranking itself finds what the best candidate is compared with
        options |= target.contrast

    results: Any = items.explain(loaded, files.silent, options)
    for label, add in _additions(loaded, method, known_parts):
        results = _changed(results, label, files.silent, add)
    if any(file.file_format.with_table for file in targets):
        results = _panels(loaded, results, spec, files.silent)

    from nibt.cli.console import show

    files.write(results, targets, lambda written: show(written, output.look))


def _check_choices(
    inputs: ExplainInputOptions, typed: CliInputs, method: ExplainMethodOptions, target: TargetOptions
) -> None:
    """Check that the options go together."""
    if typed.ranked and (target.target or target.against or target.template):
        explains = f"--{'labels' if inputs.labels else 'rank'} explains the best against the second"
        if inputs.replace:
            explains = "--replace explains the caption against a replacement"
        raise BadOption(f"{explains}: leave --target, --against and --template out")
    if typed.same_modality and target.template:
        raise BadOption("--template is for an image with a caption: leave it out with --compare")

    compares = target.target not in (None, "cosine") or target.against
    if method.check and (typed.same_modality or typed.ranked or compares):
        raise BadOption(
            "--check checks the map of an image for the cosine: leave --compare, --labels, --rank, --replace, --target "
            "and --against out"
        )
    if method.decisive not in (None, "keep", "change"):
        raise BadOption(f"--decisive must be keep or change (got {method.decisive!r:.60})")

    for name, value in (("decisive", method.decisive), ("parts", method.parts)):
        if value and typed.same_modality:
            raise BadOption(f"--{name} is for an image with a caption: leave it out with --compare")


def _known_parts(file: Path | None) -> Any:
    """Return the parts of a file; None without one."""
    if file is None:
        return None

    from nibt.results.parts import Parts

    return Parts.load(file)


def _additions(
    model: "Model", method: ExplainMethodOptions, known_parts: "Parts | None"
) -> "Iterator[tuple[str, Callable[[Explanation], Explanation]]]":
    """Yield what is found out about each map, with the label of its progress."""
    if method.check:
        from nibt.evaluation.audit.pair import with_checks

        yield "checking", lambda explanation: with_checks(model, explanation, method.spec)

    if method.decisive:
        from nibt.evaluation.decisive import decisive_region

        region: Any = method.decisive
        yield "the decisive region", lambda explanation: decisive_region(model, explanation, region)

    if known_parts:
        from nibt.evaluation.parts.scores import part_scores

        yield "the parts", lambda explanation: part_scores(model, explanation, known_parts)


def _changed(
    explanations: "Sequence[Explanation]", label: str, quiet: bool, change: "Callable[[Explanation], Explanation]"
) -> "list[Explanation]":
    """Return what becomes of each explanation, while the number of those that are done is shown."""
    changed = []
    with show_progress(label, quiet, len(explanations)) as on_progress:
        for explanation in explanations:
            changed.append(change(explanation))
            on_progress(Progress(len(changed)))
    return changed


def _panels(
    model: "Model",
    explanations: "Sequence[Explanation]",
    method: MethodSpec,
    quiet: bool,
) -> "list[Panel]":
    """Return the results with the word-region tables of nib with the cosine, at their layers."""
    from nibt.engine.regions import regions
    from nibt.report.html.view_data import Panel
    from nibt.report.view import names_of
    from nibt.results.regions import why_no_table

    options: Keywords = {name: value for name, value in method.options.items() if name not in _FROM_EXPLANATION}
    has_table = [not explanation.is_comparison and not why_no_table(explanation) for explanation in explanations]
    sources = list(dict.fromkeys(explanation.source for explanation in explanations if not explanation.is_comparison))
    several = len(sources) > 1
    names = dict(zip(sources, names_of(sources), strict=True))

    panels = []
    done = 0
    with show_progress("words and regions", quiet or not any(has_table), sum(has_table)) as on_progress:
        for explanation, with_table in zip(explanations, has_table, strict=True):
            table: Any = None
            if with_table:
                image = explanation.image.input
                assert image is not None, "a new explanation has its image"

                # the table stands beside the map, so both explain the same layers, as they were resolved
                layers = {
                    f"{side}_layer": list(explanation.method.get(side, {})["layer"]) for side in ("image", "text")
                }
                table = regions(model, image, explanation.caption, variant=method.variant, **layers, **options)
                done += 1
                on_progress(Progress(done))

            title = f"{explanation.caption} ({names[explanation.source]})" if several else ""
            panels.append(Panel(explanation, table, title))

    return panels


@dataclass(frozen=True, kw_only=True)
class RegionsInputOptions(InputOptions):
    """The inputs, and the words that get maps."""

    word: Annotated[
        list[str] | None, Option(metavar="WORDS", help="Words of the caption that get maps; repeatable. Default: all.")
    ] = None


@expand_groups
def regions(inputs: RegionsInputOptions, method: MethodsOptions, model: ModelOptions, output: OutputOptions) -> None:
    """Show which words of a caption go with which parts of an image: a signed table, with a map per word.

    Writes an image with a small map per word and a JSON file, or the files of --out: x.html is an interactive page,
    with several methods side by side, and x.links.pdf draws the strongest links. By default, nib takes as many steps as
    a tolerance of 0.01 needs.
    """
    images, captions = split_inputs(inputs.inputs, command="regions")
    specs = {text: MethodSpec.parse(text) for text in method.texts}
    drawing = output.drawing
    name_suffix = suffix(
        "regions",
        *(word for spec in specs.values() for word in spec.words),
        model_name(model.model),
        **set_options(word=inputs.word, **drawing),
    )
    read_paths = input_paths(images, model.model, *(spec.options for spec in specs.values()))
    files = Output(output.out, output.quiet, output.overwrite, name_suffix, read_paths, drawing=drawing)
    targets = files.check(_region_stems(images, captions, list(specs)), "regions")
    from nibt.cli.console import show_regions
    from nibt.data.images import read_image
    from nibt.data.pair import read_caption
    from nibt.engine.regions import regions as compute_regions
    from nibt.engine.regions import resolve_regions
    from nibt.engine.spec import check_options
    from nibt.report.html.view_data import Panel

    pairs = [(read_image(image), read_caption(caption)) for image in images for caption in captions]
    for spec in specs.values():
        check_options(spec)

    loaded = model.loaded(files.silent)
    # a method that the model lacks is refused before any other is computed; the first one is refused at once anyway
    for spec in list(specs.values())[1:]:
        resolve_regions(loaded, spec)

    panels: list[Panel] = []
    for name, spec in specs.items():
        with show_progress(f"explaining with {name}", files.silent, len(pairs)) as on_progress:
            tables: Any = compute_regions(
                loaded,
                [image for image, _ in pairs],
                [caption for _, caption in pairs],
                words=inputs.word or (),
                method=spec,
                on_progress=on_progress,
            )
        panels += [Panel(table, title=name if len(specs) > 1 else "") for table in tables]

    titles = [panel.title for panel in panels] if len(specs) > 1 else ()
    files.write(panels, targets, lambda written: show_regions(written, titles))


def _region_stems(images: Sequence[str], captions: Sequence[str], methods: Sequence[str]) -> list[str]:
    """Return the beginnings of the names of files, with the method if there are several."""
    stems = [f"{slug(stem(image))}-{slug(caption)}" for image in images for caption in captions]
    if len(methods) == 1:
        return stems
    return [f"{name}-{slug(method)}" for method in methods for name in stems]


COMMANDS = (
    Command(
        1,
        explain,
        examples=(
            'nibt explain sample:chelsea "a cat"',
            'nibt explain sample:chelsea "a cat" --against "a dog" -o why.html',
            'nibt explain sample:scene "a cat" -m scenes --method "nib tolerance=0.01" --check -o {stem}.png',
        ),
    ),
    Command(2, regions),
)
