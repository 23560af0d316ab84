"""Tests of ``nibt.models._in_memory``: what is taken off a model in memory, and what is refused."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from nibt.errors import BadOption, CannotLoad, Unsupported
from nibt.models._loading import load_model
from nibt.models._request import check_source
from tests import tiny
from tests.models.saved import agree, save


class DistributedDataParallel(nn.Module):
    """Has the name and the attribute of torch's, which needs a process group."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


class FullyShardedDataParallel(DistributedDataParallel):
    """Has the name of torch's, which needs a process group."""


class LightningModule(nn.Module):
    """Has the name of Lightning's base class."""


class Training(LightningModule):
    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            self.add_module(name, part)


class Holder(nn.Module):
    """As the modules of sentence-transformers, which hold a model and its processor."""

    def __init__(self, model: nn.Module, processor: Any = None) -> None:
        super().__init__()
        self.model, self.processor = model, processor


def clip() -> tiny.BuiltModel:
    return tiny.clip()


WRAPPED = {
    "DataParallel": nn.DataParallel,
    "DistributedDataParallel": DistributedDataParallel,
    "Lightning": lambda module: Training(network=module, loss=nn.CrossEntropyLoss()).eval(),
    "nested": lambda module: DistributedDataParallel(Training(network=module).eval()).eval(),
    "sentence-transformers": lambda module: nn.Sequential(Holder(module), nn.Identity()).eval(),
    "compiled in a wrapper": lambda module: DistributedDataParallel(torch.compile(module)).eval(),
}


@pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")  # torch's own, when it loads its compiler
@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_are_taken_off(name: str) -> None:
    built = clip()
    wrapped = WRAPPED[name](built.module).eval()
    model = load_model(wrapped, processor=built.processor)
    assert isinstance(model.module, CLIPModel)
    agree(model, tiny.model("clip"))


def test_processor_of_sentence_transformers_is_used() -> None:
    built = clip()
    agree(load_model(nn.Sequential(Holder(built.module, built.processor)).eval()), tiny.model("clip"))


