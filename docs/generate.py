"""Writes what the documents derive from the code: ``python docs/generate.py``.

- ``reference/methods/NAME.md``, from docstrings, fields and registrations, with the times of
  ``images/methods/costs.json`` (``docs/figures.py``) and the means of ``reference/results/methods-*.csv``. Pages of
  metrics and protocols exist on the site only (``hooks.py``): the repository has docstrings and plans.
- The table of formats in ``reference/files.md``, that of the defaults in ``reference/results/methods.md``, and lists of
  methods in ``explanation/reading.md`` and ``reference/methods/index.md``.
- ``gallery.md``, from ``gallery.py``, with links from the pages of methods, metrics and names.
- The matrix of methods, from what they declare and from tables of studies, and the chart of how to choose one.
- The table of ``reference/python.md``; the site has a page for each name.
- ``index.json``: commands with their options, plugins with theirs, sample images, plans, public names and pages.
- ``llms.txt``: the install line, three calls with their output, and the pages.
- ``schemas/NAME.json``, by ``docs/schemas.py``.

``tests/test_generated_docs.py`` checks that all of it is current.
"""

import csv
import dataclasses
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from inspect import formatannotation, getdoc, getfile, isfunction, signature, unwrap
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
import yaml

import nibt
from nibt.cli.groups import OptionGroup
from nibt.data.images import SAMPLE, sample_captions, samples
from nibt.evaluation.bench.plan import Plan, plans
from nibt.evaluation.bench.report import protocol_table
from nibt.evaluation.statistics import interval
from nibt.methods.base import SIDES, Method
from nibt.models._embedded import embedded
from nibt.options import OneOf, Range, field_types
from nibt.registry import KINDS, available, documentation, find, summary

DOCS = Path(__file__).parent
ROOT = DOCS.parent
METHODS = DOCS / "reference" / "methods"
RESULTS = DOCS / "reference" / "results"
STUDY = DOCS / "explanation" / "study"
PRESENT = {"shown": "nib", "views-words": "midpoint 6"}
"""The rows of the study that have NIB's present default; ``methods-*.csv`` has a former one."""
PRESENT_SCENES = 500
FILES = DOCS / "reference" / "files.md"
PYTHON = DOCS / "reference" / "python.md"
READING = DOCS / "explanation" / "reading.md"
COSTS = DOCS / "images" / "methods" / "costs.json"
CHART = DOCS / "images" / "choose.svg"
CHOICES = {
    "Does the model write text?": "nibt answer, with nib",
    "Can you only call it (a server, a function)?": "occlusion, banzhaf or shapley",
    "Do you want the region of each word?": "nibt regions",
    "Do you quote sums of scores?": "nib tolerance=0.01",
    "Which object counts more, if it is removed?": "nib amounts=removal",
    "Are no gradients available?": "occlusion; fast: clip_surgery",
    "Only the order of the pixels, no signs?": "gae views=3",
    "Must it be as fast as possible?": "nib:fast",
}
"""Questions of the chart, with the choice if the answer is yes."""
OTHERWISE = "nib, the default"
MARK = "<!--docs/generate.py-->\n"
CALLS = """# nibt

> Explains which parts of an image, and which words of a caption, make an image-text model match them. index.json has
> all commands, options, plugins and pages for programs.

In a clone of the repository: `python3 -m venv .venv && .venv/bin/pip install .`

`scenes` knows drawn scenes only. For photographs, `lite` ships with nibt and knows ImageNet's objects;
`openai/clip-vit-base-patch32` is downloaded.

```python
import nibt
from nibt.datasets.scenes import Scenes

explanation = nibt.explain("scenes", "sample:scene", "a cat")  # a model, an image, a caption
print(explanation.grid.shape, [(word.text, round(word.score, 2)) for word in explanation.words])
# torch.Size([24, 24]) [('a', 0.0), ('cat', 0.13)]

explanation = nibt.explain("lite", "sample:chelsea", "a cat by a fjord")
explanation.save("cat.png")  # or .html, .json; an image is also a path, a PIL image or an array
print(explanation.warnings)  # notes name words that the model does not know or hardly reacts to, but not all
# ("the model does not know 'fjord'",)

best = max(nibt.replace_words("lite", "sample:chelsea", "a cat by a fjord"), key=lambda row: row.change)
print(best.caption)  # of everyday nouns, negations and counts; or give your own words
# a cat by a kitten

table = nibt.regions("scenes", "sample:scene", "a cat and a hamburger")  # words x patches
print(table.for_words("hamburger").shape)
# torch.Size([24, 24])

rows = nibt.measure("scenes", list(Scenes(count=2, seed=1)), ["pointing_game"])
print([(row.item, row.value) for row in rows])
# [(0, 1.0), (1, 1.0)]
```
"""


