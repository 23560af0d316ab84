"""The prompts in which a vision-language model embeds an image or a text."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nibt.errors import BadInput, BadOption, CannotLoad
from nibt.preprocessing.captions import TOKENIZER_LOCK, Tokens, special_notes, words_by_offsets
from nibt.preprocessing.hugging_face import special_tokens

TEXT = "{text}"


@dataclass(frozen=True)
class Prompts:
    """The prompts of both sides: of an image, with its token, and of a text, with ``{text}``."""

    image: str
    text: str

    def __post_init__(self) -> None:
        if self.text.count(TEXT) != 1:
            raise BadOption(f"text_prompt must contain {TEXT} exactly once (got {self.text!r})")

    @classmethod
    def of(cls, processor: Any, settings: Mapping[str, Any]) -> "Prompts":
        """Return the prompts that are set, or else those of the processor's chat template."""
        image, text = settings.get("image_prompt"), settings.get("text_prompt")
        if (image is None or text is None) and not getattr(processor, "chat_template", None):
            raise CannotLoad(
                "the processor has no chat template: pass image_prompt=... with the image token of the model and "
                f"text_prompt=... with {TEXT}, as the model was trained"
            )
        instruction = settings.get("instruction")
        if image is None:
            image = _chat(processor, instruction, {"type": "image"})
        elif processor.image_token not in image:
            raise BadOption(f"image_prompt must contain the model's image token {processor.image_token!r}")
        return cls(image, _chat(processor, instruction, {"type": "text", "text": TEXT}) if text is None else text)


def _chat(processor: Any, instruction: str | None, content: Mapping[str, str]) -> str:
    """Return the prompt of the chat template for one message, with the generation prompt."""
    system = [{"role": "system", "content": [{"type": "text", "text": instruction}]}] if instruction else []
    messages = [*system, {"role": "user", "content": [dict(content)]}]
    return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)


def own_special_tokens(tokenizer: Any, text: str) -> Mapping[str, bool]:
    """Return the option with which a tokenizer adds no special tokens to a prompt that starts with the first of them.

    ``apply_chat_template`` of Transformers does so, too: else a template that has the token would give it twice.
    """
    first = tokenizer.bos_token
    return {"add_special_tokens": False} if first and text.startswith(first) else {}


def tokens(tokenizer: Any, prompt: str, caption: str, context: int) -> Tokens:
    """Tokenize a caption in its prompt. Only tokens of the caption are explained."""
    before, after = prompt.split(TEXT)
    with TOKENIZER_LOCK:
        options = own_special_tokens(tokenizer, prompt)
        encoded = tokenizer(before + caption + after, return_offsets_mapping=True, **options)
    ids, start = encoded["input_ids"], len(before)
    if len(ids) > context:
        raise BadInput(f"a caption with its prompt may have {context} tokens (got {len(ids)}): shorten the caption")
    texts = tokenizer.convert_ids_to_tokens(ids)
    offsets = [(max(0, first - start), min(len(caption), last - start)) for first, last in encoded["offset_mapping"]]
    explained = tuple(first < last and bool(caption[first:last].strip()) for first, last in offsets)
    words = words_by_offsets(caption, texts, explained, offsets)
    notes = special_notes(caption, special_tokens(tokenizer, len(tokenizer)))
    return Tokens(tuple(ids), tuple(texts), explained, words, tuple(notes))
