"""What families of Hugging Face Transformers share: loading of checkpoints and processors, and the towers.

A tower names its parts by a few properties; the heads that many families share are in ``_heads.py``.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor, nn

from nibt.data.units import Grid, Units
from nibt.errors import BadOption, CannotLoad, NibtError, Unsupported, first_line
from nibt.models._checkpoint import CONVERTED
from nibt.models._classes import read_by
from nibt.models._embedded import EMBEDDED, embedded, embedded_generators
from nibt.models._failures import loading, step
from nibt.models._lines import OnTrack, attended, in_heads, rows_of
from nibt.models._precision import check_quantization, of_one_dtype
from nibt.models._request import LoadRequest, check_processor_arguments
from nibt.models._saved import check_built, json_object
from nibt.models._text_tower import TextTower
from nibt.models._tower import first_of, part
from nibt.models.base import ImageTower, Inputs
from nibt.preprocessing import hugging_face
from nibt.preprocessing.captions import Tokens
from nibt.preprocessing.images import height_and_width
from nibt.types import Embedding, Hidden, OneRow

_COMPUTED = r"position_ids$|rotary_emb\.inv_freq$|\.masked_bias$|relative_position_index$"
"""Buffers of older versions of Transformers, which the class computes itself."""
_POOLER = r"(^|\.)pooler\.dense\.(weight|bias)$"
"""A pooler after a last state, which a class without one does not read."""


def load_pretrained(
    model_class: Any,
    source: str,
    request: LoadRequest,
    unread: str = "",
    reads_text: bool = True,
    config: Any = None,
) -> tuple[nn.Module, LoadRequest]:
    """Load a checkpoint and its processor, with a tokenizer if it ``reads_text``.

    Without ``config``, the class has the configuration that the checkpoint names.

    Weights are read from safetensors, or from a pickled state dict with torch's weights-only reader. Code in a
    checkpoint is never run, and its configuration does not choose the kernel of the attention, which may be on the hub.
    No result depends on the weights of the pattern ``unread``.
    """
    config = read_config(source) if config is None else config
    request = with_processor(source, request, reads_text)  # first, since the weights take long
    module, ignored = load_weights(model_class, source, config, request.dtype, unread, request.variant)
    return module, replace(request, ignored=(*request.ignored, *ignored))


def load_weights(
    model_class: Any, source: str, config: Any, dtype: torch.dtype, unread: str = "", variant: str | None = None
) -> tuple[nn.Module, list[str]]:
    """Load a checkpoint without its processor; return it with the weights that no result depends on.

    A ``variant`` such as ``fp16`` reads ``model.fp16.safetensors`` in place of ``model.safetensors``.
    """
    check_quantization(repr(source), config)
    config._attn_implementation = None  # a checkpoint could name a kernel on the hub, whose code would run
    create = getattr(model_class, "from_config", None) or model_class._from_config
    check_built(source, Path(source), "config.json", lambda: create(deepcopy(config)))

    options = {"dtype": dtype, "trust_remote_code": False, "weights_only": True, "output_loading_info": True}
    options["variant"] = variant
    options["ignore_mismatched_sizes"] = True  # to name them
    reading = step(source, "its weights cannot be read", "correct config.json, or save the model again")
    with reading, _no_progress_bars(), torch.random.fork_rng(devices=[]):  # from which missing weights are drawn
        module, info = model_class.from_pretrained(source, config=config, **options)
    of_one_dtype(module, dtype)
    return module, check_weights(source, module, info, unread)


def read_config(source: str) -> Any:
    """Return the configuration of a checkpoint."""
    from transformers import AutoConfig

    with step(source, "its config.json cannot be read", "correct it, or save the model again"):
        values = json_object(Path(source) / "config.json")
        if _names_backbone_of_timm(values):
            backbone = {"model_type": "timm_backbone", "backbone": values["backbone"], **values["backbone_kwargs"]}
            return AutoConfig.for_model(
                **{**values, "backbone": None, "backbone_kwargs": {}, "backbone_config": backbone}
            )
        return AutoConfig.from_pretrained(source, trust_remote_code=False)


def _names_backbone_of_timm(values: Mapping[str, Any]) -> bool:
    """Return whether a configuration has a backbone of timm in an old form, as that of OmDet-Turbo has.

    Transformers asks the hub whether there is a repository of its name, also for a local folder. Those have an owner.
    """
    name = values.get("backbone")
    is_old = isinstance(name, str) and "/" not in name and not values.get("backbone_config")
    return is_old and bool(values.get("use_timm_backbone")) and bool(values.get("backbone_kwargs"))


def check_weights(source: str, module: nn.Module, info: Mapping[str, Iterable], unread: str) -> list[str]:
    """Check that a class and the file of its weights have the same ones; return those that no result depends on.

    Weights that the file lacks are set to zero if nothing reads them, which the pattern ``unread`` says.
    """
    ignored = "|".join(filter(None, (unread, _COMPUTED)))
    missing = set(info["missing_keys"])
    unexpected = set(info["unexpected_keys"])
    unused = {name for name in missing if re.search(ignored, name)}
    for name, saved, expected in sorted(info["mismatched_keys"]):
        raise CannotLoad(
            f"the weights {name!r} of {source!r} have the shape {tuple(saved)}, and by its config.json they must have "
            f"{tuple(expected)}: correct the sizes in config.json, or save the model again"
        )

    if missing - unused:
        raise CannotLoad(
            f"{source!r} lacks {len(missing - unused)} weights, such as {min(missing - unused)!r}, which would be "
            "random: save the whole model"
        )

    for name in unused & dict(module.named_parameters()).keys():
        module.get_parameter(name).data.zero_()  # which Transformers draws at random
    needless = {name for name in unexpected if re.search(f"{ignored}|{_POOLER}", name)}
    wrong = sorted(unexpected - needless)
    if wrong:
        raise CannotLoad(
            f"{source!r} has {len(wrong)} weights, such as {wrong[0]!r}, that the class does not have: "
            f"{type(module).__name__} would compute something else than the model that was saved: {CONVERTED}"
        )
    return sorted(needless | unused)


def load_generator_class(
    names: Sequence[str], source: str, request: LoadRequest, unread: str = ""
) -> tuple[nn.Module, LoadRequest]:
    """Load a generator of one of these classes, which its configuration names, with its processor."""
    import transformers

    config = read_config(source)
    (named, *_) = config.architectures or [""]
    name = read_by(named)
    if name not in names:  # a class of the checkpoint's own code is not run
        raise CannotLoad(f"{source!r} must be of one of the classes {', '.join(names)} (got {name!r})")

    model_class = getattr(transformers, name)
    if name != named:
        config = _config_of(model_class, source, config)
    return load_pretrained(model_class, source, request, unread, config=config)


def _config_of(model_class: Any, source: str, config: Any) -> Any:
    """Return the configuration that a class takes of a checkpoint: a part of it, or the whole with another type."""
    kind = model_class.config_class
    part = next((value for value in vars(config).values() if isinstance(value, kind)), None)
    return kind.from_pretrained(source) if part is None else part


def _joint_processor(source: str) -> Any:
    """Return the processor of a checkpoint, by its class if the model has another class than its configuration says."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    config = json_object(Path(source) / "config.json")
    (named, *_) = config.get("architectures") or [""]
    if read_by(str(named)) != named:
        model_type = getattr(transformers, read_by(str(named))).config_class.model_type
        processor_class = PROCESSOR_MAPPING_NAMES.get(model_type)
        if processor_class is not None:
            return getattr(transformers, processor_class).from_pretrained(source)
    if _names_backbone_of_timm(config):  # the class of the tokenizer is read from it, too
        processor_class = getattr(transformers, str(PROCESSOR_MAPPING_NAMES[config["model_type"]]))
        images = transformers.AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        words = transformers.AutoTokenizer.from_pretrained(source, config=read_config(source), trust_remote_code=False)
        return processor_class(images, words)
    return transformers.AutoProcessor.from_pretrained(source, trust_remote_code=False)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Turn the bar of loaded weights off, which Transformers writes to the terminal of the caller."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    if not logging.is_progress_bar_enabled():
        yield
        return

    downloads = not are_progress_bars_disabled()
    logging.disable_progress_bar()  # also those of downloads, which are over
    try:
        yield
    finally:
        logging.enable_progress_bar()
        if not downloads:
            disable_progress_bars()


