"""OpenCLIP's models: its own ViTs, ResNets and text towers, timm trunks, Hugging Face encoders, CoCa.

``CLIP``, ``CustomTextCLIP`` and the contrastive part of ``CoCa`` keep their parts in different attributes. This module
chooses the towers, which ``image.py`` and ``text.py`` define.
"""

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nibt.errors import BadOption, CannotLoad
from nibt.models._embedded import EMBEDDED
from nibt.models._failures import step
from nibt.models._family import Family
from nibt.models._hub import config_folder, tokenizer_folder, weights_file
from nibt.models._reasons import no_connection
from nibt.models._request import LoadRequest
from nibt.models._saved import check_built, json_object
from nibt.models._text_tower import TextTower
from nibt.models.base import ImageTower
from nibt.preprocessing.captions import Tokenizer
from nibt.records import JsonObject

FILE = "open_clip_config.json"
_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order of OpenCLIP
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
_PREPROCESS = ("mean", "std", "interpolation", "resize_mode", "fill_color")  # what a tag may change


def weights_of(name: str, tag: str) -> tuple[str, JsonObject, dict[str, str]]:
    """Return the weights of a tag, from the cache if they are there, without a request to the hub."""
    import open_clip

    pretrained = open_clip.get_pretrained_cfg(name, tag)
    repository, _, file = (pretrained.get("hf_hub") or "").rpartition("/")
    if "file" in pretrained or repository.count("/") != 1:
        return tag, {}, {}

    names = [file.rpartition(".")[0] + ".safetensors", file] if file else _WEIGHTS
    path, commit = weights_file(repository, names)
    preprocess = {key: pretrained[key] for key in _PREPROCESS if pretrained.get(key) is not None}
    return str(path), {"force_preprocess_cfg": preprocess}, {"revision": commit}


def text_config(name: str) -> JsonObject:
    """Return the configuration of a model's text tower."""
    import open_clip

    location = name.partition(":")[2]
    if not location:
        return (open_clip.get_model_config(name) or {}).get("text_cfg", {})
    return model_config(Path(location))["text_cfg"]


def model_config(folder: Path) -> JsonObject:
    """Return the configuration of a model in a folder, which has an object for each tower."""
    config = json_object(folder / FILE)
    model: Any = config.get("model_cfg")
    parts = {"model_cfg": model}
    if isinstance(model, dict):
        parts |= {f"model_cfg.{key}": model.get(key) for key in ("vision_cfg", "text_cfg")}
    for name, value in parts.items():
        if not isinstance(value, dict):
            raise CannotLoad(
                f"{name} in {folder / FILE} must be an object, as OpenCLIP writes it (got {value!r:.60}): correct the "
                "file, or save the model again with open_clip.push_to_hf_hub or save_for_hf"
            )

    return model


def check_folder(folder: Path, options: JsonObject) -> None:
    """Check that the configuration of a folder describes a model that its files can hold."""
    import open_clip

    config = {**model_config(folder), **options}
    towers = {"vision_cfg": {**config["vision_cfg"]}, "text_cfg": {**config["text_cfg"]}}
    has_trunk = "timm_model_name" in towers["vision_cfg"]
    has_encoder = "hf_model_name" in towers["text_cfg"]
    towers["vision_cfg"] |= {"timm_model_pretrained": False} if has_trunk else {}
    towers["text_cfg"] |= {"hf_model_pretrained": False} if has_encoder else {}
    is_custom = config.pop("custom_text", False) or has_encoder

    custom_class = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    model_class: Any = custom_class if is_custom else open_clip.CLIP
    check_built(str(folder), folder, FILE, lambda: model_class(**{**config, **towers}))


def encoder_options(text: JsonObject) -> JsonObject:
    """Return the options with which the text encoder is created without a request to the hub."""
    encoder = str(text.get("hf_model_name", ""))
    if not _on_hub(encoder):
        return {}
    folder = str(_fetched(config_folder, encoder, "hf_model_name", "set it to a folder with that config.json"))
    return {"text_cfg": {**text, "hf_model_name": folder, "hf_model_pretrained": False}}


