"""Loading of models: embedded, from a local folder, from a hub, or already in memory.

Every model is checked when it is loaded: its weights are finite, and the model cut into towers gives the same
embeddings as the uncut model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from nibt.data.images import ImageInput
from nibt.errors import CannotLoad, NibtError
from nibt.models._answers import Generator
from nibt.models._checkpoint import FILE_NAME, adapted, after_encoder, attached, base_model, check_class
from nibt.models._failures import broken_file, json_object, line, no_connection, refusal
from nibt.models._family import check_no_generator, families, family_of_type
from nibt.models._hub import Wants, model_folder
from nibt.models._in_memory import check_processor, check_source, find_module
from nibt.models._precision import check_quantized, state_of
from nibt.models._request import (
    EMBEDDING,
    OPEN_CLIP,
    LoadOptions,
    Request,
    check_device,
    check_unset,
    hint,
    hub_name,
    open_clip_name,
)
from nibt.models._trace import Inputs, Trace
from nibt.models._vision_language.prompts import is_known
from nibt.models.base import ImageTower, Model, Tower
from nibt.options import Positive, parsed
from nibt.progress import report_stage
from nibt.records import JsonObject
from nibt.registry import find
from nibt.torch_modes import plain_torch

ModelSource: TypeAlias = Model | str | Path | nn.Module
"""What functions take as a model: a loaded one, or what ``load_model`` takes."""
EMBEDDED = Path(str(files("nibt") / "models" / "embedded"))
"""The folder of the models that ship with the package."""
_LEAST_COSINE = 0.99999  # of a replayed embedding: rounding differs between two rows and four
_ADVICE = (
    "Without a hub, use an embedded model ({embedded}; for answers {generators}), or the path of a local folder with a "
    "saved Hugging Face or OpenCLIP model"
)


def embedded() -> list[str]:
    """Return the names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/nibt.json"))


