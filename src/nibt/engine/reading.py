"""What nibt reads of a model: its class, an example prompt, how images are prepared, and whether it can be cut."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

from nibt.data.images import ImageInput, read_image
from nibt.data.units import cells_of
from nibt.engine.spec import versions
from nibt.io import unicode_text
from nibt.models._answers import ForcedWord, Generator, Prompted
from nibt.models._checks import replay_cosines
from nibt.models._failures import WritesText
from nibt.models._load_generator import load_generator, replay_errors
from nibt.models._loading import load_model
from nibt.models._request import GenerationOptions, LoadOptions, check_loading
from nibt.models._trace import Inputs
from nibt.models._writing import changed_settings
from nibt.models.base import Model

_IMAGE, _CAPTION, _PROMPT, _ANSWER = "sample:chelsea", "a photo of a cat", "what is in the image", "a cat"
_MOST, _TOKENS = 1500, 60  # characters of a value, and tokens of a text, that are shown


def load_any(name: str, loading: Mapping[str, Any]) -> Model | Generator:
    """Load a model that compares images with captions or, if it is none, a generator."""
    try:
        model = load_model(name, **{key: value for key, value in loading.items() if key != "generation"})
    except WritesText:
        check_loading(loading, GenerationOptions)
        return load_generator(name, **loading)
    check_loading(loading, LoadOptions)
    return model


def describe(model: Model | Generator, text: str | None = None) -> dict[str, str]:
    """Return what nibt reads of a model and of a caption or a prompt, one line per topic."""
    text = None if text is None else unicode_text("text", text)
    inner, request, image = model.module, model.request, read_image(_IMAGE)
    count, tokenizer = sum(weight.numel() for weight in inner.parameters()), request.text_tokenizer
    attention = getattr(getattr(inner, "config", None), "_attn_implementation", None)
    lines = {
        "model": str(model.id),
        "class": f"{type(inner).__name__}, family {model.family}" + (f", attention {attention}" if attention else ""),
        "weights": f"{count:,} numbers, {model.precision} on {model.device}, {model.weights_hash}",
        "processor": f"{type(request.image_processor).__name__}, {type(tokenizer).__name__}",
    }
    lines |= _of_generator(model, image, text) if isinstance(model, Generator) else _of_pair(model, image, text)
    parts = [(module, list(names)) for module, names in groupby(request.ignored, lambda name: name.split(".")[0])]
    ignored = (names[0] if len(names) == 1 else f"{len(names)} weights of {module}" for module, names in parts)
    lines["ignored"] = ", ".join(ignored) or "nothing"
    lines |= {"notes": "; ".join(dict.fromkeys(request.notes))} if request.notes else {}
    packages = ("nibt", "torch", "transformers", "open_clip_torch", "timm")
    numbers = [f"{name} {number}" for name, number in versions().items() if name in packages]
    lines["versions"] = ", ".join([*numbers, f"Python {platform.python_version()}", platform.system()])
    return {topic: value if len(value) <= _MOST else f"{value[:_MOST]} ..." for topic, value in lines.items()}


def _of_pair(model: Model, image: ImageInput, text: str | None) -> dict[str, str]:
    """Return the lines of a model with two towers."""
    caption = _CAPTION if text is None else text
    tokens, embedding, cosines, largest = model.text.tokens(caption), model.request.embedding, [], 0.0
    prompts = {name: repr(embedding[name]) for name in ("pooling", "image_prompt", "text_prompt") if name in embedding}
    prepared = model.image.prepare([image])
    for tower, inputs in ((model.image, prepared), (model.text, model.text.prepare([caption]))):
        layers = replay_cosines(tower, tower.trace(inputs))
        largest = max(largest, abs(1 - min(layers.values())))
        cosines.append(f"{tower.modality} {', '.join(map(str, layers))}")
    return {
        "image": _image_line(model.image, prepared, image, model.request.image_processor),
        "caption": f"{caption!r} becomes {_token_line(tokens.texts)}" + "".join(f"; {note}" for note in tokens.notes),
        **prompts,
        "layers": f"image {model.image.depth}, text {model.text.depth}",
        "similarity": f"{model.similarity.name}, scale {model.scale:.4g}, bias {model.bias:.4g}",
        "cut": f"passed: cut at layers {'; '.join(cosines)}, embeddings are those of the whole model "
        f"(1 - cosine at most {largest:.0e})",
    }


def _of_generator(model: Generator, image: ImageInput, text: str | None) -> dict[str, str]:
    """Return the lines of a model that writes."""
    tower, tokenizer = model.answers, model.answers.tokenizer
    prompt = "" if tower.prompts == "none" else _PROMPT if text is None else text
    prompted = Prompted(image, prompt)
    answer = tower.read(prompted, _ANSWER)
    inputs = tower.prepare([ForcedWord(prompted, answer)])
    names = [name for name in ("question", "qformer_input_ids", "input_ids", "ids") if name in inputs.extra]
    ids = [inputs.extra[name][0].tolist() for name in names]
    if ids and ids[-1][-len(answer.ids) :] == list(answer.ids):  # after the prompt
        del ids[-1][-len(answer.ids) :]
    read = [_token_line(_texts(tokenizer, row)) for row in ids]
    settings = ", ".join(f"{name}={value}" for name, value in changed_settings(model.module).items())
    used = "used" if model.request.generation == "model" else "not used: generation=model uses them"
    ends = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    ends = [tokenizer.eos_token_id] if ends is None else ends if isinstance(ends, list) else [ends]
    errors = replay_errors(tower, inputs)
    cut = ", ".join(str(layer) for layer in errors if layer is not None)
    has_template = bool(getattr(model.request.processor, "chat_template", None))
    return {
        "image": _image_line(tower, inputs, image, model.request.image_processor),
        "prompt": f"{prompt!r} {'in the chat template' if has_template else 'without a chat template'} becomes "
        + "; ".join(read),
        "answer": f"{_ANSWER!r} becomes {_token_line(_texts(tokenizer, answer.ids))}",
        "sources": ", ".join(tower.sources),
        "layers": str(tower.depth),
        "generation": f"the most probable token until {' or '.join(_texts(tokenizer, ends))}"
        + (f"; settings of the folder: {settings} ({used})" if settings else ""),
        "cut": f"passed: cut at layers {cut}, log-probabilities are those of the whole model (by at most "
        f"{max(errors.values()):.0e})",
    }


def _texts(tokenizer: Any, ids: Iterable[int | None]) -> list[str]:
    """Return the texts of tokens; an id without a token, such as the start of BLIP's decoder, in brackets."""
    pieces = [None if number is None else tokenizer.convert_ids_to_tokens(number) for number in ids]
    return [f"[{number}]" if piece is None else str(piece) for number, piece in zip(ids, pieces, strict=True)]


def _token_line(texts: Sequence[str]) -> str:
    """Return tokens as text, where equal ones in a row are counted."""
    runs = [(text, len(list(group))) for text, group in groupby(texts)]
    listed = [text if count == 1 else f"{text} x {count}" for text, count in runs]
    if len(listed) > _TOKENS:
        listed = [*listed[: _TOKENS // 3], "...", *listed[-2 * _TOKENS // 3 :]]
    return f"{len(texts)} {'token' if len(texts) == 1 else 'tokens'}: {' '.join(listed)}"


def _image_line(tower: Any, inputs: Inputs, image: ImageInput, processor: Any) -> str:
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
