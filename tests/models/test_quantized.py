"""Tests of ``nibt.models._dense_layers``: models that users load in 4 or 8 bits compute what they compute themselves.

A model is built from the configuration of a small one with the sizes that the kernels of bitsandbytes need, saved,
and quantized when it is loaded, as users do.
"""

import copy
import weakref
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

import nibt
from nibt.errors import CannotLoad
from nibt.generators.answers import ForcedWord, Prompted
from nibt.generators.loading import load_generator
from nibt.models import _dense_layers
from nibt.models._dense_layers import dense_layers, dense_weight
from nibt.models._loading import load_model
from nibt.models._precision import is_quantized
from tests import tiny, tiny_vision_language
from tests.helpers import assert_close
from tests.models.saved import agree, edit
from tests.pretend_device import pretend
from tests.shared_models import module_state
from tests.suites import few

pytest.importorskip("bitsandbytes")

from transformers import BitsAndBytesConfig

IMAGE, PROMPT, ANSWER = tiny.image(), "Describe the image .", "a red cat on a mat"
SIZES = {"hidden_size": 64, "embed_dim": 64, "intermediate_size": 128, "num_attention_heads": 8}
SIZES |= {"num_key_value_heads": 4, "num_heads": 8, "projection_dim": 64, "projection_size": 64}
WAYS: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4 twice": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "nf4 in bfloat16": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch.bfloat16,
        "bnb_4bit_quant_storage": torch.bfloat16,
    },
    "int8": {"load_in_8bit": True},
}
DUAL, GENERATORS = ("clip", "siglip"), ("llava", "qwen2_vl")
ways = pytest.mark.parametrize("way", few(WAYS, ["nf4", "int8"]))
duals = pytest.mark.parametrize("kind", few(DUAL, ["clip"]))
generators = pytest.mark.parametrize("kind", few(GENERATORS, ["llava"]))


