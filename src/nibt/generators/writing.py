"""How a generator writes: with the most probable token of its own logits, or with the settings of its folder.

``generate`` of Transformers fills whatever its caller leaves open from ``generation_config.json``. Some of these
settings change which token is most probable, so that an answer would not be that of the logits that are explained.
"""

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import ConfigDict, Field
from torch import nn
from typing_extensions import TypedDict

from nibt.errors import CannotLoad
from nibt.models._saved import json_object
from nibt.models._vision_language.towers import apart
from nibt.records import read_record

_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_SETTINGS = (
    "bad_words_ids begin_suppress_tokens encoder_no_repeat_ngram_size encoder_repetition_penalty "
    "exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id guidance_scale min_length min_new_tokens "
    "no_repeat_ngram_size num_beams penalty_alpha repetition_penalty sequence_bias stop_strings suppress_tokens "
    "watermarking_config"
).split()
"""The settings that change an answer without sampling."""


_Tokens: TypeAlias = Annotated[int | list[int] | None, Field(union_mode="left_to_right")]


class _Settings(TypedDict, total=False):
    """What a ``generation_config.json`` may have where nibt reads it; Transformers ignores a file that it cannot read.

    Other keys are left to Transformers.
    """

    __pydantic_config__ = ConfigDict(extra="allow")  # pyright: ignore[reportGeneralTypeIssues]

    bos_token_id: int | None
    eos_token_id: _Tokens
    pad_token_id: int | None
    decoder_start_token_id: _Tokens
    forced_bos_token_id: int | None
    forced_eos_token_id: _Tokens
    max_new_tokens: int | None
    max_length: int | None
    min_new_tokens: int | None
    min_length: int | None
    num_beams: int | None
    no_repeat_ngram_size: int | None
    encoder_no_repeat_ngram_size: int | None
    repetition_penalty: float | None
    encoder_repetition_penalty: float | None
    length_penalty: float | None
    guidance_scale: float | None
    do_sample: bool | None


def check_settings(folder: Path) -> None:
    """Check the file with which a generator of a folder ends its answers, and writes if ``generation`` is ``model``."""
    file = folder / "generation_config.json"
    try:
        read_record(_Settings, json_object(file), str(file), CannotLoad)
    except CannotLoad as error:
        raise CannotLoad(f"{error}: correct it, or save the model again") from error


def changed_settings(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a generator, and of its language model, that change what it writes without sampling."""
    from transformers import GenerationConfig

    neutral = GenerationConfig._get_default_generation_params()
    changed = {}
    for owner in _owners(module):
        values = {name: getattr(owner.generation_config, name, None) for name in _SETTINGS}
        changed |= {name: value for name, value in values.items() if value not in (None, [], neutral.get(name))}

    return changed


def settings_note(module: nn.Module) -> list[str]:
    """Return the note on settings of a folder with which a generator would write another answer."""
    listed = ", ".join(f"{name}={str(value)[:40]}" for name, value in changed_settings(module).items())
    if not listed:
        return []
    return [
        f"the answer has the most probable token at each place, without the settings of the model ({listed}), with "
        "which its own generate may write another one; load it with generation=model to use them"
    ]


def writer(module: nn.Module, with_settings: bool, inner: nn.Module | None = None) -> Any:
    """Return a copy of a generator that writes with all settings of its folder, or only ends as they say.

    ``inner`` is a part whose own attributes the generator does not get; see ``apart``.
    """
    from transformers import GenerationConfig

    copy = apart(module, inner)
    if with_settings:
        return copy

    owners = {id(owner) for owner in _owners(module)}
    copy._modules = {
        name: writer(child, False) if id(child) in owners else child for name, child in copy._modules.items()
    }
    ends = {name: getattr(module.generation_config, name, None) for name in _ENDS}
    copy.generation_config = GenerationConfig(**ends)
    return copy


def _owners(module: nn.Module) -> list[nn.Module]:
    """Return a generator, and its parts that write, such as a language model."""
    return [each for each in (module, *module.children()) if getattr(each, "generation_config", None) is not None]