def _fetched(fetch: Callable[[str], Path], repository: str, key: str, remedy: str) -> Path:
    """Return a folder of another repository that a configuration names; an error names it, too."""
    try:
        return fetch(repository)
    except Exception as error:  # of several libraries
        if (reason := no_connection(error)) is None:
            raise
        needed = f"the model also needs files of {repository!r}, which {key} in its open_clip_config.json names, and "
        raise CannotLoad(f"{needed}{reason}; or {remedy}") from error


def tokenizer_of(name: str, text: JsonObject) -> Any:
    """Return the tokenizer of a model. Code that comes with it is never run."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    source = str(text.get("hf_tokenizer_name", ""))
    if not source:
        return open_clip.get_tokenizer(name)

    folder = Path(name.partition(":")[2]) if ":" in name else None
    if _on_hub(source) and not (folder and any((folder / file).exists() for file in _TOKENIZERS)):
        folder = _fetched(tokenizer_folder, source, "hf_tokenizer_name", "copy its tokenizer into the model's folder")
    if folder is None:
        return open_clip.get_tokenizer(name, trust_remote_code=False)

    options = {**text.get("tokenizer_kwargs", {}), "trust_remote_code": False}
    if text.get("context_length") is not None:
        options["context_length"] = text["context_length"]
    return HFTokenizer(str(folder), tokenizer_mode=text.get("tokenizer_mode"), **options)


def _on_hub(source: str) -> bool:
    """Return whether a name in a configuration is that of a repository on the hub, not of a folder."""
    return bool(source) and source.count("/") <= 1 and not Path(source).is_dir()


class OpenCLIP(Family):
    """The models of ``open_clip.create_model``, from a hub, a folder or memory, and those of OpenAI's package."""

    @staticmethod
    def load(source: str, request: LoadRequest) -> tuple[nn.Module, LoadRequest]:
        """Load a model from ``ARCHITECTURE/TAG`` or ``local-dir:FOLDER``."""
        name, _, tag = (source, "", "") if ":" in source else source.partition("/")
        if ":" not in source:
            _check_names(name, tag)
        if request.processor is not None:
            raise BadOption(
                "processor cannot be set for a model of OpenCLIP, which prepares images as its preprocess_cfg says "
                f"(got {type(request.processor).__name__}): leave it out, or correct preprocess_cfg in {FILE}"
            )

        default = torch.get_default_dtype()  # in which OpenCLIP creates a model
        if default not in (torch.float32, torch.float64):
            raise CannotLoad(
                f"torch's default dtype is {default}, and OpenCLIP would round the weights to it: call "
                "torch.set_default_dtype(torch.float32) before the model is loaded, and set its dtype with dtype=..."
            )

        folder = Path(source.partition(":")[2])
        if folder == EMBEDDED / "lite":
            from nibt.models.open_clip import lite

            module, tokenizer = lite.load(folder, request.tokenizer)
            return module.to(request.dtype), replace(request, tokenizer=tokenizer)

        import open_clip

        text = text_config(name)
        tokenizer = request.tokenizer or tokenizer_of(name, text)  # before the weights, which may be large
        options = encoder_options(text)
        if ":" in source:
            check_folder(folder, options)
        if tag:
            quick, note = quick_gelu(name, tag)
            tag, preprocess, facts = weights_of(name, tag)
            options |= {"force_quick_gelu": quick, "quick_gelu": quick, **preprocess}  # only the second can be false
            facts = {**request.facts, **facts, "quick_gelu": quick}
            request = replace(request, notes=(*request.notes, *note), facts=facts)

        remedy = f"save the model again with weights that fit its {FILE}"
        with step(source, "OpenCLIP cannot create it from its configuration and its weights", remedy):
            module = open_clip.create_model(
                name,
                pretrained=tag or None,
                force_image_size=None if request.resize == "whole" else request.image_size,
                require_pretrained=True,
                weights_only=True,
                **options,
            )

        return module.to(request.dtype), replace(request, tokenizer=tokenizer)

    @staticmethod
    def towers(module: nn.Module, request: LoadRequest) -> tuple[ImageTower, TextTower]:
        from nibt.models.open_clip import lite
        from nibt.models.open_clip.openai import OpenAIResNet, OpenAIText, OpenAIViT, is_openai
        from nibt.models.open_clip.text import HuggingFaceText, OwnText

        if hasattr(getattr(module, "text", None), "blocks"):
            raise CannotLoad("OpenCLIP's ModernTextTransformer is not supported: use a model with another text tower")

        tokenizer = request.tokenizer or own_tokenizer(module)
        if not (hasattr(tokenizer, "byte_decoder") or hasattr(tokenizer, "tokenizer")):
            raise CannotLoad(
                f"tokenizer must be one of OpenCLIP (got {type(tokenizer).__name__}): pass open_clip.get_tokenizer(...)"
            )
        if is_openai(module):
            image = OpenAIViT if hasattr(module.visual, "transformer") else OpenAIResNet
            return image(module, request), OpenAIText(module, tokenizer)

        if isinstance(module, lite.CustomTextCLIP):
            return _image_tower(module, request), lite.LiteText(module, tokenizer)

        text = HuggingFaceText if hasattr(getattr(module, "text", None), "config") else OwnText
        return _image_tower(module, request), text(module, tokenizer)


