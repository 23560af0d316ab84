"""What nibt reads of a model: its class, an example prompt, how images are prepared, and whether it can be cut."""

import platform
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from nibt.data.images import ImageInput, read_image
from nibt.data.units import cells_of
from nibt.engine.spec import versions
from nibt.io import unicode_text
from nibt.models._checks import replay_cosines
from nibt.models._failures import WritesText
from nibt.models._inputs import Inputs
from nibt.models._loaded import LoadedModel
from nibt.models._loading import load_model
from nibt.models._request import GenerationOptions, LoadOptions, check_loading
from nibt.models.base import Model
from nibt.options import Keywords
from nibt.preprocessing.captions import TOKENIZER_LOCK
from nibt.registry import find, kinds

_IMAGE = "sample:chelsea"
_MOST = 1500  # characters of a value that are shown
_TOKENS = 60  # of a text that are shown


def load_any(name: str, loading: Keywords) -> LoadedModel:
    """Load a model that compares images with captions or, if it is none, one that writes."""
    try:
        model = load_model(name, **{key: value for key, value in loading.items() if key != "generation"})
    except WritesText:
        if not kinds("readings"):
            raise
        check_loading(loading, GenerationOptions)
        return find("readings", "generator").load(name, loading)

    check_loading(loading, LoadOptions)
    return model


def describe(model: LoadedModel, text: str | None = None) -> dict[str, str]:
    """Return what nibt reads of a model and of a caption or a prompt, one line per topic."""
    text = None if text is None else unicode_text("text", text)
    inner = model.module
    request = model.request
    image = read_image(_IMAGE)
    count = sum(weight.numel() for weight in inner.parameters())
    parts = [part for part in (request.image_processor, request.text_tokenizer) if part is not None]
    attention = getattr(getattr(inner, "config", None), "_attn_implementation", None)
    lines = {
        "model": str(model.id),
        "class": f"{type(inner).__name__}, family {model.family}" + (f", attention {attention}" if attention else ""),
        "weights": f"{count:,} numbers, {model.precision} on {model.device}, {model.weights_hash}"
        + (f", variant {request.variant}" if request.variant else ""),
        **_of_adapters(inner),
        "processor": ", ".join(type(part).__name__ for part in parts),
    }
    if isinstance(model, Model):
        lines |= _of_pair(model, image, text)
    else:
        lines |= find("readings", "generator").lines(model, image, text)

    unread = [(module, list(names)) for module, names in groupby(request.ignored, lambda name: name.split(".")[0])]
    ignored = (names[0] if len(names) == 1 else f"{len(names)} weights of {module}" for module, names in unread)
    lines["ignored"] = ", ".join(ignored) or "nothing"
    lines |= {"notes": "; ".join(dict.fromkeys(request.notes))} if request.notes else {}
    packages = ("nibt", "torch", "transformers", "open_clip_torch", "timm")
    numbers = [f"{name} {number}" for name, number in versions().items() if name in packages]
    lines["versions"] = ", ".join([*numbers, f"Python {platform.python_version()}", platform.system()])
    return {topic: value if len(value) <= _MOST else f"{value[:_MOST]} ..." for topic, value in lines.items()}


def _of_adapters(module: torch.nn.Module) -> dict[str, str]:
    """Return the line of the PEFT adapters in the layers of a model; none without any."""
    layers = [layer for layer in module.modules() if type(layer).__module__.startswith("peft.tuners.")]
    adapted: list[Any] = [layer for layer in layers if hasattr(layer, "active_adapters")]
    if not adapted:
        return {}

    kinds = sorted({type(layer).__module__.split(".")[2] for layer in adapted})
    active = sorted({name for layer in adapted for name in layer.active_adapters})
    state = "merged" if all(layer.merged for layer in adapted) else f"active {', '.join(active) or 'none'}"
    base = getattr(getattr(module, "config", None), "_name_or_path", "")
    line = f"{', '.join(kinds)} of PEFT in {len(adapted)} layers, {state}" + (f", on {base}" if base else "")
    return {"adapters": line}


