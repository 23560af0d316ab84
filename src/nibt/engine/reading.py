"""What nibt reads of a model: its class, an example prompt, how images are prepared, and whether it can be cut."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

from nibt.data.images import ImageInput, read_image
from nibt.data.units import cells_of
from nibt.engine.spec import versions
from nibt.errors import CannotLoad
from nibt.models._answers import ForcedWord, Generator, Prompted
from nibt.models._load_generator import load_generator, replay_errors
from nibt.models._loading import load_model, replay_cosines
from nibt.models._request import GeneratorOptions, LoadOptions, check_loading
from nibt.models._trace import Inputs
from nibt.models._writing import changed_settings
from nibt.models.base import Model

_IMAGE, _CAPTION, _PROMPT = "sample:chelsea", "a photo of a cat", "what is in the image"
_MOST = 600  # characters of a value


def load_any(name: str, loading: Mapping[str, Any]) -> Model | Generator:
    """Load a model that compares images with captions or, if it is none, a generator."""
    try:
        model = load_model(name, **{key: value for key, value in loading.items() if key != "generation"})
    except CannotLoad as error:
        if "nibt answer" not in str(error):
            raise
        check_loading(loading, GeneratorOptions)
        return load_generator(name, **loading)
    check_loading(loading, LoadOptions)
    return model


def describe(model: Model | Generator, text: str | None = None) -> dict[str, str]:
    """Return what nibt reads of a model, one line per topic.

    Args:
        model: The model.
        text: A caption or a prompt; None for an example.
    """
    inner, request = model.module, model.request
    count = sum(weight.numel() for weight in inner.parameters())
    lines = {
        "model": str(model.id),
        "class": f"{type(inner).__name__}, family {model.family}",
        "weights": f"{count:,} numbers, {model.precision} on {model.device}, digest {model.weights_hash}",
    }
    image = read_image(_IMAGE)
    lines |= _of_generator(model, image, text) if isinstance(model, Generator) else _of_pair(model, image, text)
    notes = dict.fromkeys((*request.notes, *request.ignored))
    lines["ignored"] = "; ".join(notes) or "nothing"
    packages = ("nibt", "torch", "transformers", "open_clip_torch", "timm")
    lines["versions"] = ", ".join(f"{name} {number}" for name, number in versions().items() if name in packages)
    return {topic: value[:_MOST] for topic, value in lines.items()}


def _of_pair(model: Model, image: ImageInput, text: str | None) -> dict[str, str]:
    """Return the lines of a model with two towers."""
    caption = text or _CAPTION
    tokens = model.text.tokens(caption)
    embedding = model.request.embedding
    prompts = {name: repr(embedding[name]) for name in ("pooling", "image_prompt", "text_prompt") if name in embedding}
    cosines = {}
    prepared = model.image.prepare([image])
    for tower, inputs in ((model.image, prepared), (model.text, model.text.prepare([caption]))):
        layers = replay_cosines(tower, tower.trace(inputs))
        cosines[tower.modality] = f"{tower.modality} {abs(1 - min(layers.values())):.0e} at layers {_listed(layers)}"
    return {
        "image": _image_line(model.image, prepared, image),
        "caption": f"{caption!r} becomes {_token_line(tokens.texts)}",
        **prompts,
        "layers": f"image {model.image.depth}, text {model.text.depth}",
        "similarity": f"{model.similarity.name}, scale {model.scale:.4g}, bias {model.bias:.4g}",
        "cut": f"1 - cosine of the cut and the whole model: {', '.join(cosines.values())}",
    }


def _of_generator(model: Generator, image: ImageInput, text: str | None) -> dict[str, str]:
    """Return the lines of a model that writes."""
    tower = model.answers
    prompt = "" if tower.prompts == "none" else text or _PROMPT
    prompted = Prompted(image, prompt)
    answer = tower.read(prompted, "a cat")
    inputs = tower.prepare([ForcedWord(prompted, answer)])
    ids = inputs.extra["input_ids" if "input_ids" in inputs.extra else "ids"][0].tolist()
    texts = [str(token) for token in tower.tokenizer.convert_ids_to_tokens(ids)]
    settings = ", ".join(f"{name}={value}" for name, value in changed_settings(model.module).items()) or "none"
    ends = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    errors = replay_errors(tower, inputs)
    used = "used" if model.request.generation == "model" else "not used; generation=model uses them"
    return {
        "image": _image_line(tower, inputs, image),
        "prompt": f"{prompt!r} and the answer 'a cat' become {_token_line(texts)}",
        "sources": ", ".join(tower.sources),
        "layers": str(tower.depth),
        "generation": f"the most probable token until {ends}; other settings of the model: {settings}"
        + (f" ({used})" if settings != "none" else ""),
        "cut": f"log-probabilities of the cut and the whole model differ by {max(errors.values()):.0e} at layers "
        f"{_listed(errors)}",
    }


def _listed(layers: Iterable[int | None]) -> str:
    """Return the numbers of layers as text, without that of a model that is not cut."""
    return ", ".join(str(layer) for layer in layers if layer is not None)


def _token_line(texts: Sequence[str]) -> str:
    """Return tokens as text, where equal ones in a row are counted."""
    runs = [(text, len(list(group))) for text, group in groupby(texts)]
    return f"{len(texts)} tokens: " + " ".join(text if count == 1 else f"{text} x {count}" for text, count in runs)


def _image_line(tower: Any, inputs: Inputs, image: ImageInput) -> str:
    """Return how an example image is prepared."""
    with torch.no_grad():
        grid = cells_of(tower.trace(inputs).cut(0).units)
    (region, *_), values = inputs.regions, inputs.values
    pixels = " x ".join(map(str, reversed(tower.extent(inputs))))
    width, height = image.size
    return (
        f"{width} x {height} pixels, of which {region.width:.0f} x {region.height:.0f} are seen as {pixels}, in "
        f"{grid.columns} x {grid.rows} cells; values from {values.min():.2f} to {values.max():.2f}"
    )