def module(name: str) -> ModuleType:
    """Import a file of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded  # where its dataclasses look up their types
    spec.loader.exec_module(loaded)
    return loaded


SCHEMAS = module("schemas")
GALLERY = module("gallery")
_SECTION = re.compile(r"^([A-Z][\w ]+):\n((?:    .*\n?)+)", re.M)


def files() -> dict[Path, str]:
    """Return the text of every generated file."""
    texts = {METHODS / f"{name}.md": method_page(name) for name in own("methods")}
    texts[PYTHON] = python_index()
    texts[FILES] = with_part(FILES, "formats", formats_table())
    signed = [name for name in own("methods") if find("methods", name).signed]
    texts[READING] = with_part(READING, "signed", f"{listed(signed)}.\n")
    texts[METHODS / "index.md"] = methods_index()
    texts[CHART] = chart()
    texts[DOCS / "gallery.md"] = GALLERY.page()
    texts[RESULTS / "methods.md"] = with_part(RESULTS / "methods.md", "defaults", results_table())
    texts |= {SCHEMAS.FOLDER / f"{name}.json": SCHEMAS.schema_text(name) for name in SCHEMAS.KINDS}
    texts[DOCS / "index.json"] = json.dumps(index(texts), indent=1, ensure_ascii=False) + "\n"
    texts[DOCS / "llms.txt"] = llms()
    return texts


def methods_index() -> str:
    """Return the page of all methods, with its generated parts."""
    text = with_part(METHODS / "index.md", "attention", f"{needing_attention()}\n")
    return re.sub(r"(?<=<!-- matrix -->\n).*?(?=<!-- /matrix -->)", lambda _: matrix(), text, flags=re.S)


def matrix() -> str:
    """Return the table of all methods: what they declare, and what studies measured."""
    from nibt.bridges.served_answers import METHODS as OF_ANSWERS

    axioms = {row["method"]: row["completeness"] for row in rows(DOCS / "explanation" / "axioms.csv").values()}
    sums = {"keeps": "yes", "does not apply": "-"}
    lines = [
        "| method | kind | sides | signed | adds up | gradients | behind a server | passes | pointing, one view |",
        "|---" * 9 + "|",
    ]
    for name in own("methods"):
        kind = find("methods", name)
        complete = axioms.get(name)
        server = ["embeddings"] if not kind.needs and kind.reads_score else []
        server += ["answers"] if name in OF_ANSWERS else []
        cells = [
            f"[`{name}`]({name}.md)",
            kind.category,
            "answers" if "answer" in kind.needs else ", ".join(kind.sides),
            "yes" if kind.signed else "no",
            "-" if complete is None else sums.get(complete, "no"),
            "yes" if kind.uses_gradients else "no",
            ", ".join(server) or "no",
            *of_scenes(name),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def of_scenes(name: str) -> list[str]:
    """Return the forward passes of a method with one view, and its pointing on scenes with interval and count."""
    if name == PRESENT["shown"]:
        row = rows(STUDY / "shown.csv")[f"{name}, 1 view"]
        hits = round(float(row["pointing"]) * int(row["scenes"]))
        of_hits = interval([1.0] * hits + [0.0] * (int(row["scenes"]) - hits), (0.0, 1.0))
        bounds = of_hits.low, of_hits.high
    else:
        row = measured(name)[1]
        if not row:
            return ["-", "-"]
        bounds = float(row["pointing low"]), float(row["pointing high"])
    low, high = (f"{bound:.2f}" for bound in bounds)
    return [number(row, "forwards"), f"{float(row['pointing']):.2f} [{low}, {high}], n {int(row['scenes']):,}"]


def chart() -> str:
    """Return the chart of how to choose a method: questions from top to bottom, with the choice if one is true."""
    width, height, box = 760, 46, 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height * (len(CHOICES) + 1) + 16}" '
        'font-family="sans-serif" font-size="15">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    last = 16 + height * len(CHOICES)
    for place, (question, choice) in enumerate(CHOICES.items()):
        top = 16 + height * place
        middle = top + box / 2
        parts += [
            f'<line x1="205" y1="{top + box}" x2="205" y2="{top + height}" stroke="#888"/>',
            f'<line x1="400" y1="{middle:g}" x2="455" y2="{middle:g}" stroke="#888"/>',
            f'<text x="427" y="{middle - 4:g}" text-anchor="middle" fill="#555" font-size="12">yes</text>',
            f'<text x="212" y="{top + box + 13}" fill="#555" font-size="12">no</text>',
            *boxed(10, top, 390, box, question, "#eef2f5"),
            *boxed(455, top, 295, box, choice, "#fdecea"),
        ]
    return "\n".join([*parts, *boxed(10, last, 390, box, OTHERWISE, "#fdecea"), "</svg>"]) + "\n"


def boxed(left: int, top: int, width: int, height: int, text: str, fill: str) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="#888"/>',
        f'<text x="{left + width / 2:g}" y="{top + height / 2 + 5:g}" text-anchor="middle" fill="#222">{text}</text>',
    ]


def gallery_links(word: str, folder: str) -> str:
    """Return links to the examples of the gallery that use a word, from a page in a folder of the documents."""
    path = os.path.relpath(DOCS / "gallery.md", DOCS / folder)
    links = [f"[{one.title}]({path}#{one.anchor})" for one in GALLERY.every() if one.uses(word)]
    return f"**Examples.** {', '.join(links[:6])}." if links else ""


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def needing_attention() -> str:
    """Return the sentence on the methods that reject towers without attention."""
    names = [name for name in own("methods") if "attention" in find("methods", name).needs]
    without = [f"{name}:{variant}" for name in names for variant in without_attention(find("methods", name))]
    needing = f"{len(names)} methods need attention, and cannot explain convolutional networks: {listed(names)}."
    return f"{needing} The variants {listed(without)} can."


def without_attention(kind: Any) -> list[str]:
    """Return the variants of a method that needs attention whose options do not need it."""
    return [name for name, sides in kind.variants.items() if "attention" not in kind(**sides["image"]).required()]


def with_part(path: Path, name: str, content: str) -> str:
    """Return a page with a generated part between its marks."""
    text = path.read_text(encoding="utf-8")
    return re.sub(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", lambda _: content, text, flags=re.S)


def own(kind: str) -> list[str]:
    """Return the plugins of nibt; those of other installed packages are left out."""
    return [name for name in available(kind) if find(kind, name).__module__.startswith("nibt.")]


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts of a plugin's docstring: its first line, other paragraphs, and named sections."""

    title: str
    notes: str
    sections: Mapping[str, str]