def own_tokenizer(module: nn.Module) -> Tokenizer:
    """Return CLIP's byte-pair tokenizer if its vocabulary fits the model in memory."""
    import open_clip

    context_length: Any = module.context_length
    tokenizer = open_clip.SimpleTokenizer(context_length=context_length)
    if getattr(module, "text", module).vocab_size != tokenizer.vocab_size:
        raise CannotLoad("the vocabulary of the model is not CLIP's: pass tokenizer=open_clip.get_tokenizer(...)")
    return tokenizer


def _check_names(name: str, tag: str) -> None:
    import open_clip

    if name not in open_clip.list_models():
        near = ", ".join(get_close_matches(name, open_clip.list_models(), n=3)) or ", ".join(open_clip.list_models())
        raise CannotLoad(f"OpenCLIP has no architecture {name!r}; similar names: {near}")

    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag not in tags and not Path(tag).is_file():
        problem = f"has no weights {tag!r}" if tag else "names no weights"
        raise CannotLoad(f"open_clip:{name} {problem}: write open_clip:{name}/TAG (tags: {', '.join(tags) or 'none'})")


def quick_gelu(name: str, tag: str) -> tuple[bool, tuple[str, ...]]:
    """Return whether an architecture must use QuickGELU for the weights of a tag, and a warning if the two disagree.

    OpenCLIP lists for each tag whether its weights were trained with QuickGELU, but follows the configuration of the
    architecture and only warns. Here the tag has priority. A tag without an entry leaves the architecture unchanged.
    """
    import open_clip

    configured = bool((open_clip.get_model_config(name) or {}).get("quick_gelu", False))
    pretrained = open_clip.get_pretrained_cfg(name, tag)
    listed = bool(pretrained.get("quick_gelu", configured))
    activations = {True: "QuickGELU", False: "GELU"}
    note = ()
    if listed != configured:
        note = (
            f"the weights {name}/{tag} need {activations[listed]}, and OpenCLIP's configuration of {name} has "
            f"{activations[configured]}: {activations[listed]} is used",
        )
    elif configured and pretrained and "quick_gelu" not in pretrained:
        note = (
            f"OpenCLIP does not list whether the weights {name}/{tag} need QuickGELU: it is used, as the "
            f"configuration of {name} says",
        )

    return listed, note


def _image_tower(module: nn.Module, request: LoadRequest) -> ImageTower:
    from nibt.models.open_clip.image import ConvolutionalTower, OwnViT, SwinTower, TimmViT

    visual = module.visual
    if hasattr(visual, "transformer"):
        return OwnViT(module, request)
    if hasattr(getattr(visual, "trunk", None), "num_prefix_tokens"):
        return TimmViT(module, request)

    channels_last = getattr(getattr(visual, "trunk", None), "output_fmt", "NCHW") == "NHWC"  # as timm's trunks say
    tower = SwinTower if channels_last else ConvolutionalTower
    return tower(module, request)
