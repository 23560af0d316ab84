"""What comes from outside is read by one function, counted before it is expanded, and refused in one line."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial, reduce
from itertools import groupby, product
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

import nibt
from nibt.cli.commands.evaluation import DataOptions, open_data
from nibt.core.quadrature import RULES
from nibt.core.side import Side
from nibt.datasets._files import existing, expanded
from nibt.datasets.scenes import Scenes
from nibt.engine.explain import compare, explain
from nibt.errors import BadInput, BadOption, CannotLoad, NibtError
from nibt.evaluation.bench.plan import Plan
from nibt.evaluation.bench.validation import check_plugins
from nibt.formats.base import DRAWING, Drawing
from nibt.generators.results.answer import AnswerExplanation
from nibt.heads.decomposition import Decomposition
from nibt.io import load_json, load_toml
from nibt.jobs.job import Job, card
from nibt.methods.base import Method, average_layers
from nibt.registry import KINDS, MethodSpec, available, find
from nibt.results.attribution import Attribution
from nibt.results.audit import Audit
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions
from tests import tiny
from tests.contracts.test_wrong_arguments import PLAIN
from tests.helpers import Run, noise_pairs
from tests.suites import few

MODEL = tiny.model("clip")
PACKAGE = Path(nibt.__file__).parent
PLAN = {"models": ["scenes"], "methods": ["nib"], "data": ["scenes"], "metrics": ["deletion"]}
RESULTS = [AnswerExplanation, Audit, Decomposition, Explanation, Regions]
READERS: dict[str, Callable[[Path], Any]] = {
    **{f"{kind.__name__}.json": kind.load for kind in RESULTS},
    "manifest.json": lambda path: Job(path.parent).manifest,
    "plan.toml": Plan.read,
    "pairs.jsonl": lambda path: list(find("datasets", "folder")(path.parent)),
}


@pytest.mark.parametrize("depth", [150, 5_000, 200_000])
@pytest.mark.parametrize("name", READERS)
def test_deep_nesting_is_refused_by_every_reader(name: str, depth: int, tmp_path: Path) -> None:
    path, text = tmp_path / name, "[" * depth + "]" * depth
    for content in [f"a = {text}", "a" + ".a" * depth + " = 1"] if path.suffix == ".toml" else [text]:
        path.write_text(content)
        with pytest.raises(NibtError, match="nested too deeply"):
            READERS[name](path)


def test_data_of_any_shape_that_is_not_deep_is_read(tmp_path: Path) -> None:
    assert [load_json("3"), load_json(b"[]"), load_json('{"a": [[1], {}]}')] == [3, [], {"a": [[1], {}]}]
    assert load_json("[" * 99 + "]" * 99) != []
    (tmp_path / "a.toml").write_text("a.b = [1]")
    assert load_toml(tmp_path / "a.toml") == {"a": {"b": [1]}}


def test_no_other_function_parses_files() -> None:
    parses = re.compile(r"\b(json\.loads?|tomllib\.loads?)\((?!json\.dumps)")  # a copy of our own data is not a file
    files = {str(path.relative_to(PACKAGE)): path.read_text("utf-8") for path in PACKAGE.rglob("*.py")}
    assert [name for name, text in files.items() if parses.search(text)] == []


@pytest.mark.parametrize("method", available("methods"))
def test_an_option_is_set_once_in_either_spelling(method: str) -> None:
    for field in fields(find("methods", method)):
        with pytest.raises(BadOption, match=f"sets image_{field.name} twice"):
            MethodSpec.parse(f"{method} image_{field.name}=1 image-{field.name.replace('_', '-')}=2")


def test_a_share_of_the_depth_is_the_same_layer_as_text_and_as_a_number() -> None:
    tower = tiny.model("clip").image
    for share in (0.3, 0.65, 0.99):
        as_text, as_number = (
            find("methods", "grad_cam").configured(tower, "default", {"layer": value}, {}).layers
            for value in (str(share), share)
        )
        assert as_text == as_number
    with pytest.raises(BadOption, match=r"layer must be a whole number, or a share .* \(got 1.5\)"):
        find("methods", "grad_cam").configured(tower, "default", {"layer": "1.5"}, {})


def test_grids_of_plans_are_counted_before_they_are_expanded() -> None:
    method = {"name": "nib", "options": {"steps": 5}, "grid": {"steps": [2, 3]}}
    with pytest.raises(BadOption, match=r"methods\[0\].grid sets steps, which the entry's options set, too"):
        Plan.read({**PLAN, "methods": [method]})
    method = {"name": "nib", "grid": {f"option_{number}": list(range(10)) for number in range(12)}}
    with pytest.raises(BadOption, match=r"methods\[0\].grid must have at most 1,000 combinations"):
        Plan.read({**PLAN, "methods": [method]})


@pytest.mark.parametrize("pattern", ["{000..999999999999}.tar", "{0..9}" * 9, "{0..99}-{a,b}-{000..999999}"])
def test_names_of_files_are_counted_before_they_are_expanded(pattern: str) -> None:
    with pytest.raises(BadOption, match="must stand for at most 1,000,000 files"):
        existing([pattern])


def test_patterns_expand_in_order() -> None:
    assert list(expanded("{a,b}-{08..10}.tar")) == [f"{letter}-{n:02}.tar" for letter in "ab" for n in (8, 9, 10)]
    assert [list(expanded(pattern)) for pattern in ("{9..8}.tar", "a.tar")] == [[], ["a.tar"]]


def test_the_method_has_the_same_place_in_every_function() -> None:
    for name in nibt.__all__:
        function = getattr(nibt, name)
        parameters = {} if isinstance(function, type) else inspect.signature(function).parameters
        for parameter in (parameters[name] for name in ("method", "methods", "target") if name in parameters):
            assert parameter.kind is parameter.POSITIONAL_OR_KEYWORD, name


@pytest.mark.parametrize(("compared", "target"), [({"against": "a dog"}, "difference"), ({}, "cosine")])
def test_what_is_compared_with_chooses_the_target(compared: dict[str, Any], target: str) -> None:
    model = tiny.model("clip")
    for requested in (None, target):
        image = explain(model, tiny.IMAGES[0], "a cat", "grad_cam", requested, **compared)
        texts = compare(model, "a cat", "a red cat", "grad_cam", requested, **compared)
        assert image.target["name"] == texts.target["name"] == target
    with pytest.raises(BadOption, match="one other caption"):
        explain(model, tiny.IMAGES[0], "a cat", "grad_cam", against=["a dog", "a bird"])


def test_templates_choose_the_target_and_measures_keep_it() -> None:
    model, image = tiny.model("clip"), tiny.IMAGES[0]
    assert explain(model, image, "a cat", "grad_cam", templates=["a photo of {}"]).target["name"] == "ensemble"
    others = explain(model, image, "a cat", "grad_cam", against_images=[tiny.IMAGES[1]])
    assert [others.target["name"], others.target["image"]["name"]] == ["difference", "cosine"]
    measured = {"metrics": "deletion", "method": "grad_cam", "side": "image", "against": "a dog"}
    first, second = nibt.Pair(image, "a cat"), nibt.Pair(tiny.IMAGES[1], "a red bird")
    plain = nibt.measure(model, [first, second], target="difference", **measured)
    assert nibt.measure(model, [first, second], **measured) == plain
    explained = nibt.measure(model, [first, second], target="cosine", measured="difference", **measured)
    assert nibt.measure(model, [first, second], measured="difference", **measured) == explained
    with pytest.raises(BadOption, match="metrics of regions need the target cosine"):
        nibt.measure(model, [first], "synergy", side="regions", against="a dog")


def test_captions_of_the_command_choose_the_target(run: Run, photo: Path, clip_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    assert run("explain", photo, "a cat", "--against", "a dog", "-m", clip_folder, "-o", out)[0] == 0
    assert Explanation.load(out).target["name"] == "difference"


@pytest.mark.parametrize("kind", few(KINDS, ["methods", "models"]))
def test_list_describes_each_plugin_with_its_options(run: Run, kind: str) -> None:
    for name in available(kind):
        code, out, _ = run("list", kind, name)
        plugin = find(kind, name)
        assert (code, "Args:" in out) == (0, False)
        assert not re.search(r"[$\\]|\]\(", out), (name, "marks of LaTeX or Markdown")
        assert kind != "methods" or f"Source: {plugin.paper}" in out
        for field in fields(plugin) if hasattr(plugin, "__dataclass_fields__") else ():
            described = re.search(rf"\n    {field.name}, (default|required).*: \S", out)
            assert not field.init or described, (name, field.name)
    assert run("list", kind, "nothing")[0] == 2


def test_lists_of_one_line_each_have_no_descriptions(run: Run) -> None:
    code, _, err = run("list", "samples", "scene")
    assert (code, err) == (2, "nibt: samples have one line each (got 'scene'): see nibt list samples\n")


def explained(method: Any, **options: Any) -> Any:
    return explain(MODEL, tiny.IMAGES[0], "a cat", method, **options)


SCENES = list(find("datasets", "scenes")(count=12))
CALLED: dict[str, dict[str, Any]] = {
    **PLAIN,
    "check": {"model": MODEL, "image": tiny.IMAGES[0], "caption": "a cat"},
    "calibrate": {"model": MODEL, "images": tiny.IMAGES[:1], "captions": ["a cat"]},
    "audit": {"model": MODEL, "pairs": SCENES},
    "parts": {"model": MODEL, "pairs": SCENES},
    "explain_slide": {"model": MODEL, "slide": "sample:scene", "caption": "a cat"},
    "word_parts": {"model": MODEL, "pairs": SCENES},
    "roar": {"model": MODEL, "pairs": SCENES, "out": "R"},
    "batch": {"model": MODEL, "pairs": "t.csv", "out": "J"},
    "benchmark": {"plan": PLAN, "out": "B"},
    "explain_answer": {"model": "scenes_generator", "image": "sample:scene", "prompt": "what is it ?"},
    "audit_answers": {
        "model": "scenes_generator",
        "questions": [(name, "what is it ?") for name in ("sample:scene", "sample:chelsea", "sample:coffee") * 3],
    },
}
"""Public functions with arguments that are needed."""


def takes(name: str) -> list[str]:
    """Return the public functions with a parameter."""
    functions = [getattr(nibt, each) for each in nibt.__all__ if not isinstance(getattr(nibt, each), type)]
    return [function.__name__ for function in functions if name in inspect.signature(function).parameters]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet", "pairs.jsonl"])
def test_a_list_of_captions_is_refused_where_none_is_chosen(name: str, tmp_path: Path) -> None:
    rows = [{"image": "sample:scene", "caption": ["a cat", "a dog"]}, {"image": "sample:scene", "caption": ["a cat"]}]
    path = tmp_path / name
    if name == "t.parquet":
        import pandas

        pandas.DataFrame(rows).to_parquet(path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = nibt.batch(MODEL, tmp_path if name == "pairs.jsonl" else path, tmp_path / "J", "center")
    first, second = job.rows(["caption", "error"])
    assert "the caption must be one text (got a list of 2)" in first["error"]
    assert (second["caption"], second["error"]) == ("a cat", None)


def test_images_are_no_labels(tmp_path: Path) -> None:
    tiny.IMAGES[0].pil_image.save(tmp_path / "a.png")
    file = str(tmp_path / "a.png")
    for labels in ([file, "a cat"], ["a cat", tiny.IMAGES[1]]):
        with pytest.raises(BadInput, match="an image is ranked with labels"):
            nibt.rank(MODEL, tiny.IMAGES[0], labels)
    assert nibt.rank(MODEL, tiny.IMAGES[0], [nibt.Caption(file), "a cat"])


def test_cards_of_jobs_name_what_is_compared_with_as_text(tmp_path: Path) -> None:
    for number, options in enumerate(({"against": "<b>a dog"}, {"against_images": "sample:coffee"})):
        (tmp_path / "t.csv").write_text("image,caption\nsample:scene,a cat\n")
        job = nibt.batch(MODEL, tmp_path / "t.csv", tmp_path / str(number), "center", **options)
        assert ("against '&lt;b&gt;a dog'", "against 'sample:coffee'")[number] in card(job)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("function", takes("on_progress"))
def test_progress_goes_to_a_function_or_nowhere(function: str) -> None:
    with pytest.raises(BadOption, match=r"on_progress must be a function that takes a Progress, or None \(got 3\)"):
        getattr(nibt, function)(**CALLED[function], on_progress=3)
    assert inspect.signature(getattr(nibt, function)).parameters["on_progress"].default is None


@pytest.mark.parametrize(
    "function", [*(name for name in takes("variant") if name in takes("method")), "explain_ranking"]
)
def test_a_variant_is_stated_once(function: str) -> None:
    for text, variant in (("nib:paper", "default"), ("nib:default", "paper"), ("nib:paper", "fast")):
        with pytest.raises(BadOption, match="variant is set twice, in the text of the method and beside it"):
            getattr(nibt, function)(**{**CALLED[function], "method": text}, variant=variant)
    for method in ("nib:paper", MethodSpec("nib", "paper")):
        assert MethodSpec.of(method, "paper") == MethodSpec.of(method) == MethodSpec.of("nib", "paper")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("caption", [b"a cat", Path("a cat"), ["a cat", b"a dog"], 3])
@pytest.mark.parametrize("function", ["explain", "regions", "check", "decompose", "ablate_heads"])
def test_a_caption_of_another_type_is_refused_as_a_caption(function: str, caption: Any) -> None:
    with pytest.raises(BadInput, match=r"a caption, which is a string|captions only|the caption must be a string"):
        getattr(nibt, function)(**{**CALLED[function], "caption": caption})


def test_strings_and_arrays_of_numpy_are_read() -> None:
    for caption in (np.str_("a red cat"), nibt.Caption(np.str_("a red cat"))):
        assert type(explain(MODEL, tiny.IMAGES[0], caption, "ones").caption) is str
    embeddings = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    kept = nibt.contributions(MODEL, tiny.IMAGES[0], "occlusion")
    for function in (partial(nibt.explain_embeddings, MODEL, tiny.IMAGES[0], method="occlusion"), kept.explain):
        for array in (embeddings.numpy(), embeddings.double().numpy()):
            assert torch.equal(function(array).scores, function(embeddings).scores)


@pytest.mark.parametrize(
    ("read", "column"),
    [
        *product(["caption", "prompt"], ["against_images", "templates"]),
        ("prompt", "against"),
        ("prompt", "against_image"),
    ],
)
def test_a_column_that_seems_to_be_read_is_refused(column: str, read: str, run: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(f"image,{read},{column}\nsample:scene,a cat,a dog\n")
    with pytest.raises(BadOption, match=f"have a column '{column}', which is not read"):
        nibt.batch(MODEL, table, tmp_path / "J", "ones")
    assert f"have a column '{column}'" in run("batch", table, "-m", "lite", "-o", tmp_path / "J")[2]
    assert not (tmp_path / "J").exists()
    if read == "caption":
        assert len(list(nibt.batch(MODEL, table, tmp_path / "J", "ones", caption=column).rows())) == 1


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("strange", [[[1.0] * 12], np.full((2, 12), "a"), np.ones((2, 3)), torch.ones(0, 12)])
def test_embeddings_are_tensors_or_arrays(strange: Any) -> None:
    with pytest.raises(BadInput, match=r"embeddings must be a tensor or an array of the shape \(many, 12\)"):
        nibt.explain_embeddings(MODEL, tiny.IMAGES[0], strange, "occlusion")


@pytest.mark.parametrize("scale", [1e-300, 1e-40, 1e-20, 1e20, 1e37, 1e300])
def test_the_lengths_of_embeddings_do_not_matter(scale: float) -> None:
    embeddings = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))
    scaled = embeddings.double() * scale
    scaled = scaled.numpy() if abs(np.log10(scale)) > 100 else scaled.float()
    kept = nibt.contributions(MODEL, tiny.IMAGES[0], "occlusion")
    for function in (partial(nibt.explain_embeddings, MODEL, tiny.IMAGES[0], method="occlusion"), kept.explain):
        torch.testing.assert_close(function(scaled).scores, function(embeddings).scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", few([0.0, 1e-30, 1e25, float("nan")], [0.0, 1e25]))
@pytest.mark.parametrize("side", ["image", "text"])
@pytest.mark.parametrize("before", few([True, False], [True]))
def test_embeddings_without_a_direction_are_refused(before: bool, side: str, scale: float) -> None:
    model = nibt.load_model("scenes")
    source = model.module if before else model
    {"image": model.module.visual_projection, "text": model.module.text_projection}[side].weight.mul_(scale)
    processors = {"processor": model.request.processor, "tokenizer": model.request.tokenizer} if before else {}
    message = (
        rf"its {side} tower gives an embedding of the length (0\.0|inf|nan), which has no direction|has NaN or inf"
    )
    with pytest.raises(CannotLoad, match=message):
        nibt.explain(nibt.load_model(source, **processors), "sample:scene", "a cat", "ones")


@pytest.mark.parametrize(
    ("kind", "resize"), [("clip", None), ("clip", "whole"), ("siglip naflex", None), ("timm vit", "whole")]
)
def test_an_image_has_at_most_128_patches_along_a_side(kind: str, resize: str | None) -> None:
    with pytest.raises(BadOption, match=r"image_size must be at most [\d,]+ for patches of \d+ pixels \(got 4,096\)"):
        tiny.fresh(kind, resize=resize, image_size=4096)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "dtype of a loaded model": (lambda: nibt.load_model(MODEL, dtype="float16"), "dtype cannot be set for a loaded"),
    "size of a loaded model": (lambda: nibt.load_model(MODEL, image_size=64), "image_size cannot be set for a loaded"),
    "dtype of a module": (
        lambda: nibt.load_model(MODEL.module, dtype="bfloat16"),
        "dtype cannot be set for a model in",
    ),
    "loading of a job": (
        lambda: nibt.batch(MODEL, "x.csv", "job", loading={"resize": "whole"}),
        "resize cannot be set for a loaded model",
    ),
    "loading of no mapping": (lambda: nibt.batch("scenes", "x.csv", "job", loading=5), "loading must be a mapping"),
    "two seeds": (lambda: explained("rise masks=8 seed=3", seed=5), "seed is set twice"),
    "a seed without draws": (lambda: explained("nib", seed=5), "seed has no effect, since nib draws nothing"),
    "a seed in the text": (lambda: explained("nib seed=5"), "seed"),
    "a seed of two images": (
        lambda: nibt.compare(MODEL, tiny.image(), tiny.image(seed=1), seed=1),
        "seed has no effect",
    ),
    "a seed of measured maps": (
        lambda: nibt.measure(MODEL, [(tiny.image(), "a cat")], ["deletion"], seed=1),
        "seed has no effect",
    ),
    "a seed of a job": (lambda: nibt.batch("scenes", "x.csv", "job", seed=1), "seed has no effect"),
    "a seed beside a deterministic object": (lambda: explained(find("methods", "gae")(), seed=5), "seed"),
    "the seed of an object": (
        lambda: explained(find("methods", "rise")(masks=8), seed=5),
        "has its options already .got seed",
    ),
    "no share": (lambda: explained("grad_cam layer=1.0"), "layer must not be 1.0"),
    "an array of layers": (lambda: explained("grad_cam", layer=np.array([1, 2])), "layer must be a whole number"),
    "the target of labels": (
        lambda: nibt.explain_ranking(MODEL, tiny.IMAGES[0], ["a cat", "a dog"], target="logit"),
        "target cannot be set for a ranking",
    ),
    "an origin that is no JSON": (
        lambda: nibt.parts(MODEL, [(image, "a cat") for image in tiny.IMAGES[:2]], data={"a": {1}}),
        "data must have plain values",
    ),
    "an origin without names": (
        lambda: nibt.parts(MODEL, [(image, "a cat") for image in tiny.IMAGES[:2]], data={1: 2}),
        "data must have texts as keys",
    ),
    "an audit of an object": (
        lambda: nibt.audit(MODEL, [(image, "a cat") for image in tiny.IMAGES[:2]], [nibt.method(lambda a, b: a)]),
        "methods of an audit must be names",
    ),
    "an audit in a folder that is no path": (
        lambda: nibt.audit(MODEL, noise_pairs(8), "center", folder=3),
        "folder must be a path .got 3",
    ),
    "a word that is a list": (
        lambda: nibt.regions(MODEL, tiny.IMAGES[0], "a cat").for_words([]),
        "a word must be its text or its position",
    ),
    "no metrics": (lambda: nibt.measure(MODEL, [nibt.Pair(tiny.IMAGES[0], "a cat")], []), "at least one metric"),
    "a caption against itself": (lambda: explained("grad_cam", against="a cat"), "'a cat' is compared with itself"),
    "a long caption": (lambda: nibt.explain(MODEL, tiny.IMAGES[0], "a" * 200_000), "at most 100,000 characters"),
    "a truth that is none": (
        lambda: nibt.draw(explained("grad_cam"), positive_only="no"),
        "positive_only must be true",
    ),
    "one image for ROAR": (
        lambda: nibt.roar(MODEL, [nibt.Pair(tiny.IMAGES[0], f"cat {n}") for n in range(12)], ["random"], out="run"),
        "give pairs with several images and several captions",
    ),
    "quick as text": (lambda: nibt.audit(MODEL, SCENES, "ones", quick="no"), "quick must be true or false"),
    "a tensor of 3,600 megapixels": (
        lambda: explain(MODEL, torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, 60_000, 60_000), "a cat"),
        "at most 89,478,485 pixels .*60,000 x 60,000",
    ),
    "an array of 10,000 megapixels": (
        lambda: explain(MODEL, np.broadcast_to(np.zeros((1, 1, 3), "uint8"), (100_000, 100_000, 3)), "a cat"),
        "at most 89,478,485 pixels",
    ),
    "workers of a local job": (lambda: nibt.batch(MODEL, "t.csv", "J", workers=3), "workers need on='ray'"),
    "images sent by a local job": (lambda: nibt.batch(MODEL, "t.csv", "J", send_images=True), "send_images need on="),
    "rates of what is not trained": (
        lambda: nibt.roar(MODEL, SCENES, "ones", out="R", trainable="features", learning_rate={"last": 1e-3}),
        "learning_rate has no effect for last",
    ),
    "an answer against itself": (
        lambda: nibt.explain_answer(
            "scenes_generator", "sample:scene", "what is left of the house ?", against="hamburger"
        ),
        "'hamburger' is compared with itself",
    ),
    "a caption against itself in other letters": (
        lambda: explained("grad_cam", against="A  Cat "),
        "the caption 'a cat' is compared with itself",
    ),
    "labels that the model reads as one": (
        lambda: nibt.rank(MODEL, tiny.IMAGES[0], ["a dog", "a cat", "A cat"]),
        "the labels 'a cat' and 'A cat' are the same for the model",
    ),
    "images that are equal": (
        lambda: nibt.rank(MODEL, "a cat", [tiny.IMAGES[0], tiny.IMAGES[0].pil_image]),
        "the images 'noise 0' and 'image in memory' are equal",
    ),
    "a head twice": (
        lambda: nibt.ablate_heads(MODEL, tiny.IMAGES[::3], "a cat", heads=[(0, 0), (0, 0)]),
        r"heads has \(0, 0\) 2 times",
    ),
    "embeddings on no device": (
        lambda: nibt.explain_embeddings(MODEL, tiny.IMAGES[0], torch.ones(2, 4, device="meta")),
        "on meta",
    ),
    "sparse embeddings": (
        lambda: nibt.explain_embeddings(MODEL, tiny.IMAGES[0], torch.ones(2, 4).to_sparse()),
        "sparse_coo",
    ),
    "the other image of a plan": (
        lambda: check_plugins(
            Plan.read(PLAN | {"methods": [{"name": "nib", "options": {"image_baseline": "against"}}]})
        ),
        "image_baseline must not be against in a plan",
    ),
    "other images of two sizes": (
        lambda: explained("nib", against_images=tiny.IMAGES[1], image_baseline="against"),
        "two images of one size",
    ),
    "an image against itself": (lambda: explained("grad_cam", against_images=tiny.IMAGES[0]), "image .* with itself"),
    "two images against one of them": (
        lambda: compare(MODEL, *tiny.IMAGES[:2], "grad_cam", against=tiny.IMAGES[1]),
        "image .* is compared with itself",
    ),
    "a template twice": (
        lambda: explained("grad_cam", templates=["the {}", "the {}"]),
        "templates has 'the {}' 2 times",
    ),
    "an image twice": (
        lambda: explained("grad_cam", target="softmax", against_images=[tiny.image(48, 48)] * 2),
        "against_images has 'noise 0' 2 times",
    ),
    "a layer of no side": (
        lambda: explained("grad_cam", layer=1, image_layer=2, text_layer=3),
        "layer has no effect beside image_layer and text_layer",
    ),
    "a truth as a layer": (
        lambda: nibt.calibrate(MODEL, tiny.IMAGES[:1], layers=[True]),
        "layers must be a whole number .got True",
    ),
    "no captions": (
        lambda: nibt.contributions(MODEL, tiny.IMAGES[0], "occlusion").explain([]),
        "nothing to explain .got no captions",
    ),
    "the origin of pairs of an audit": (lambda: nibt.audit(MODEL, SCENES, "ones", data=3), "data must be a mapping"),
    "the origin of pairs of ROAR": (
        lambda: nibt.roar(MODEL, SCENES, "ones", out="R", data=3),
        "data must be a mapping",
    ),
    "methods of an audit": (lambda: nibt.audit(MODEL, SCENES, None), "methods of an audit must be names"),
    "methods of ROAR": (lambda: nibt.roar(MODEL, SCENES, 3, out="R"), "methods of roar must be names"),
    "blocks that nothing trains": (
        lambda: nibt.roar(MODEL, SCENES, "ones", out="R", blocks=3),
        "blocks has no effect without trainable=last .got features",
    ),
    "a percentile of words that stay": (
        lambda: nibt.roar(MODEL, SCENES, "ones", out="R", side="image", text_percentile=80),
        "text_percentile has no effect without side=text or both .got image",
    ),
    "a percentile of pixels that stay": (
        lambda: nibt.roar(MODEL, SCENES, "ones", out="R", side="text", image_percentile=80),
        "image_percentile has no effect without side=image or both .got text",
    ),
    "a caption that no target of a plan compares with": (
        lambda: nibt.benchmark({**PLAN, "against": ["a dog"]}, "B"),
        "against has no effect, since cosine compares with nothing",
    ),
    "a metric of no side of a plan": (
        lambda: nibt.benchmark({**PLAN, "metrics": ["pointing_game"], "sides": ["text"]}, "B"),
        r"metrics\[0\]: pointing_game measures the side image .got sides text",
    ),
    "{stem} in Python": (lambda: explained("grad_cam").save("x{stem}.json"), "{stem} is for commands"),
    "a name of 300 characters": (lambda: explained("grad_cam").save("y" * 300 + ".json"), "choose another *name"),
    "a name with a null character": (lambda: explained("grad_cam").save("a\0.png"), "choose another name"),
    "a device as a result": (lambda: Explanation.load("/dev/zero"), "not a regular file"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", REFUSED)
def test_no_value_is_ignored_or_read_in_another_way(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(NibtError, match=message):
        call()


@pytest.mark.parametrize("method", available("methods"))
def test_options_without_effect_are_refused(method: str) -> None:
    plugin = find("methods", method)
    defaults = {field.name: field.default for field in fields(plugin)}
    assert set(plugin.conditions) <= set(defaults), "conditions are about options"
    for option, (other, values) in plugin.conditions.items():
        declared = get_type_hints(plugin, include_extras=True)[other]
        allowed = RULES if other == "quadrature" else declared.__metadata__[0]
        assert set(values) <= set(allowed)
        changed = {option: defaults[option], other: next(value for value in allowed if value not in values)}
        with pytest.raises(BadOption, match=rf"{option} has no effect(, since .*| with ){other}="):
            explain(MODEL, "sample:scene", "a cat", method, **changed)


PATHS: dict[str, Callable[[Any], Any]] = {
    "benchmark": lambda path: nibt.benchmark(PLAN, path),
    "write_report": lambda path: nibt.write_report(path),
    "write_paper": lambda path: nibt.write_paper(path),
    "batch": lambda path: nibt.batch(MODEL, "t.csv", path),
    "Job.open": lambda path: Job.open(path),
    "roar": lambda path: nibt.roar(MODEL, SCENES, "ones", out=path),
    "calibrate": lambda path: nibt.calibrate(MODEL, tiny.IMAGES[:1], out=path),
    "contributions": lambda path: nibt.contributions(MODEL, tiny.IMAGES[0], "occlusion").save(path),
    "save": lambda path: nibt.save(explained("ones"), path),
    "result": lambda path: explained("ones").save(path),
    "load": lambda path: Explanation.load(path),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("path", [3, b"x.json", ["x.json"]])
@pytest.mark.parametrize("name", PATHS)
def test_a_path_of_another_type_is_refused(name: str, path: Any) -> None:
    with pytest.raises(NibtError, match=r"must be a path \(got|and then the path \(got|not a file of kind"):
        PATHS[name](path)


@pytest.mark.usefixtures("unchecked")
def test_the_threshold_of_a_file_is_a_number() -> None:
    assert nibt.to_coco(explained("grad_cam"), threshold="0.5")["info"]["threshold"] == 0.5  # pyright: ignore


@pytest.mark.parametrize("kind", available("formats"))
def test_options_of_drawing_without_effect_are_refused(kind: str, tmp_path: Path) -> None:
    file_format = find("formats", kind)
    assert set(file_format.draws) <= set(DRAWING)
    for option in set(DRAWING) - set(file_format.draws):
        with pytest.raises(BadOption, match=rf"{option} has no effect on {re.escape(file_format.endings[0])}"):
            explained("grad_cam").save(tmp_path / f"x{file_format.endings[0]}", **{option: getattr(Drawing(), option)})
    assert not list(tmp_path.iterdir())


def test_the_command_refuses_drawing_that_no_file_has(run: Run, tmp_path: Path) -> None:
    arguments = ["explain", "sample:scene", "a cat", "-m", "scenes", "--method", "grad_cam", "-q", "--draw"]
    code, _, err = run(*arguments, "threshold=0.3", "-o", str(tmp_path / "x.png"))
    assert (code, "threshold has no effect on .png" in err, "write .coco.json or .mask.png" in err) == (2, True, True)
    code, _, err = run(*arguments, "top=3", "-o", str(tmp_path / "x.json"))
    assert (code, "top has no effect on .json" in err, ".links" in err) == (2, True, False), "only tables have links"
    code, _, err = run(*arguments, "width=3", "-o", str(tmp_path / "x.json"))
    assert (code, "write .pdf or .svg or .eps" in " ".join(err.split())) == (2, True)
    files = [option for name in ("x.mask.png", "x.json") for option in ("-o", str(tmp_path / name))]
    assert run(*arguments, "threshold=0.3", *files)[0] == 0
    assert sorted(path.name for path in tmp_path.glob("x*")) == ["x.json", "x.mask.png"]


def test_no_part_of_an_input_is_dropped(tmp_path: Path) -> None:
    masked = np.ma.masked_array(np.zeros((8, 8, 3), np.uint8), mask=np.eye(8, dtype=bool)[..., None].repeat(3, -1))
    with pytest.raises(BadInput, match="got a masked array"):
        explain(MODEL, masked, "a cat", "center")
    (tmp_path / "x.json").write_text('{"kind": "explanation", "kind": "regions"}')
    with pytest.raises(BadInput, match="the key 'kind' occurs twice"):
        Explanation.load(tmp_path / "x.json")
    for path in ("./missing", "/missing", "~/missing", "../a b"):
        with pytest.raises(BadInput, match="there is no image"):
            compare(MODEL, "sample:scene", path, "center")
    with pytest.raises(BadOption, match="max_words is for answers that the model writes"):
        nibt.explain_answer("scenes_generator", "sample:scene", "what is it ?", "a cat", "center", max_words=3)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("overwrite", ["no", "False", 2, float("nan"), [0], None])
def test_only_true_replaces_a_file(overwrite: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_bytes(b"mine")
    with pytest.raises(NibtError, match=r"overwrite must be true or false|was edited or not written by nibt"):
        explained("grad_cam").save(tmp_path / "mine.json", overwrite=overwrite)
    assert (tmp_path / "mine.json").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["x.overlay.jpg", "x.map.webp", "x.mask.tif", "x.links.jpg", "x.card.html"])
def test_a_kind_of_picture_is_not_written_as_another(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="must end in "):
        explained("grad_cam").save(tmp_path / name)
    explained("grad_cam").save(tmp_path / "my.photo.png")
    assert [path.name for path in tmp_path.iterdir()] == ["my.photo.png"]


@pytest.mark.parametrize("name", ["lite", "scenes"])
def test_loading_leaves_the_random_numbers_of_the_user(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        expected = torch.rand(2)
        torch.manual_seed(7)
        nibt.load_model(name)
        assert torch.equal(torch.rand(2), expected)


def test_numbers_of_results_are_within_float32() -> None:
    data = explained("grad_cam").to_json()
    data["sides"]["image"]["grid"][0][0] = 1e39
    with pytest.raises(BadInput, match="grid must have numbers within float32"):
        Explanation.from_json(data)


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("explain", ("sides", "image", "grid")),
        ("regions", ("table", 0)),
        ("regions", ("table",)),
        ("decompose", ("maps", 1, 0)),
        ("decompose", ("rest",)),
    ],
)
def test_lists_of_results_have_one_length(function: str, path: tuple[Any, ...]) -> None:
    result = getattr(nibt, function)(
        MODEL, tiny.IMAGES[0], "a cat", *([] if function == "decompose" else ["occlusion"])
    )
    data = result.to_json()
    *_, last = reduce(lambda inside, key: inside[key], path, data)
    last.pop()
    lengths = rf"\(got {len(last)} and {len(last) + 1} entries\)"
    with pytest.raises(
        BadInput, match=rf"{'grid' if path[-1] == 'grid' else path[0]} must have lists of one length {lengths}"
    ):
        type(result).from_json(data)


@pytest.mark.parametrize("long", ["a" * 140_000, '"' + "a dog\n" * 25_000 + '"'])
@pytest.mark.parametrize("place", ["heading", "row"])
def test_a_long_field_of_a_table_is_named_with_its_line(long: str, place: str, tmp_path: Path) -> None:
    table, begin = tmp_path / "t.csv", f"image,caption{'' if place == 'row' else ',' + long}\n"
    table.write_text(f"{begin}sample:scene,a cat\nsample:scene,{long}\nsample:scene,a dog\n")
    with pytest.raises(BadInput, match=r"t\.csv is a damaged table \(at line \d+: a field has more than 131,072 char"):
        list(nibt.batch(MODEL, table, tmp_path / "J", "ones").rows())
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_single_caption_calibrates_as_a_list_of_one() -> None:
    single = nibt.calibrate(MODEL, "sample:scene", "a cat").tensors
    listed = nibt.calibrate(MODEL, ["sample:scene"], ["a cat"]).tensors
    assert single.keys() == listed.keys()
    assert all(torch.equal(single[name], listed[name]) for name in single)


@pytest.mark.parametrize(
    "text",
    few(
        ["a|b", "a\nb\r\n| c |", "a\tb\x0b\x0c\u2028c", "a\\\\|b\\\\", "<!-- a", r"_a|b $\frac$"],
        ["a\tb\x0b\x0c\u2028c"],
    ),
)
def test_labels_of_plans_do_not_break_the_tables_of_a_report(text: str, tmp_path: Path) -> None:
    options = {"data": {"count": 2}, "metrics": {"levels": 2}}
    plan = {
        key: [{"name": name, "label": text, "options": options.get(key, {})}]
        for key, name in {"methods": "ones", "data": "scenes", "metrics": "deletion"}.items()
    }
    nibt.write_report(nibt.benchmark({**plan, "models": [MODEL], "sides": ["image"], "about": text}, tmp_path / "B"))
    lines = (tmp_path / "B/report.md").read_text("utf-8").split("\n")
    tables = [list(group) for is_table, group in groupby(lines, lambda line: line.startswith("|")) if is_table]
    for table in tables:
        counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table}
        assert len(table) > 2, table
        assert len(counts) == 1, table
    others = "\n".join(line for line in lines if not line.startswith("|"))
    assert "<!--" not in re.sub(r"\\<", "", others)
    assert not set(others) & set("\r\t\x0b\x0c\u2028")
    assert all(line.startswith(("#", "|")) or text not in line for line in lines)


UNREAD = (("method", "image"), ("method", "text"), ("target", "options"), ("schema",), ("sum",))
"""Options, which have any values, and numbers that are computed from others, as is each gap."""


def numbers(data: Any, *place: str | int) -> Iterator[tuple[str | int, ...]]:
    """Yield the places of numbers and truths in the plain data of a result that are read, one of each list."""
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data[:1]):
            if (*place, key) not in UNREAD and key != "gap":
                yield from numbers(value, *place, key)
    elif isinstance(data, int | float):
        yield place


def test_numbers_of_results_are_numbers_of_json() -> None:
    image = tiny.IMAGES[0]
    results = [nibt.regions(MODEL, image, "a cat", "occlusion"), nibt.decompose(MODEL, image, "a cat")]
    for result in (explained("nib", steps=2, views=1), *results):
        plain = result.to_json()
        assert type(result).from_json(plain) == result
        for *path, last in numbers(plain):
            data = json.loads(json.dumps(plain))
            holder = reduce(lambda inside, key: inside[key], path, data)
            for strange in ("0.3", "true", [1], 0.5 if isinstance(holder[last], bool) else True):
                holder[last] = strange
                with pytest.raises(BadInput, match=" must be "):
                    type(result).from_json(data)


USES: dict[str, Callable[[Any, Path], Any]] = {
    "draw": lambda result, _: nibt.draw(result),
    "draw_links": lambda result, _: nibt.draw_links(result),
    "Panel": lambda result, _: nibt.Panel(result),
    "show": lambda result, _: nibt.show(result),
    "to_coco": lambda result, _: nibt.to_coco(result),
    "to_frame": lambda result, _: nibt.to_frame(result),
    "to_json": lambda result, _: result.to_json(),
    **{
        ending: lambda result, folder, ending=ending: nibt.save(result, folder / f"x{ending}")
        for kind in available("formats")
        for ending in find("formats", kind).endings
        if find("formats", kind).holds not in (("audit",), ("slide",), ("answer",))
    },
    "contributions": lambda result, folder: result.save(folder / "x.safetensors"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("use", USES)
def test_a_result_that_was_changed_to_nan_is_neither_drawn_nor_saved(use: str, value: float, tmp_path: Path) -> None:
    of_links = "links" in use
    if use == "show":
        pytest.importorskip("IPython", reason="needs IPython: pip install -e '.[dev]'")
    if use == "contributions":
        result: Any = nibt.contributions(MODEL, tiny.IMAGES[0], "occlusion")
        result.after[1] = value
    elif of_links:
        result = nibt.regions(MODEL, tiny.IMAGES[0], "a cat", "occlusion")
        result.table[0, 0, 0] = value
    else:
        result = explained("grad_cam")
        result.grid[1, 2] = value
    with pytest.raises(BadInput, match="was changed after it was computed, and has NaN or infinite numbers"):
        USES[use](result, tmp_path)
    assert not list(tmp_path.iterdir())


def test_values_of_results_are_finite() -> None:
    data = explained("grad_cam").to_json()
    data["target"]["value"] = float("nan")
    with pytest.raises(BadInput, match=r"target\.value must be a finite number"):
        Explanation.from_json(data)


@dataclass(frozen=True)
class Own(Method):
    mode: str = "short"

    def attribute(self, side: Side) -> Attribution:
        norms = side.cut(1).hidden.norm(dim=-1)
        wrong: Any = {"short": norms[:, :-1], "whole": norms.long(), "list": norms.tolist(), "two": norms.repeat(2, 1)}
        return average_layers(side, (1,), [wrong[self.mode]])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("mode", ["short", "whole", "list", "two"])
def test_maps_of_own_methods_have_a_score_per_row(mode: str) -> None:
    with pytest.raises(BadOption, match="a map must be a tensor of floats with a score per item and row"):
        explain(MODEL, "sample:scene", "a cat", Own(mode=mode))


@pytest.mark.slow
def test_an_audit_leaves_the_random_numbers_of_the_user() -> None:
    code = (
        "import random, nibt; from nibt.datasets.scenes import Scenes; state = random.getstate(); "
        "nibt.audit('scenes', list(Scenes(count=8)), 'ones', quick=True); assert random.getstate() == state"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "sample:scene", "a cat", "-m", ""),
        ("audit", "-m", ""),
        ("calibrate", "sample:scene", "-m", "", "-o", "x.safetensors"),
        ("bench", "quick", "-o", "B", "-m", "", "--dry-run"),
        ("batch", "", "-m", "scenes", "-o", "J"),
        ("roar", "-m", "scenes", "-o", ""),
        ("show", ""),
        ("explain", "sample:scene", "a cat", "-m", "scenes", "--out="),
    ],
)
def test_an_empty_name_is_refused_and_nothing_is_done(arguments: tuple[str, ...], run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "must not be empty (got '')" in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize("call", [lambda: nibt.batch(MODEL, "", "job"), lambda: nibt.Job.open("")])
def test_an_empty_path_is_not_the_current_folder(call: Callable[[], Any]) -> None:
    with pytest.raises(BadInput, match="got ''"):
        call()


@pytest.mark.parametrize("command", ["audit", "roar"])
def test_a_count_of_0_is_refused(command: str, run: Run) -> None:
    code, _, err = run(command, "-m", "scenes", "--count", "0", *(["-o", "R"] if command == "roar" else []))
    assert code in (1, 2)
    assert "got 0" in err


def test_the_seed_chooses_the_pairs_of_scenes() -> None:
    drawn = [
        [open_data(DataOptions(data="scenes", seed=seed), 3)[item].caption for item in range(3)] for seed in (0, 4)
    ]
    assert drawn[0] != drawn[1]
    with pytest.raises(BadOption, match="set twice"):
        open_data(DataOptions(data="scenes", seed=4, data_option=["seed=3"]), 3)


@pytest.mark.usefixtures("unchecked")
def test_parts_of_another_kind_are_named() -> None:
    answer = explain(MODEL, "sample:scene", "a cat", "grad_cam")
    for table in (3, answer):
        with pytest.raises(BadInput, match=r"the table of a panel takes results of class Regions"):
            nibt.Panel(answer, table)  # pyright: ignore
    with pytest.raises(BadInput, match=r"whose images were read .got the path 'photo.png'.: give nibt"):
        nibt.measure(MODEL, [replace(Scenes(count=1)[0], image="photo.png", objects=())], "deletion")  # pyright: ignore
