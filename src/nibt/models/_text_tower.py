"""The contract of text towers."""

from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nibt.data.pair import caption_notes
from nibt.data.units import Units, Words
from nibt.errors import BadInput
from nibt.models._inputs import Inputs, See
from nibt.models._tower import Tower
from nibt.preprocessing.captions import Tokenizer, Tokens
from nibt.torch_modes import set_hook
from nibt.types import Hidden, PerToken


class TextTower(Tower):
    """Base class of text towers. In the blank caption every word has the embedding of the padding token."""

    modality = "text"
    tokenizer: Tokenizer
    examples: Sequence[str] = ("a photo of a cat and a dog", "two red cars")
    """Two texts on which the tower is checked when it is loaded."""
    sample: str = "a photo of a cat"
    """The text with which ``nibt check`` shows how texts are read."""
    full: ClassVar[bool] = True
    """Whether the forward pass takes no mask of padding, as where captions are padded to the full length."""
    offset: int = 0
    """The number of rows before those of embedded tokens, such as those of an image in a sequence."""

    @property
    @abstractmethod
    def embedder(self) -> nn.Module:
        """The table of word embeddings, whose output is used before positions are added."""

    @cached_property
    def first_weight(self) -> Tensor:
        weight = getattr(self.embedder, "weight", None)  # adapters have none
        return weight if isinstance(weight, Tensor) else self.example

    @cached_property
    def pad(self) -> tuple[int, str]:
        """The id and the text of the padding token."""
        return self.tokenizer.pad_token_id, self.tokenizer.pad_token

    @abstractmethod
    def tokens(self, caption: str) -> Tokens:
        """Tokenize one caption with the model's tokenizer."""

    def extra(self, tokens: Sequence[Tokens], ids: Tensor) -> dict[str, Tensor]:
        """Return the inputs of the forward pass besides the ids: a mask that is 1 for tokens and 0 for padding."""
        if self.full:
            return {}
        lengths = torch.tensor([len(row.ids) for row in tokens], device=ids.device)
        return {"attention_mask": (torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]).long()}

    def valid_tokens(self, inputs: Inputs, hidden: Hidden) -> Bool[Tensor, "batch token"]:
        return super().valid_tokens(inputs, hidden) if self.full else inputs.extra["attention_mask"].bool()

    def group(self, item: str) -> Hashable:
        return None

    def length(self, item: str) -> int:
        return len(self.tokens(item).ids)

    def prepare(self, items: Sequence[str]) -> Inputs:
        tokens = [self.tokens(item) for item in items]
        longest = max(len(row.ids) for row in tokens)
        ids = []
        explained = []
        for item, row in zip(items, tokens, strict=True):
            if not any(row.explained):
                raise BadInput(f"the model's tokenizer finds no word in the caption {item!r}: use other words")

            lacking = longest - len(row.ids)
            ids.append([*row.ids, *[self.pad[0]] * lacking])
            explained.append([*row.explained, *[False] * lacking])

        ids = torch.tensor(ids, device="cpu")
        explained = torch.tensor(explained, device="cpu")
        words = Words(tuple(row.texts for row in tokens), tuple(row.words for row in tokens), explained)
        notes = tuple(
            row.notes if item.isprintable() else (*caption_notes(item), *row.notes)
            for item, row in zip(items, tokens, strict=True)
        )
        device = self.first_weight.device
        extra = {key: value.to(device) for key, value in self.extra(tokens, ids).items()}
        return Inputs(ids.to(device), extra, words=words, notes=notes)

    def empty_inputs(self) -> Inputs:
        tokens = self.tokens("")
        if not tokens.ids:  # a tokenizer without special tokens
            tokens = replace(tokens, ids=self.pad[:1], texts=self.pad[1:], explained=(False,))

        words = Words((tokens.texts,), ((),), torch.zeros(1, len(tokens.ids), dtype=torch.bool, device="cpu"))
        ids = torch.tensor([tokens.ids], device="cpu")
        device = self.first_weight.device
        extra = {key: value.to(device) for key, value in self.extra([tokens], ids).items()}
        return Inputs(ids.to(device), extra, words=words)

    def units(self, inputs: Inputs, stream: Tensor) -> Units:
        assert inputs.words is not None
        return inputs.words

    def on_first_tokens(self, see: See) -> RemovableHandle:
        def after(_: nn.Module, args: tuple, out: Tensor) -> Tensor | None:
            # copies, since some models (BLIP) add positions in place
            replaced = see(out.clone())
            return None if replaced is None else replaced.clone()

        return set_hook(self.embedder.register_forward_hook, after)

    def blend_to_padding(self, keep: PerToken) -> AbstractContextManager[None]:
        """Blend word embeddings with that of the padding token inside ``with``: 1 keeps the word, 0 replaces it."""
        return self.embedding(self.blending(keep))

    def blending(self, keep: PerToken) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
        """Return the hook of a table of embeddings that blends them with that of the padding token."""

        def blend(table: nn.Module, args: tuple, out: Tensor) -> Tensor:
            nothing = self.empty_embedding(table, out.device)
            return nothing + keep[..., None].to(out) * (out - nothing)

        return blend

    def empty_embedding(self, table: nn.Module, device: torch.device) -> Tensor:
        """Return the embedding that takes the place of a removed word: that of the padding token."""
        return table.forward(torch.tensor(self.pad[0], device=device))  # with its scaling and adapters

    @contextmanager
    def embedding(self, change: Callable[[nn.Module, tuple, Tensor], Tensor]) -> Iterator[None]:
        """Change word embeddings before positions are added inside ``with``; ``change`` is a forward hook."""
        with self.lock, set_hook(self.embedder.register_forward_hook, change):
            yield

    def blank(self, inputs: Inputs, layer: int | None) -> Hidden:
        assert inputs.words is not None
        word = inputs.words.explained.to(inputs.values.device)

        # captions with the same special tokens in the same places, also those of padding, are the same when blank
        keys = [tuple(row) for row in inputs.values.masked_fill(word, -1).tolist()]
        states: dict[tuple, Hidden] = {}
        for index, key in enumerate(keys):
            if key not in states:
                blanked = partial(self.blend_to_padding, (~word[index : index + 1]).float())
                states[key] = self._blank_state(key, partial(inputs.take, [index]), layer, blanked)

        return torch.cat([states[key] for key in keys])