def parts(kind: str, name: str) -> Parts:
    """Split the docstring of a plugin."""
    text = documentation(kind, name)
    sections = {title: SCHEMAS.flowing(body) for title, body in _SECTION.findall(text)}
    paragraphs = _SECTION.sub("", text).strip().split("\n\n")
    title, *notes = map(SCHEMAS.flowing, paragraphs)
    return Parts(title, "\n\n".join(notes), sections)


def option_lines(kind: type) -> Iterator[str]:
    """Yield a line of Markdown for each option of a plugin."""
    texts, elsewhere = SCHEMAS.section(kind, "Args"), shared_options(kind)
    for field in dataclasses.fields(kind):
        if field.init and field.name not in elsewhere:
            text = texts.get(field.name)
            assert text, f"{kind.__name__}.{field.name} has no description under Args of the class or its bases"
            yield f"- {with_default(kind, field)}: {text.rstrip('.')}."


def shared_options(kind: type) -> set[str]:
    """Return the options that the page about all metrics has, or that about all methods."""
    if not issubclass(kind, Method):
        return {"seed"}
    return {"seed", "units", "segments", *(field.name for field in dataclasses.fields(Method))}


def with_default(kind: Any, field: Any) -> str:
    """Return the name of an option with its default, which may differ by side."""
    variants = getattr(kind, "variants", {"default": {}})
    values = [variants["default"].get(side, {}).get(field.name, field.default) for side in SIDES]
    if field.name == "layer" and isinstance(values[0], float) and kind.layer_leaves_block:
        return f"`layer` (by default, the output of the block at {values[0]} of the depth)"
    if field.name == "layer" and hasattr(kind, "distribute"):
        return f"`layer` (image: the last one or 0.65 of the depth), `layer={values[1]}` (text)"
    plain = [f"{value:.3g}" if isinstance(value, float) else value for value in values]
    texts = [f"`{field.name}={value}`" for value in plain]
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} (image), {texts[1]} (text)"


