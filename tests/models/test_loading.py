"""Tests of ``nibt.models._loading``."""

import pickle
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.utils import logging

from nibt.errors import BadOption, CannotLoad
from nibt.models._loading import load_model
from tests import tiny
from tests.models.saved import Evil, agree, answers, edit, save

peft_warns = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


class TestHuggingFace:
    @pytest.mark.parametrize("kind", ["clip", "clip legacy end", "siglip", "siglip naflex"])
    def test_folder_loads(self, kind: str, tmp_path: Path) -> None:
        save(kind, tmp_path)
        # Transformers would build a Gemma tokenizer for any SigLIP 2 folder
        model = load_model(tmp_path, tokenizer=tiny.siglip().tokenizer if kind == "siglip naflex" else None)
        agree(model, tiny.model(kind))
        assert model.folder == tmp_path
        assert not any(parameter.requires_grad for parameter in model.module.parameters())
        assert not model.module.training

    def test_bar_of_transformers_is_not_shown(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save("clip", tmp_path)
        monkeypatch.setattr(logging, "_tqdm_active", True)
        capfd.readouterr()  # the bar of the saved weights
        load_model(tmp_path)
        assert capfd.readouterr().err == ""
        assert logging.is_progress_bar_enabled()

    def test_path_loads_as_text_and_in_half_precision(self, tmp_path: Path) -> None:
        save("clip", tmp_path)
        assert load_model(str(tmp_path)).dtype == "float32"
        assert load_model(str(tmp_path), dtype="bfloat16").dtype == "bfloat16"
        assert load_model(str(tmp_path), dtype=torch.float16).dtype == "float16"
        assert load_model(tmp_path).weights_hash != load_model(tmp_path, dtype="bfloat16").weights_hash

    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
    def test_configuration_does_not_choose_the_kernel_of_attention(self, key: str, tmp_path: Path) -> None:
        """A name of the hub would be downloaded, and run."""
        edit(save("clip", tmp_path) / "config.json", **{key: "someone/kernel"})
        model = load_model(tmp_path)
        assert {part.config._attn_implementation for part in model.module.modules() if hasattr(part, "config")} == {
            "sdpa"
        }

    @pytest.mark.usefixtures("unchecked")
    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("nibt.json", "[1]", "must be a JSON object .got a list"),
            ("nibt.json", "[" * 100_000, "nested too deeply"),
            ("nibt.json", '{"resize": "zz"}', "resize must be one of model, whole .got 'zz'"),
            ("nibt.json", '{"image_size": "zz"}', "image_size must be a whole number"),
            ("nibt.json", '{"usual_change": -1}', "usual_change must be above 0"),
            ("config.json", "[1]", "must be a JSON object"),
            ("config.json", "{}", "its config.json is empty, and names no class"),
            ("config.json", '{"model_type": ["clip"]}', "model_type .*clip.* is not supported"),
            ("adapter_config.json", '{"base_model_name_or_path": "."}', "are their own base model"),
            ("adapter_config.json", '{"base_model_name_or_path": 5}', "lack base_model_name_or_path"),
        ],
    )
    def test_odd_files_are_refused_in_words(self, file: str, content: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": "clip"}')
        (tmp_path / file).write_text(content)
        with pytest.raises((CannotLoad, BadOption), match=message):
            load_model(tmp_path)

    def test_pickled_state_dict_loads(self, tmp_path: Path) -> None:
        weights = load_file(save("clip", tmp_path) / "model.safetensors")
        torch.save(weights, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
        agree(load_model(tmp_path), tiny.model("clip"))

    def test_malicious_pickle_is_rejected_and_does_not_run(self, tmp_path: Path) -> None:
        weights: dict[str, Any] = load_file(save("clip", tmp_path) / "model.safetensors")
        mark = tmp_path / "it ran"
        pickle.loads(pickle.dumps(Evil(mark))).close()
        assert mark.exists(), "this pickle is malicious"
        mark.unlink()
        torch.save(weights | {"evil": Evil(mark)}, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
        with pytest.raises(CannotLoad, match="cannot load the model"):
            load_model(tmp_path)
        assert not mark.exists()

    @pytest.mark.parametrize("kind", ["clip", "siglip"])
    def test_code_of_a_checkpoint_is_never_run(self, kind: str, tmp_path: Path) -> None:
        save(kind, tmp_path)
        mark = tmp_path / "it ran"
        (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        remote = {
            "AutoConfig": "evil.Evil",
            "AutoModel": "evil.Evil",
            "AutoImageProcessor": "evil.Evil",
            "AutoProcessor": "evil.Evil",
            "AutoTokenizer": ["evil.Evil", "evil.Evil"],
        }
        for file in tmp_path.glob("*config.json"):
            edit(file, auto_map=remote)
        with suppress(CannotLoad):  # rejecting it is fine as well
            agree(load_model(tmp_path), tiny.model(kind))
        assert not mark.exists()

    def test_missing_weights_are_reported(self, tmp_path: Path) -> None:
        weights = load_file(save("clip", tmp_path) / "model.safetensors")
        weights.pop("visual_projection.weight")
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(CannotLoad, match=r"lacks 1 weights, such as 'visual_projection\.weight'"):
            load_model(tmp_path)

    def test_weights_of_another_shape_are_rejected(self, tmp_path: Path) -> None:
        save("clip", tmp_path)
        edit(tmp_path / "config.json", projection_dim=10)
        with pytest.raises(CannotLoad):
            load_model(tmp_path)

    def test_missing_weight_file_is_reported(self, tmp_path: Path) -> None:
        (save("clip", tmp_path) / "model.safetensors").unlink()
        with pytest.raises(CannotLoad, match=r"cannot load the model.*model\.safetensors"):
            load_model(tmp_path)

    def test_broken_weight_file_is_reported(self, tmp_path: Path) -> None:
        file = save("clip", tmp_path) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:5000])
        with pytest.raises(CannotLoad, match="cannot load the model"):
            load_model(tmp_path)

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite_are_rejected(self, value: float, tmp_path: Path) -> None:
        weights = load_file(save("clip", tmp_path) / "model.safetensors")
        weights["visual_projection.weight"][0, 0] = value
        save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
        with pytest.raises(CannotLoad, match=r"NaN or infinite weights in 'visual_projection\.weight'"):
            load_model(tmp_path)

    @pytest.mark.parametrize(
        "gone", [("processor_config.json", "preprocessor_config.json"), ("tokenizer.json", "tokenizer_config.json")]
    )
    @pytest.mark.parametrize("kind", ["clip", "siglip"])
    def test_missing_processor_is_reported(self, kind: str, gone: tuple[str, ...], tmp_path: Path) -> None:
        save(kind, tmp_path)
        for name in gone:
            (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(CannotLoad, match="no image processor or no tokenizer") as error:
            load_model(tmp_path)
        assert f'load_model({str(tmp_path)!r}, processor="org/name") or --load processor=org/name' in str(error.value)

    def test_processor_argument_is_used(self, tmp_path: Path) -> None:
        built = tiny.KINDS["clip"]()
        built.module.save_pretrained(tmp_path)
        agree(load_model(tmp_path, processor=built.processor), tiny.model("clip"))

    @pytest.mark.parametrize("kind", ["clip", "siglip"])
    def test_processor_of_another_model_is_used(self, kind: str, tmp_path: Path) -> None:
        """A checkpoint of a Trainer has weights only."""
        folder = save(kind, tmp_path / "with processor")
        tiny.KINDS[kind]().module.save_pretrained(tmp_path / "weights")
        for processor in (folder, str(folder)):
            agree(load_model(tmp_path / "weights", processor=processor), load_model(folder))

    def test_name_of_no_processor_is_reported(self, tmp_path: Path) -> None:
        tiny.KINDS["clip"]().module.save_pretrained(tmp_path)
        with pytest.raises(CannotLoad, match=r"processor must be a processor, or the folder or the name .*got 'none'"):
            load_model(tmp_path, processor="none")
        with pytest.raises(CannotLoad, match="has no processor that Transformers can load"):
            load_model(tmp_path, processor=tmp_path)

    def test_unknown_model_type_is_reported(self, tmp_path: Path) -> None:
        save("clip", tmp_path)
        edit(tmp_path / "config.json", model_type="vit", architectures=["ViTModel"])
        with pytest.raises(
            CannotLoad,
            match="model_type 'vit', which is not supported: it reads images only; if you have an image model and",
        ):
            load_model(tmp_path)

    def test_broken_configuration_is_reported(self, tmp_path: Path) -> None:
        config = save("clip", tmp_path) / "config.json"
        for content in (b"{", b"\xff\xfe{}", None):
            config.unlink()
            config.mkdir() if content is None else config.write_bytes(content)
            with pytest.raises(CannotLoad, match="not a file of valid JSON"):
                load_model(tmp_path)


@peft_warns
class TestAdapters:
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        base, adapters = save("clip", tmp_path / "base"), tmp_path / "adapters"
        adapted = tiny.KINDS["clip adapted"]().module
        adapted.save_pretrained(adapters)
        adapted.unload().save_pretrained(base)
        edit(adapters / "adapter_config.json", base_model_name_or_path=str(base))
        return base, adapters

    def test_adapters_load_on_their_base(self, tmp_path: Path) -> None:
        base, adapters = self.folders(tmp_path)
        model = load_model(adapters)
        agree(model, tiny.model("clip adapted"))
        assert not torch.allclose(answers(model)[0], answers(load_model(base))[0])
        assert model.weights_hash != load_model(base).weights_hash
        assert not any(parameter.requires_grad for parameter in model.module.parameters())

    def test_base_with_a_relative_path_loads(self, tmp_path: Path) -> None:
        _, adapters = self.folders(tmp_path)
        edit(adapters / "adapter_config.json", base_model_name_or_path="../base")
        agree(load_model(adapters), tiny.model("clip adapted"))

    def test_missing_base_is_reported(self, tmp_path: Path) -> None:
        base, adapters = self.folders(tmp_path)
        shutil.rmtree(base)
        with pytest.raises(CannotLoad, match="base"):
            load_model(adapters)

    def test_unnamed_base_is_reported(self, tmp_path: Path) -> None:
        _, adapters = self.folders(tmp_path)
        edit(adapters / "adapter_config.json", base_model_name_or_path=None)
        with pytest.raises(CannotLoad, match="base_model_name_or_path"):
            load_model(adapters)

    def test_adapters_load_in_half_precision(self, tmp_path: Path) -> None:
        _, adapters = self.folders(tmp_path)
        assert load_model(adapters, dtype="bfloat16").dtype == "bfloat16"


class TestInMemory:
    def test_model_is_used_as_it_is(self) -> None:
        built = tiny.KINDS["clip"]()
        model = load_model(built.module, processor=built.processor)
        assert model.module is built.module
        assert all(parameter.requires_grad for parameter in built.module.parameters())
        assert load_model(model) is model

    def test_training_mode_is_rejected(self) -> None:
        built = tiny.KINDS["clip"]()
        with pytest.raises(CannotLoad, match=r"training mode.*model\.eval\(\)"):
            load_model(built.module.train(), processor=built.processor)

    def test_training_mode_of_a_part_is_rejected(self) -> None:
        built = tiny.KINDS["clip"]()
        built.module.vision_model.train()
        with pytest.raises(CannotLoad, match="training mode"):
            load_model(built.module, processor=built.processor)

    def test_missing_processor_is_reported(self) -> None:
        with pytest.raises(CannotLoad, match=r"processor=AutoProcessor\.from_pretrained"):
            load_model(tiny.KINDS["clip"]().module)

    def test_missing_tokenizer_is_reported(self) -> None:
        built = tiny.KINDS["siglip"]()
        with pytest.raises(CannotLoad, match=r"tokenizer="):
            load_model(built.module, processor=built.processor)

    def test_open_clip_with_its_own_vocabulary_needs_a_tokenizer(self) -> None:
        with pytest.raises(CannotLoad, match=r"vocabulary of the model is not CLIP's.*get_tokenizer"):
            load_model(tiny.KINDS["bert"]().module)

    def test_open_clip_gets_its_default_tokenizer(self) -> None:
        agree(load_model(tiny.KINDS["own vit"]().module), tiny.model("own vit"))

    def test_open_clip_rejects_a_foreign_tokenizer(self) -> None:
        with pytest.raises(CannotLoad, match="tokenizer must be one of OpenCLIP"):
            load_model(tiny.KINDS["own vit"]().module, tokenizer=tiny.wordpiece_tokenizer())

    def test_unknown_class_is_reported(self) -> None:
        with pytest.raises(CannotLoad, match="class Linear are not supported; use one of"):
            load_model(nn.Linear(2, 2).eval())

    def test_weights_that_are_not_finite_are_rejected(self) -> None:
        built = tiny.KINDS["own vit"]()
        with torch.no_grad():
            built.module.visual.proj[0, 0] = torch.nan
        with pytest.raises(CannotLoad, match=r"visual\.proj"):
            load_model(built.module)

    def test_subclass_of_a_known_class_loads(self) -> None:
        built = tiny.KINDS["clip"]()
        built.module.__class__ = type("MyClip", (type(built.module),), {})
        agree(load_model(built.module, processor=built.processor), tiny.model("clip"))


class TestIds:
    def test_folder_without_a_model_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(CannotLoad, match=r"is not the folder of a model: it has no config\.json"):
            load_model(tmp_path)

    def test_file_is_rejected(self, tmp_path: Path) -> None:
        file = tmp_path / "model.safetensors"
        file.write_bytes(b"")
        with pytest.raises(CannotLoad, match=r"is a file\): give the folder"):
            load_model(file)

    @pytest.mark.parametrize("id", ["no-such-model", "./no/such", "/no/such/folder", "a/b/c", ""])
    def test_missing_model_is_reported(self, id: str) -> None:
        with pytest.raises(CannotLoad, match=r"there is no model.*local folder"):
            load_model(id)


class TestOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"dtype": "float64"}, "dtype must be one of float32, float16, bfloat16"),
            ({"dtype": torch.int8}, "got 'int8'"),
            ({"device": "toaster"}, "device 'toaster' is not available"),
            ({"device": "cuda:99"}, r"device 'cuda:99' is not available.*: use cpu"),
            ({"device": "meta"}, r"^device 'meta' is not available: use cpu"),
            ({"device": ""}, r"^device '' is not available \(Device string must not be empty\): use cpu"),
            ({"device": "mkldnn"}, r"^device 'mkldnn' is not available.*: use cpu"),
            ({"device": "privateuseone"}, "^device 'privateuseone' is not available"),
            ({"resize": "stretch"}, "resize must be one of model, whole"),
            ({"image_size": 8}, r"image_size must be between 16 and 4,096"),
        ],
    )
    def test_bad_values_are_rejected_before_anything_is_read(self, options: dict, message: str) -> None:
        with pytest.raises(BadOption, match=message):
            load_model("no-such-model", **options)

    def test_resize_model_is_the_default(self) -> None:
        agree(tiny.fresh("own vit", resize="model"), tiny.model("own vit"))
