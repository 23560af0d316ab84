"""Classifiers: logits of the models' own forward passes, what adds up, names of classes, and what is refused."""

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import timm
import torch
import transformers
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

import nibt
from benchmarks.models import tiny_classifiers
from benchmarks.models.tiny_classifiers import NAMES
from nibt.data.images import ImageInput
from nibt.errors import BadInput, BadOption, CannotLoad, Unsupported
from nibt.methods.base import pair_methods
from nibt.models.base import Model
from nibt.registry import find
from tests import tiny
from tests.suites import few

FAST = ("ViTForImageClassification", "ResNetForImageClassification")
every_kind = pytest.mark.parametrize("kind", few(tiny_classifiers.KINDS, FAST))
VIT = "ViTForImageClassification"
IMAGES = [tiny.image(96, 96, 0), tiny.image(90, 60, 1)]
METHODS = [name for name in pair_methods() if find("methods", name).category != "control"]
TENCH, GOLDFISH, TABBY = 0, 1, 4


@cache
def folder_of(kind: str) -> Path:
    folder = Path(mkdtemp(prefix="classifier-"))
    tiny_classifiers.save(kind, folder)
    return folder


@cache
def model(kind: str) -> Model:
    if kind in tiny_classifiers.TORCHVISION:
        module, transform = tiny_classifiers.of_torchvision(kind)
        return nibt.load_model(module, processor=transform, labels=NAMES)
    return nibt.load_model(folder_of(kind))


@cache
def own(kind: str) -> tuple[nn.Module, Any]:
    """Return a model as its library loads it, and what makes pixels of an image."""
    if kind in tiny_classifiers.TORCHVISION:
        return tiny_classifiers.of_torchvision(kind)
    if kind in tiny_classifiers.TIMM:
        module = timm.create_model(f"local-dir:{folder_of(kind)}", pretrained=True).eval()
        return module, create_transform(**resolve_model_data_config(module))

    module = transformers.AutoModelForImageClassification.from_pretrained(folder_of(kind)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder_of(kind))
    return module, lambda image: processor(image, return_tensors="pt")["pixel_values"][0]


def own_logits(kind: str, pixels: Tensor) -> Tensor:
    module, _ = own(kind)
    with torch.no_grad():
        out = module(pixels)
    return out if isinstance(out, Tensor) else out.logits


def pixels_of(kind: str, image: ImageInput) -> Tensor:
    return own(kind)[1](image.pil_image)[None]


@every_kind
def test_logits_are_those_of_the_own_call(kind: str) -> None:
    for image in IMAGES:
        explanation = nibt.explain(model(kind), image.pil_image, "tench", "center")
        expected = own_logits(kind, pixels_of(kind, image))[0, TENCH]
        assert explanation.similarity == pytest.approx(float(expected), abs=1e-5, rel=1e-5)
        assert explanation.target["image"] == {"name": "logit", "value": explanation.similarity}


@every_kind
def test_scores_add_up_to_the_change_of_the_logit(kind: str) -> None:
    explanation = nibt.explain(model(kind), IMAGES[0].pil_image, "tabby", "nib tolerance=0.01 views=1")
    path = explanation.image.path
    assert path is not None
    blank = torch.zeros_like(pixels_of(kind, IMAGES[0]))
    at_blank, at_image = (float(own_logits(kind, each)[0, TABBY]) for each in (blank, pixels_of(kind, IMAGES[0])))
    assert float(path.at_input) == pytest.approx(at_image, abs=1e-4)
    assert float(path.at_baseline) == pytest.approx(at_blank, abs=1e-4, rel=1e-4)
    assert float(path.sum) == pytest.approx(at_image - at_blank, abs=0.011 * max(1.0, abs(at_image - at_blank)))


