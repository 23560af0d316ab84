"""Tests of ``nibt.methods.base``, and of the options of all methods."""

import math
import re
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields, replace
from typing import Any, ClassVar

import pytest
import torch

from nibt.core.side import Side
from nibt.errors import BadOption, UnknownName, Unsupported
from nibt.methods._attention import AttentionMethod
from nibt.methods._path import GradientMethod, PathMethod
from nibt.methods._units import UnitMethod
from nibt.methods.attention import AttentionOrInput, LastAttention
from nibt.methods.base import Method
from nibt.methods.gradient_maps import GradCAM
from nibt.methods.m2ib import M2IB
from nibt.methods.nib import NIB
from nibt.registry import MethodSpec
from nibt.results.attribution import Attribution
from tests import tiny
from tests.helpers import METHODS, QUICK, make_side, refused, rules


def build(name: str, **options: Any) -> Method:
    """Return a method with the options of its variant ``default`` that have no default of their own."""
    kind = METHODS[name]
    of_variant = {**kind.variants["default"]["image"], "layer": (1,)}
    required = {field.name: of_variant[field.name] for field in fields(kind) if field.default is MISSING}
    return kind(**required | options)


@dataclass(frozen=True)
class Options(Method):
    """A method with an option of each type."""

    variants: ClassVar = {
        "default": {"image": {"layer": 0.5, "count": 3}, "text": {"layer": 0.5, "count": 4}},
        "paper": {"image": {"layer": 1, "count": 3}, "text": {"layer": 0.5, "count": 4}},
    }

    layer: tuple[int, ...]
    count: int = 1
    share: float = 0.5
    name_of: str = "a"
    flag: bool = False
    most: int | None = None
    tolerance: float | None = None

    def attribute(self, side: Side) -> Attribution:
        return Attribution(torch.zeros(1, 1), side.units, torch.zeros(1))


def configured(modality: str = "image", recommended: dict[str, Any] | None = None, **options: Any) -> Options:
    method = Options.configured(tiny.model("clip").tower(modality), "default", options, recommended or {})
    assert isinstance(method, Options)
    return method


@pytest.mark.parametrize(
    ("text", "name", "variant"),
    [("nib", "nib", "default"), ("nib:paper", "nib", "paper"), ("rise:a:b", "rise", "a:b")],
)
def test_method_spec_parses_a_name_with_a_variant(text: str, name: str, variant: str) -> None:
    spec = MethodSpec.parse(text)
    assert (spec.name, spec.variant, spec.options) == (name, variant, {})
    assert str(spec) == (name if variant == "default" else f"{name}:{variant}")


def test_method_spec_rejects_an_empty_variant() -> None:
    with pytest.raises(BadOption, match=r"the variant is missing after the colon \(got 'nib: steps=2'\)"):
        MethodSpec.parse("nib: steps=2")


def test_method_spec_rejects_an_unknown_method() -> None:
    with pytest.raises(UnknownName, match="Did you mean 'nib'"):
        MethodSpec.parse("nip:paper")


def test_method_spec_is_random_if_the_method_has_a_seed() -> None:
    assert {name for name in METHODS if MethodSpec(name).is_random} == {
        "banzhaf",
        "fixlip",
        "m2ib",
        "random",
        "rise",
        "shapley",
    }
    assert str(MethodSpec()) == "nib"


@pytest.mark.parametrize("name", METHODS)
def test_methods_are_frozen_and_equal_by_their_options(name: str) -> None:
    method = build(name)
    assert method == build(name)
    assert hash(method) == hash(build(name))
    for attribute in (*(field.name for field in fields(method)), "another"):
        with pytest.raises(FrozenInstanceError):
            setattr(method, attribute, None)


GEOMETRIC = {"quadrature": "geometric", "baseline": "zero"}
"""The options with which ``floor`` counts."""


@pytest.mark.parametrize("name", METHODS)
def test_methods_take_1_to_16_views(name: str) -> None:
    for views in (1, 16):
        assert build(name, views=views).views == views
    for views in (0, 17):
        with pytest.raises(BadOption, match=rf"views must be between 1 and 16 \(got {views}\)"):
            build(name, views=views)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", METHODS)
def test_methods_refuse_values_beyond_their_range_and_other_words(name: str) -> None:
    for option, rule in rules(METHODS[name]).items():
        for value in refused(rule):
            with pytest.raises(BadOption, match=rf"^{option} must be .*{re.escape(str(rule.limits))}"):
                build(name, **{option: value})