def _of_pair(model: Model, image: ImageInput, text: str | None) -> dict[str, str]:
    """Return the lines of a model with two towers."""
    caption = model.text.sample if text is None else text
    tokens = model.text.tokens(caption)
    prepared = model.image.prepare([image])
    if model.is_fused:
        return _of_fused(model, image, prepared, caption)

    embedding = model.request.embedding
    cosines = []
    largest = 0.0
    prompts = {name: repr(embedding[name]) for name in ("pooling", "image_prompt", "text_prompt") if name in embedding}
    for tower, inputs in ((model.image, prepared), (model.text, model.text.prepare([caption]))):
        layers = replay_cosines(tower, tower.trace(inputs))
        largest = max(largest, abs(1 - min(layers.values())))
        cosines.append(f"{tower.modality} {', '.join(map(str, layers))}")

    return {
        "image": image_line(model.image, prepared, image, model.request.image_processor),
        "caption": f"{caption!r} becomes {token_line(tokens.texts)}" + "".join(f"; {note}" for note in tokens.notes),
        **prompts,
        "layers": f"image {model.image.depth}, text {model.text.depth}",
        "similarity": f"{model.similarity.name}, scale {model.scale:.4g}, bias {model.bias:.4g}",
        "cut": f"passed: cut at layers {'; '.join(cosines)}, embeddings are those of the whole model "
        f"(1 - cosine at most {largest:.0e})",
    }


def token_line(texts: Sequence[str]) -> str:
    """Return tokens as text, where equal ones in a row are counted."""
    runs = [(text, len(list(group))) for text, group in groupby(texts)]
    listed = [text if count == 1 else f"{text} x {count}" for text, count in runs]
    if len(listed) > _TOKENS:
        listed = [*listed[: _TOKENS // 3], "...", *listed[-2 * _TOKENS // 3 :]]
    return f"{len(texts)} {'token' if len(texts) == 1 else 'tokens'}: {' '.join(listed)}"


def _of_fused(model: Model, image: ImageInput, prepared: Inputs, caption: str) -> dict[str, str]:
    """Return the lines of a model that reads both inputs in one network."""
    words = model.text.tokens(caption)
    tokenizer = model.text.tokenizer
    with TOKENIZER_LOCK:
        tokens = tokenizer.convert_ids_to_tokens(tokenizer(caption, verbose=False)["input_ids"])
    with torch.no_grad():
        score = model.similarity(model.image.encode(prepared), model.text.encode(model.text.prepare([caption]))).item()

    return {
        "image": image_line(model.image, prepared, image, model.request.image_processor),
        "caption": f"{caption!r} has {len(words.ids)} words, and becomes {token_line(tokens)}",
        "score": f"{model.similarity.name}, {score:.4g} for the image and the caption above",
        "cut": "none: the model reads the image and the text in one network, so that methods that change inputs "
        "explain it",
    }


def image_line(tower: Any, inputs: Inputs, image: ImageInput, processor: object) -> str:
    """Return how an example image is prepared."""
    with torch.no_grad():
        grid = cells_of(tower.trace(inputs).cut(0).units)
    (region, *_), (width, height) = inputs.regions, image.size
    pixels = " x ".join(map(str, reversed(tower.extent(inputs))))
    numbers = [
        f"{name} {[round(number, 3) for number in getattr(processor, f'image_{name}')]}"
        for name in ("mean", "std")
        if getattr(processor, "do_normalize", False) and getattr(processor, f"image_{name}", None)
    ]
    return ", ".join(
        [
            f"of {_IMAGE}, {width} x {height} pixels, {region.width:.0f} x {region.height:.0f} are seen as {pixels}",
            f"in {grid.columns} x {grid.rows} cells",
            *numbers,
        ]
    )
