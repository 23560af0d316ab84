"""The files of OpenCLIP's models that lie on a hub: weights of a tag, tokenizers and configurations of text encoders.

They are taken from the cache if they are there, without a request to the hub.
"""

from pathlib import Path
from typing import Any

from nibt.io import load_json
from nibt.models._hub import config_folder, tokenizer_folder, weights_file
from nibt.records import JsonObject

_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # in the order of OpenCLIP
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model")
_PREPROCESS = ("mean", "std", "interpolation", "resize_mode", "fill_color")  # what a tag may change


def weights_of(name: str, tag: str) -> tuple[str, JsonObject, dict[str, str]]:
    """Return the weights of a tag."""
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
    config = load_json(Path(location, "open_clip_config.json"))
    return config["model_cfg"]["text_cfg"]


def encoder_options(text: JsonObject) -> JsonObject:
    """Return the options with which the text encoder is created without a request to the hub."""
    encoder = str(text.get("hf_model_name", ""))
    if not _on_hub(encoder):
        return {}
    return {"text_cfg": {**text, "hf_model_name": str(config_folder(encoder)), "hf_model_pretrained": False}}


def tokenizer_of(name: str, text: JsonObject) -> Any:
    """Return the tokenizer of a model. Code that comes with it is never run."""
    import open_clip
    from open_clip.tokenizer import HFTokenizer

    source = str(text.get("hf_tokenizer_name", ""))
    if not source:
        return open_clip.get_tokenizer(name)
    folder = Path(name.partition(":")[2]) if ":" in name else None
    if _on_hub(source) and not (folder and any((folder / file).exists() for file in _TOKENIZERS)):
        folder = tokenizer_folder(source)
    if folder is None:
        return open_clip.get_tokenizer(name, trust_remote_code=False)
    options = {**text.get("tokenizer_kwargs", {}), "trust_remote_code": False}
    if text.get("context_length") is not None:
        options["context_length"] = text["context_length"]
    return HFTokenizer(str(folder), tokenizer_mode=text.get("tokenizer_mode"), **options)


def _on_hub(source: str) -> bool:
    """Return whether a name in a configuration is that of a repository on the hub, not of a folder."""
    return bool(source) and source.count("/") <= 1 and not Path(source).is_dir()