def test_geometric_paths_need_the_baseline_zero() -> None:
    for name in ("nib", "integrated_gradients"):
        assert build(name, **GEOMETRIC)
        with pytest.raises(BadOption, match=r"needs the baseline zero \(got 'blank'\); use gauss"):
            build(name, quadrature="geometric")


LAYERS = {
    ("nib", "default"): (
        {"layer": 12, "steps": 4, "quadrature": "midpoint", "views": 3, "distribute": True},
        {"layer": 0, "steps": 6, "quadrature": "midpoint"},
    ),
    ("nib", "fast"): (
        {"layer": 12, "steps": 3, "quadrature": "midpoint", "views": 1, "distribute": True},
        {"layer": 0, "steps": 4, "quadrature": "midpoint"},
    ),
    ("nib", "paper"): ({"layer": 9, "steps": 10}, {"layer": 9, "steps": 10}),
    ("grad_cam", "default"): ({"layer": 10}, {"layer": 10}),
    ("grad_cam", "textbook"): ({"layer": 10, "weights": "pooled"}, {"layer": 10, "weights": "pooled"}),
    ("m2ib", "default"): ({"layer": 10}, {"layer": 10}),
    ("m2ib", "paper"): ({"layer": 10}, {"layer": 10}),
    ("m2ib", "adaib"): (
        {"layer": 10, "pair_weight": "euclidean", "clip": 1.0},
        {"layer": 10, "pair_weight": "euclidean", "clip": 1.0},
    ),
    ("m2ib", "iba"): ({"layer": 10, "noise": "features"}, {"layer": 10, "noise": "features"}),
}


@pytest.mark.parametrize(("name", "variant"), LAYERS)
def test_variants_have_the_documented_layers_in_twelve_blocks(
    name: str, variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tower, wanted in zip((tiny.model("clip").image, tiny.model("clip").text), LAYERS[name, variant], strict=True):
        assert tower.modality == "text" or not tower.reads_units
        monkeypatch.setitem(vars(tower), "depth", 12)
        options = METHODS[name].configured(tower, variant, {}, {}).options()
        assert {
            "layer": [wanted["layer"]],
            **{k: v for k, v in wanted.items() if k != "layer"},
        }.items() <= options.items()


@pytest.mark.parametrize(
    ("option", "value", "parsed"),
    [
        ("count", "7", 7),
        ("count", 7.0, 7),
        ("count", "7.0", 7),
        ("count", "-2", -2),
        ("share", "0.25", 0.25),
        ("share", 1, 1.0),
        ("name_of", "true", "true"),
        ("flag", True, True),
        ("flag", "true", True),
        ("flag", "False", False),
        ("most", "3", 3),
        ("tolerance", "1e-3", 1e-3),
    ],
)
def test_configured_parses_values_to_the_type_of_the_option(option: str, value: Any, parsed: Any) -> None:
    actual = getattr(configured(**{option: value}), option)
    assert actual == parsed
    assert type(actual) is type(parsed)


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("count", 1.5, "a whole number"),
        ("count", "two", "a whole number"),
        ("count", True, "a whole number"),
        ("count", [1], "a whole number"),
        ("count", math.inf, "a whole number"),
        ("count", math.nan, "a whole number"),
        ("most", "x", "a whole number"),
        ("share", "much", "a number"),
        ("share", math.inf, "a finite number"),
        ("share", "-inf", "a finite number"),
        ("tolerance", math.nan, "a finite number"),
        ("flag", "yes", "true or false"),
        ("flag", 1, "true or false"),
        ("layer", "1,x", "a whole number, or a share of the depth above 0 and below 1"),
        ("layer", 1.5, "a whole number, or a share of the depth above 0 and below 1"),
        ("layer", True, "a whole number, or a share of the depth above 0 and below 1"),
    ],
)
def test_configured_rejects_values_of_another_type(option: str, value: Any, rule: str) -> None:
    with pytest.raises(BadOption, match=rf"^{option} must be {rule} \(got "):
        configured(**{option: value})


