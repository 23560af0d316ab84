"""Tests of damaged folders of models: each error names the file, what was expected, what came, and what to do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nibt.errors import BadOption, CannotLoad, NibtError
from nibt.generators.loading import load_generator
from nibt.models._embedded import EMBEDDED
from nibt.models._loading import load_model
from tests import tiny
from tests.models.saved import save, save_open_clip
from tests.suites import few

GONE = object()


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind of model."""
    folder = tmp_path_factory.mktemp("intact")
    for kind in ("clip", "siglip"):
        (folder / kind).mkdir()
        save(kind, folder / kind)
    save_open_clip(folder / "open_clip")
    return {kind: folder / kind for kind in ("clip", "siglip", "open_clip")}


def put(file: Path, place: str, value: Any) -> None:
    """Change or remove a value in a JSON file."""
    data = json.loads(file.read_text())
    *outer, last = place.split(".")
    inner = data
    for key in outer:
        inner = inner[key]
    if value is GONE:
        del inner[last]
    else:
        inner[last] = value
    file.write_text(json.dumps(data))


CONFIGURATIONS = [
    ("clip", "text_config.hidden_act", "x", r"its config.json must describe a model \(unknown hidden_act 'x'\)"),
    ("clip", "vision_config.patch_size", 0, r"its config.json must describe a model \(.*division"),
    ("clip", "vision_config.num_channels", -1, r"its config.json must describe a model \(.*negative dimension -1"),
    ("clip", "vision_config.image_size", None, r"its config.json must describe a model"),
    ("clip", "initializer_factor", None, r"its weights cannot be read \(.*NoneType.*correct config.json"),
    ("clip", "text_config", "x", r"its config.json cannot be read \(.*text_config"),
    ("clip", "dtype", [], r"its config.json cannot be read"),
    ("clip", "projection_dim", 13, r"have the shape \(12, \d+\), and by its config.json they must have \(13, \d+\)"),
    ("clip", "text_config.num_attention_heads", -1, r"cannot embed an example image and a caption"),
    ("siglip", "vision_config.hidden_act", "x", r"unknown hidden_act 'x'"),
    ("siglip", "text_config.layer_norm_eps", None, r"config"),
    ("open_clip", "model_cfg", GONE, r"model_cfg in .*open_clip_config.json must be an object.*got None"),
    ("open_clip", "model_cfg.text_cfg", [], r"model_cfg.text_cfg in .* must be an object.*got \[\]"),
    ("open_clip", "model_cfg.vision_cfg", GONE, r"model_cfg.vision_cfg in .* must be an object.*got None"),
    ("open_clip", "model_cfg.vision_cfg.patch_size", 0, r"its open_clip_config.json must describe a model"),
    ("open_clip", "model_cfg.vision_cfg.heads", 7, r"open_clip_config.json"),
    ("open_clip", "model_cfg.vision_cfg.pool_type", "x", r"open_clip_config.json"),
    ("open_clip", "model_cfg.unknown", 1, r"open_clip_config.json must describe a model.*unknown"),
]