@every_kind
def test_occlusion_is_the_change_of_the_own_logit(kind: str) -> None:
    explanation = nibt.explain(model(kind), IMAGES[0].pil_image, "goldfish", "occlusion")
    pixels = pixels_of(kind, IMAGES[0])
    rows, columns = (side // cells for side, cells in zip(pixels.shape[-2:], explanation.grid.shape, strict=True))
    without = pixels.clone()
    without[..., rows : 2 * rows, :columns] = 0
    change = own_logits(kind, pixels)[0, GOLDFISH] - own_logits(kind, without)[0, GOLDFISH]
    assert float(explanation.grid[1, 0]) == pytest.approx(float(change), abs=1e-4, rel=1e-3)


@every_kind
def test_probabilities_are_those_among_all_classes(kind: str) -> None:
    probabilities = own_logits(kind, pixels_of(kind, IMAGES[0])).softmax(-1)[0]
    for ranked in nibt.rank(model(kind), IMAGES[0].pil_image, ["tench", "goldfish", "5: crane"]):
        number = {"tench": TENCH, "goldfish": GOLDFISH, "5: crane": 5}[ranked.label]
        assert ranked.probability == pytest.approx(float(probabilities[number]), abs=1e-5)

    explanation = nibt.explain(model(kind), IMAGES[0].pil_image, "tench", "center", "softmax")
    assert explanation.target["value"] == pytest.approx(float(probabilities[TENCH]), abs=1e-5)


def test_difference_is_that_of_two_logits() -> None:
    explanation = nibt.explain(model(VIT), IMAGES[0].pil_image, "tench", against="goldfish")
    logits = own_logits(VIT, pixels_of(VIT, IMAGES[0]))[0]
    assert explanation.target["value"] == pytest.approx(float(logits[TENCH] - logits[GOLDFISH]), abs=1e-5)
    assert explanation.against.words[0].text == "goldfish, Carassius auratus"


@pytest.mark.parametrize(
    "text", ["tench, Tinca tinca", "TENCH, tinca tinca", "tench", "Tinca Tinca", "0: tench, Tinca tinca"]
)
def test_classes_have_several_names(text: str) -> None:
    tokens = model(VIT).text.tokens(text)
    assert tokens.ids == (TENCH,)
    assert [word.text for word in tokens.words] == ["tench, Tinca tinca"]


def test_exact_name_comes_before_a_synonym() -> None:
    module, transform = tiny_classifiers.of_torchvision("torchvision vit")
    names = ["cardigan, Cardigan Welsh Corgi", "cardigan", "a", "b", "c", "d"]
    loaded = nibt.load_model(module, processor=transform, labels=names)
    assert loaded.text.tokens("Cardigan").ids == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crane", "names 2 classes of the model: write one of '3: crane', '5: crane'"),
        ("tenhc", "has no class 'tenhc': the nearest of its 6 classes are 'tench, Tinca tinca'"),
        ("a photo of a goldfish", "the nearest of its 6 classes are 'goldfish, Carassius auratus'"),
        ("xyz", "write one of its 6 classes, such as 'tench, Tinca tinca'"),
    ],
)
def test_other_texts_are_refused_with_the_nearest_classes(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        nibt.explain(model(VIT), IMAGES[0].pil_image, text)


def test_class_is_one_unit_and_notes_say_so() -> None:
    explanation = nibt.explain(model(VIT), IMAGES[0].pil_image, "goldfish")
    logits = own_logits(VIT, pixels_of(VIT, IMAGES[0]))[0]
    assert [(word.text, word.score) for word in explanation.words] == [
        ("goldfish, Carassius auratus", pytest.approx(float(logits[GOLDFISH]), abs=1e-5))
    ]
    assert "class" in explanation.codes
    best = int(logits.argmax())
    assert ("other_class" in explanation.codes) == (best != GOLDFISH)
    if best != GOLDFISH:
        text = explanation.warnings[explanation.codes.index("other_class")]
        assert repr(NAMES[best]) in text


@pytest.mark.parametrize("options", [{}, {"against": "goldfish"}, {"target": "softmax"}])
def test_nothing_calls_a_logit_a_cosine(options: dict[str, Any], tmp_path: Path) -> None:
    explanation = nibt.explain(model(VIT), IMAGES[0].pil_image, "tench", **options)
    for name in ("a.html", "a.json"):
        explanation.save(tmp_path / name)
        assert "cosine" not in (tmp_path / name).read_text(encoding="utf-8").lower()
    explanation.save(tmp_path / "a.png")
    assert "cosine" not in repr(explanation)
    assert explanation.model["similarity"] == "logit"


def test_ranking_is_by_logits(tmp_path: Path) -> None:
    explanation = nibt.explain_ranking(model(VIT), IMAGES[0].pil_image, ["tench", "goldfish", "tabby"])
    explanation.save(tmp_path / "a.html")
    explanation.save(tmp_path / "a.png")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert '<th scope="col">logit</th>' in page
    assert 'scope="col">cosine' not in page


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nibt.regions(model(VIT), IMAGES[0].pil_image, "tench"), "is a classifier, whose texts are classes"),
        (lambda: nibt.replace_words(model(VIT), IMAGES[0].pil_image, "tench"), "texts are classes without words to"),
        (lambda: nibt.compare(model(VIT), IMAGES[0].pil_image, IMAGES[1].pil_image), "compares images with its own"),
        (
            lambda: nibt.explain(model(VIT), IMAGES[0].pil_image, "tench", target="centered", against="goldfish"),
            "takes means of embeddings, and .* is a classifier: choose logit",
        ),
        (
            lambda: nibt.explain(model(VIT), IMAGES[0].pil_image, "tench", target="softmax", against="goldfish"),
            "probability among all of its classes: leave against out",
        ),
    ],
)
def test_what_a_class_has_not_is_refused(call: Any, message: str) -> None:
    with pytest.raises((BadOption, Unsupported), match=message):
        call()