@pytest.mark.parametrize(
    ("value", "layers"),
    [
        (2, (2,)),
        ("2", (2,)),
        ("0,2", (0, 2)),
        ([0, 3], (0, 3)),
        ((1,), (1,)),
        (2.0, (2,)),
        (0.0, (0,)),
        (0.34, (1,)),  # of three blocks
        (0.66, (2,)),
        (0.999, (3,)),
    ],
)
def test_configured_takes_layers_and_fractions_of_the_depth(value: Any, layers: tuple[int, ...]) -> None:
    assert tiny.model("clip").image.depth == 3
    assert configured(layer=value).layer == layers


@pytest.mark.parametrize(("value", "layer"), [(0.34, 2), (0.999, 3), (2, 2)])
def test_fraction_may_be_the_layer_that_leaves_a_block(
    value: float, layer: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No layer follows the last block, and a whole number is the layer itself."""
    monkeypatch.setattr(Options, "layer_leaves_block", True)
    assert configured(layer=value).layer == (layer,)


@pytest.mark.parametrize(("value", "message"), [([], "at least one layer"), (4, "between 0 and 3"), ("0,-1", "-1")])
def test_configured_rejects_layers_that_do_not_exist(value: Any, message: str) -> None:
    assert configured(layer=3).layer == (3,)
    with pytest.raises(BadOption, match=message):
        configured(layer=value)


def test_configured_limits_prefixed_options_to_one_side() -> None:
    options = {"count": 5, "image_count": 6, "text_share": 0.25, "share": None}
    image, text = (configured(modality, **options) for modality in ("image", "text"))
    assert (image.count, image.share) == (6, 0.5)
    assert (text.count, text.share) == (5, 0.25)


def test_configured_rejects_unknown_names() -> None:
    for name in ("cuont", "image_cuont", "audio_count"):
        with pytest.raises(UnknownName, match=f"unknown option '{name}'"):
            configured(**{name: 1})
    with pytest.raises(UnknownName, match="unknown variant 'papers'"):
        Options.configured(tiny.model("clip").image, "papers", {}, {})


def test_a_class_that_takes_recommended_values_gets_those_of_its_default_variant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the variant leaves to the class stays."""
    recommended = {"image_count": 8, "text_count": 9, "image_share": 0.1, "count": 10}
    assert configured("image", recommended).count == 3
    monkeypatch.setattr(Options, "takes_recommended", True)
    image, text = (configured(modality, recommended) for modality in ("image", "text"))
    assert (image.count, image.share) == (8, 0.5)
    assert text.count == 9
    assert configured("image", recommended, count=5).count == 5
    paper = Options.configured(tiny.model("clip").image, "paper", {}, recommended)
    assert vars(paper)["count"] == 3


def test_options_are_plain_data() -> None:
    assert configured(layer="0,2").options() == {
        "layer": [0, 2],
        "count": 3,
        "share": 0.5,
        "name_of": "a",
        "flag": False,
        "most": None,
        "tolerance": None,
        "views": 1,
        "amounts": "method",
    }


@pytest.mark.parametrize("method", [GradCAM((0, 2)), M2IB((0, 2), steps=2, samples=2), NIB((0, 2), steps=2)])
def test_methods_reject_layers_of_different_grids(method: Any) -> None:
    of = make_side(tiny.model("convnext"), "image")
    with pytest.raises(Unsupported, match=r"layers \(0, 3\) have different grids.*choose layers with the same grid"):
        replace(method, layer=(0, 3))(of)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "rise"])  # it multiplies by the score itself
def test_methods_declare_whether_their_scores_have_a_sign(name: str) -> None:
    model, negative = tiny.model("clip"), []
    for modality in ("image", "text"):
        method = METHODS[name].configured(model.tower(modality), "default", QUICK.get(name, {}), {})
        negative.append(bool((method(make_side(model, modality)).scores < 0).any()))
    assert negative == [METHODS[name].signed] * 2


@pytest.mark.parametrize(
    ("base", "lacking"),
    [
        (Method, {"attribute"}),
        (PathMethod, {"attribute"}),
        (AttentionMethod, {"scores"}),
        (LastAttention, {"key_scores"}),
        (AttentionOrInput, {"input_scores", "key_scores"}),
        (GradientMethod, {"scores"}),
        (UnitMethod, {"scores"}),
    ],
)
def test_method_that_lacks_a_part_of_its_contract_cannot_be_built(base: type, lacking: set[str]) -> None:
    for name in lacking:
        incomplete = type("Incomplete", (base,), {other: lambda *_: None for other in lacking - {name}})
        with pytest.raises(TypeError, match=f"abstract method '?{name}"):
            incomplete()