@contextmanager
def _needed(noun: str, source: str, call: str) -> Iterator[None]:
    """Convert what Transformers raises for a missing or broken processor to ``CannotLoad``."""
    try:
        yield
    except Exception as error:  # of many types, for a damaged file, too
        from nibt.models._reasons import of_hub  # which only failures need

        if isinstance(error, NibtError) or of_hub(error) is not None:
            raise
        raise CannotLoad(
            f"{source!r} has no {noun} that Transformers can load ({first_line(error)}): name the model from which it "
            f'was made, as in {call}({source!r}, processor="org/name") or --load processor=org/name, or save the '
            "processor with it"
        ) from error


def read_processor(processor: object, tokenizer: object = None) -> tuple[Any, Any]:
    """Return the processor and the tokenizer that a caller passes, or those of the model that is named, checked."""
    if isinstance(processor, str | Path):
        with loading(str(processor)):
            processor, its_tokenizer = named_processor(str(processor))
        tokenizer = its_tokenizer if tokenizer is None else tokenizer

    check_processor_arguments(processor, tokenizer)
    return processor, tokenizer


def named_processor(name: str) -> tuple[Any, Any]:
    """Return the processor and the tokenizer of a model by its name or folder, without its weights."""
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer

    from nibt.models._names import hub_name  # which folders with processors do not need

    place = hub_name(name)
    if not name.strip():
        raise BadOption(f"processor must be a processor, or the folder or the name of a model (got {name!r})")

    folder = EMBEDDED / name if name in (*embedded(), *embedded_generators()) else Path(name)
    if not folder.is_dir():
        if place is None:
            raise CannotLoad(
                "processor must be a processor, or the folder or the name (org/name) of a model that has one (got "
                f"{name!r})"
            )
        from nibt.models._hub import processor_folder

        folder = processor_folder(place)

    source = str(folder)
    with _needed("processor", name, "load_model"):
        processor = AutoProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = getattr(processor, "tokenizer", None)
        if not hasattr(processor, "image_processor") or tokenizer is None:  # a folder of two parts
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)

        _check_vocabulary(tokenizer)

    return processor, tokenizer


