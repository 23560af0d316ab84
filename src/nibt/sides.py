"""Both sides of a batch of pairs: each tower runs once, and each side is held against the other."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from nibt.methods.base import Method
from nibt.models.base import Tower, Trace
from nibt.pair import Pair
from nibt.question import Question, encode
from nibt.side import Side
from nibt.types import Embedding, Modality


def sides(question: Question, pairs: Sequence[Pair]) -> dict[Modality, Side]:
    """The two sides of pairs that may share a batch, as a question sees them."""
    model = question.model
    pictures, captions = [pair.picture for pair in pairs], [pair.caption for pair in pairs]
    image = _traced(model.image, pictures, list(map(id, pictures)), question.methods["image"])
    text = _traced(model.text, captions, captions, question.methods["text"])
    theres: dict[Modality, Embedding] = {
        "image": _wordings(question, pairs, text.embedding), "text": image.embedding,
    }  # fmt: skip
    return {
        "image": Side(model, image, _score(question, "image", theres)),
        "text": Side(model, text, _score(question, "text", theres)),
    }


def _traced(tower: Tower, items: Sequence[Any], keys: Sequence[Hashable], method: Method) -> Trace:
    """One forward pass for a batch in which a picture or a caption may come again: each goes through once."""
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    once = [items[keys.index(key)] for key in places]
    lowest = min(getattr(method, "layer", (0,)))
    trace = tower.trace(tower.prepare(once), lowest)
    return trace if len(once) == len(items) else trace.take([places[key] for key in keys])


def _wordings(question: Question, pairs: Sequence[Pair], plain: Embedding) -> Embedding:
    """What stands for the captions, seen from the images: their embeddings, or the means of several wordings."""
    target = question.targets["image"]
    if all(target.wordings(pair.caption) == [pair.caption] for pair in pairs):
        return plain
    means = [F.normalize(encode(question.model.text, target.wordings(pair.caption)), dim=-1).mean(0) for pair in pairs]
    return torch.stack(means)


def _score(
    question: Question, side: Modality, theres: dict[Modality, Embedding]
) -> Callable[[Embedding], torch.Tensor]:
    return partial(question.targets[side], there=theres[side].detach(), setting=question.settings[side])
