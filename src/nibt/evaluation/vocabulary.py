"""Which nouns a model knows: question 8 of an audit, and the texts that parts of evidence are named by."""

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn.utils.rnn import pad_sequence

from nibt.core.side import Side
from nibt.engine.encode import encode, within_memory
from nibt.engine.reactions import NEAR_BLANK, reactions
from nibt.models.base import Model
from nibt.preprocessing.captions import NOUNS, UNKNOWN
from nibt.types import Embedding

WORDING = "a photo of a {}"
_TIE = 1e-4  # embeddings of synonyms that were trained to be equal differ by rounding
_BATCH = 32


def unknown_nouns(model: Model, nouns: Sequence[str] = NOUNS) -> tuple[str, ...]:
    """Return the nouns that a model does not know.

    It knows those that it reads without unknown tokens, that are not blank, and that are nearest to their own captions.
    A distance from the blank caption alone would not do, since a model embeds an unseen spelling somewhere, too.
    """
    read = []  # in which the tokenizer finds words whose tokens it knows
    for noun in nouns:
        tokens = model.text.tokens(noun)
        if any(tokens.explained) and not any(note.startswith(UNKNOWN) for note in tokens.notes):
            read.append(noun)

    spelled = sorted(read, key=model.text.length)  # less padding
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

    return tuple(noun for noun in nouns if noun not in recognized)


def _reacted(model: Model, nouns: Sequence[str]) -> tuple[list[bool], Embedding]:
    """Return whether the embedding of each noun is not that of a blank caption, and the embeddings."""

    def side(indices: Sequence[int]) -> Side:
        inputs = model.text.prepare([nouns[index] for index in indices])
        return Side(model, model.text.trace(inputs, model.text.depth), partial(torch.norm, dim=-1))

    reacted = []
    embeddings = []
    batches = [list(range(len(nouns)))[first : first + _BATCH] for first in range(0, len(nouns), _BATCH)]
    for _, text in within_memory(batches, side):
        reacted += (reactions(text) >= NEAR_BLANK).tolist()
        embeddings += text.trace.embedding.float()

    return reacted, pad_sequence(embeddings, batch_first=True) if embeddings else torch.empty(0)
