"""Tests of ``nibt.models.open_clip``."""

import json
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from nibt.data.images import read_image
from nibt.engine.explain import explain
from nibt.errors import CannotLoad
from nibt.models._loading import load_model
from nibt.models.open_clip import quick_gelu
from nibt.results.explanation import Explanation
from tests import tiny
from tests.helpers import assert_close
from tests.models.saved import Evil, agree, answer, edit, save_open_clip
from tests.suites import few


class TestOpenClip:
    @pytest.mark.parametrize("vision", [{}, {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64}])
    def test_folder_loads(self, vision: dict, tmp_path: Path) -> None:
        module = save_open_clip(tmp_path / "it", vision)
        model = load_model(tmp_path / "it")
        tokenizer = open_clip.SimpleTokenizer(context_length=tiny.CONTEXT)
        with torch.no_grad():
            wanted = module.encode_text(tokenizer([tiny.CAPTIONS[0]]))
        torch.testing.assert_close(answer(model.text, tiny.CAPTIONS[0]), wanted, rtol=1e-5, atol=1e-5)
        assert model.image.preparation.resize.way == "squash"
        assert model.image.preparation.resample.name == "BILINEAR"
        assert model.family == "open_clip"

    @pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
    def test_folder_with_a_timm_trunk_loads(self, name: str, tmp_path: Path) -> None:
        tmp_path /= "it"
        tmp_path.mkdir()
        config = tiny.configuration(
            {"timm_model_name": name, "timm_pool": "avg", "timm_proj": "linear", "image_size": 160}, plain=True
        )
        module = tiny.randomized(lambda: open_clip.CustomTextCLIP(**config))
        save_file(module.state_dict(), tmp_path / "open_clip_model.safetensors")
        settings = {"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": {}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
        model = load_model(tmp_path)
        inputs = model.image.prepare([tiny.image()])
        with torch.no_grad():
            torch.testing.assert_close(model.image.encode(inputs), module.encode_image(inputs.values))

    def test_folder_with_a_hugging_face_encoder_loads(self, tmp_path: Path) -> None:
        built = tiny.KINDS["bert"]()
        tmp_path /= "it"
        tmp_path.mkdir()
        source = built.tokenizer.tokenizer.name_or_path
        config = {
            "embed_dim": 16,
            "vision_cfg": tiny._OWN_VIT,
            "text_cfg": {
                "hf_model_name": source,
                "hf_tokenizer_name": source,
                "context_length": tiny.CONTEXT,
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "hf_proj_type": "mlp",
            },
        }
        save_file(built.module.state_dict(), tmp_path / "open_clip_model.safetensors")
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
        built.tokenizer.save_pretrained(tmp_path)
        agree(load_model(tmp_path), tiny.model("bert"))

    def test_another_repository_that_is_missing_is_named_and_may_be_a_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        built = tiny.KINDS["bert"]()
        source = tmp_path / "encoder"
        built.module.text.config.save_pretrained(source)
        folder = tmp_path / "it"
        folder.mkdir()
        save_file(built.module.state_dict(), folder / "open_clip_model.safetensors")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        for key in ("hf_tokenizer_name", "hf_model_name", ""):
            names = {"hf_tokenizer_name": "org/encoder", "hf_model_name": "org/encoder" if key else str(source)}
            text = {"context_length": tiny.CONTEXT, "hf_pooler_type": "cls_last_hidden_state_pooler", **names}
            config = {"embed_dim": 16, "vision_cfg": tiny._OWN_VIT, "text_cfg": {**text, "hf_proj_type": "mlp"}}
            (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
            if key:
                with pytest.raises(
                    CannotLoad, match=rf"needs files of 'org/encoder', which {key} .*; or (copy|set) it"
                ):
                    load_model(folder)
            built.tokenizer.save_pretrained(folder)
        agree(load_model(folder), tiny.model("bert"))

    def test_configuration_cannot_run_code(self, tmp_path: Path) -> None:
        tmp_path /= "it"
        save_open_clip(tmp_path, tokenizer_kwargs={"trust_remote_code": True}, hf_tokenizer_name="evil")
        tiny.wordpiece_tokenizer().save_pretrained(tmp_path)
        mark = tmp_path / "it ran"
        (tmp_path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
        edit(tmp_path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
        with suppress(CannotLoad):  # rejecting it is fine as well
            load_model(tmp_path)
        assert not mark.exists()

    def test_missing_weight_file_is_reported(self, tmp_path: Path) -> None:
        save_open_clip(tmp_path / "it")
        (tmp_path / "it/open_clip_model.safetensors").unlink()
        with pytest.raises(CannotLoad, match="cannot load the model"):
            load_model(tmp_path / "it")

    def test_missing_weights_are_reported(self, tmp_path: Path) -> None:
        module = save_open_clip(tmp_path / "it")
        weights = module.state_dict()
        weights.pop("visual.proj")
        save_file(weights, tmp_path / "it/open_clip_model.safetensors")
        with pytest.raises(CannotLoad, match=r"visual\.proj|Missing key"):
            load_model(tmp_path / "it")

    def test_malicious_pickle_does_not_run(self, tmp_path: Path) -> None:
        module = save_open_clip(tmp_path / "it")
        (tmp_path / "it/open_clip_model.safetensors").unlink()
        mark = tmp_path / "it ran"
        torch.save({**module.state_dict(), "evil": Evil(mark)}, tmp_path / "it/open_clip_pytorch_model.bin")
        with pytest.raises(CannotLoad):
            load_model(tmp_path / "it")
        assert not mark.exists()

    def test_unknown_tag_lists_known_tags(self) -> None:
        with pytest.raises(CannotLoad, match=r"no weights 'NO_SUCH_TAG'.*laion2b_s34b_b79k"):
            load_model("open_clip:ViT-B-32/NO_SUCH_TAG")

    def test_missing_tag_lists_known_tags(self) -> None:
        with pytest.raises(CannotLoad, match="laion2b_s34b_b79k"):
            load_model("open_clip:ViT-B-32")

    def test_unknown_architecture_is_reported(self) -> None:
        with pytest.raises(CannotLoad, match=r"no architecture 'ViT-B-33'.*ViT-B-32"):
            load_model("open_clip:ViT-B-33/openai")


class TestActivationsOfOpenClip:
    """OpenCLIP builds the activation of the configuration, and only warns if the weights need another one."""

    TAGS = open_clip.list_pretrained()

    def test_every_tag_gets_the_activation_of_its_training(self) -> None:
        differing = {}
        for name, tag in self.TAGS:
            configured = bool(open_clip.get_model_config(name).get("quick_gelu", False))
            listed = open_clip.get_pretrained_cfg(name, tag).get("quick_gelu")
            quick, notes = quick_gelu(name, tag)
            assert quick == (configured if listed is None else listed), (name, tag)
            assert bool(notes) == (bool(listed) != configured), (name, tag)
            if quick != configured:
                differing[name, tag] = notes
        assert ("ViT-B-32", "openai") in differing
        assert ("ViT-B-32-quickgelu", "openai") not in differing
        assert ("ViT-B-32", "laion2b_s34b_b79k") not in differing
        assert all("need QuickGELU" in notes[0] for notes in differing.values())

    def test_tag_without_an_activation_keeps_that_of_the_architecture(self) -> None:
        quick, notes = quick_gelu("roberta-ViT-B-32", "laion2b_s12b_b32k")
        assert quick
        assert "does not list" in notes[0]

    def test_weights_from_a_file_keep_the_activation_of_the_architecture(self, tmp_path: Path) -> None:
        file = tmp_path / "weights.pt"
        assert quick_gelu("ViT-B-32", str(file)) == (False, ())
        assert quick_gelu("ViT-B-32-quickgelu", str(file)) == (True, ())

    @pytest.fixture
    def listed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., nn.Module]:
        """A tiny architecture in the lists of OpenCLIP with one tag, whose weights are on disk instead of on a hub."""

        def add(configured: bool, **tag: Any) -> nn.Module:
            config = {**tiny.configuration(), **({"quick_gelu": True} if configured else {})}
            wanted = tag.get("quick_gelu", configured)
            module = tiny.randomized(lambda: open_clip.CLIP(**{**config, "quick_gelu": wanted}))
            save_file(module.state_dict(), tmp_path / "weights.safetensors")
            pretrained = {"url": "somewhere", "hf_hub": "", **tag}
            monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", config)
            monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"trained": pretrained})
            monkeypatch.setattr(
                open_clip.factory, "download_pretrained", lambda *_, **__: str(tmp_path / "weights.safetensors")
            )
            return module

        return add

    @pytest.mark.parametrize("configured", few([False, True], [False]))
    @pytest.mark.parametrize("wanted", few([False, True], [True]))
    def test_loaded_model_has_the_activation_of_its_tag(self, configured: bool, wanted: bool, listed: Callable) -> None:
        module = listed(configured, quick_gelu=wanted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a warning of OpenCLIP, if the tag names GELU
            model = load_model("open_clip:tiny/trained")
        kinds = {type(part).__name__ for part in model.module.modules()}
        assert ("QuickGELU" in kinds, "GELU" in kinds) == (wanted, not wanted)
        agree(model, load_model(module))
        result = explain(model, tiny.image(), "a cat")
        assert result.model["quick_gelu"] is wanted
        noted = [text for text in result.warnings if "GELU" in text]
        expected = "need QuickGELU" if wanted else "need GELU"
        assert [expected in text for text in noted] == ([True] if configured != wanted else [])
        assert Explanation.from_json(result.to_json()).model == result.model

    @pytest.mark.slow
    def test_wrong_activation_changes_the_maps(self, listed: Callable) -> None:
        module = listed(False, quick_gelu=True)
        wrong = open_clip.CLIP(**tiny.configuration()).eval()
        wrong.load_state_dict(module.state_dict())
        right, other = (explain(one, tiny.image(), "a cat") for one in ("open_clip:tiny/trained", wrong))
        assert not torch.allclose(right.image.scores, other.image.scores, rtol=1e-3)
        expected = explain(module, tiny.image(), "a cat")
        assert_close(
            right.image.scores, expected.image.scores, 1e-6
        )  # not to the bit: weights of files are aligned otherwise

    @pytest.mark.slow
    def test_matching_activation_gives_no_note(self, listed: Callable) -> None:
        listed(False)
        result = explain("open_clip:tiny/trained", tiny.image(), "a cat")
        assert result.model["quick_gelu"] is False
        assert not [text for text in result.warnings if "GELU" in text]


def test_sides_of_whole_images_are_multiples_of_the_stride() -> None:
    """A size that is no multiple of the stride (66 of 32, as 260 in EfficientNet-Lite2) does not change the stride."""
    built = tiny.trunk(lambda: timm.create_model("test_efficientnet"), "avg", size=66, gain=1.2)
    model = load_model(built.module, processor=built.processor, tokenizer=built.tokenizer, resize="whole")
    assert model.image.preparation.resize.multiple == 32
    height, width = model.image.prepare([read_image(Image.new("RGB", (200, 90)))]).values.shape[-2:]
    assert (height % 32, width % 32) == (0, 0)


@pytest.mark.slow
def test_folder_like_a_repository_of_timm_is_loaded(tmp_path: Path) -> None:
    """It has OpenCLIP's configuration beside that of timm, which is no configuration of Transformers."""
    vision = {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_proj": "linear", "image_size": 160}
    config = {**tiny.configuration(), "vision_cfg": vision}
    module = tiny.randomized(lambda: open_clip.CustomTextCLIP(**config))
    save_file(module.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps(
            {"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
        )
    )
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_vit", "num_classes": 0, "num_features": 64})
    )
    model = load_model(tmp_path)
    assert model.family == "open_clip"
    inputs = model.image.prepare([tiny.image()])
    with torch.no_grad():
        torch.testing.assert_close(model.image.encode(inputs), module.encode_image(inputs.values))