_NOTATION = (
    "The [notation](../methods/index.md#notation) explains the other symbols, such as $S$ (the target) and $t$ (a "
    "token)."
)


def opening(name: str, doc: Any, picture: str = "") -> Iterator[str]:
    """Yield the paragraphs with which the page of a method or a metric starts."""
    yield f"# {name}\n\n{MARK}\n{doc.title}"
    if picture:
        yield picture
    if "Shows" in doc.sections:
        yield f"**What the scores show.** {doc.sections['Shows']}"
    if doc.notes:
        yield doc.notes + (f"\n\n{_NOTATION}" if re.search(r"\bS\b|score\}_t", doc.notes) else "")
    yield f"**Use it when.** {doc.sections['Use it when']}"
    yield f"**Avoid it when.** {doc.sections['Avoid it when']}"


_OPTIONS_OF_ANSWERS = (
    "**Options.** The values are the defaults. The JSON file of a result has the values that were used for its model. "
    "The [option of all methods](index.md#options-of-all-methods) `views` can be set, too."
)
_OPTIONS_OF_METHODS = (
    "**Options.** The values are the defaults for CLIP. The JSON file of a result has the values that were used for "
    "its model. The [options of all methods](index.md#options-of-all-methods), such as `views` and `amounts`, can be "
    "set, too."
)


def method_page(name: str) -> str:
    """Return the page of a method."""
    kind, doc = find("methods", name), parts("methods", name)
    options = list(option_lines(kind))
    is_drawn = (COSTS.parent / f"{name}.webp").exists()
    about_options = _OPTIONS_OF_ANSWERS if "answer" in kind.needs else _OPTIONS_OF_METHODS
    text = [
        *opening(name, doc, f"![Maps](../../images/methods/{name}.webp)" if is_drawn else ""),
        *([about_options, "\n".join([*options, *variant_lines(kind)])] if options else []),
        "[The study](../../explanation/study.md#published-and-default) compares the variant `paper` with the default."
        if name == "nib"
        else "",
        facts(kind),
        amounts(name),
        f"{cost(name, kind)}\n{quality(name)}".strip(),
        gallery_links(name, "reference/methods"),
    ]
    return "\n\n".join(filter(None, text)) + "\n"


def facts(kind: Any) -> str:
    named = {
        "attention": " **Model.** It must have attention.",
        "vectors": " **Model.** It must have late interaction.",
        "answer": " **Model.** It must be a generator.",
    }
    needs = "".join(text for need, text in named.items() if need in kind.needs)
    if "attention" in kind.needs and (without := without_attention(kind)):
        needs = needs.rstrip(".") + f", except for {listed(without)}."
    unsigned = "are negative only if the target is" if kind.linear else "are never negative"
    return f"**Signs.** Scores {'may be negative' if kind.signed else unsigned}.{needs}"


def variant_lines(kind: Any) -> Iterator[str]:
    """Yield a line for each variant, with the options that differ from the default."""
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    for variant, sides in kind.variants.items():
        changes: dict[str, list[str]] = {}
        for side in SIDES:
            default, values = ({**fields, **options[side]} for options in (kind.variants["default"], sides))
            for key in fields:
                if values[key] != default[key]:
                    changes.setdefault(f"`{key}={values[key]}`", []).append(side)
        if changes:
            texts = [text if len(where) == 2 else f"{text} ({where[0]})" for text, where in changes.items()]
            yield f"- Variant `{variant}`: {', '.join(texts)}."