def test_folder_of_sentence_transformers_is_loaded(tmp_path: Path) -> None:
    save("clip", tmp_path / "0_CLIPModel")
    (tmp_path / "modules.json").write_text("[]")
    model = load_model(tmp_path)
    assert model.id == str(tmp_path)
    agree(model, tiny.model("clip"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"type": "sentence_transformers.models.Dense"}]', "Dense of sentence-transformers in no folder"),
        ('[{"type": "sentence_transformers.models.Dense", "path": "../1"}]', "in no folder of its own"),
        ('[{"type": "some.Layer", "path": "2_Layer"}]', "has the module Layer"),
        ('{"a": 1}', "does not list the modules"),
        ("[[]]", "does not list the modules"),
    ],
)
def test_modules_of_sentence_transformers_are_not_left_out(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(CannotLoad, match=message):
        load_model(tmp_path)


def test_pair_is_not_changed() -> None:
    built = tiny.ALL["clip pair"]()
    for part in built.module:
        part.train()
    with pytest.raises(CannotLoad, match="in training mode"):
        load_model(built.module, processor=built.processor)
    assert all(part.training for part in built.module)


def load(source: Any) -> None:
    check_source(source)  # load_model calls it first, but in tests its types are checked before
    load_model(source, processor=clip().processor)


class TestRefused:
    def refuse(self, source: Any, message: str, kind: type[Exception] = CannotLoad) -> None:
        with pytest.raises(kind, match=message) as refused:
            load(source)
        assert len(str(refused.value)) < 600

    def test_other_types(self) -> None:
        built = clip()
        expected = r"a model must be a name, a folder, a module of PyTorch, or a pair"
        self.refuse([built.module], rf"{expected} .* \(got a list\)", BadOption)
        self.refuse(None, rf"{expected}.*\(got a NoneType\)", BadOption)
        self.refuse(built.processor, r"\(got a CLIPProcessor: pass the model first, and this as processor", BadOption)
        self.refuse(built.processor.tokenizer, r"pass the model first", BadOption)
        self.refuse(built.module.state_dict(), r"OrderedDict, as a state dict is: load it into its model", BadOption)
        self.refuse(CLIPModel, r"\(got the class CLIPModel: create an instance\)", BadOption)
        self.refuse((built.module,), r"\(got a tuple\)", BadOption)

    def test_long_names(self) -> None:
        self.refuse("x" * 300, r"at most 255 characters \(got 300, beginning with 'xxx", BadOption)
        self.refuse("a" * 300 + "/b", r"at most 255 characters", BadOption)

    def test_modules_that_hold_a_model(self) -> None:
        two = Training(student=clip().module, teacher=clip().module).eval()
        self.refuse(two, r"class Training are not supported, but this one holds a CLIPModel at .student, a CLIPModel")
        self.refuse(Holder(clip().module).eval(), r"holds a CLIPModel at .model: pass that part")
        further = nn.Sequential(Holder(clip().module), nn.Linear(12, 4)).eval()
        self.refuse(further, r"class Sequential are not supported with Linear after the encoder.* and give its folder")
        self.refuse(nn.Sequential(Holder(clip().module), nn.Tanh()).eval(), "with Tanh after the encoder")

    def test_pairs(self) -> None:
        vision, text = tiny.ALL["clip pair"]().module
        self.refuse((text, vision), r"must be an image model and a text model .* in this order \(got CLIPTextModelWith")
        self.refuse(vision, r"class CLIPVisionModelWithProjection are not supported alone: pass the pair")

    def test_sharded_models(self) -> None:
        self.refuse(FullyShardedDataParallel(clip().module).eval(), "FSDP are spread over processes: gather them")

    def test_quantized_models(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantized = torch.ao.quantization.quantize_dynamic(clip().module, {nn.Linear}, torch.qint8)
        self.refuse(quantized, "layers are quantized .*, and gradients cannot flow through them")

    def test_other_kernels_of_attention(self) -> None:
        module = clip().module
        module.config._attn_implementation = "flex_attention"
        self.refuse(module, r"is computed by 'flex_attention', which cannot be observed: call model.set_attn_impl")

    def test_models_whose_embeddings_differ_in_width(self) -> None:
        built = tiny.ALL["align"]()
        built.module.text_projection = nn.Linear(built.module.text_projection.in_features, 20).eval()
        with pytest.raises(CannotLoad, match="embeds images in 24 dimensions and captions in 20"):
            load_model(built.module, processor=built.processor, tokenizer=built.tokenizer)

    def test_scripted_models(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(nn.Sequential(nn.Linear(2, 2)).eval())
        self.refuse(scripted, r"a scripted or traced model cannot be observed: .*jit=False")

    def test_models_without_weights(self) -> None:
        with torch.device("meta"):
            module = CLIPModel(CLIPConfig(**clip().module.config.to_dict())).eval()
        self.refuse(module, "has no weights, since they are on the device 'meta'")

    def test_models_of_sounds(self) -> None:
        class ClapModel(nn.Module):
            """Has the name of the class of Transformers."""

        self.refuse(ClapModel().eval(), "class ClapModel are not supported: it compares sounds with captions")


def test_inputs_have_the_dtype_of_the_layer_that_takes_them() -> None:
    built = clip()
    patches = built.module.vision_model.embeddings.patch_embedding.double()
    patches.register_forward_hook(lambda module, args, out: out.float())
    model = load_model(built.module, processor=built.processor)
    assert model.image.prepare([tiny.image()]).values.dtype == torch.float64
    assert model.dtype == "float32"
    built.module.text_model.bfloat16()
    built.module.text_projection.bfloat16()
    half = load_model(built.module, processor=built.processor)
    assert (half.image.example.dtype, half.text.example.dtype) == (torch.float32, torch.bfloat16)


def test_ids_are_on_the_device_of_the_table() -> None:
    model = tiny.fresh("clip")
    assert model.text.first_weight is model.text.embedder.weight
    assert model.image.first_weight is model.module.vision_model.embeddings.patch_embedding.weight
    adapted = tiny.model("clip adapted").text
    assert adapted.first_weight.device == adapted.example.device


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"tokenizer": 3}, "tokenizer must be a tokenizer .got 3"),
        ({"tokenizer": 0}, "tokenizer must be a tokenizer .got 0"),
        ({"tokenizer": len}, "tokenizer must be a tokenizer of Transformers .got a builtin_function_or_method"),
        ({"processor": 3}, "processor must be a processor, or the folder or the name of a model .got 3"),
        ({"processor": len, "tokenizer": tiny.clip_tokenizer(True)}, "must have an image processor of Transformers"),
    ],
)
def test_what_is_no_processor_or_tokenizer_is_named(parts: dict[str, Any], message: str) -> None:
    built = clip()
    with pytest.raises(BadOption, match=message):
        load_model(built.module, **{"processor": built.processor, **parts})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_mean", [float("nan")] * 3),
        ("image_std", [float("inf")] * 3),
        ("image_std", [0.5, 0.0, 0.5]),
        ("rescale_factor", float("nan")),
    ],
)
def test_settings_of_a_processor_are_blamed_and_not_the_weights(name: str, value: Any) -> None:
    built = clip()
    processor = copy.deepcopy(built.processor)
    setattr(processor.image_processor, name, value)
    with pytest.raises(Unsupported, match=f"{name} of the image processor must have finite numbers"):
        load_model(built.module, processor=processor)
