"""Tests of ``nibt.models.open_clip.lite`` against OpenCLIP, which loads a copy of the folder of ``lite``."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nibt import explain, load_model
from nibt.errors import Unsupported
from nibt.models._embedded import EMBEDDED
from nibt.models.base import Model

LIBRARIES = ("open_clip", "timm", "torchvision", "torch._dynamo", "sympy")


@pytest.fixture(scope="module")
def of_open_clip(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("copy") / "lite"
    shutil.copytree(EMBEDDED / "lite", folder)
    return load_model(folder)


@pytest.fixture(scope="module")
def lite() -> Model:
    return load_model("lite")


@pytest.mark.slow
def test_the_libraries_are_needed_for_other_models(of_open_clip: Model) -> None:
    assert type(of_open_clip.module).__module__.startswith("open_clip")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["nib", "grad_cam"])
def test_maps_are_those_of_open_clip(method: str, lite: Model, of_open_clip: Model) -> None:
    ours, theirs = (
        explain(model, "sample:camera", "a camera on a tripod", method=method) for model in (lite, of_open_clip)
    )

    for side in ("image", "text"):
        np.testing.assert_array_equal(getattr(ours, side).scores, getattr(theirs, side).scores)
    assert ours.similarity == theirs.similarity


@pytest.mark.slow
def test_the_module_computes_what_that_of_open_clip_computes(lite: Model, of_open_clip: Model) -> None:
    images = torch.randn(2, 3, 224, 160, generator=torch.Generator().manual_seed(0))
    ids = lite.request.tokenizer(["a cat", "two cats and a dog"])

    for normalize in (False, True):
        for name, values in (("encode_image", images), ("encode_text", ids)):
            ours, theirs = (getattr(model.module, name)(values, normalize=normalize) for model in (lite, of_open_clip))
            assert torch.equal(ours, theirs)
    assert {*lite.module.state_dict()} == {*of_open_clip.module.state_dict()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "caption",
    [
        "a cat",
        " two  cats\tplay ",
        "caf\u00e9 \u2014 \u201ccat\u201d",
        "cats &amp; dogs",
        "cat \ufb01ne",
        "cat\x07",
        "",
    ],
)
def test_captions_are_read_as_open_clip_reads_them(caption: str, lite: Model, of_open_clip: Model) -> None:
    assert lite.text.tokens(caption) == of_open_clip.text.tokens(caption)
    ours, theirs = (model.request.tokenizer for model in (lite, of_open_clip))
    assert torch.equal(ours([caption]), theirs([caption]))
    assert torch.equal(ours(caption, context_length=5), theirs(caption, context_length=5))


@pytest.mark.slow
def test_lite_in_memory_is_lite(lite: Model) -> None:
    again = load_model(lite.module, tokenizer=lite.request.tokenizer, resize="whole", image_size=704)
    ours, theirs = (explain(model, "sample:camera", "a camera", method="grad_cam") for model in (again, lite))

    assert ours.similarity == theirs.similarity
    np.testing.assert_array_equal(ours.text.scores, theirs.text.scores)


@pytest.mark.slow
def test_a_first_picture_needs_none_of_the_libraries(tmp_path: Path) -> None:
    code = (
        "import sys, nibt; nibt.save(nibt.explain('lite', 'sample:camera', 'a camera'), 'it.png'); "
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )

    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_size_of_a_folder_belongs_to_its_way_of_resizing() -> None:
    by_model = load_model("lite", resize="model")
    assert (by_model.image.preparation.resize.way, by_model.image.preparation.resize.height) == ("squash", 256)
    with pytest.raises(Unsupported, match=r"image_size must be 256 with resize=model \(got 64\): leave one"):
        load_model("lite", resize="model", image_size=64)
    assert load_model("lite", image_size=64).image.preparation.resize.height == 64