def cost(name: str, kind: Any) -> str:
    """Return the forward passes of a method, and the seconds that an explanation of both sides took."""
    costs = json.loads(COSTS.read_text(encoding="utf-8"))
    measured = costs["methods"].get(name, {})
    times = []
    for model, label in (("scenes", "`scenes`"), ("lite", "`lite`")):
        if model in measured:
            options = ", ".join(f"{key}={value}" for key, value in measured[model]["options"].items())
            times.append(f"{label} {measured[model]['seconds']:g} s{f' with {options}' if options else ''}")
    views = kind.variants["default"].get("image", {}).get("views", 1)
    formula = f"{kind.cost}, for each of {views} views of an image" if views > 1 else kind.cost
    formula = "0, besides those that compute the similarity" if formula == "0" else formula
    return f"**Cost.** Forward passes: {formula}." + (f" Time: {', '.join(times)}." if times else "")


def quality(name: str) -> str:
    """Return the means of a method on scenes, from the table of all methods; of NIB, from the study of views."""
    row, image, text = measured(name)
    if not row:
        return ""
    values = ", ".join(f"{key} {float(image[key]):.2f}" for key in ("pointing", "energy", "AP") if key in image)
    options = f"{row.partition(' ')[2]} and " if row != name else ""
    views = "three views" if name == PRESENT["shown"] else "one view"
    counts = [f"{int(part['scenes']):,}" for part in (image, text)]
    of_words = "" if counts[0] == counts[1] else f" (on {counts[1]} scenes)"
    words = f"{float(text['AUC of words']):.2f}"
    return (
        f"[On {counts[0]} drawn scenes](../results/methods.md) with {options}{views}: {values}, AUC of words "
        f"{words}{of_words}."
    )


