"""CoCa as a generator: its text decoder, which attends to the pooled states of the image, writes captions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTokenizer

from nibt.errors import CannotLoad
from nibt.generators.answers import TOKENS_PER_WORD
from nibt.generators.encoder_answers import EncoderAnswers
from nibt.models._inputs import Inputs
from nibt.models._request import LoadRequest
from nibt.models._tower import part
from nibt.models.open_clip.image import OwnViT
from nibt.types import Hidden

_START = "<start_of_text>"
_END = "<end_of_text>"


class CoCaAnswers(EncoderAnswers, OwnViT):
    """The image encoder of CoCa; a prompt is how its caption begins."""

    prompts = "optional"

    def __init__(self, module: nn.Module, request: LoadRequest) -> None:
        super().__init__(module, request)
        tokenizer = request.tokenizer
        if not (hasattr(tokenizer, "byte_decoder") and hasattr(self.visual, "transformer")):
            raise CannotLoad(
                "only a CoCa with OpenCLIP's own image encoder and CLIP's tokenizer can be explained as a generator"
            )
        text: Any = module.text
        if len(tokenizer.encoder) != text.vocab_size:
            raise CannotLoad("the vocabulary of the model is not CLIP's")

        merges = sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.__getitem__)
        special = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": None}
        self.tokenizer = CLIPTokenizer(vocab=tokenizer.encoder, merges=merges, **special)
        self.patch = self.visual.patch_size[0]

    context = part("module.text.context_length")
    embedder = part("module.text.token_embedding")

    def prompt_ids(self, prompt: str) -> dict[str, list[int]]:
        words = self.tokenizer(prompt, add_special_tokens=False).input_ids
        return {"ids": [self.tokenizer.bos_token_id, *words]}

    def encoded(self, pixels: Tensor) -> Hidden:
        return self.visual(pixels)[1]

    def after_blocks(self, stream: Hidden) -> Tensor:
        return self.visual._pool(stream)[1]

    def decoded(self, states: Hidden, texts: dict[str, Tensor]) -> Tensor:
        _, words = self.module.text(texts["ids"])
        return self.module.text_decoder(states, words)

    def own(self, inputs: Inputs) -> Tensor:
        return self.module(inputs.values, inputs.extra["ids"], output_labels=False)["logits"]

    def answer_ids(self, pixels: Tensor, texts: dict[str, Tensor], most: int) -> Sequence[int]:
        """Return the most probable ids; OpenCLIP's own ``generate`` draws from torch's random state."""
        ids = texts["ids"]
        start = texts["ids"].shape[1]
        with torch.no_grad(), self.computing():
            states = self.encoded(pixels)
            while ids.shape[1] < min(self.context, start + TOKENS_PER_WORD * most):
                ids = torch.cat([ids, self.decoded(states, {"ids": ids})[:, -1:].argmax(-1)], 1)
                if int(ids[0, -1]) == self.tokenizer.eos_token_id:
                    break

        return ids[0, start:].tolist()
