"""The tower of a generator whose decoder reads the image, the prompt and the answer (LLaVA, Qwen-VL)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from nibt.data.conversation import Turn
from nibt.data.images import ImageInput, ImagePart, Region, side_by_side
from nibt.data.units import SequenceUnits, Units, Word, cells_of
from nibt.errors import BadInput, CannotLoad, Unsupported
from nibt.generators.answers import AnswerTokens, AnswerTower, ForcedWord, Prompted, at_rows, forced_inputs
from nibt.generators.several import SeveralLayout, VideoLayout
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.models._vision_language.pixels import Layout
from nibt.models._vision_language.prompts import own_special_tokens, render_chat
from nibt.models._vision_language.tiles import encoded, layout_of, layout_of_frames
from nibt.models._vision_language.towers import (
    DecoderPixels,
    Network,
    apart,
    decoder_of,
    image_token_id,
    own_head,
    preparing,
)
from nibt.preprocessing.captions import TOKENIZER_LOCK, Tokenizer, in_words, words_by_offsets
from nibt.preprocessing.images import Processor
from nibt.types import Embedding, Hidden

_WITHOUT_TEMPLATE = ("PaliGemma", "Florence2")
"""The beginnings of the names of processors whose models read a prompt as it is."""
_QUERY = " OCR: "  # of GOT-OCR 2
_MARK = "\ue000"  # which no template has
_TYPES = ("mm_token_type_ids", "token_type_ids")
_SEEN = {"image_embeds_position_mask": False, "cross_attention_mask": True}
"""What says whether a token stands for the image, as no token of an answer does, or which tiles it attends to."""


@dataclass(frozen=True)
class AnswerNetwork(Network):
    """A model whose decoder predicts the tokens of an answer."""

    offers = frozenset({"states", "attention", "stem", "answer"})

    def run(self, arguments: dict[str, Tensor]) -> Embedding:
        """Run the model, and return the states at the rows that predict the tokens of a word."""
        arguments = dict(arguments)
        rows = arguments.pop("rows")
        return self.embed(self.states(arguments), rows)

    def embed(self, states: Hidden, mask: Tensor) -> Embedding:
        return at_rows(states, mask)


class DecoderAnswerTower(DecoderPixels, AnswerTower):
    """The sequence of a decoder: the cells of the image, and the words of the prompt and of the answer.

    All other tokens, such as those of the chat template, are special tokens.
    """

    unread_layers = 1
    root: Any

    def __init__(
        self, network: AnswerNetwork, layout: Layout, processor: Processor, tokenizer: Tokenizer = None
    ) -> None:
        super().__init__()
        self.root = network.root
        self.network = network
        self.layout = layout
        self.processor = processor
        self.tokenizer = tokenizer or processor.tokenizer

    @property
    def token(self) -> Any:
        """The token of the processor for an image or a video, which it replaces by as many as the model reads."""
        return getattr(self.processor, f"{self.layout.medium}_token", None)

    def composed(self, images: Sequence[ImageInput], video: bool = False) -> tuple[AnswerTower, ImageInput]:
        if video:
            return self._of_video(images)
        if len(images) == 1 or self.layout.alone:
            return super().composed(images)

        tower = copy(self)
        layout = self.layout.several
        tower.images = layout.company
        tower.layout = layout
        alone = [tower._alone(image) for image in images]
        places = [rows[: len(rows) // layout.company] for rows in map(self.places, alone)]
        tower.images, tower.layout = len(images), SeveralLayout(layout, alone, places)
        notes = tuple(dict.fromkeys(note for image in images for note in layout.notes(image)))
        parts = [*map(ImagePart, images, map(layout.region, images), tower.layout.shapes)]
        return tower, replace(side_by_side(parts), notes=notes)

    def _alone(self, image: ImageInput) -> Inputs:
        """Return the inputs of one of several images."""
        prompted = Prompted(image, "")
        values = self._prepared(prompted)
        return self._inputs_of(values, prompted, len(values["input_ids"][0]))

    def _of_video(self, frames: Sequence[ImageInput]) -> tuple[AnswerTower, ImageInput]:
        """Return the tower for the frames of a video, and the first of those that it merges as one image."""
        if any(frame.size != frames[0].size for frame in frames):
            sizes = ", ".join(
                dict.fromkeys(f"{width} x {height}" for width, height in (frame.size for frame in frames))
            )
            raise BadInput(f"the frames of a video must have one size (got {sizes} pixels): resize them")

        tower = copy(self)
        layout = layout_of_frames(self.processor)
        tower.layout = several = VideoLayout(layout, frames)
        values = tower._prepared(Prompted(frames[0], ""))
        ids = {"input_ids": values["input_ids"]}
        several.divide(values, tower.places(Inputs(ids["input_ids"], ids)), self.example.to(self.dtype))
        tower.images = len(several.shapes)
        tower.frames = several.merged
        notes = [note for frame in frames for note in layout.notes(frame)]
        if several.merged > 1:
            notes.append(f"the model merges each {several.merged} frames: their map is drawn over the first of them")
        if len(frames) % several.merged:
            notes.append("the model reads the last frame repeatedly, to merge it")
        drawn = frames[:: several.merged]
        parts = [*map(ImagePart, drawn, map(layout.region, drawn), several.shapes)]
        return tower, replace(side_by_side(parts), notes=tuple(dict.fromkeys(notes)))

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        if self.layout.medium == "image":
            return super().places(inputs)
        video = inputs.extra["input_ids"][0] == self.tokenizer.convert_tokens_to_ids(self.token)
        return tuple(video.nonzero()[:, 0].tolist()) or super().places(inputs)  # GLM-4V reads frames as images

    def chat(self, prompt: str) -> str:
        """Return the text of a prompt with an image: that of the chat template, or the image token with the prompt.

        A prompt that has the image token is the whole text.
        """
        count = self.images if self.layout.medium == "image" else 1
        if self.token in prompt:
            return prompt
        if not getattr(self.processor, "chat_template", None):
            if hasattr(self.processor, "system_query"):
                return _page_prompt(self.processor, prompt).replace(self.token, self.token * count)
            return f"{self.token * count}{prompt}"

        content = [{"type": self.layout.medium}] * count + [{"type": "text", "text": prompt}]
        return self.conversation([{"role": "user", "content": content}])[0]

    def conversation(self, turns: Sequence[Turn]) -> tuple[str, tuple[int, ...]]:
        if not getattr(self.processor, "chat_template", None):
            return super().conversation(turns)

        text = render_chat(self.processor, turns)
        texts = [part["text"] for turn in turns for part in turn["content"] if part["type"] == "text"]

        # the words of a message may be those of the template, too, so each text is replaced by a mark of its own
        marks = iter(f"{_MARK}{number}{_MARK}" for number in range(len(texts)))
        marked = render_chat(self.processor, [_with_marks(turn, marks) for turn in turns])
        around = re.split(f"{_MARK}([0-9]+){_MARK}", marked)
        for number, lost in enumerate(texts):
            if str(number) not in around[1::2] and lost:
                raise Unsupported(
                    f"the model's chat template leaves out {lost[:100]!r}, a text of the messages: leave that message "
                    "out"
                )

        pieces = [texts[int(piece)] if place % 2 else piece for place, piece in enumerate(around)]
        if "".join(pieces) != text or around[1::2] != [str(number) for number in range(len(texts))]:
            return text, ()
        return text, tuple(accumulate(map(len, pieces)))[:-1:2]

    def _prepared(self, prompted: Prompted) -> Mapping[str, Tensor]:
        """Return what the model's processor makes of an image with its prompt."""
        image = prompted.image
        token = self.token
        text = self.chat(prompted.prompt)
        medium = self.layout.medium
        count = self.images if medium == "image" else 1
        if prompted.prompt.count(token) not in (0, count):
            raise BadInput(
                f"the prompt may have the model's {medium} token {token!r} once for each {medium}, and there is "
                f"{count} (got {prompted.prompt.count(token)})"
            )
        if token not in text:
            raise CannotLoad(f"the model's prompt has no {medium} token: save the processor with its chat template")

        with preparing(image, self.layout.frames), TOKENIZER_LOCK:
            images = self.layout.images(image)
            options = own_special_tokens(self.processor.tokenizer, text)
            if medium == "video":
                options = {**options, "do_sample_frames": False}
            output = self.processor(text=[text], **{f"{medium}s": images}, return_tensors="pt", **options)

        width, height = image.size
        return {"image_sizes": torch.tensor([[height, width]], device="cpu"), **encoded(self.processor, output)}

    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        values = self._prepared(prompted)
        self.check_length(self.offset + len(values["input_ids"][0]) + 1)
        inputs = self._inputs_of(values, prompted, len(values["input_ids"][0]))
        settings = self.root.generation_config
        tokens = {"pad_token_id": self.pad[0]}
        if settings.eos_token_id is None and self.generation == "greedy":
            tokens["eos_token_id"] = self.tokenizer.eos_token_id
        ids = self.generate(most, **self.arguments(inputs), inner=self.network.base, **tokens)
        return self.written(ids[inputs.extra["input_ids"].shape[1] :], most)

    def read(self, prompted: Prompted, answer: str) -> AnswerTokens:
        text = self.chat(prompted.prompt)
        prompt_ids = self._prepared(prompted)["input_ids"][0].tolist()
        last = prompt_ids[-1:]
        with TOKENIZER_LOCK:
            end = self.tokenizer.decode(last)
        if end.isspace() and not text.endswith(end):  # that of a processor
            text += end
        # no blank follows a token that marks a turn, such as that of the start of an answer
        is_joined = not text or text[-1].isspace() or last[0] in self.tokenizer.added_tokens_decoder
        answer = answer if is_joined else f" {answer}"
        with TOKENIZER_LOCK:
            options = own_special_tokens(self.tokenizer, text)
            before, both = (self.tokenizer(both, **options).input_ids for both in (text, text + answer))
            alone = self.tokenizer(answer, add_special_tokens=False).input_ids

        ids = both[len(before) :] if both[: len(before)] == before else alone
        self.check_length(self.offset + len(prompt_ids) + len(ids))  # before its words are found, which takes long
        return self.spelled(ids)

    def _placed(self, prompted: Prompted, text: str) -> list[tuple[int, str]]:
        """Return the parts of the user's prompt with their places in the text that the processor is given."""
        prompt = prompted.prompt
        placed = []
        if prompted.starts:
            return [*zip(prompted.starts, prompted.texts, strict=True)]

        start = self.chat(_MARK).find(_MARK)  # since the words of the prompt may be those of the template, too
        start = start if start >= 0 and text.startswith(prompt, start) else text.rfind(prompt)
        after = start + len(prompt)
        around = prompted.texts or (prompt.split(self.token) if self.token else [prompt])
        for part in reversed([part for part in around if part.strip()]):
            start = text.rfind(part, 0, after)
            if start < 0:
                raise Unsupported(
                    f"the model's chat template changes {part[:100]!r}, a text of the prompt, so its words cannot be "
                    "found: write it as the template does"
                )

            placed.append((start, part))
            after = start

        return placed[::-1]

    def _prompt_words(self, prompted: Prompted, ids: Sequence[int]) -> tuple[Word, ...]:
        """Return the words of the user's prompt, or of the texts in it, with their rows in the sequence."""
        prompt = prompted.prompt
        if not prompt:
            return ()

        text = self.chat(prompt)
        words = []
        end = len(ids)
        with TOKENIZER_LOCK:
            output = self.tokenizer(text, return_offsets_mapping=True, **own_special_tokens(self.tokenizer, text))
        for start, part in reversed(self._placed(prompted, text)):
            rows = [
                row
                for row, (first, last) in enumerate(output["offset_mapping"])
                if first < start + len(part) and last > max(start, first)
            ]
            inside = slice(rows[0], rows[-1] + 1) if rows else slice(0)  # with blanks, which may have no offsets
            wanted = output["input_ids"][inside]
            # the tokens of the image are before or after it, so it is as far from the end, or from the start, as here
            counted = (len(ids) - len(output["input_ids"]) + inside.start, inside.start) if rows else ()
            places = (*counted, *range(end - len(wanted), -1, -1))
            end = next((row for row in places if row >= 0 and list(ids[row : row + len(wanted)]) == wanted), -1)
            if not wanted or end < 0:
                raise CannotLoad(
                    f"the words of the prompt {prompt!r} cannot be found in what the model's processor makes of it "
                    f"({text[:200]!r}): please report it with the name of the model"
                )

            spans = output["offset_mapping"][inside]
            offsets = [(max(0, first - start), min(len(part), last - start)) for first, last in spans]
            texts = self.tokenizer.convert_ids_to_tokens(wanted)
            spelled = words_by_offsets(part, texts, [True] * len(wanted), offsets)
            words = [
                *(Word(word.text, tuple(self.offset + end + row for row in word.tokens)) for word in spelled),
                *words,
            ]

        return tuple(words)

    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        first = items[0]
        if image_token_id(self.root) in first.answer.ids:
            raise BadInput(f"the answer must not contain the model's image token {self.processor.image_token!r}")

        values = self._prepared(first.prompted)
        prompt_ids = values["input_ids"][0].tolist()
        start = self.offset + len(prompt_ids)
        self.check_length(start + len(first.answer.ids))
        # no token reads those after it, so the sequence ends with the last word of the batch
        end = 1 + max((token for item in items for token in item.tokens), default=-1)
        answer_ids = first.answer.ids[:end]
        ids = [*prompt_ids, *answer_ids]
        prompt_words = self._prompt_words(first.prompted, prompt_ids)
        inputs = self._inputs_of(values, first.prompted, len(ids), answer_ids).take([0] * len(items))
        rows = [row for word in prompt_words for row in word.tokens]
        words = []
        context = torch.zeros(len(items), self.offset + len(ids), dtype=torch.bool, device="cpu")
        context[:, min(rows, default=0) : max(rows, default=-1) + 1] = True
        for number, item in enumerate(items):
            context[number, start : start + item.tokens[0]] = True
            before = item.answer.words[: item.word or 0] if item.word is not None else ()
            earlier = tuple(Word(word.text, tuple(start + row for row in word.tokens)) for word in before)
            kept = {"prompt": prompt_words, "earlier": earlier}
            words.append(tuple(word for name, group in kept.items() if name in self.narrowed for word in group))

        texts = ("",) * self.offset + tuple(self.tokenizer.convert_ids_to_tokens(ids))
        explained = torch.tensor([in_words(group, len(texts)) for group in words], device="cpu")
        extra = {
            **inputs.extra,
            "start": torch.full((len(items),), start, device=inputs.values.device),
            "context": context.to(inputs.values.device),  # the rows of the prompt, and of the answer before the word
        }
        return forced_inputs(replace(inputs, extra=extra), items, start - 1, texts, words, explained)

    def check_length(self, length: int) -> None:
        """Check that the model can read a sequence of a length."""
        if length > self.network.context:
            raise BadInput(
                f"the image with its prompt and answer may have {self.network.context} tokens (got {length}): "
                "shorten the prompt or the answer"
            )

    def _inputs_of(
        self, values: Mapping[str, Tensor], prompted: Prompted, length: int, answer: Sequence[int] = ()
    ) -> Inputs:
        """Return the inputs of one sequence: the prompt and the answer."""
        image = prompted.image
        notes = image.notes if image.parts else self.layout.notes(image)
        with preparing(image):
            pixels, extra = self.layout.values(values)
        ids = torch.cat([values["input_ids"][0], torch.tensor(list(answer), dtype=torch.long, device="cpu")])
        extra |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in _TYPES:
            if name in values:
                types = values[name][0]
                of_answer = 0 if types.any() else 1  # PaliGemma reads prompts, whose type is 0, without a causal mask
                tail = torch.full((length - len(types),), of_answer if name == "token_type_ids" else 0, device="cpu")
                extra[name] = torch.cat([types, tail.to(types)])

        for name, repeated in _SEEN.items():
            if name in values:
                seen = values[name][0]
                tail = seen[-1:].expand(length - len(seen), *seen.shape[1:])
                extra[name] = torch.cat([seen, tail if repeated else torch.zeros_like(tail)])

        pixels = pixels[None].to(self.example.device, self.dtype)
        return Inputs(
            pixels,
            {name: value[None].to(pixels.device) for name, value in extra.items()},
            regions=(Region(0.0, 0.0, *map(float, image.size)) if image.parts else self.layout.region(image),),
            notes=((*notes, *([] if prompted.texts else self._prompt_notes(prompted.prompt))),),
        )

    def _prompt_notes(self, prompt: str) -> list[str]:
        """Return a note on a prompt that is not put into a chat template."""
        token = self.token
        has_template = getattr(self.processor, "chat_template", None)
        if token is None or type(self.processor).__name__.startswith(_WITHOUT_TEMPLATE):
            return []
        if hasattr(self.processor, "system_query") and token not in prompt:
            return []  # of GOT-OCR 2, which has a prompt of its own
        if token in prompt:
            name = f"{self.layout.medium} token"
            note = f"the prompt has the model's {name}, so it is used as it is, without the chat template"
            return [note] if has_template else []
        if has_template:
            return []
        return [
            "the processor has no chat template, so the prompt follows the image: if the model was trained on another "
            f"prompt, give all of it, with {token}"
        ]

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {"mask": inputs.extra["rows"]}

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.run({**self.arguments(inputs), "rows": inputs.extra["rows"]})

    def _logits(self, states: Embedding) -> Tensor:
        # not the matrix alone: Gemma limits its logits, Cohere scales them, and LLaVA around either does neither
        return own_head(self.root, self.network.base, states)

    def last_states(self, stream: Hidden) -> Hidden:
        return self.network.norm(stream)

    def own(self, inputs: Inputs) -> Tensor:
        return apart(self.root, self.network.base)(**self.arguments(inputs), **self.network.options).logits

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        assert inputs.words is not None
        return SequenceUnits(cells_of(super().units(inputs, stream)), inputs.words, "image" in self.narrowed)

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        assert inputs.words is not None
        explained = inputs.words.explained.to(inputs.values.device)
        has_image = "image" in self.narrowed
        image = b"" if has_image else inputs.values.cpu().float().numpy().tobytes()
        texts = inputs.extra["input_ids"][0].tolist(), inputs.extra["rows"].tolist()
        key = (str(texts), explained.cpu().numpy().tobytes(), inputs.values.shape, self.layout.shapes, image)
        nothing = partial(self.blank_inputs, inputs) if has_image else lambda: inputs
        return self._blank_state(
            key, nothing, layer, partial(self.blend_to_padding, (~explained[:, self.offset :]).float())
        )


def _with_marks(turn: Turn, marks: Iterator[str]) -> Turn:
    """Return a message with the next marks in place of its texts."""
    content = [{**part, "text": next(marks)} if part["type"] == "text" else part for part in turn["content"]]
    return {**turn, "content": content}


def _page_prompt(processor: Processor, prompt: str) -> str:
    """Return the prompt that a processor builds itself without a text, with another query in it, as of GOT-OCR 2."""
    page = Image.new("RGB", (8, 8))
    text = processor.prepare_inputs_layout(images=[page], format=False, images_kwargs={})[1][0]
    if text.count(_QUERY) != 1:
        raise CannotLoad("the processor builds another prompt than that of Transformers 5.24: give all of it")
    return text.replace(_QUERY, f" {prompt} ")


def decoder_answer_tower(module: nn.Module, request: LoadRequest) -> DecoderAnswerTower:
    """Return the tower of a generator of Transformers whose decoder reads image tokens."""
    base: Any = module.model
    network = AnswerNetwork(module, base, decoder_of(base))
    return DecoderAnswerTower(network, layout_of(request.processor), request.processor)
