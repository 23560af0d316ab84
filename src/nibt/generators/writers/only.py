"""Writers of families that only write text about images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from nibt.data.units import Grid, SequenceUnits, Units
from nibt.errors import BadInput
from nibt.generators.answers import AnswerTokens, AnswerTower, ForcedWord, Prompted, forced_inputs
from nibt.generators.base import Writer
from nibt.generators.decoder_answers import AnswerNetwork, DecoderAnswerTower, decoder_answer_tower
from nibt.generators.encoder_answers import EncoderAnswerTower
from nibt.generators.image_readers import reader_tower
from nibt.generators.page_readers import PageAnswerTower
from nibt.generators.whole_decoders import BYPASSING, WholeDecoderTower
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.models._vision_language.pixels import SquareLayout
from nibt.models._vision_language.tiles import layout_of
from nibt.preprocessing.captions import TOKENIZER_LOCK, in_words
from nibt.torch_modes import float32_numbers
from nibt.types import Embedding, Hidden


class LlavaWriter(Writer, name="llava"):
    """The writer of this family."""

    @staticmethod
    def tower(module: nn.Module, request: LoadRequest) -> AnswerTower:
        config: Any = module.config
        text = config.get_text_config()
        if any(getattr(text, name, 0) for name in BYPASSING):
            return WholeDecoderTower(module, request)
        return decoder_answer_tower(module, request)


class ImageReaderWriter(Writer, name="image_reader"):
    """The writer of this family."""

    tower = reader_tower


class GITNetwork(AnswerNetwork):
    """The parts of GIT, whose last layer is normalized."""

    layers = part("base.encoder.layer", list)
    norm = nn.Identity()


class GITTower(DecoderAnswerTower):
    """The sequence of GIT: the class token and the patches of the image, and the words of the prompt and the answer."""

    prompts = "optional"
    composed = AnswerTower.composed

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        images = request.image_processor
        super().__init__(
            GITNetwork(module, module.git, module.git), SquareLayout(images), images, request.text_tokenizer
        )

    @cached_property
    def offset(self) -> int:  # pyright: ignore
        vision = self.root.config.vision_config
        return (vision.image_size // vision.patch_size) ** 2 + 1

    def chat(self, prompt: str) -> str:
        return prompt

    def _prepared(self, prompted: Prompted) -> Mapping[str, Tensor]:
        with float32_numbers(), TOKENIZER_LOCK:
            pixels = self.processor(self.layout.images(prompted.image), return_tensors="pt")["pixel_values"]
            words = self.tokenizer(prompted.prompt, add_special_tokens=False).input_ids
        ids = torch.tensor([[self.tokenizer.cls_token_id, *words]], device="cpu")  # without the end of a text
        return {"pixel_values": pixels, "input_ids": ids}

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        return tuple(range(1, self.offset))


class GITWriter(Writer, name="git"):
    """The writer of this family."""

    tower = GITTower
    joint_processor = False


class Florence2Network(AnswerNetwork):
    """The parts of Florence-2."""

    norm = nn.Identity()


class Florence2Tower(DecoderAnswerTower):
    """The sequence of the encoder: the mean of the image, its cells, and the words of the prompt."""

    sources = ("image", "prompt")
    mapped = False  # masks of decoders
    composed = AnswerTower.composed
    read = AnswerTower.read
    offers = frozenset({"states", "stem"})  # pyright: ignore  # the head has many attentions

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        model: Any = module.model
        network = Florence2Network(module, model, model.language_model.encoder)
        super().__init__(network, layout_of(request.processor), request.processor)

    @property
    def start(self) -> list[int]:
        """The ids that the decoder reads before the answer."""
        settings = self.root.generation_config
        text = self.root.config.text_config
        forced = settings.forced_bos_token_id
        return [text.decoder_start_token_id, *([] if forced is None else [forced])]

    def chat(self, prompt: str) -> str:
        """Return the prompt, in which a task such as ``<CAPTION>`` is written out."""
        try:
            return self.processor._construct_prompts(prompt)[0]
        except ValueError as error:
            raise BadInput(f"the prompt must be a task alone, or free text (got {prompt!r:.80}): {error}") from error

    def _prepared(self, prompted: Prompted) -> Mapping[str, Tensor]:
        with float32_numbers(), TOKENIZER_LOCK:
            image = prompted.image.pil_image
            return dict(self.processor(text=[self.chat(prompted.prompt)], images=[image], return_tensors="pt"))

    def write(self, prompted: Prompted, most: int) -> AnswerTokens:
        values = self._prepared(prompted)
        inputs = self._inputs_of(values, prompted, len(values["input_ids"][0]))
        text = self.root.config.text_config
        start = torch.tensor([self.start], device=inputs.values.device)
        names = ("eos_token_id", "pad_token_id", "decoder_start_token_id")
        tokens = {name: getattr(text, name) for name in names}
        ids = self.generate(most, **self.arguments(inputs), decoder_input_ids=start, **tokens)
        return self.written(ids[start.shape[1] :], most)

    def prepare(self, items: Sequence[ForcedWord]) -> Inputs:
        prompted = items[0].prompted
        answer = items[0].answer
        values = self._prepared(prompted)
        start = self.start
        ids = values["input_ids"][0].tolist()
        self.check_length(max(len(ids), len(start) + len(answer.ids)))
        inputs = self._inputs_of(values, prompted, len(ids))
        read = torch.tensor([[*start, *answer.ids]], device=inputs.values.device)
        inputs = replace(inputs, extra={**inputs.extra, "read": read}).take([0] * len(items))
        task = replace(prompted, prompt=self.chat(prompted.prompt))
        words = self._prompt_words(task, ids) if "prompt" in self.narrowed else ()
        texts = tuple(self.tokenizer.convert_ids_to_tokens(ids))
        explained = torch.tensor([in_words(words, len(ids))] * len(items), device="cpu")
        return forced_inputs(inputs, items, len(start) - 1, texts, (words,) * len(items), explained)

    def places(self, inputs: Inputs) -> tuple[int, ...]:
        return super().places(inputs)[1:]

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        units = super().units(inputs, stream)
        assert isinstance(units, SequenceUnits)
        places = units.grid.tokens
        mean = Grid(1, 1, places=(places[0] - 1,))
        return replace(units, grid=replace(units.grid, prefix=0, places=places, overview=mean))

    def head_inputs(self, inputs: Inputs) -> dict[str, Tensor]:
        return {name: inputs.extra[name] for name in ("read", "rows")}

    def head(self, stream: Hidden, extra: dict[str, Tensor]) -> Embedding:
        decoder = self.network.base.language_model.decoder
        states = decoder(input_ids=extra["read"], encoder_hidden_states=stream, use_cache=False).last_hidden_state
        return self.network.embed(states, extra["rows"])

    def _whole(self, model: nn.Module, inputs: Inputs) -> Any:
        return model(**self.arguments(inputs), decoder_input_ids=inputs.extra["read"], use_cache=False)

    def run(self, inputs: Inputs) -> Embedding:
        return self.network.embed(self._whole(self.network.base, inputs).last_hidden_state, inputs.extra["rows"])

    def own(self, inputs: Inputs) -> Tensor:
        return self._whole(self.root, inputs).logits


class Florence2Writer(Writer, name="florence_2"):
    """The writer of this family."""

    tower = Florence2Tower


class VisionEncoderDecoderTower(EncoderAnswerTower):
    """The image encoder, whose states the decoder attends to."""

    prompts = "none"
    vision = part("root.encoder")
    vision_config = part("root.config.encoder")

    norm = part("vision", lambda vision: getattr(vision, "layernorm", nn.Identity()))
    context = part("root.config.decoder.max_position_embeddings")

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        settings = self.root.generation_config, self.root.config, self.root.config.decoder
        starts = (
            getattr(values, name, None) for name in ("decoder_start_token_id", "bos_token_id") for values in settings
        )
        return {"ids": [next(start for start in starts if start is not None)]}

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        seen = self.root.enc_to_dec_proj(states) if hasattr(self.root, "enc_to_dec_proj") else states
        return self.root.decoder(input_ids=texts["ids"], encoder_hidden_states=seen, use_cache=False).logits

    def own(self, inputs: Inputs) -> Tensor:
        return self.root(pixel_values=inputs.values, decoder_input_ids=inputs.extra["ids"], use_cache=False).logits

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        return self.generate(most, pixels, decoder_input_ids=texts["ids"])[1:]


class VisionEncoderDecoderWriter(Writer, name="vision_encoder_decoder"):
    """The writer of this family."""

    @staticmethod
    def tower(module: nn.Module, request: LoadRequest) -> AnswerTower:
        encoder: Any = module.encoder
        is_page = hasattr(encoder.config, "depths")  # of stages of a hierarchical encoder
        return (PageAnswerTower if is_page else VisionEncoderDecoderTower)(module, request)

    unread = r"^encoder\.pooler\."
    joint_processor = False


class PageReaderWriter(Writer, name="page_reader"):
    """The writer of this family."""

    tower = PageAnswerTower