@pytest.mark.parametrize(("kind", "place", "value", "message"), few(CONFIGURATIONS, CONFIGURATIONS[::3]))
def test_damaged_configuration_is_named(
    kind: str, place: str, value: Any, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    put(folder / ("open_clip_config.json" if kind == "open_clip" else "config.json"), place, value)
    with pytest.raises(CannotLoad, match=message) as error:
        load_model(folder)
    assert "save" in str(error.value)  # what to do
    assert "ignore_mismatched_sizes" not in str(error.value)


ABSURD = [
    ("clip", "text_config.max_position_embeddings"),
    ("clip", "text_config.intermediate_size"),
    ("clip", "vision_config.image_size"),
    ("siglip", "text_config.vocab_size"),
    ("siglip", "vision_config.patch_size"),
    ("open_clip", "model_cfg.vision_cfg.mlp_ratio"),
    ("open_clip", "model_cfg.text_cfg.context_length"),
    ("open_clip", "model_cfg.embed_dim"),
]


@pytest.mark.parametrize("value", [50_000_000, 10**12])
@pytest.mark.parametrize(("kind", "place"), ABSURD)
def test_sizes_beyond_the_files_are_refused_before_memory_is_allocated(
    kind: str, place: str, value: int, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest allocation is that of an allocator that refuses."""
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    put(folder / ("open_clip_config.json" if kind == "open_clip" else "config.json"), place, value)
    allocated = []
    empty = torch.empty
    with torch.device("meta"):
        empty(1)  # torch keeps the list of its constructors at the first use, which must not be that with ours

    def counted(*size: Any, **options: Any) -> torch.Tensor:
        result = empty(*size, **options)
        allocated.append(0 if result.is_meta else result.numel())
        return result

    monkeypatch.setattr(torch, "empty", counted)
    with pytest.raises(NibtError, match=rf"its largest number is {place.rpartition('.')[2]}={value:,}|must be at most"):
        load_model(folder)
    assert max(allocated, default=0) < 1_000_000


def test_configuration_without_a_tower_is_refused_before_one_of_the_usual_size_is_created(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    put(folder / "config.json", "text_config", None)
    with pytest.raises(CannotLoad, match=r"by its config.json it has [\d,]+ numbers, .*files of its weights are too s"):
        load_model(folder)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("image_processor.crop_size.height", 10**9, r"sides of 1 to 4,096 pixels \(got 1,000,000,000\)"),
        ("image_processor.crop_size.height", -1, r"sides of 1 to 4,096 pixels \(got -1\)"),
        ("image_processor.crop_size.height", "x", r"do not fit its configuration or its processor.*save both again"),
        ("image_processor.size", {"shortest_edge": 10**9}, r"sides of 1 to 4,096 pixels \(got 1,000,000,000\)"),
        ("image_processor", "x", r"no image processor or no tokenizer that Transformers can load"),
        ("image_processor.image_processor_type", [], r"no image processor or no tokenizer that Transformers can load"),
        ("image_processor.image_mean", [], r"cannot embed an example image and a caption.*save both again"),
        ("image_processor.rescale_factor", "x", r"rescale_factor of the image processor must have finite numbers"),
        ("image_processor.resample", -1, r"cannot embed an example image and a caption.*save both again"),
    ],
)
def test_damaged_processor_is_named(
    place: str, value: Any, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    put(folder / "processor_config.json", place, value)
    with pytest.raises(NibtError, match=message):
        load_model(folder)


@pytest.mark.parametrize("text", ["{}", "[]", "null", '{"model": {}}', '{"version": "1.0", "model": null}'])
def test_damaged_tokenizer_is_named(text: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(CannotLoad, match="no image processor or no tokenizer that Transformers can load"):
        load_model(folder)


def test_a_tokenizer_that_panics_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    """The panic of a library in Rust is no ``Exception``."""
    folder = shutil.copytree(folders["clip"], tmp_path / "model")
    put(folder / "tokenizer.json", "post_processor.special_tokens", {})
    with pytest.raises(CannotLoad, match=r"cannot embed an example image and a caption.*save both again"):
        load_model(folder)


@pytest.mark.parametrize("kind", ["clip", "open_clip"])
def test_weights_of_another_shape_are_named(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / "model")
    file = next(folder.glob("*.safetensors"))
    weights = load_file(file)
    name = next(key for key in weights if key.endswith("ln_final.weight") or key.endswith("final_layer_norm.weight"))
    weights[name] = torch.ones(7)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(CannotLoad, match=rf"{name}.*7.*save the model again"):
        load_model(folder)


class TestProcessor:
    """A processor that is passed."""

    def test_empty_name_is_refused(self, folders: dict[str, Path]) -> None:
        for name in ("", " "):
            with pytest.raises(BadOption, match="processor must be a processor"):
                load_model(folders["clip"], processor=name)

    def test_error_of_its_own_attributes_is_an_error_of_nibt(self) -> None:
        class Broken:
            def __getattr__(self, name: str) -> Any:
                raise RuntimeError("the license has expired")

            def __call__(self, *_: Any, **__: Any) -> Any:
                raise RuntimeError("the license has expired")

        with pytest.raises(CannotLoad, match=r"cannot load the model.*the license has expired"):
            load_model(tiny.KINDS["clip"]().module, processor=Broken())

    def test_models_of_open_clip_take_none(self, folders: dict[str, Path]) -> None:
        for processor in (str(folders["clip"]), tiny.KINDS["clip"]().processor):
            with pytest.raises(BadOption, match="processor cannot be set for a model of OpenCLIP"):
                load_model(folders["open_clip"], processor=processor)

    def test_tokenizer_with_more_tokens_than_the_model_is_refused(self, folders: dict[str, Path]) -> None:
        with pytest.raises(CannotLoad, match="tokenizer has 53 tokens, and the model has embeddings of 28"):
            load_model(folders["clip"], processor=folders["siglip"])

    def test_processor_of_another_size_is_noted(self, folders: dict[str, Path]) -> None:
        model = load_model(folders["siglip"], processor=folders["clip"])
        notes = " ".join(model.request.notes)
        assert "the processor that was passed gives images of 32 x 32 pixels, and the model takes 30 x 30" in notes
        assert "the tokenizer that was passed has 28 tokens, and the model has embeddings of 53" in notes

    def test_own_processor_has_no_note(self, folders: dict[str, Path]) -> None:
        for kind in ("clip", "siglip"):
            assert not load_model(folders[kind], processor=folders[kind]).request.notes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"generation_config.json is not a file of valid JSON"),
        ("[]", r"generation_config.json must be a JSON object \(got a list\)"),
        ('{"eos_token_id": "x"}', r"generation_config.json: eos_token_id.*got 'x'.*save the model again"),
        ('{"num_beams": 2.5}', r"generation_config.json: num_beams.*got 2.5"),
        ('{"repetition_penalty": []}', r"generation_config.json: repetition_penalty.*got \[\]"),
        ('{"max_new_tokens": true}', r"generation_config.json: max_new_tokens.*got True"),
    ],
)
def test_damaged_settings_of_a_generator_are_named(text: str, message: str, tmp_path: Path) -> None:
    """Transformers ignores such a file, and would end answers elsewhere."""
    folder = shutil.copytree(EMBEDDED / "scenes_generator", tmp_path / "model")
    (folder / "generation_config.json").write_text(text)
    with pytest.raises(CannotLoad, match=message):
        load_generator(folder)


def test_generator_without_settings_or_with_unknown_settings_loads(tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED / "scenes_generator", tmp_path / "model")
    put(folder / "generation_config.json", "eos_token_id", [3])
    put(folder / "generation_config.json", "of_a_later_version", "x")
    assert load_generator(folder)
    (folder / "generation_config.json").unlink()
    assert load_generator(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("domain_size", None, r"nibt.json: domain_size must be a list \(got None\)"),
        ("domain_size", [1], r"nibt.json: domain_size"),
        ("domain_size", ["a", 128], r"nibt.json: domain_size\[0\].*got 'a'"),
        ("domain_size", [-1, 128], r"nibt.json: domain_size\[0\].*got -1"),
        ("domain_size", GONE, r"nibt.json has a domain and no domain_size"),
        ("domain", 5, r"nibt.json: domain must be a valid string \(got 5\)"),
    ],
)
def test_damaged_settings_of_nibt_are_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    folder = shutil.copytree(EMBEDDED / "scenes", tmp_path / "model")
    put(folder / "nibt.json", key, value)
    with pytest.raises(CannotLoad, match=message):
        load_model(folder)
