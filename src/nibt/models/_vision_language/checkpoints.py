"""How checkpoints embed a prompt: what their repositories say, and what is known of checkpoints by their names.

A vision-language model embeds only if it was trained to, and the same architecture serves to generate text. How the
states are pooled, and in which prompt, is no part of its configuration.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nibt.errors import BadOption
from nibt.io import load_json
from nibt.models._failures import WritesText
from nibt.models._request import LoadOptions, Request
from nibt.records import JsonObject

_GME = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n<|endoftext|>"
)
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "qwen3-vl-embedding": {"pooling": "last", "instruction": "Represent the user's input."},
    "gme-qwen2-vl": {  # its own code gives tokens sequential positions, without the axes of the image
        "pooling": "last",
        "positions": "sequential",
        "image_prompt": _GME.format("<|vision_start|><|image_pad|><|vision_end|>"),
        "text_prompt": _GME.format("{text}"),
    },
    "vlm2vec-qwen2vl": {
        "pooling": "last",
        "image_prompt": "<|image_pad|> Represent the given image.",
        "text_prompt": "{text}",
    },
}


def is_known(source: str) -> bool:
    """Return whether nibt knows by its name how a checkpoint embeds, with or without code of its own."""
    return bool(_by_name(source))


def _by_name(source: str) -> Mapping[str, Any]:
    """Return how a checkpoint embeds by the name of its repository: the last part of its path, or that in a cache."""
    parts = Path(source).parts
    repository = next((part for part in parts if part.startswith("models--")), parts[-1] if parts else "").lower()
    return next((values for name, values in _KNOWN.items() if name in repository), {})


def settings(source: str, request: Request) -> JsonObject:
    """Return how a checkpoint embeds a prompt: options of the request, or those of the folder or the known name."""
    values = {**_by_name(source), **_pooling_file(source), **request.embedding}
    if not values.get("pooling"):
        raise WritesText(
            f"{source!r} is a vision-language model, and nothing says that or how it embeds: use nibt answer to "
            "explain what it writes; if it was trained to embed, pass pooling (--load pooling=...), which is 'last' or "
            "'mean', and its instruction or prompts, as its card says"
        )
    LoadOptions.read({"pooling": values["pooling"]})  # that of a folder may be none of the known ones
    return values


def _pooling_file(source: str) -> JsonObject:
    """Return the pooling in a folder of sentence-transformers."""
    path = Path(source) / "1_Pooling" / "config.json"
    if not path.is_file():
        return {}
    config = load_json(path)
    prefix = "pooling_mode_"
    flags = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    modes = config.get("pooling_mode") or flags
    modes = [modes] if isinstance(modes, str) else modes
    names = {"lasttoken": "last", "mean": "mean", "mean_tokens": "mean"}
    return {"pooling": names[modes[0]]} if len(modes) == 1 and modes[0] in names else {}  # several are concatenated


def check_sizes(request: Request) -> None:
    """Check that nothing asks for another size of images than that of the processor."""
    for name in ("resize", "image_size"):
        value = getattr(request, name)
        if value not in (None, "model"):
            raise BadOption(
                f"{name} must not be set for this model, whose processor resizes images (got {value!r}): leave it out, "
                "or pass processor=... with other limits"
            )