def measured(name: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """Return the row of a method and its means on images and words; an empty row if it was not measured."""
    if name == "nib":
        image, text = (rows(STUDY / f"{table}.csv")[row] for table, row in PRESENT.items())
        return name, *({**part, "scenes": str(PRESENT_SCENES)} for part in (image, text))
    image, text = (rows(RESULTS / f"methods-{side}.csv") for side in SIDES)
    row = row_of(image, name)
    return row, image.get(row, {}), text.get(name, {})


def amounts(name: str) -> str:
    """Return how well the sizes of scores agree with removal, from the study: of rows with equal views and scenes."""
    table, texts = rows(STUDY / "removal.csv"), []
    for row in filter(None, (row_of(table, name), f"{name} views=3")):
        if row in table:
            removal = table.get(f"{row} amounts=removal")
            scaled = f", and {removal['r']} with `amounts=removal` (R² {removal['R2']})" if removal else ""
            options = f" with {row.partition(' ')[2]}" if row != name else ""
            texts.append(f"{table[row]['r']} (R² {table[row]['R2']}){options}{scaled} ({table[row]['scenes']} scenes)")
    link = "**[Correlation with removal](../../explanation/study.md#how-much).**"
    return f"{link} {'; '.join(texts)}." if texts else ""


def rows(path: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a table by their first column."""
    with path.open(encoding="utf-8", newline="") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def row_of(table: Mapping[str, Any], name: str) -> str:
    """Return the row of a method, whose budget may be smaller than its default; empty if it was not measured."""
    return next((label for label in table if re.fullmatch(rf"{name}( (masks|budget)=\d+)?", label)), "")


def results_table() -> str:
    """Return the table of methods with their defaults, and what was not measured."""
    lines = [
        "| method | pointing | AP | forwards | pointing, 3 views | AP, 3 views | forwards, 3 views | AUC of words |",
        "|---" * 8 + "|",
    ]
    missing, variants, labels = [], [], rows(RESULTS / "methods-image.csv")
    for name in own("methods"):
        row, image, text = measured(name)
        if row:
            three = labels.get(f"{row} views=3", {})
            if name == PRESENT["shown"]:  # whose default has three
                image, three = rows(STUDY / "shown.csv")[f"{name}, 1 view"], image
            values = [number(part, key) for part in (image, three) for key in ("pointing", "AP", "forwards")]
            lines.append(f"| `{row}` | {' | '.join([*values, number(text, 'AUC of words')])} |")
            sides = find("methods", name).variants
            changed = [variant for variant in sides if sides[variant] != sides["default"]]
            absent = [variant for variant in changed if f"{name} {variant}" not in labels]
            variants += [f"`{name}:{variant}`" for variant in absent if name != "nib"]  # its row is ``fast``
        else:
            missing.append(f"`{name}`")
    return "\n".join(lines) + f"\n\nNot measured: {', '.join(missing)}; of variants {', '.join(variants)}.\n"


def number(row: Mapping[str, str], key: str) -> str:
    """Return a number of a table for a page; a dash if it was not measured."""
    return "-" if key not in row else f"{float(row[key]):{'.4g' if key == 'forwards' else '.2f'}}"


def metric_page(name: str) -> str:
    """Return the page of a metric."""
    kind, doc = find("metrics", name), parts("metrics", name)
    options = list(option_lines(kind))
    text = [
        *opening(name, doc),
        f"Range: {doc.sections.get('Range') or '{:g} to {:g}'.format(*kind.bounds)}. Better: {kind.better}. "
        f"Sides: {', '.join(kind.sides)}. Forward passes: {doc.sections.get('Forward passes', 'none').rstrip('.')}. "
        f"Source: {doc.sections['Source'].rstrip('.')}.",
        *(["**Options.**", "\n".join(options)] if options else []),
    ]
    return "\n\n".join(text) + "\n"


def protocol_page(name: str) -> str:
    """Return the page of a plan that repeats a published evaluation."""
    plan = Plan.read(name)
    folders = " ".join(f"--data {data.label}=FOLDER" for data in plan.data)
    text = [
        f"# {name}\n\n{plan.about}. Data sets that you lack are left out with `--without NAME`. The plan is "
        f"`src/nibt/evaluation/bench/plans/{name}.toml`.",
        f"```bash\nnibt bench {name} -o RUN {folders}\n```",
        protocol_table(plan).markdown(),
    ]
    if plan.published_values:
        rows = ["| data | method | metric | published | source |", "|---|---|---|---|---|"]
        rows += [
            f"| {one.data} | {one.method} | {one.metric} | {one.value:g} | {one.source} |"
            for one in plan.published_values
        ]
        text.append("## Published numbers\n\n" + "\n".join(rows))
    return "\n\n".join(text) + "\n"


def protocols() -> list[str]:
    """Return the names of the plans that repeat a published evaluation step by step."""
    return [name for name in plans() if Plan.read(name).protocol]


def formats_table() -> str:
    """Return the table of file formats."""
    lines = ["| ending | content | results that can be written | several in one file |", "|---|---|---|---|"]
    for name in own("formats"):
        kind = find("formats", name)
        endings, others = (kind.endings, "") if len(kind.endings) < 4 else ([".png"], ", and of other image formats")
        cells = [", ".join(f"`{one}`" for one in endings) + others, summary("formats", name).rstrip(".")]
        lines.append(f"| {' | '.join(cells)} | {', '.join(kind.holds)} | {'yes' if kind.several else 'no'} |")
    return "\n".join(lines) + "\n"


def index(texts: Mapping[Path, str]) -> dict[str, Any]:
    """Return the machine-readable index."""
    group: Any = typer.main.get_command(importlib.import_module("nibt.cli.main").app)
    plugins: dict[str, Callable[[str], dict[str, Any]]] = {"methods": method_entry, "metrics": metric_entry}
    return {
        "about": "What nibt offers. Generated by docs/generate.py; the pages are relative to this file. A default of "
        "null means that an option is not set; `plugins` names the plugins whose names it takes.",
        "version": nibt.__version__,
        "commands": {name: command_entry(command) for name, command in sorted(group.commands.items())},
        "plugins": {
            kind: {
                name: {"about": summary(kind, name), **plugins.get(kind, options_entry(kind))(name)}
                for name in own(kind)
            }
            for kind in KINDS
        },
        "embedded_models": embedded(),
        "samples": {SAMPLE + name: sample_captions().get(name, "") for name in samples()},
        "plans": plans(),
        "python": {name: python_entry(name) for name in sorted(nibt.__all__)},
        "pages": [{"path": path, "title": title, "kind": kind} for kind, title, path in pages()],
        "schemas": sorted(f"schemas/{path.name}" for path in texts if path.parent.name == "schemas"),
    }


def command_entry(command: Any) -> dict[str, Any]:
    """Return the help, the arguments and the options of a command."""
    result: dict[str, Any] = {"about": SCHEMAS.flowing(command.help or ""), "arguments": [], "options": []}
    hints = get_type_hints(unwrap(command.callback))
    groups = [hint for hint in hints.values() if isinstance(hint, type) and issubclass(hint, OptionGroup)]
    types = {name: declared for group in groups for name, declared in field_types(group).items()}
    for parameter in command.params:
        about = SCHEMAS.flowing(getattr(parameter, "help", None) or "")
        entry = type_entry(types.get(parameter.name, parameter.type_descriptor.annotation)) | {"about": about}
        if parameter.param_type_name == "argument":
            result["arguments"].append({"name": parameter.metavar or parameter.name.upper(), **entry})
        elif "--help" not in parameter.opts:
            listed_names = re.search(rf"see nibt list ({'|'.join(KINDS)})\b", about)
            plugins = {"plugins": listed_names[1]} if listed_names else {}
            names = [*parameter.opts, *parameter.secondary_opts]
            result["options"].append({"names": names, **entry, **plugins, "default": true_default(parameter, about)})
    return result


def true_default(parameter: Any, about: str) -> Any:
    """Return the default of an option of a command, from its help where it is computed; null if it is not set."""
    stated = re.search(r"Default: ([^;]*?)\.(?: |$)", about)
    if parameter.default is None and (stated or about.endswith("Required.")):
        return stated[1] if stated else "required"
    if parameter.default is None:
        return [] if parameter.multiple else None
    return plain(parameter.default)


def plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def type_entry(declared: Any) -> dict[str, Any]:
    """Return the type of an option, with its values or its range."""
    if get_origin(declared) is Annotated:
        inner, *notes = get_args(declared)
        entry = type_entry(inner)
        for note in notes:
            if isinstance(note, OneOf):
                entry["choices"] = list(note)
            elif isinstance(note, Range):
                entry["range"] = str(note)
        return entry
    if get_origin(declared) is Literal:
        return {"type": "string", "choices": list(get_args(declared))}
    members = [member for member in get_args(declared) if member is not type(None)]
    if get_origin(declared) in (Union, UnionType) and len(members) == 1:
        return type_entry(members[0])
    if get_origin(declared) in (list, tuple):
        return {**type_entry(members[0]), "repeatable": True}
    named = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "path"}
    text = formatannotation(declared).replace("pathlib._local.", "pathlib.")  # of Python 3.13
    return {"type": named.get(declared, text)}


def options_entry(kind: str) -> Callable[[str], dict[str, Any]]:
    """Return a function from the name of a plugin to its options."""
    return lambda name: {"options": options(find(kind, name))}


def options(plugin: Any) -> dict[str, Any]:
    """Return the type, the values or the range, and the default of each option of a plugin."""
    if not dataclasses.is_dataclass(plugin):
        return {}
    types, texts = field_types(plugin), SCHEMAS.section(plugin, "Args")  # pyright: ignore
    layer = {"layer": {"type": "integer, or share of the depth", "repeatable": True}}
    return {
        field.name: {
            **(layer.get(field.name) or type_entry(types[field.name])),
            "default": field_default(plugin, field),
            "about": texts.get(field.name, ""),
        }
        for field in dataclasses.fields(plugin)
        if field.init and not field.name.startswith("_")
    }


def field_default(plugin: Any, field: Any) -> Any:
    """Return the default of an option, by side if it differs by side."""
    if field.default_factory is not dataclasses.MISSING:
        return plain(field.default_factory())
    sides = getattr(plugin, "variants", {"default": {}})["default"]
    values = [plain(sides.get(side, {}).get(field.name, field.default)) for side in SIDES]
    if values[0] != values[1]:
        return dict(zip(SIDES, values, strict=True))
    return "required" if field.default is dataclasses.MISSING and not sides else values[0]


def method_entry(name: str) -> dict[str, Any]:
    kind = find("methods", name)
    return {
        "page": f"reference/methods/{name}.md",
        "sides": list(kind.sides),
        "signed": kind.signed,
        "needs": list(kind.needs),
        "uses_gradients": kind.uses_gradients,
        "variants": list(kind.variants),
        "forward_passes": kind.cost,
        "source": kind.paper,
        "options": options(kind),
    }


def metric_entry(name: str) -> dict[str, Any]:
    kind = find("metrics", name)
    better = {"better": kind.better, "sides": list(kind.sides)}
    return {"page": f"../src/nibt/metrics/{Path(getfile(kind)).name}", **better, "options": options(kind)}


def python_entry(name: str) -> dict[str, str]:
    """Return the first line of the docstring of a public name, and the signature of a function."""
    public = getattr(nibt, name)
    entry = {"about": (getdoc(public) or "").split("\n")[0]}
    if not isfunction(public):
        return entry
    text = re.sub(r"<function (\w+) at \w+>", r"\1", f"{name}{signature(public)}")
    return {**entry, "signature": re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text)}  # names without their modules


def python_index() -> str:
    """Return the page of the public names with the first line of each docstring."""
    text = PYTHON.read_text(encoding="utf-8")
    return re.sub(
        r"^\| `(\w+)` \|.*$", lambda row: f"| `{row[1]}` | {python_entry(row[1])['about']} |", text, flags=re.M
    )


def python_file(name: str) -> str:
    """Return the file of a public name on the site; ``Regions`` and ``regions`` differ on every file system."""
    return f"python/class_{name}.md" if isinstance(getattr(nibt, name), type) else f"python/{name}.md"


def python_page(name: str) -> str:
    """Return the page of a public name for the site: its first example, then its docstring."""
    public = getattr(nibt, name)
    examples = re.search(r"^Examples:\n((?:    .*\n?|\n)+)", f"{getdoc(public)}\n", re.M)
    lines = [] if examples is None else [line[4:] for line in examples[1].rstrip().splitlines()]
    shown = ["```pycon", *(line.partition("  # doctest")[0] for line in lines), "```\n"] if lines else []
    links = gallery_links(f"nibt.{name}", "reference/python")
    return (
        "\n".join([f"# nibt.{name}\n", *shown, f"{links}\n", f"::: {public.__module__}.{public.__qualname__}"]) + "\n"
    )


def pages() -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the title and the path of every page of the navigation."""
    text = re.sub(r"!!python/\S+", "", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    for entry in yaml.safe_load(text)["nav"]:
        for kind, value in entry.items():
            yield from ((kind, title, path) for title, path in flat(kind, value))


def flat(title: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield title, value
    else:
        for entry in value:
            for name, inside in entry.items() if isinstance(entry, dict) else [(title, entry)]:
                yield from flat(name, inside)


def llms() -> str:
    """Return how to install and call nibt, and links to the pages; those of plugins are in index.json."""
    lines = [CALLS.rstrip()]
    last = ""
    for kind, title, path in pages():
        if kind != last:
            lines += ["", f"## {kind}", ""]
            last = kind
        if Path(path).parent.name not in KINDS or Path(path).stem == "index":
            lines.append(f"- [{title}]({link(path)})")
    return "\n".join(lines) + "\n"


def source_page(path: str) -> Path:
    """Return the file of a page: notebooks become pages as the site is built, and the changelog is at the root."""
    if path == "changelog.md":
        return ROOT / "CHANGELOG.md"
    return (DOCS / path).with_suffix(".ipynb") if path.startswith("tutorials/") else DOCS / path


def link(path: str) -> str:
    source = source_page(path)
    return source.relative_to(DOCS).as_posix() if source.is_relative_to(DOCS) else "../CHANGELOG.md"


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
