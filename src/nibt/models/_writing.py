"""How a generator writes: with the most probable token of its own logits, or with the settings of its folder.

``generate`` of Transformers fills whatever its caller leaves open from ``generation_config.json``. Some of these
settings change which token is most probable, so that an answer would not be that of the logits that are explained.
"""

from typing import Any

from torch import nn

from nibt.models._vision_language.towers import apart

_ENDS = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
_SETTINGS = (
    "bad_words_ids begin_suppress_tokens encoder_no_repeat_ngram_size encoder_repetition_penalty "
    "exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id guidance_scale min_length min_new_tokens "
    "no_repeat_ngram_size num_beams penalty_alpha repetition_penalty sequence_bias stop_strings suppress_tokens "
    "watermarking_config"
).split()
"""The settings that change an answer without sampling."""


def changed_settings(module: nn.Module) -> dict[str, Any]:
    """Return the settings of a generator, and of its language model, that change what it writes without sampling."""
    from transformers import GenerationConfig

    neutral, changed = GenerationConfig._get_default_generation_params(), {}
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


def writer(module: Any, with_settings: bool, inner: Any = None) -> Any:
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


def _owners(module: Any) -> list[Any]:
    """Return a generator, and its parts that write, such as a language model."""
    return [each for each in (module, *module.children()) if getattr(each, "generation_config", None) is not None]
