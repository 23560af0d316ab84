"""``explain`` names the options that most methods share, so that editors complete them."""

import inspect
from dataclasses import fields
from typing import get_overloads

import pytest

import nibt
from nibt.registry import find
from tests import tiny

NAMED = {"views": 2, "layer": 1, "steps": 3, "quadrature": "gauss", "baseline": "zero", "tolerance": 0.5}


def test_named_options_are_those_of_nib() -> None:
    parameters = inspect.signature(nibt.explain).parameters
    assert {*NAMED, "amounts"} <= set(parameters)
    assert {*NAMED, "amounts"} <= {field.name for field in fields(find("methods", "nib"))}
    assert all(parameters[name].default is None for name in (*NAMED, "amounts"))


@pytest.mark.parametrize("name", [*NAMED, "amounts"])
def test_named_option_is_that_of_the_text_of_a_method(name: str) -> None:
    value = {**NAMED, "amounts": "removal"}[name]
    model, image = tiny.model("clip"), tiny.image()
    if name == "tolerance":
        text, options = f"nib {name}={value} quadrature=midpoint", {"quadrature": "midpoint"}
    else:
        text, options = f"nib {name}={value}", {}
    named = nibt.explain(model, image, "a cat", **{name: value}, **options)  # pyright: ignore[reportArgumentType]
    assert named.method == nibt.explain(model, image, "a cat", text).method
    assert named.method["image"][name] == ([value] if name == "layer" else value)


def test_a_method_without_a_named_option_rejects_it() -> None:
    with pytest.raises(nibt.NibtError, match="steps"):
        nibt.explain(tiny.model("clip"), tiny.image(), "a cat", "occlusion", steps=3)


def test_editors_read_named_options_in_each_signature() -> None:
    signatures = get_overloads(inspect.unwrap(nibt.explain))
    assert signatures  # with runtime checks of types, one of both is known
    for signature in signatures:
        assert {*NAMED, "amounts"} <= set(inspect.signature(signature).parameters)
