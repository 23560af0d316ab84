"""The attention weights of the words of an answer: ``attentions``."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from nibt.data.conversation import Prompt
from nibt.data.images import ImageInput, ImageSource, Region
from nibt.data.units import Grid, cells_of
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.generators.answers import ForcedWord, Generator
from nibt.generators.forced import AnswerRequest
from nibt.generators.loading import load_generator
from nibt.models._attention import attention_rows
from nibt.options import parsed
from nibt.preprocessing.images import Processor
from nibt.report.colors import Appearance
from nibt.report.image.heatmap import GridMap, overlay
from nibt.report.image.layout import MARGIN, TILE, centered, resized, stacked, text_rows, tile
from nibt.torch_modes import plain_torch
from nibt.types import SOURCES

_ROWS = 64
"""The rows of weights that are computed together for the rollout."""
_SINK = 0.2
"""The share of attention from which a token without content is named."""
_ACROSS = 4


@dataclass(frozen=True, eq=False)
class AnswerAttentions:
    """The attention weights of the words of an answer, by layer and head. They are not attribution scores.

    The weights of a word are those of the rows that predict its tokens, averaged over these tokens. They are not
    negative. For each word, layer and head, they add up to 1, or to less if the model has an attention sink that is not
    a token.

    Attributes:
        words: The words of the answer.
        prompt_words: The words of the prompt.
        tokens: The texts of all tokens of the sequence: the image, the prompt with its template, and the answer.
        weights: The attention weights.
        rollout: The product of (1 + mean weights of the heads) / 2 over all layers (Abnar and Zuidema, ACL 2020,
            attention rollout), at the same rows. Its rows add up to 1, or to less with such a sink.
        image: The image. If there are several images, what the model sees of them, side by side.
        region: The part of the image that the model sees.
        notes: Notes for the reader of the weights, such as on attention sinks: tokens without content that have a large
            share (Xiao et al., ICLR 2024).
    """

    words: tuple[str, ...]
    prompt_words: tuple[str, ...]
    tokens: tuple[str, ...] = field(repr=False)
    weights: Float[Tensor, "layer head word token"] = field(repr=False)
    rollout: Float[Tensor, "word token"] = field(repr=False)
    image: ImageInput = field(repr=False)
    region: Region
    notes: tuple[str, ...]
    _grid: Grid = field(repr=False)
    _rows: dict[str, tuple[tuple[int, ...], ...]] = field(repr=False)  # of each word of the prompt and the answer

    def split(self, weights: Float[Tensor, "*which token"] | None = None) -> dict[str, Tensor]:
        """Split weights by what is attended to.

        Args:
            weights: Weights of all tokens, such as ``rollout`` or ``weights.mean((0, 1))``; None means ``weights``.

        Returns:
            ``image``, (..., row, column); ``prompt``, (..., word of the prompt); ``answer``, (..., word of the answer),
            where a word of several tokens attends to itself, too; and ``other``, (...), the share of all other tokens,
            such as those of the chat template. The four add up to the sum of the weights.

        Raises:
            BadInput: The weights are not those of all tokens.
        """
        weights = self.weights if weights is None else weights
        count = len(self.tokens)
        if not isinstance(weights, Tensor) or not weights.is_floating_point() or weights.shape[-1:] != (count,):
            got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
            raise BadInput(f"weights must be a tensor of floats whose last axis has {count} tokens (got {got})")

        cells = self._grid.keep(weights.reshape(-1, weights.shape[-1])).reshape(*weights.shape[:-1], -1)
        parts = {"image": self._grid.unfold(cells)}
        for name, rows in self._rows.items():
            sums = [weights[..., list(row)].sum(-1) for row in rows]
            parts[name] = torch.stack(sums, -1) if sums else weights[..., :0]

        content = cells.sum(-1) + parts["prompt"].sum(-1) + parts["answer"].sum(-1)
        return {**parts, "other": weights.sum(-1) - content}

    def picture(self, word: int = 0) -> Image.Image:
        """Draw the attention of a word on the image in each layer, averaged over the heads, and the rollout.

        Each map has its own scale; the number above it is the share of the word's attention on the image.

        Args:
            word: The position of the word in ``words``.

        Raises:
            BadOption: There is no such word.
        """
        if not 0 <= (number := parsed("word", word, int)) < len(self.words):
            raise BadOption(f"word must be between 0 and {len(self.words) - 1} (got {word})")

        original = resized(self.image.pil_image, TILE)
        tiles = []
        layers = {f"layer {layer}": of_layer.mean(0)[number] for layer, of_layer in enumerate(self.weights)}
        for name, weights in {**layers, "rollout": self.rollout[number]}.items():
            grid = self.split(weights)["image"]
            laid = overlay(GridMap(grid, self.region, self.image.size), original, Appearance(style="colors"))
            tiles.append(tile(laid, name, f"{float(grid.sum()):.0%}"))

        width = max(_ACROSS * (max(each.width for each in tiles) + MARGIN) + MARGIN, 640)
        rows = [centered(tiles[first : first + _ACROSS], width) for first in range(0, len(tiles), _ACROSS)]
        title = text_rows(
            [f"Where {self.words[number]!r} looks, mean over the heads; weights are no attribution"], width
        )
        return stacked([title, *rows, *([text_rows(self.notes, width)] if self.notes else [])], width)


@plain_torch()
def attentions(
    model: Generator | str | Path | nn.Module,
    image: ImageSource | Sequence[ImageSource],
    prompt: Prompt,
    answer: str | None = None,
    *,
    max_words: int | None = None,
    processor: Processor = None,
) -> AnswerAttentions:
    """Compute the attention weights of the words of an answer on the image, the prompt and the earlier words.

    The weights are computed block by block, for the rows that predict words and, for the rollout, for all rows, 64 at a
    time. So memory does not grow with the square of the number of tokens, whatever kernel the model uses, except with
    the model's own ``eager`` attention.
    Attention weights do not measure how much a word depends on what it attends to: for that, use ``explain_answer``.

    Args:
        model: A loaded generator, or what ``load_generator`` takes: a name, a folder or a module.
        image: The image, or a list of images that the model reads; a string is a path or ``sample:NAME``.
        prompt: The prompt, such as a question; empty for a model that takes none. A conversation is a list of messages
            as in Transformers, ``{"role": "user", "content": "..."}``. A content may also be a list of texts and of
            places of images, ``{"type": "image"}``, or of one video, ``{"type": "video"}``; the images or frames
            themselves are those of ``image``.
        answer: The answer. None lets the model write one, always with its most probable token.
        max_words: The largest number of words that the model writes; None means 30. It cannot be set with an answer.
        processor: The processor of a model in memory.

    Returns:
        The weights. ``split`` divides them by source, and ``picture`` draws them.

    Raises:
        BadInput: The image cannot be read, the prompt or the answer is empty, or they exceed the model's context.
        BadOption: ``max_words`` has an invalid value.
        CannotLoad: The model cannot be loaded, or writes no text.
        Unsupported: The model does not read the image, the prompt and the answer in one sequence (such as BLIP and
            TrOCR), or some of its layers have no attention weights (such as Qwen3.5).

    Examples:
        >>> import nibt
        >>> attended = nibt.attentions("scenes_generator", "sample:scene", "what is left of the house ?")
        >>> attended.words, tuple(attended.split()["image"].shape)  # layers, heads, words, rows, columns
        (('hamburger',), (4, 4, 1, 8, 8))
    """
    request = AnswerRequest.of(image, prompt, answer, max_words)
    generator = load_generator(model, processor=processor)
    if refusal := generator.answers.refusal("attentions"):
        raise Unsupported(refusal)
    if "attention" not in generator.answers.offers:
        raise Unsupported(
            f"the decoder of this model ({type(generator.module).__name__}) attends to an image encoder, and reads no "
            "image in its own sequence: use explain_answer, or a model such as LLaVA or Qwen-VL"
        )

    forced = request.forced(generator)
    tower = forced.tower.narrowing(SOURCES)
    inputs = tower.prepare([ForcedWord(forced.prompted, forced.answer)])
    assert inputs.words is not None
    start = int(inputs.extra["start"][0])
    rows = inputs.extra["rows"][0]
    trace = tower.trace(inputs)
    of_words = [list(word.tokens) for word in forced.answer.words]
    count = trace.cut(tower.depth).hidden.shape[1]
    at_word = torch.zeros(len(of_words), count, dtype=torch.float32, device=rows.device)
    for number, tokens in enumerate(of_words):
        at_word[number, rows[tokens]] = 1 / len(tokens)
    weights = []
    rollout = at_word
    for rows_of in attention_rows(trace):
        # some models have further columns, of sinks that are no tokens
        of_tokens = [rows_of(rows[tokens])[0, ..., :count].float().mean(1) for tokens in of_words]
        weights.insert(0, torch.stack(of_tokens, 1).cpu())
        attended = torch.zeros_like(rollout)
        for queries in torch.arange(count, device=rows.device).split(_ROWS):
            attended += rollout[:, queries] @ rows_of(queries)[0, ..., :count].float().mean(0)
        rollout = (rollout + attended) / 2

    grid = cells_of(tower.units(inputs, trace.cut(0).hidden))
    places = {
        "prompt": tuple(word.tokens for word in inputs.words.words[0]),
        "answer": tuple(tuple(start + row for row in tokens) for tokens in of_words),
    }
    content = {*grid.tokens, *(row for words in places.values() for tokens in words for row in tokens)}
    texts = inputs.words.tokens[0]
    of_layers = torch.stack(weights)
    sinks = _sinks(of_layers.mean((0, 1, 2)), texts, content)
    return AnswerAttentions(
        tuple(word.text for word in forced.answer.words),
        forced.prompt_words,
        texts,
        of_layers,
        rollout.cpu(),
        forced.prompted.image,
        inputs.regions[0],
        (*generator.notes, *forced.notes, *sinks),
        grid,
        places,
    )


def _sinks(shares: Float[Tensor, " token"], texts: Sequence[str], content: Collection[int]) -> list[str]:
    """Return a note on each token without content that has a large share of the attention."""
    rows = [row for row in (shares >= _SINK).nonzero()[:, 0].tolist() if row not in content]
    return [
        f"{texts[row]!r} (token {row}) has {float(shares[row]):.0%} of the attention, mean over layers, heads and "
        "words, and no content: it is an attention sink"
        for row in rows
    ]
