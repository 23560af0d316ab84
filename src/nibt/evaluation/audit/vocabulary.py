"""Questions 7 and 8: whether the model distinguishes captions, and which of a thousand everyday nouns it knows."""

from collections.abc import Sequence
from functools import partial
from importlib.resources import files

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.engine.encode import encode, within_memory
from nibt.engine.reactions import NEAR_BLANK, reactions
from nibt.evaluation.audit.thresholds import BOUNDS
from nibt.evaluation.statistics import interval
from nibt.io import read_text
from nibt.models.base import Model
from nibt.preprocessing.captions import UNKNOWN
from nibt.results.audit import Check
from nibt.types import Embedding

NOUNS = tuple(read_text(files("nibt.evaluation.audit") / "nouns.txt").split())
WORDING = "a photo of a {}"
_TIE = 1e-4  # embeddings of synonyms that were trained to be equal differ by rounding
_BATCH = 32
_DIGITS = 5  # smaller differences of similarities are rounding errors


def discrimination_checks(model: Model, pairs: Sequence[Pair]) -> list[Check]:
    """Check the rank of each image's caption among all different captions of the data."""
    captions = list(dict.fromkeys(pair.caption for pair in pairs))
    images, texts = encode(model.image, [pair.image for pair in pairs]), encode(model.text, captions)
    similarities = np.round(model.similarity.to_each(images.float(), texts.float()).cpu().numpy(), _DIGITS)
    areas, recalls = [], []
    for row, pair in zip(similarities, pairs, strict=True):
        right = captions.index(pair.caption)
        wrong = np.delete(row, right)
        areas.append(float(np.mean((wrong < row[right]) + 0.5 * (wrong == row[right]))))
        recalls.append(float(row[right] == row.max()) / np.sum(row == row.max()))
    return [
        BOUNDS["auc"].check("auc", "", "", interval(areas), len(areas)),
        BOUNDS["recall"].check("recall", "", "", interval(recalls), len(recalls), fails=1 / len(captions)),
    ]


def vocabulary_check(model: Model, nouns: Sequence[str] = NOUNS) -> tuple[Check, tuple[str, ...]]:
    """Check which nouns the model knows: read without unknown tokens, not blank, and nearest to their own captions.

    A distance from the blank caption alone would not do, since a model embeds an unseen spelling somewhere, too.
    """
    spelled = sorted((noun for noun in nouns if _is_read(model, noun)), key=model.text.length)  # less padding
    reacted, embeddings = _reacted(model, spelled)
    candidates = [noun for noun, reacts in zip(spelled, reacted, strict=True) if reacts]
    recognized = set()
    if candidates:
        worded = encode(model.text, [WORDING.format(noun) for noun in candidates], _BATCH).float()
        compare = model.seen_from("text").to_each
        rows = embeddings[torch.tensor(reacted, device=embeddings.device)].split(_BATCH)  # sets of vectors need memory
        similarity = torch.cat([compare(row, worded) for row in rows])
        best = similarity.diagonal() >= similarity.amax(1) - _TIE
        recognized = {noun for noun, is_best in zip(candidates, best.tolist(), strict=True) if is_best}
    share = interval([float(noun in recognized) for noun in nouns])
    check = BOUNDS["vocabulary"].check("vocabulary", "", "text", share, len(nouns))
    return check, tuple(noun for noun in nouns if noun not in recognized)


def _is_read(model: Model, noun: str) -> bool:
    """Return whether the tokenizer finds words in a noun and knows their tokens."""
    tokens = model.text.tokens(noun)
    return any(tokens.explained) and not any(note.startswith(UNKNOWN) for note in tokens.notes)


def _reacted(model: Model, nouns: Sequence[str]) -> tuple[list[bool], Embedding]:
    """Return whether the embedding of each noun is not that of a blank caption, and the embeddings."""

    def side(indices: Sequence[int]) -> Side:
        inputs = model.text.prepare([nouns[index] for index in indices])
        return Side(model, model.text.trace(inputs, model.text.depth), partial(torch.norm, dim=-1))

    reacted, embeddings = [], []
    batches = [list(range(len(nouns)))[first : first + _BATCH] for first in range(0, len(nouns), _BATCH)]
    for _, text in within_memory(batches, side):
        reacted += (reactions(text) >= NEAR_BLANK).tolist()
        embeddings += text.trace.embedding.float()
    return reacted, pad_sequence(embeddings, batch_first=True) if embeddings else torch.empty(0)
