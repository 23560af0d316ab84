"""Tests of ``variant``: which files of its weights a model is loaded from, as in Transformers."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from transformers import AutoProcessor, CLIPModel

import nibt
from benchmarks.models import released
from nibt.errors import BadOption, CannotLoad
from nibt.generators.loading import load_generator
from nibt.models._loading import load_model
from tests import tiny, tiny_vision_language
from tests.helpers import Run
from tests.hub import Hub
from tests.models.saved import edit, save, save_open_clip

IMAGE = tiny.image(40, 30).pil_image
CAPTION = "a photo of a cat"


def save_variant(folder: Path, variant: str = "fp16", **options: Any) -> None:
    """Write other weights beside those of a CLIP, in half precision, as Transformers writes a variant."""
    module = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    for number, weight in enumerate(module.parameters()):
        weight.data = weight.data.roll(number)
    module.half().save_pretrained(folder, variant=variant, **options)


def own_similarity(folder: Path, **options: Any) -> float:
    """Return the cosine that the model of Transformers gives."""
    module = CLIPModel.from_pretrained(folder, dtype=torch.float32, **options).eval()
    inputs = AutoProcessor.from_pretrained(folder)(images=IMAGE, text=[CAPTION], return_tensors="pt")
    with torch.no_grad():
        out = module(**inputs)
    return float(F.cosine_similarity(out.image_embeds, out.text_embeds))


def similarity(folder: Path | str, **options: Any) -> float:
    return nibt.explain(load_model(folder, **options), IMAGE, CAPTION, method="center").similarity


@pytest.mark.parametrize("size", ["5GB", "40KB"])
def test_variant_has_the_weights_that_transformers_loads(size: str, tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "model")
    save_variant(folder, max_shard_size=size)
    assert (folder / "model.safetensors.index.fp16.json").exists() == (size == "40KB")

    assert similarity(folder) == pytest.approx(own_similarity(folder), abs=1e-5)
    assert similarity(folder, variant="fp16") == pytest.approx(own_similarity(folder, variant="fp16"), abs=1e-5)
    assert similarity(folder, variant="fp16") != pytest.approx(similarity(folder), abs=1e-3)

    model = load_model(folder, variant="fp16")
    assert model.dtype == "float32"
    assert model.record()["variant"] == "fp16"  # pyright: ignore
    assert "variant" not in load_model(folder).record()


def test_folder_with_a_variant_alone_names_it(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "model")
    save_variant(folder)
    (folder / "model.safetensors").unlink()

    with pytest.raises(CannotLoad, match=r"only of the variant 'fp16' \(model\.fp16\.safetensors\): .*variant='fp16'"):
        load_model(folder)
    assert similarity(folder, variant="fp16") == pytest.approx(own_similarity(folder, variant="fp16"), abs=1e-5)


def test_missing_variant_names_those_that_are_there(tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "model")
    with pytest.raises(CannotLoad, match=r"no weights of the variant 'fp16': leave variant out"):
        load_model(folder, variant="fp16")

    save_variant(folder, max_shard_size="40KB")
    with pytest.raises(CannotLoad, match=r"'bf16': it has those of 'fp16' \(model\.safetensors\.index\.fp16\.json\)"):
        load_model(folder, variant="bf16")
    with pytest.raises(CannotLoad, match=r"no weights of the variant '00001-of-00003'"):
        load_model(folder, variant="00001-of-00003")
    with pytest.raises(CannotLoad, match=r"no weights of the variant 'fp16': leave variant out"):
        load_model("scenes", variant="fp16")


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("variant", ["", "../x", "a/b", "fp16.", 16, True, ["fp16"]])
def test_variant_is_a_part_of_a_name(variant: Any, tmp_path: Path) -> None:
    for load in (load_model, load_generator):
        with pytest.raises(BadOption, match="variant must be the part of the names"):
            load(tmp_path, variant=variant)


def test_other_libraries_have_no_variants(tmp_path: Path) -> None:
    save_open_clip(tmp_path / "open_clip")
    with pytest.raises(BadOption, match="which OpenCLIP reads"):
        load_model(tmp_path / "open_clip", variant="fp16")

    built = tiny.KINDS["clip"]()
    with pytest.raises(BadOption, match="variant cannot be set for a model in memory"):
        load_model(built.module, processor=built.processor, variant="fp16")
    with pytest.raises(BadOption, match="variant cannot be set for a model of two functions"):
        load_model(images=lambda images: [[1.0]], texts=lambda texts: [[1.0]], variant="fp16")


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_check_shows_adapters_which_have_no_variant(run: Run, tmp_path: Path) -> None:
    base = save("clip", tmp_path / "base")
    lora = LoraConfig(target_modules=["q_proj"], r=2, init_lora_weights=False)
    get_peft_model(CLIPModel.from_pretrained(base), lora).save_pretrained(tmp_path / "adapters")
    edit(tmp_path / "adapters" / "adapter_config.json", base_model_name_or_path=str(base))

    code, out, err = run("check", str(tmp_path / "adapters"))
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if line.startswith("adapters ")]
    count = sum(name.endswith("q_proj") for name, _ in CLIPModel.from_pretrained(base).named_modules())
    assert line.split(None, 1)[1] == f"lora of PEFT in {count} layers, active default, on {base}"

    code, out, _ = run("check", str(base))
    assert "adapters " not in out
    with pytest.raises(BadOption, match="which PEFT reads"):
        load_model(tmp_path / "adapters", variant="fp16")


def test_variant_of_a_generator_and_on_the_command_line(run: Run, tmp_path: Path) -> None:
    built = tiny_vision_language.generator("llava")
    built.module.save_pretrained(tmp_path)
    built.module.save_pretrained(tmp_path, variant="fp16")
    built.request.processor.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()

    with pytest.raises(CannotLoad, match="only of the variant 'fp16'"):
        load_generator(tmp_path)
    assert load_generator(tmp_path, variant="fp16").weights_hash == built.weights_hash

    code, out, err = run("check", str(tmp_path), "--load", "variant=fp16")
    assert code == 0, err
    assert ", variant fp16" in out
    code, _, err = run("check", str(tmp_path))
    assert code != 0
    assert "--load variant=fp16" in err
    assert "Traceback" not in err


def test_variant_of_a_checkpoint_that_names_another_class(tmp_path: Path) -> None:
    """Its file is read, and not that without a variant beside it."""
    released.save("lightonai-lightonocr-1b-1025", tmp_path)
    plain = load_generator(tmp_path)
    module = deepcopy(plain.module)
    for weight in module.parameters():
        weight.data = 2 * weight.data
    module.save_pretrained(tmp_path / "doubled", variant="fp16")
    shutil.copy(tmp_path / "doubled" / "model.fp16.safetensors", tmp_path)

    doubled = load_generator(tmp_path, variant="fp16")
    assert doubled.weights_hash != plain.weights_hash
    weights = zip(doubled.module.parameters(), plain.module.parameters(), strict=True)
    assert all(torch.equal(two, 2 * one) for two, one in weights)


@pytest.mark.slow
def test_hub_downloads_the_variant_alone(hub: Hub, tmp_path: Path) -> None:
    folder = save("clip", tmp_path / "model")
    save_variant(folder)
    hub.add("org/clip", folder)
    model = load_model("org/clip", variant="fp16")
    assert model.record()["variant"] == "fp16"  # pyright: ignore
    assert [file for file in hub.downloads() if file.endswith(".safetensors")] == ["model.fp16.safetensors"]

    alone = Path(shutil.copytree(folder, tmp_path / "alone"))
    (alone / "model.safetensors").unlink()
    hub.add("org/alone", alone)
    with pytest.raises(CannotLoad, match="only of the variant 'fp16'"):
        load_model("org/alone")
    with pytest.raises(CannotLoad, match="no weights of the variant 'bf16'"):
        load_model("org/clip", variant="bf16")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "clip"