@pytest.mark.parametrize("method", few(METHODS, ("rollout", "clip_surgery", "banzhaf")))
def test_methods_explain_classes(method: str) -> None:
    explanation = nibt.explain(model(VIT), IMAGES[0].pil_image, "tench", method)
    assert explanation.grid.isfinite().all()
    assert len(explanation.words) == 1


def test_labels_of_a_list_and_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("one\ntwo\nthree\nfour\nfive\nsix\n", encoding="utf-8")
    for labels in (path, str(path), ["one", "two", "three", "four", "five", "six"]):
        loaded = nibt.load_model(folder_of(VIT), labels=labels)
        assert loaded.text.tokens("two").ids == (1,)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["one", "two"], r"the model has 6 classes \(got 2 names\): pass labels"),
        ("nofile.txt", "there is no file 'nofile.txt'"),
        ([], "labels must be a list of names"),
        ([1, 2], "labels must be a list of names"),
    ],
)
def test_bad_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises((BadOption, CannotLoad), match=message):
        nibt.load_model(folder_of(VIT), labels=labels)


def test_labels_of_a_model_of_captions_are_refused() -> None:
    with pytest.raises(BadOption, match="labels are the names of the classes of a classifier"):
        nibt.load_model("scenes", labels=["a"])


def test_model_of_torchvision_needs_a_transform_and_names() -> None:
    module, transform = tiny_classifiers.of_torchvision("torchvision vit")
    with pytest.raises(CannotLoad, match=r"needs what prepares its images: .*weights.transforms\(\) of torchvision"):
        nibt.load_model(module, labels=NAMES)
    with pytest.raises(CannotLoad, match="the 6 classes of this VisionTransformer have no names: pass labels"):
        nibt.load_model(module, processor=transform)


def test_folder_of_timm_without_names_is_refused(tmp_path: Path) -> None:
    tiny_classifiers.save("timm vit", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    del config["label_names"]
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CannotLoad, match="the 6 classes of this VisionTransformer have no names"):
        nibt.load_model(tmp_path)
    assert nibt.load_model(tmp_path, labels=NAMES).text.tokens("tench").ids == (TENCH,)


def test_encoder_without_its_head_is_refused(tmp_path: Path) -> None:
    module, _ = own(VIT)
    module.vit.save_pretrained(tmp_path)  # pyright: ignore
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(CannotLoad, match="it reads images only"):
        nibt.load_model(tmp_path)


def test_folder_without_a_processor_is_refused(tmp_path: Path) -> None:
    tiny_classifiers.save(VIT, tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CannotLoad, match="has no image processor that Transformers can load"):
        nibt.load_model(tmp_path)


def test_network_that_cannot_be_cut_is_refused() -> None:
    from torchvision.models import densenet121

    _, transform = tiny_classifiers.of_torchvision("torchvision vit")
    with pytest.raises(Unsupported, match="DenseNet computes more after its last stage than its parts do"):
        nibt.load_model(densenet121(num_classes=6).eval(), processor=transform, labels=NAMES)


PAIRS = [(tiny.image(64, 48, seed).pil_image, NAMES[seed % 3]) for seed in range(8)]


def test_checks_of_a_map() -> None:
    explanation = nibt.check(model(VIT), IMAGES[0].pil_image, "tench")
    assert [check.name for check in explanation.checks] == ["weights", "mismatch_image", "top_region"]


def test_parts_and_their_cells() -> None:
    from nibt.bridges.repair import part_cells

    found = nibt.parts(model(VIT), PAIRS, "nib:fast", count=3)
    assert len(found.parts) == 3
    assert len(part_cells(model(VIT), PAIRS, found, [found.parts[0].number])) == len(PAIRS)
    explanations = nibt.explain(model(VIT), [image for image, _ in PAIRS], [name for _, name in PAIRS], "nib:fast")
    stored = nibt.parts(model(VIT), PAIRS, "nib:fast", count=3, explanations=explanations)
    assert [part.share for part in stored.parts] == [part.share for part in found.parts]


@pytest.mark.slow
def test_audit() -> None:
    audit = nibt.audit(model(VIT), PAIRS, "nib:fast", quick=True)
    assert {"weights", "mismatch_image", "corners"} <= {check.name for check in audit.checks}
    assert {"nonsense", "wording", "vocabulary"}.isdisjoint(check.name for check in audit.checks)
    assert any("the model is a classifier" in note for note in audit.notes)


def test_crop_of_convnext_is_where_its_processor_has_it() -> None:
    image = Image.new("RGB", (80, 40), "white")
    resize = model("ResNetForImageClassification").image.preparation.resize
    region = resize.region(image.size)
    assert (resize.way, resize.edge) == ("shortest", int(32 / 0.875))
    assert region.width == pytest.approx(40 * 32 / 36)
    assert region.left == pytest.approx((80 - region.width) / 2)