def with_processor(source: str, request: LoadRequest, reads_text: bool = True) -> LoadRequest:
    """Return the request with the image processor and, if the model ``reads_text``, the tokenizer of a checkpoint."""
    from transformers import AutoImageProcessor

    if not reads_text:
        with _needed("image processor", source, "load_model"):
            processor = request.image_processor or AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        return replace(request, processor=processor)

    with _needed("image processor or no tokenizer", source, "load_model"):
        processor = request.processor or AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
        tokenizer = request.text_tokenizer or _read_tokenizer(source)

    return replace(request, processor=processor, tokenizer=tokenizer)


def text_tokenizer(source: str) -> Any:
    """Return the tokenizer of the folder of a text encoder."""
    with _needed("tokenizer", source, "load_model"):
        return _read_tokenizer(source)


def _read_tokenizer(source: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    _check_vocabulary(tokenizer)
    return tokenizer


def _check_vocabulary(tokenizer: Any) -> None:
    """Check that a tokenizer has more than special tokens, which is all that Transformers creates without a file."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError("the tokenizer has no vocabulary")


def with_joint_processor(source: str, request: LoadRequest, call: str = "load_model") -> LoadRequest:
    """Return the request with the processor of a checkpoint whose model reads images and texts together."""
    import transformers

    with _needed("processor", source, call):
        processor = request.processor or _joint_processor(source)
        name = type(processor).__name__
        if "Video" in name and not hasattr(processor, "image_processor"):  # as released with an InstructBLIP of images
            processor = getattr(transformers, name.replace("Video", "")).from_pretrained(source)
        if not hasattr(processor, "tokenizer"):
            raise ValueError("the processor has no tokenizer")

    return replace(request, processor=processor, tokenizer=processor.tokenizer)


_KNOWN = {
    *("AltCLIPEncoderLayer", "CLIPEncoderLayer", "CLIPSegEncoderLayer", "ChineseCLIPVisionLayer"),
    *("MetaClip2EncoderLayer", "OwlViTEncoderLayer", "Owlv2EncoderLayer", "Siglip2EncoderLayer", "SiglipEncoderLayer"),
}


def one_row(
    block: Any,
    stream: Hidden | OnTrack,
    row: Int[Tensor, " batch"],
    attention_mask: Tensor | None = None,
    is_causal: bool | None = None,
    **others: object,
) -> OneRow | None:
    """Compute one row of each item in the output of a block of CLIP or SigLIP, of shape (batch, 1, width)."""
    attention = getattr(block, "self_attn", None)  # which users replace in blocks that stay as they are
    of_library = all(type(module).__module__.startswith("transformers.") for module in (block, attention))
    is_known = type(block).__name__ in _KNOWN and of_library
    if not is_known or any(value is not None for value in others.values()):
        return None

    assert attention is not None, "known blocks have it"
    if attention.config._attn_implementation not in ("sdpa", "eager"):
        return None

    items = torch.arange(len(stream), device=stream.device)
    residual = rows_of(stream, row[:, None])
    query = in_heads(attention.q_proj(block.layer_norm1(residual)), attention.num_heads)
    mask = None
    if attention_mask is not None:
        mask = attention_mask.expand(len(stream), -1, -1, -1)[items, :, row][:, :, None]
    elif attention.is_causal if is_causal is None else is_causal:
        mask = (torch.arange(stream.shape[1], device=stream.device) <= row[:, None])[:, None, None]

    maps = attention.k_proj, attention.v_proj
    mixed = attended(stream, block.layer_norm1, query, maps, mask, attention.scale)
    if mixed is None:
        return None

    residual = residual + attention.out_proj(mixed)
    return residual + block.mlp(block.layer_norm2(residual))


def encoder_blocks(encoder: nn.Module) -> list[nn.Module]:
    """Return the blocks of an encoder, for which Transformers has three names."""
    inner = getattr(encoder, "encoder", encoder)
    for holder in (inner, getattr(inner, "model", None)):  # the second is that of DINOv3
        for name in ("layers", "layer", "block"):
            if hasattr(holder, name):
                return list(getattr(holder, name))

    raise Unsupported(
        f"the blocks of the encoder {type(encoder).__name__} are not supported; use an encoder with the attribute "
        "layers, layer or block"
    )


class HuggingFaceImageTower(ImageTower):
    """Base class of image towers with a fixed patch size."""

    root: Any
    prefix: ClassVar[int] = 0
    """The number of tokens before the patches, such as the class token."""
    any_size: bool = True
    """Whether positions are interpolated for images of other sizes; no model does it from a grid that is not square."""
    interpolates: bool = False
    """Whether the model interpolates positions without the option."""
    square: bool = False
    """Whether the processor pads images to a square."""

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        config = self.vision_config
        self.patch, across = height_and_width(config.patch_size)
        self.sides = height_and_width(config.image_size)
        if self.patch != across:
            raise Unsupported(f"this image tower takes patches of {self.patch} x {across}, and nibt only square ones")

        height, width = self.sides
        if height != width:
            self.any_size = False
            if request.image_size:
                raise Unsupported(
                    f"image_size must not be set for this image tower, which takes images of {height} x {width} pixels"
                )

        self.preparation = hugging_face.image_preparation(
            request.image_processor,
            request.resize,
            request.image_size,
            height,
            self.patch if self.any_size else None,
            self.square,
        )

    vision = part("root.vision_model")
    """The encoder of images."""
    vision_config = part("root.config.vision_config")
    """The configuration of the encoder."""
    blocks = part("vision", encoder_blocks)

    def run(self, inputs: Inputs) -> Embedding:
        options = {} if inputs.values.shape[-2:] == self.sides else self.size_options(inputs)
        return self.root.get_image_features(inputs.values, **options).pooler_output

    def size_options(self, inputs: Inputs) -> dict[str, bool]:
        """Return the option with which the model takes images of another size."""
        other_size = tuple(inputs.values.shape[-2:]) != self.sides
        return {"interpolate_pos_encoding": other_size} if self.any_size and not self.interpolates else {}

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        height, width = inputs.values.shape[-2:]
        return Grid(height // self.patch, width // self.patch, prefix=self.prefix)


class HuggingFaceTextTower(TextTower):
    """Base class of text towers."""

    root: Any
    full = False

    def __init__(self, root: nn.Module, request: LoadRequest) -> None:
        super().__init__()
        self.root = root
        self.config = self.root.config.text_config
        self.tokenizer = request.text_tokenizer
        if not hasattr(self.tokenizer, "is_fast"):
            raise BadOption(
                f"tokenizer must be a tokenizer of Transformers (got a {type(self.tokenizer).__name__}): pass "
                "AutoTokenizer.from_pretrained(...)"
            )

    model = part("root.text_model")
    """The encoder of captions."""
    blocks = part("model", encoder_blocks)
    embeddings = part("model.embeddings")
    """The part that adds positions to word embeddings."""

    embedder = part("embeddings", first_of("word_embeddings", "token_embedding"))

    @cached_property
    def context(self) -> int:
        """The largest number of tokens; RoBERTa counts positions from the one after that of padding."""
        first = getattr(self.embeddings, "padding_idx", None)
        return self.config.max_position_embeddings - (0 if first is None else first + 1)

    def tokens(self, caption: str) -> Tokens:
        return hugging_face.tokens(self.tokenizer, caption, self.context, self.full)

    def run(self, inputs: Inputs) -> Embedding:
        return self.root.get_text_features(inputs.values, **inputs.extra).pooler_output
