"""The prompts in which a vision-language model embeds an image or a text, and what is known of checkpoints.

A vision-language model embeds only if it was trained to, and the same architecture serves to generate text. How the
states are pooled, and in which prompt, is no part of its configuration.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import TemplateError

from nibt.errors import BadInput, BadOption, CannotLoad, first_line
from nibt.io import load_json
from nibt.models._classes import known_checkpoint
from nibt.models._failures import WritesText
from nibt.models._request import LoadOptions, LoadRequest
from nibt.models._sentence_modules import TEXT_SETTINGS, pooling_modes
from nibt.preprocessing.captions import (
    TOKENIZER_LOCK,
    Tokenizer,
    Tokens,
    special_notes,
    unknown_notes,
    words_by_offsets,
)
from nibt.preprocessing.hugging_face import special_tokens
from nibt.preprocessing.images import Processor
from nibt.records import JsonObject

POOLINGS = {"lasttoken": "last", "mean": "mean", "mean_tokens": "mean"}
"""The names of sentence-transformers for the supported values of ``pooling``."""


def settings(source: str, request: LoadRequest) -> JsonObject:
    """Return how a checkpoint embeds a prompt: options of the request, or those of the folder or the known name."""
    folder = Path(source)
    files = [folder / name for name in TEXT_SETTINGS]
    transformer, prompts = (load_json(file) if file.is_file() else {} for file in files)
    values = {**message_settings(transformer, prompts), **known_checkpoint(source), **_pooling_file(source)}
    values |= request.embedding
    if not values.get("pooling"):
        raise WritesText(
            f"{source!r} is a vision-language model, and nothing says that or how it embeds: use nibt answer to "
            "explain what it writes; if it was trained to embed, pass pooling (--load pooling=...), which is 'last' or "
            "'mean', and its instruction or prompts, as its card says"
        )

    LoadOptions(pooling=values["pooling"])  # that of a folder may be none of the known ones
    return values


def _pooling_file(source: str) -> JsonObject:
    """Return the pooling in a folder of sentence-transformers."""
    path = Path(source) / "1_Pooling" / "config.json"
    if not path.is_file():
        return {}

    modes = pooling_modes(load_json(path))
    return {"pooling": POOLINGS[modes[0]]} if len(modes) == 1 and modes[0] in POOLINGS else {}  # or concatenated


def message_settings(transformer: JsonObject, prompts: JsonObject) -> JsonObject:
    """Return how sentence-transformers prompts, by its configurations, if it reads inputs as messages of a chat."""
    if "message" not in (transformer.get("modality_config") or {}):
        return {}
    prompt = (prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"))
    template = (transformer.get("processing_kwargs") or {}).get("chat_template") or {}
    instruction = {"instruction": prompt} if prompt else {}
    return {**instruction, "template": {"add_generation_prompt": False, **template}}


def check_sizes(request: LoadRequest) -> None:
    """Check that nothing asks for another size of images than that of the processor."""
    for name in ("resize", "image_size"):
        value = getattr(request, name)
        if value not in (None, "model"):
            raise BadOption(
                f"{name} must not be set for this model, whose processor resizes images (got {value!r}): leave it out, "
                "or pass processor=... with other limits"
            )


TEXT = "{text}"


def prompts_of(processor: Processor, settings: JsonObject) -> dict[str, str]:
    """Return the prompts of an image, with its token, and of a text: those that are set, or of the chat template."""
    image, text, template = (settings.get(name) for name in ("image_prompt", "text_prompt", "template"))
    if (image is None or text is None) and not getattr(processor, "chat_template", None):
        raise CannotLoad(
            "the processor has no chat template: pass image_prompt=... with the image token of the model and "
            f"text_prompt=... with {TEXT}, as the model was trained"
        )

    instruction = settings.get("instruction")
    if image is None:
        image = _chat(processor, instruction, {"type": "image"}, template or {})
        if processor.image_token not in image:
            raise CannotLoad(
                "the processor's chat template leaves out the image of a message: pass image_prompt=... with "
                f"{processor.image_token!r}, as the model was trained"
            )
    elif processor.image_token not in image:
        raise BadOption(f"image_prompt must contain the model's image token {processor.image_token!r}")

    if text is None:
        text = _chat(processor, instruction, {"type": "text", "text": TEXT}, template or {})
        if text.count(TEXT) != 1:
            raise CannotLoad(
                f"the processor's chat template writes the text of a message {text.count(TEXT)} times: pass "
                f"text_prompt=... with {TEXT} once, as the model was trained"
            )

    if text.count(TEXT) != 1:
        raise BadOption(f"text_prompt must contain {TEXT} exactly once (got {text!r})")
    return {"image_prompt": image, "text_prompt": text}


def _chat(processor: Processor, instruction: str | None, content: Mapping[str, str], options: JsonObject) -> str:
    """Return the prompt of the chat template for one message, with the generation prompt if no option removes it."""
    system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    messages = [*system, {"role": "user", "content": [dict(content)]}]
    prompt = render_chat(processor, messages, options)
    if instruction and instruction.strip() not in prompt:
        raise CannotLoad(
            f"the processor's chat template leaves out the instruction {instruction[:100]!r}: pass "
            "image_prompt=... and text_prompt=... with it, as the model was trained"
        )
    return prompt


def render_chat(
    processor: Processor, messages: Sequence[Mapping[str, object]], options: JsonObject | None = None
) -> str:
    """Return the text of messages in the chat template of a processor, with the generation prompt by default."""
    try:
        return processor.apply_chat_template(
            [*messages], **{"add_generation_prompt": True, **(options or {}), "tokenize": False}
        )
    except TemplateError as error:
        raise BadInput(f"the model's chat template rejects the messages: {first_line(error)}") from None


def own_special_tokens(tokenizer: Tokenizer, text: str) -> Mapping[str, bool]:
    """Return the option with which a tokenizer adds no special tokens to a prompt that starts with the first of them.

    ``apply_chat_template`` of Transformers does so, too: else a template that has the token would give it twice.
    """
    first = tokenizer.bos_token
    return {"add_special_tokens": False} if first and text.startswith(first) else {}


def tokens(tokenizer: Tokenizer, prompt: str, caption: str, context: int) -> Tokens:
    """Tokenize a caption in its prompt. Only tokens of the caption are explained."""
    before, after = prompt.split(TEXT)
    with TOKENIZER_LOCK:
        options = own_special_tokens(tokenizer, prompt)
        encoded = tokenizer(before + caption + after, return_offsets_mapping=True, **options)

    ids = encoded["input_ids"]
    start = len(before)
    if len(ids) > context:
        raise BadInput(f"a caption with its prompt may have {context} tokens (got {len(ids)}): shorten the caption")

    texts = tokenizer.convert_ids_to_tokens(ids)
    offsets = [(max(0, first - start), min(len(caption), last - start)) for first, last in encoded["offset_mapping"]]
    explained = tuple(first < last and bool(caption[first:last].strip()) for first, last in offsets)
    words = words_by_offsets(caption, texts, explained, offsets)
    typed = special_tokens(tokenizer, len(tokenizer))
    notes = special_notes(caption, typed)
    notes += unknown_notes([word for word in words if word.text not in typed], ids, tokenizer.unk_token_id)
    return Tokens(tuple(ids), tuple(texts), explained, words, tuple(notes))
