"""Loading of models: embedded, from a local folder, from a hub, or already in memory.

Every model is checked when it is loaded: its weights are finite, and the model cut into towers gives the same
embeddings as the uncut model.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import torch
from pydantic import Field
from torch import nn
from typing_extensions import TypedDict

from nibt.errors import BadOption, CannotLoad
from nibt.models._checkpoint import attached, check_class
from nibt.models._checks import check_finite, checked
from nibt.models._classes import declared, known_checkpoint
from nibt.models._embedded import EMBEDDED, alternatives, embedded, embedded_generators, embedded_hint
from nibt.models._failures import loading, step
from nibt.models._family import check_no_generator, class_names, family_of_score, family_of_type
from nibt.models._hugging_face import read_processor
from nibt.models._loaded import LoadedModel
from nibt.models._precision import check_quantized
from nibt.models._request import (
    EMBEDDING,
    EmbedImages,
    EmbedTexts,
    LoadOptions,
    LoadRequest,
    ScoreChoice,
    check_device,
    check_no_variant,
    check_source,
    check_unset,
    check_variant,
    name_of_device,
    name_of_dtype,
    read_labels,
    read_score,
)
from nibt.models._saved import ADAPTERS, SENTENCE_MODULES, check_files, check_layers, json_object
from nibt.models.base import Model
from nibt.options import ImageSize, Positive, parsed
from nibt.preprocessing.captions import Tokenizer
from nibt.preprocessing.images import Processor
from nibt.progress import report_stage
from nibt.records import JsonObject, read_record
from nibt.registry import find
from nibt.torch_modes import plain_torch

ModelSource: TypeAlias = Model | str | Path | nn.Module
"""What functions take as a model: a loaded one, or what ``load_model`` takes."""


@plain_torch()
def load_model(
    id: str | Path | nn.Module | tuple[nn.Module, nn.Module] | Model | None = None,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    resize: str | None = None,
    image_size: int | None = None,
    processor: Processor = None,
    tokenizer: Tokenizer = None,
    pooling: str | None = None,
    instruction: str | None = None,
    image_prompt: str | None = None,
    text_prompt: str | None = None,
    labels: Sequence[str] | str | Path | None = None,
    score: str | None = None,
    text_model: str | Path | None = None,
    variant: str | None = None,
    images: EmbedImages | None = None,
    texts: EmbedTexts | None = None,
    name: str | None = None,
) -> Model:
    """Load an image-text model: a dual encoder, an embedder on a vision-language model, a classifier, or two functions.

    A model in memory is used as it is: nibt neither moves nor changes it. If ``torch.compile`` was applied to it, nibt
    explains uncompiled modules that share its weights. Wrappers for training, such as DataParallel, are removed.

    Args:
        id: An embedded model (``"lite"``), a model on the hub (``"openai/clip-vit-base-patch32"``, with
            ``"@revision"`` and ``":folder"``, or the address of its page), a local folder (a saved Hugging Face model,
            PEFT adapters of one, or an OpenCLIP folder), OpenCLIP weights
            (``"open_clip:ViT-B-32/laion2b_s34b_b79k"``), a model in memory (of sentence-transformers, too), or a
            pair of an image model and a text model in memory.
        device: The device of a loaded model.
        dtype: The dtype of the weights of a loaded model: float32, float16 or bfloat16. nibt computes in float32.
        resize: ``"model"`` resizes and crops images with the model's processor. ``"whole"`` keeps the whole image and
            its aspect ratio, for towers that take any size.
        image_size: The side of the input in pixels, from 16 to 4,096, and at most 128 patches. With ``resize="whole"``,
            the square root of the input's area.
        processor: The processor of a model in memory. For a folder without one, such as a checkpoint of a Trainer, also
            the name or the folder of the model whose processor is used.
        tokenizer: The tokenizer of a model in memory, if the processor has none.
        pooling: How a vision-language model embeds a prompt: by the last hidden state of its ``"last"`` token, or by
            the ``"mean"`` of the last hidden states of all tokens. It is known for GME, VLM2Vec, Qwen3-VL-Embedding,
            and folders of sentence-transformers.
        instruction: The system message of the prompts of a vision-language model.
        image_prompt: The prompt of an image, with the model's image token; by default that of the chat template.
        text_prompt: The prompt of a text, with ``{text}``; by default that of the chat template.
        labels: The names of the classes of a classifier, in the order of the model, or a text file with one a line.
            Models of Transformers and many of timm have names of their own.
        score: Which score of a model with several is explained. ``"contrastive"`` is the usual one of BLIP, BLIP-2,
            OWL-ViT, OWLv2 and CLIPSeg. ``"matching"`` is the log-odds of a match by the matching head of BLIP and
            BLIP-2. ``"box"`` is the probability of the best box of a detector, ``"box:1"`` that of the next one, and
            ``"box:120,80"`` that of the best box around a point, in pixels of the image from its left and its top.
            ``"mask"`` is the mean logit of the mask of CLIPSeg, and ``"mask:120,80"`` the logit at a point.
        text_model: The name or the folder of a model of sentence-transformers whose embeddings of texts are in the
            space of the images, in place of the text encoder of the model, such as
            ``"sentence-transformers/clip-ViT-B-32-multilingual-v1"`` for CLIP ViT-B/32.
        variant: Which weights of a folder or a repository are loaded, as in Transformers: ``"fp16"`` reads
            ``model.fp16.safetensors`` in place of ``model.safetensors``. They are converted to ``dtype``.
        images: With ``texts``, in place of ``id``: a function that takes a list of images (``PIL.Image``) and returns
            an array of their embeddings, (image, dim), such as a call of a server. Its layers are not known, so it is
            explained by methods that change inputs. Images have about the area of a square of ``image_size`` pixels
            (224), and eight by eight cells.
        texts: A function that takes a list of texts, which may be empty, and returns an array of their embeddings,
            (text, dim).
        name: The name of a model of two functions in results.

    Raises:
        CannotLoad: There is no such model, no hub is reachable, or the model fails a check: it has NaN or missing
            weights, or its towers do not give the embeddings of the uncut model.
        BadOption: ``device``, ``dtype``, ``resize`` or ``image_size`` is not allowed.
    """
    others = {
        "resize": resize,
        "image_size": image_size,
        "processor": processor,
        "tokenizer": tokenizer,
        "labels": labels,
        "score": score,
        "variant": variant,
        "pooling": pooling,
        "instruction": instruction,
        "image_prompt": image_prompt,
        "text_prompt": text_prompt,
    }
    if images is not None or texts is not None or id is None:
        return _of_functions(id, images, texts, name, device=device, dtype=dtype, text_model=text_model, **others)

    if text_model is not None:
        own = load_model(id, device=device, dtype=dtype, name=name, **others)
        return _with_text_model(own, text_model)

    if name is not None:
        raise BadOption(f"name is of a model of two functions, images and texts (got {name!r:.60}): leave it out")

    # a loaded model is checked again only if it was changed, in place, after its check
    if isinstance(id, Model):
        check_unset("a loaded model", device=device, dtype=dtype, **others)
        return id if "checked" in id.renewed().kept else checked(id)

    if isinstance(id, LoadedModel):  # of another kind, which writes
        check_no_generator(id.id, [type(id.module).__name__])

    check_source(id)
    request = _load_request(device, dtype, **others)
    if isinstance(id, nn.Module | tuple):
        check_unset("a model in memory", device=device, dtype=dtype, variant=variant)
        return _from_memory(id, request)

    name = str(id)
    check_name(name)
    if name in embedded():
        return checked(_from_folder(name, EMBEDDED / name, request, device))
    if Path(name).is_dir():
        return checked(_from_folder(name, Path(name), request, device))
    return checked(_from_hub(name, request, device))


def _with_text_model(images: Model, name: object) -> Model:
    """Return a model with the text encoder of another folder or repository."""
    from nibt.models._names import hub_name
    from nibt.models.text_encoder import load_text_encoder  # which other models do not need

    source = str(name)
    place = hub_name(source)
    if not isinstance(name, str | Path) or not source.strip() or not (Path(source).is_dir() or place):
        raise CannotLoad(
            "text_model must be the folder or the name (org/name) of a model of sentence-transformers (got "
            f"{name!r:.100})"
        )

    folder = Path(source)
    with loading(source):
        if not folder.is_dir():
            from nibt.models._hub import text_encoder_folder

            assert place is not None
            folder, _ = text_encoder_folder(place)
        module, request = load_text_encoder(source, folder, images)
    return checked(_model(images.id, "text_encoder", module.to(images.device), request))


def _load_request(
    device: object, dtype: object, processor: Processor, tokenizer: Tokenizer, **values: Any
) -> LoadRequest:
    """Return the options of loading, which are checked, with the processor of the model that is named."""
    processor, tokenizer = read_processor(processor, tokenizer)
    labels = read_labels(values.pop("labels"))
    score = read_score(values.pop("score"))
    check_variant(values["variant"])
    options = LoadOptions(name_of_device(device), name_of_dtype(dtype), **values)
    check_device(options.device)
    embedding = {name: value for name, value in vars(options).items() if name in EMBEDDING and value is not None}
    return LoadRequest(
        getattr(torch, options.dtype),
        resize=options.resize,
        image_size=options.image_size,
        processor=processor,
        tokenizer=tokenizer,
        is_passed=processor is not None or tokenizer is not None,
        embedding=embedding,
        labels=labels,
        score=score,
        variant=options.variant,
    )


def _of_functions(
    id: object,
    images: EmbedImages | None,
    texts: EmbedTexts | None,
    name: object,
    image_size: object = None,
    **others: object,
) -> Model:
    """Return a model of two functions, for which no other argument is set."""
    if images is None and texts is None:
        raise CannotLoad(f"a model is missing: give {alternatives()}, or two functions, images and texts")
    if id is not None:
        raise BadOption(f"functions images and texts take the place of a model (got {str(id)!r:.60}, too): give either")

    check_unset("a model of two functions", **others)
    if not isinstance(name, str | None):
        raise BadOption(f"name must be a text (got {name!r:.60})")

    from nibt.models._functions import model_of_functions  # which other models do not need

    size = parsed("image_size", image_size, ImageSize | None)
    return model_of_functions(images, texts, name, size)


def check_name(name: str) -> None:
    """Check that a text names an embedded model or a folder, or may name a model on the hub, which is not asked."""
    if name in embedded():
        return

    if name in embedded_generators():
        check_no_generator(name, json_object(EMBEDDED / name / "config.json")["architectures"])
    if Path(name).is_file():
        raise CannotLoad(f"a model must be a folder ({name!r} is a file): give the folder of a saved model")
    if name.strip() and Path(name).is_dir():
        return

    from nibt.models._names import hint, hub_name, open_clip_name  # which folders do not need

    if not name.strip() or not (open_clip_name(name) or hub_name(name)):
        near = get_close_matches(name.lower(), embedded(), n=1, cutoff=0.75)
        instead = embedded_hint(name) or hint(name) or "".join(f" Did you mean {model!r}?" for model in near)
        raise CannotLoad(
            f"there is no model {name!r}, and no folder of that name.{instead} Use "
            f"{alternatives()}, or a name on the hub (org/name)"
        )


def download_size(name: str, variant: str | None = None) -> int | None:
    """Return how many bytes would be downloaded to load a model: 0 if none, None if a library of its own knows it.

    Raises:
        CannotLoad: There is no such model, or no hub is reachable.
    """
    from nibt.models import _hub
    from nibt.models._names import hub_name, open_clip_name

    check_name(name)
    weights = open_clip_name(name)
    if name in embedded() or Path(name).is_dir():
        return 0
    if weights is not None and not weights.startswith("hf-hub:"):
        return None

    place = hub_name(weights if weights is not None else name)
    assert place is not None
    wants = _hub.Wants(lambda config: _family(name, config), weights is not None)
    with loading(name):
        return _hub.download_size(place, LoadRequest(variant=variant), wants)


def _from_memory(source: nn.Module | tuple[nn.Module, nn.Module], request: LoadRequest) -> Model:
    from nibt.models._in_memory import check_processor, check_scores, find_module, is_library

    module, family, request = find_module(source, request)
    name = f"{type(module).__name__} in memory"
    with loading(name):
        check_processor(find("models", family), request)
        model = _model(name, family, module, request)

    model = checked(model)
    if is_library(source):
        check_scores(source, model)
    return model


class _Settings(TypedDict, total=False):
    """What ``nibt.json`` in a folder may say of the images that a model knows; other keys are options."""

    __pydantic_config__ = {"extra": "allow"}  # pyright: ignore  # noqa: RUF012

    domain: str
    domain_size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]


def _from_folder(
    name: str,
    folder: Path,
    request: LoadRequest,
    device: str | torch.device,
    wants_open_clip: Callable[[JsonObject], bool] | None = None,
) -> Model:
    settings = _settings(folder)
    resize = request.resize or settings.get("resize")

    # the folder's size belongs to its own way of resizing
    own_size = settings.get("image_size") if resize == settings.get("resize") else None
    stated = LoadOptions(resize=resize, image_size=request.image_size or own_size)
    embedding = {**{key: settings[key] for key in EMBEDDING if key in settings}, **request.embedding}
    request = replace(request, resize=stated.resize, image_size=stated.image_size, embedding=embedding)

    after = request.after
    if (folder / SENTENCE_MODULES).is_file():
        from nibt.models._sentence_modules import after_encoder  # which other folders do not need

        after = after_encoder(name, folder, request.dtype, bool(embedding)) or after

    request = replace(request, after=after, folder=folder, defaults=settings)

    config = json_object(folder / "config.json")
    check_layers(name, folder)
    if (folder / "open_clip_config.json").exists() and (wants_open_clip is None or wants_open_clip(config)):
        return _load(name, "open_clip", f"local-dir:{folder}", request, device)
    if (folder / ADAPTERS).exists():
        return _with_adapters(name, folder, request, device)
    if not config and (folder / "0_CLIPModel" / "config.json").exists():  # of sentence-transformers
        return _from_folder(name, folder / "0_CLIPModel", request, device)

    check_files(name, folder, config, request.variant)
    if not config:
        lacks = "it has no config.json (Hugging Face), open_clip_config.json or adapter_config.json (PEFT)"
        if (folder / "config.json").exists():
            lacks = "its config.json is empty, and names no class"
        raise CannotLoad(f"{name!r} is not the folder of a model: {lacks}")
    return _load(name, _family(name, config, request.score), str(folder), request, device)


def _settings(folder: Path) -> JsonObject:
    """Return what the folder of a model states in ``nibt.json``."""
    path = folder / "nibt.json"
    settings = json_object(path)
    read_record(_Settings, settings, str(path), CannotLoad)
    if "domain" in settings and "domain_size" not in settings:
        raise CannotLoad(f"{path} has a domain and no domain_size: add the width and height in pixels")

    if "usual_change" in settings:
        settings["usual_change"] = parsed("usual_change", settings["usual_change"], Positive)
    return settings


def _with_adapters(name: str, folder: Path, request: LoadRequest, device: str | torch.device) -> Model:
    """Load PEFT adapters on the base model that their configuration names."""
    check_no_variant(name, request.variant, "PEFT")
    from nibt.models._adapters import adapted, base_model

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

    # adapters embed as their base model does
    request = replace(
        request,
        processor=plain.request.processor,
        tokenizer=plain.request.tokenizer,
        embedding={**plain.request.embedding, **request.embedding},
        defaults={},
    )
    return _model(name, plain.family, module, request)


def _from_hub(text: str, request: LoadRequest, device: str | torch.device) -> Model:
    from nibt.models._hub import Wants, model_folder
    from nibt.models._names import OPEN_CLIP, hub_name, open_clip_name

    weights = open_clip_name(text)
    forced = weights is not None and weights.startswith("hf-hub:")
    if weights is not None and not forced:
        return _load(OPEN_CLIP + weights, "open_clip", weights, request, device)

    place = hub_name(weights if weights is not None else text)
    assert place is not None
    name = f"{OPEN_CLIP}hf-hub:{place}" if forced else str(place)
    wants = Wants(lambda config: _family(name, config), forced)
    with loading(name):
        folder, commit = model_folder(place, request, wants)
    with loading(name, folder):
        json_object(folder / "config.json")  # in the cache, where a broken file is deleted
    request = replace(request, facts={**request.facts, "revision": commit})
    return replace(
        _from_folder(name, folder, request, device, lambda config: wants.prefers_open_clip(config, True)), folder=None
    )


def _load(name: str, family: str, source: str, request: LoadRequest, device: str | torch.device) -> Model:
    if family in ("open_clip", "timm_classifier"):
        check_no_variant(name, request.variant, "OpenCLIP" if family == "open_clip" else "timm")
    with loading(name, request.folder):
        report_stage("importing libraries and reading its weights")
        module, request = find("models", family).load(source, request)
        return _model(name, family, module.eval().requires_grad_(False).to(device), request)


def _family(name: str, config: JsonObject, score: ScoreChoice | None = None) -> str:
    check_class(name, config, bool(known_checkpoint(name)))
    model_type = config.get("model_type")
    if "architecture" in config and model_type is None:  # of timm
        return "timm_classifier"
    named = config.get("architectures") or []
    classes = [*map(str, named)] if isinstance(named, list) else []
    if {*classes}.isdisjoint(class_name for row in declared().values() for class_name in row.classes):
        check_no_generator(name, classes)
    family = family_of_type(name, model_type if isinstance(model_type, str | None) else repr(model_type)[:100], classes)
    return family_of_score(name, family, classes, score)


def _model(name: str, family: str, module: nn.Module, request: LoadRequest) -> Model:
    # also of those whose family needs no look at classes: OpenCLIP, timm, adapters
    family = family_of_score(name, family, class_names(module), request.score)
    family_class = find("models", family)
    if request.labels and family_class.reads_text:
        raise BadOption(
            f"labels are the names of the classes of a classifier (got {len(request.labels)} for the model {name!r}, "
            "which reads captions): leave labels out"
        )

    module = attached(module, request.after)
    check_quantized(name, module)
    check_finite(name, module)

    request = family_class.resolved(str(request.folder or name), request)
    problem = "its parts do not fit its configuration or its processor"
    remedy = "check the values in config.json and in the files of the processor, or save both again"
    with step(name, problem, remedy, [family_class]):
        image, text = family_class.towers(module, request)

    if request.is_passed:
        from nibt.models._in_memory import misfits

        request = replace(request, notes=(*request.notes, *misfits(name, image, text, request)))

    after = getattr(module, "after_encoder", nn.Identity())
    image.after = after
    text.after = after
    if "domain" in request.defaults:  # of an embedded model
        size = tuple(request.defaults["domain_size"])
        image.preparation = replace(image.preparation, domain=request.defaults["domain"], domain_size=size)

    with step(name, "its scale and its bias cannot be read", remedy, [family_class]):
        scale, bias = family_class.finite_scale_and_bias(module)
    compared = family_class.compares(module, request, image), family_class.has_logits, request.defaults
    return Model(name, family, module, image, text, scale, bias, *compared, folder=request.folder, request=request)