def embedded_generators() -> list[str]:
    """Return the names of the generators that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/generator.json"))


@plain_torch()
def load_model(
    id: str | Path | nn.Module | tuple[nn.Module, nn.Module] | Model,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    resize: str | None = None,
    image_size: int | None = None,
    processor: Any = None,
    tokenizer: Any = None,
    pooling: str | None = None,
    instruction: str | None = None,
    image_prompt: str | None = None,
    text_prompt: str | None = None,
) -> Model:
    """Load an image-text model: a dual encoder, or an embedder on a vision-language model.

    A model in memory is used as it is, neither moved nor changed. If ``torch.compile`` was applied to it, it is
    explained by uncompiled modules that share its weights. Wrappers for training, such as DataParallel, are taken off.

    Args:
        id: An embedded model (``"lite"``), a model on the hub (``"openai/clip-vit-base-patch32"``, with
            ``"@revision"`` and ``":folder"``, or the address of its page), a local folder (a saved Hugging Face model,
            PEFT adapters of one, or an OpenCLIP folder), OpenCLIP weights
            (``"open_clip:ViT-B-32/laion2b_s34b_b79k"``), a model in memory, or a pair of an image model and a text
            model in memory.
        device: The device of a loaded model.
        dtype: The dtype of the weights of a loaded model: float32, float16 or bfloat16. nibt computes in float32.
        resize: ``"model"`` resizes and crops images with the model's processor. ``"whole"`` keeps the whole image and
            its aspect ratio, for towers that take any size.
        image_size: The side of the input in pixels; with ``resize="whole"`` the square root of its area.
        processor: The processor of a model in memory.
        tokenizer: The tokenizer of a model in memory, if the processor has none.
        pooling: How a vision-language model embeds a prompt: by the last hidden state of its ``"last"`` token, or by
            the ``"mean"`` over all tokens. It is known for GME, Qwen3-VL-Embedding, and folders of
            sentence-transformers.
        instruction: The system message of the prompts of a vision-language model.
        image_prompt: The prompt of an image, with the model's image token; by default that of the chat template.
        text_prompt: The prompt of a text, with ``{text}``; by default that of the chat template.

    Raises:
        CannotLoad: There is no such model, no hub is reachable, or the model fails a check: it has NaN or missing
            weights, or its towers do not give the embeddings of the uncut model.
        BadOption: ``device``, ``dtype``, ``resize`` or ``image_size`` is not allowed.
    """
    others = {"resize": resize, "image_size": image_size, "processor": processor, "tokenizer": tokenizer}
    others |= {"pooling": pooling, "instruction": instruction, "image_prompt": image_prompt, "text_prompt": text_prompt}
    if isinstance(id, Model):
        if (device, dtype) != ("cpu", "float32") or any(value is not None for value in others.values()):
            check_unset("a loaded model", device=device, dtype=dtype, **others)
        return id.renewed()
    if isinstance(id, Generator):
        check_no_generator(id.id, [type(id.module).__name__])
    check_source(id)
    dtype = str(dtype).removeprefix("torch.")
    options = LoadOptions(str(device), dtype, resize, image_size, pooling, instruction, image_prompt, text_prompt)
    check_device(options.device)
    embedding = {name: vars(options)[name] for name in EMBEDDING if vars(options).get(name) is not None}
    number_type = getattr(torch, options.dtype)
    request = Request(number_type, options.resize, options.image_size, processor, tokenizer, embedding=embedding)
    if isinstance(id, nn.Module | tuple):
        check_unset("a model in memory", device=device, dtype=dtype)
        return _checked(_from_memory(id, request))
    name = str(id)
    if not name.strip():
        raise CannotLoad(f"there is no model {name!r}.{_near(name)} {_advice()}")
    if name in embedded():
        return _checked(_from_folder(name, EMBEDDED / name, request, device))
    if name in embedded_generators():
        check_no_generator(name, json_object(EMBEDDED / name / "config.json")["architectures"])
    if Path(name).is_dir():
        return _checked(_from_folder(name, Path(name), request, device))
    if Path(name).exists():
        raise CannotLoad(f"a model must be a folder ({name!r} is a file): give the folder of a saved model")
    return _checked(_from_hub(name, request, device))


def _from_memory(source: Any, request: Request) -> Model:
    module, family, request = find_module(source, request)
    family_class = find("models", family)
    if family_class.model_types or family_class.needs_processor:
        check_processor(request)
    name = f"{type(module).__name__} in memory"
    with loading(name):
        return _model(name, family, module, request)


def _from_folder(name: str, folder: Path, request: Request, device: Any, wants: Wants | None = None) -> Model:
    settings = json_object(folder / "nibt.json")
    if "usual_change" in settings:
        settings["usual_change"] = parsed("usual_change", settings["usual_change"], Positive)
    stated = LoadOptions.read({name: getattr(request, name) or settings.get(name) for name in ("resize", "image_size")})
    embedding = {**{key: settings[key] for key in EMBEDDING if key in settings}, **request.embedding}
    request = replace(request, resize=stated.resize, image_size=stated.image_size, embedding=embedding)
    after = after_encoder(name, folder, request.dtype, bool(embedding)) or request.after
    request = replace(request, after=after, folder=folder, defaults=settings)
    config = json_object(folder / "config.json")
    if (folder / "open_clip_config.json").exists() and (wants is None or wants.prefers_open_clip(config, True)):
        return _load(name, "open_clip", f"local-dir:{folder}", request, device)
    if (folder / FILE_NAME).exists():
        return _with_adapters(name, folder, request, device)
    if not config and (folder / "0_CLIPModel" / "config.json").exists():  # of sentence-transformers
        return _from_folder(name, folder / "0_CLIPModel", request, device)
    if not config:
        raise CannotLoad(
            f"{name!r} is not the folder of a model: it has no config.json (Hugging Face), open_clip_config.json or "
            "adapter_config.json (PEFT)"
        )
    return _load(name, _family(name, config), str(folder), request, device)


def _with_adapters(name: str, folder: Path, request: Request, device: Any) -> Model:
    """Load PEFT adapters on the base model that their configuration names."""
    with base_model(name, folder) as base:
        if (folder / "preprocessor_config.json").exists():
            from nibt.models._hugging_face import with_processor

            request = with_processor(str(folder), request)
        plain = load_model(
            base,
            dtype=request.dtype,
            resize=request.resize,
            image_size=request.image_size,
            processor=request.processor,
            tokenizer=request.tokenizer,
            **{key: value for key, value in request.embedding.items() if key != "positions"},
        )
    with loading(name):
        module = adapted(name, folder, plain.module).to(device)
    embedding = {**plain.request.embedding, **request.embedding}  # adapters embed as their base model does
    processor, tokenizer = plain.request.processor, plain.request.tokenizer
    request = replace(request, processor=processor, tokenizer=tokenizer, embedding=embedding, defaults={})
    return _model(name, plain.family, module, request)


def _from_hub(text: str, request: Request, device: Any) -> Model:
    weights = open_clip_name(text)
    forced = weights is not None and weights.startswith("hf-hub:")
    if weights is not None and not forced:
        return _load(OPEN_CLIP + weights, "open_clip", weights, request, device)
    place = hub_name(weights if weights is not None else text)
    if place is None:
        near = hint(text) or _near(text)
        raise CannotLoad(f"there is no model {text!r}, and no folder of that name.{near} {_advice()}")
    name = f"{OPEN_CLIP}hf-hub:{place}" if forced else str(place)
    wants = Wants(lambda config: _family(name, config), forced)
    with loading(name):
        folder, commit = model_folder(place, request, wants)
    with loading(name, folder):
        json_object(folder / "config.json")  # in the cache, where a broken file is deleted
    request = replace(request, facts={**request.facts, "revision": commit})
    return replace(_from_folder(name, folder, request, device, wants), folder=None)


def _near(name: str) -> str:
    """Suggest the embedded model with a similar name."""
    near = get_close_matches(name.lower(), embedded(), n=1, cutoff=0.75)
    return f" Did you mean {near[0]!r}?" if near else ""


def _load(name: str, family: str, source: str, request: Request, device: Any) -> Model:
    with loading(name, request.folder):
        report_stage("importing libraries and reading its weights")
        module, request = find("models", family).load(source, request)
        return _model(name, family, module.eval().requires_grad_(False).to(device), request)


@contextmanager
def loading(name: str, folder: Path | None = None) -> Iterator[None]:
    """Convert the exceptions of libraries to ``CannotLoad``, which names a file of the folder if that is broken."""
    try:
        with torch.random.fork_rng(devices=[]):  # libraries draw weights before they read those of the file
            yield
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except Exception as error:  # libraries raise many types
        if isinstance(error, NibtError) and not isinstance(error, CannotLoad):
            raise
        broken = broken_file(folder)
        if broken is not None:
            raise CannotLoad(f"cannot load the model {name!r}: {broken}") from error
        if isinstance(error, NibtError):
            raise
        answer = refusal(error)
        reason = answer or f"{no_connection(error) or line(error)}. {_advice()}"
        raise CannotLoad(f"cannot load the model {name!r}: {reason}") from error


def _advice() -> str:
    models, generators = (", ".join(names) or "none installed" for names in (embedded(), embedded_generators()))
    return _ADVICE.format(embedded=models, generators=generators)


def _family(name: str, config: JsonObject) -> str:
    check_class(name, config, is_known(name))
    model_type, classes = config.get("model_type"), config.get("architectures") or []
    classes = {*map(str, classes)} if isinstance(classes, list) else set()
    if classes.isdisjoint(class_name for _, family in families() for class_name in family.class_names):
        check_no_generator(name, classes)
    return family_of_type(name, model_type if isinstance(model_type, str | None) else repr(model_type)[:100])


def _model(name: str, family: str, module: nn.Module, request: Request) -> Model:
    family_class = find("models", family)
    after = attached(module, request.after)
    check_quantized(name, module)
    check_finite(name, module)
    request = family_class.resolved(str(request.folder or name), request)
    image, text = family_class.towers(module, request)
    image.after = text.after = after or nn.Identity()
    if "domain" in request.defaults:  # of an embedded model
        size = tuple(request.defaults["domain_size"])
        image.preparation = replace(image.preparation, domain=request.defaults["domain"], domain_size=size)
    scale, bias = family_class.scale_and_bias(module)
    compared = family_class.similarity, family_class.has_logits, request.defaults
    return Model(name, family, module, image, text, scale, bias, *compared, folder=request.folder, request=request)


def check_finite(name: str, module: nn.Module) -> None:
    """Check that all weights are finite."""
    for key, tensor in state_of(module).items():
        # causal masks are infinite, and are buffers outside the state dict
        tensor = tensor.float() if tensor.itemsize == 1 else tensor  # PyTorch has no isfinite of 8 bits
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise CannotLoad(f"the model {name!r} has NaN or infinite weights in {key!r}: the checkpoint is broken")


def seeded_noise() -> Image.Image:
    """Return the image on which models are checked."""
    draws = torch.Generator("cpu").manual_seed(0)
    return Image.fromarray(torch.randint(0, 256, (64, 96, 3), generator=draws, dtype=torch.uint8, device="cpu").numpy())


def _checked(model: Model) -> Model:
    """Compare the embeddings of the cut and the uncut model on a seeded image and two captions, at three layers."""
    report_stage("checking its towers")
    image = ImageInput(seeded_noise(), "seeded noise")
    with loading(model.id):
        tower = _small(model.image)
        image_size = _compare(model.id, tower, tower.prepare([image, image]))
        captions = model.text.prepare(["a photo of a cat and a dog", "two red cars"])
        caption_size = _compare(model.id, model.text, captions)
        if image_size != caption_size:
            raise CannotLoad(
                f"the model {model.id!r} embeds images in {image_size} dimensions and captions in {caption_size}, so "
                "they cannot be compared: correct its configuration"
            )
    return model


def _small(tower: ImageTower) -> ImageTower:
    """Return the tower with a small input size if it takes any size, which makes the check faster."""
    preparation = getattr(tower, "preparation", None)
    if preparation is None or preparation.resize.way != "whole":
        return tower
    small = copy(tower)
    side = 4 * preparation.resize.multiple
    small.preparation = replace(preparation, resize=replace(preparation.resize, height=side, width=side))
    return small


def _compare(name: str, tower: Tower, inputs: Inputs) -> int:
    """Compare embeddings that are replayed from three layers with that of the model, and return their dimensions."""
    trace = tower.trace(inputs)
    for layer, cosine in replay_cosines(tower, trace).items():
        if not cosine > _LEAST_COSINE:  # also fails for NaN
            raise CannotLoad(
                f"the model {name!r} cannot be cut: replayed from layer {layer} of {tower.depth}, its {tower.modality} "
                f"tower gives another embedding than the uncut model (cosine {cosine:.6f}, must be above "
                f"{_LEAST_COSINE})"
            )
    return trace.embedding.shape[-1]


def replay_cosines(tower: Tower, trace: Trace) -> dict[int, float]:
    """Return the least cosine between the embedding of a tower and that of the tower cut at each of three layers."""
    cosines = {}
    for layer in sorted({0, tower.depth // 2, tower.depth}):
        cut = trace.cut(layer)
        with torch.no_grad():
            replayed = cut.rest(torch.stack([cut.hidden, cut.hidden]))
        cosines[layer] = F.cosine_similarity(replayed.flatten(2), trace.embedding.flatten(1), dim=-1).min().item()
    return cosines