def widened(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a configuration with sizes that are multiples of 64."""
    return {
        key: widened(value) if isinstance(value, dict) else SIZES.get(key, value) if value else value
        for key, value in values.items()
    }


@cache
def folder(kind: str) -> Path:
    """Return a folder with a model in float32 and its processor."""
    built = tiny.ALL[kind]() if kind in DUAL else tiny_vision_language.built(kind)
    config = type(built.module.config).from_dict(widened(built.module.config.to_dict()))
    place = Path(mkdtemp())
    tiny.randomized(lambda: type(built.module)(config)).save_pretrained(place)
    for part in (built.processor, built.tokenizer):
        if part is not None:
            part.save_pretrained(place)
    return place


def quantized(kind: str, way: str, dtype: torch.dtype = torch.float32, skipped: Any = None, **options: Any) -> Any:
    """Return a model that Transformers quantizes when it loads it."""
    built = tiny.ALL[kind]() if kind in DUAL else tiny_vision_language.built(kind)
    config = BitsAndBytesConfig(**WAYS[way], llm_int8_skip_modules=skipped)
    return type(built.module).from_pretrained(folder(kind), quantization_config=config, dtype=dtype, **options)


def loaded(kind: str, module: nn.Module) -> Any:
    built = tiny.ALL[kind]() if kind in DUAL else tiny_vision_language.built(kind)
    if kind in GENERATORS:
        return load_generator(module, processor=built.processor)
    return load_model(module, processor=built.processor, tokenizer=built.tokenizer)


def itself(module: Any) -> Any:
    """Return a copy of a model for its own forward passes, which repack weights in bfloat16 on some processors."""
    own = copy.deepcopy(module)
    for layer in own.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    return own


def dense(module: Any) -> Any:
    """Return a copy of a model with the numbers that its quantized weights stand for in plain layers."""
    config = copy.deepcopy(module.config)
    vars(config).pop("quantization_config", None)
    own = type(module)(config).eval()
    for name, weight in own.named_parameters():
        holder = module.get_submodule(name.rpartition(".")[0])
        quantized = is_quantized(holder) and name.endswith("weight")
        weight.data = dense_weight(holder) if quantized else module.get_parameter(name).detach().float()
    own.load_state_dict(dict(module.named_buffers()), strict=False)
    return own


def embed(module: Any, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return module.get_image_features(pixels.to(module.dtype)).pooler_output.float()


@pytest.mark.parametrize("way", few(WAYS, ["nf4"]))
@duals
def test_embeddings_are_those_of_the_model_itself(kind: str, way: str) -> None:
    module = quantized(kind, way)
    before, model = module_state(module), loaded(kind, module)
    inputs = model.image.prepare([IMAGE])
    actual, expected = model.image.encode(inputs), embed(itself(module), inputs.values)
    assert_close(actual, expected, 0.05 if way in ("int8", "nf4 in bfloat16") else 1e-5)
    assert_close(actual, embed(dense(module), inputs.values), 1e-5)
    nibt.explain(model, IMAGE, tiny.CAPTIONS[0])
    assert module_state(module) == before


@ways
@duals
def test_sums_are_the_change(kind: str, way: str) -> None:
    path = nibt.explain(loaded(kind, quantized(kind, way)), IMAGE, tiny.CAPTIONS[0], steps=20).image.path
    assert path is not None
    assert abs(path.gap) <= 0.02 * abs(path.at_input - path.at_baseline)


@duals
def test_occlusion_is_that_by_hand(kind: str) -> None:
    module = quantized(kind, "nf4")
    model, own = loaded(kind, module), itself(module)
    inputs, text = model.image.prepare([IMAGE]), model.text.encode(model.text.prepare([tiny.CAPTIONS[0]]))
    actual = nibt.explain(model, IMAGE, tiny.CAPTIONS[0], "occlusion", target="cosine").image
    columns = int(len(actual.scores.flatten()) ** 0.5)
    side = inputs.values.shape[-1] // columns
    for row, column in ((0, 0), (1, 2)):
        hidden = inputs.values.clone()
        hidden[..., row * side : (row + 1) * side, column * side : (column + 1) * side] = model.image.blank_value
        drop = [torch.cosine_similarity(embed(own, pixels), text) for pixels in (inputs.values, hidden)]
        torch.testing.assert_close(
            actual.scores.flatten()[row * columns + column], (drop[0] - drop[1])[0], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("way", few(WAYS, ["nf4"]))
@generators
def test_answers_are_those_of_the_model_itself(kind: str, way: str) -> None:
    module = quantized(kind, way)
    generator, own = loaded(kind, module), itself(module) if way in ("nf4", "fp4 twice") else dense(module)
    before, tower = module_state(module), generator.answers
    values = generator.request.processor(text=[tower.chat(PROMPT)], images=[IMAGE.pil_image], return_tensors="pt")
    written = tower.write(Prompted(IMAGE, PROMPT), 3)
    count = len(written.ids)
    out = own.generate(
        **values, do_sample=False, max_new_tokens=count, output_logits=True, return_dict_in_generate=True
    )
    assert out.sequences[0, -count:].tolist() == list(written.ids)
    actual = tower.logits(tower.encode(tower.prepare([ForcedWord(Prompted(IMAGE, PROMPT), written)])))
    torch.testing.assert_close(actual.log_softmax(-1), torch.stack(out.logits, 1).log_softmax(-1), atol=1e-4, rtol=0)
    answer = nibt.explain_answer(generator, IMAGE, PROMPT, answer=ANSWER, steps=8, other_images=[])
    assert answer.adds_up
    assert module_state(module) == before


@pytest.mark.parametrize("way", few(WAYS, ["nf4"]))
@pytest.mark.parametrize("kind", few([*DUAL, *GENERATORS], ["llava"]))
def test_folders_are_loaded(kind: str, way: str, tmp_path: Path) -> None:
    module = quantized(kind, way)
    module.save_pretrained(tmp_path)
    for file in folder(kind).iterdir():
        if "token" in file.name or "processor" in file.name or "chat" in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    model = load_model(tmp_path) if kind in DUAL else load_generator(tmp_path)
    expected = loaded(kind, module)
    assert model.weights_hash == expected.weights_hash != loaded(kind, dense(module)).weights_hash
    format = way[:3] if way != "int8" else way
    assert model.record()["quantization"] == f"{format} (bitsandbytes)"
    assert model.record()["dtype"] == "float32"
    assert f"float32, {format} (bitsandbytes) on cpu" in repr(model)
    assert "quantization" not in loaded(kind, dense(module)).record()
    if kind in DUAL:
        agree(model, expected)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", few([torch.float16, torch.bfloat16], [torch.float16]))
@pytest.mark.parametrize("way", few(WAYS, ["nf4 in bfloat16"]))
def test_other_weights_may_be_in_half_precision(way: str, dtype: torch.dtype) -> None:
    module = quantized("clip", way, dtype)
    before = {name: (weight.dtype, weight.data_ptr()) for name, weight in module.named_parameters()}
    model, single = loaded("clip", module), loaded("clip", dense(module))
    assert model.dtype == str(dtype).removeprefix("torch.")
    actual, expected = (nibt.explain(one, IMAGE, tiny.CAPTIONS[0]) for one in (model, single))
    assert_close(actual.image.scores, expected.image.scores, 1e-4)
    assert_close(actual.text.scores, expected.text.scores, 1e-4)
    inputs = model.image.prepare([IMAGE])
    assert_close(model.image.encode(inputs), embed(itself(module), inputs.values), 0.05)
    assert {name: (weight.dtype, weight.data_ptr()) for name, weight in module.named_parameters()} == before


@pytest.mark.slow
def test_regions_take_derivatives_in_forward_mode() -> None:
    module = quantized("clip", "nf4")
    actual, expected = (
        nibt.regions(loaded("clip", one), IMAGE, tiny.CAPTIONS[0], steps=2) for one in (module, dense(module))
    )
    assert_close(actual.table, expected.table, 1e-4)


def test_models_that_computed_before_are_explained() -> None:
    """Some processors repack weights in the first forward pass, with scales in bfloat16."""
    module = quantized("clip", "fp4 twice")
    inputs = loaded("clip", module).image.prepare([IMAGE])
    own = embed(module, inputs.values)
    before, model = module_state(module), loaded("clip", module)
    assert_close(model.image.encode(inputs), own, 0.05)
    assert nibt.explain(model, IMAGE, tiny.CAPTIONS[0]).image.scores.any()
    assert module_state(module) == before
    assert torch.equal(embed(module, inputs.values), own)


def test_graphs_keep_no_dense_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph with them would take more memory than a model in float32."""
    model, references = loaded("clip", quantized("clip", "nf4")), []

    def remember(layer: nn.Module) -> Tensor:
        weight = dense_weight(layer)
        references.append(weakref.ref(weight))
        return weight

    cut = model.image.trace(model.image.prepare([IMAGE])).cut(0)
    states = cut.hidden[None].requires_grad_()
    monkeypatch.setattr(_dense_layers, "dense_weight", remember)
    out = cut.rest(states)
    assert len(references) > 6 * (model.image.depth - 1)
    assert not any(reference() is not None for reference in references)
    assert torch.autograd.grad(out.sum(), states)[0].any()


def test_other_threads_compute_as_before() -> None:
    module = quantized("clip", "nf4")
    model, pixels = loaded("clip", module), torch.zeros(1, 3, 32, 32)
    expected, results = embed(itself(module), pixels), []
    own = itself(module)
    with dense_layers({path: layer for path, layer in own.named_modules() if is_quantized(layer)}):
        thread = Thread(target=lambda: results.append(embed(own, pixels)))
        thread.start()
        thread.join()
    assert torch.equal(results[0], expected)
    assert model.quantization == "nf4 (bitsandbytes)"


@pytest.mark.filterwarnings("ignore:.*is deprecated:FutureWarning")  # PEFT calls it
def test_adapters_on_quantized_weights() -> None:
    """As QLoRA trains them."""
    lora = LoraConfig(target_modules=["q_proj", "v_proj"], r=2, init_lora_weights=False)
    module = quantized("clip", "nf4")
    plain = dense(module)
    adapted = get_peft_model(module, lora).eval()
    expected = get_peft_model(plain, lora).eval()
    expected.load_state_dict({n: w for n, w in adapted.state_dict().items() if "lora" in n}, strict=False)
    model = loaded("clip", adapted)
    inputs = model.image.prepare([IMAGE])
    assert_close(model.image.encode(inputs), embed(expected, inputs.values), 1e-5)


class TestTorchao:
    def quantized(self, config: str, dtype: torch.dtype = torch.float32) -> Any:
        reason = "torchao is not part of the tools of developers"
        quantization = pytest.importorskip("torchao.quantization", reason=reason)
        module = type(tiny.ALL["clip"]().module).from_pretrained(folder("clip"), dtype=dtype)
        quantization.quantize_(module, getattr(quantization, config)())
        return module

    @pytest.mark.parametrize("config", ["Int8WeightOnlyConfig", "Float8WeightOnlyConfig", "IntxWeightOnlyConfig"])
    def test_quantized_weights(self, config: str) -> None:
        module = self.quantized(config)
        model, plain = loaded("clip", module), loaded("clip", dense(module))
        inputs = model.image.prepare([IMAGE])
        assert_close(model.image.encode(inputs), embed(module, inputs.values), 1e-5)
        actual, expected = (nibt.explain(one, IMAGE, tiny.CAPTIONS[0]) for one in (model, plain))
        assert_close(actual.image.scores, expected.image.scores, 1e-4)
        assert model.record()["quantization"].endswith("Tensor (torchao)")
        assert len(model.weights_hash) == 16

    def test_scales_in_half_precision(self) -> None:
        module = self.quantized("IntxWeightOnlyConfig", torch.bfloat16)
        model, plain = loaded("clip", module), loaded("clip", dense(module))
        actual, expected = (nibt.explain(one, IMAGE, tiny.CAPTIONS[0]) for one in (model, plain))
        assert_close(actual.image.scores, expected.image.scores, 1e-4)
        assert model.dtype == "bfloat16"

    def test_quantized_inputs_are_refused(self) -> None:
        module = self.quantized("Int8DynamicActivationInt8WeightConfig")
        with pytest.raises(CannotLoad, match=r"Linear in Int8Tensor \(torchao\), which rounds its inputs, too, and"):
            loaded("clip", module)


class TestRefused:
    @pytest.mark.parametrize("method", ["gptq", "awq", "fp8"])
    def test_methods_without_gradients(self, method: str, tmp_path: Path) -> None:
        for file in folder("clip").iterdir():
            (tmp_path / file.name).write_bytes(file.read_bytes())
        edit(tmp_path / "config.json", quantization_config={"quant_method": method, "bits": 4})
        with pytest.raises(
            CannotLoad, match=f"is quantized by '{method}', and only bitsandbytes and torchao are supported: use a"
        ):
            load_model(tmp_path)
        module = tiny.clip().module
        module.config.quantization_config = {"quant_method": method, "bits": 4}
        with pytest.raises(CannotLoad, match=f"CLIPModel in memory is quantized by '{method}'"):
            loaded("clip", module)

    def test_layers_that_are_not_quantized_yet(self) -> None:
        import bitsandbytes

        module = tiny.clip().module
        module.visual_projection = bitsandbytes.nn.Linear4bit(24, 12).eval()
        with pytest.raises(CannotLoad, match=r"Linear4bit in fp4 .*, which is not quantized yet: move the model"):
            loaded("clip", module)

    def test_classes_that_convert_states_to_the_dtype_of_weights(self) -> None:
        """Their own forward passes fail, too."""
        module = quantized("colpali", "nf4")
        with pytest.raises(CannotLoad, match=r"of its layer embedding_proj_layer to torch.uint8, .*: leave this layer"):
            loaded("colpali", module)
        model = loaded("colpali", quantized("colpali", "nf4", skipped=["embedding_proj_layer"]))
        assert model.quantization == "nf4 (bitsandbytes)"


class TestDevices:
    """Of accelerate, which Transformers needs for ``device_map``."""

    @pytest.mark.parametrize("map", few(["auto", {"": "cpu"}], ["auto"]))
    def test_one_device(self, map: Any) -> None:
        module = quantized("clip", "nf4", device_map=map)
        agree(loaded("clip", module), loaded("clip", quantized("clip", "nf4")))

    @pytest.mark.slow
    def test_layers_that_move_their_inputs(self) -> None:
        """As those of a model that was dispatched to a device."""
        module = quantized("llava", "nf4")
        parts = ("model.vision_tower", "model.multi_modal_projector", "model.language_model", "lm_head")
        expected = nibt.explain_answer(loaded("llava", module), IMAGE, PROMPT, answer=ANSWER, other_images=[])
        dispatch_model(module, dict.fromkeys(parts, "cpu"), main_device="cpu", force_hooks=True)
        actual = nibt.explain_answer(loaded("llava", module), IMAGE, PROMPT, answer=ANSWER, other_images=[])
        assert torch.equal(actual.table, expected.table)

    def test_offloaded_layers_are_refused(self) -> None:
        module = tiny.clip().module
        cpu_offload(module, torch.device("cpu"))
        with pytest.raises(CannotLoad, match=r"layers of the CLIPModel in memory are offloaded .*: load it on one dev"):
            loaded("clip", module)

    def test_several_devices_are_refused(self) -> None:
        module = tiny.clip().module
        several = pytest.raises(CannotLoad, match=r"are on several devices \(cpu, cuda\): load it on one device")
        with pretend("cuda", module.vision_model), several:
            loaded("clip", module)
