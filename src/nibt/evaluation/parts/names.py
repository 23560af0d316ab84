"""Names of parts: the text that is nearest to what the cells of a part add to the embeddings of images."""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float

from nibt.engine.encode import encode
from nibt.evaluation.statistics import interval
from nibt.evaluation.vocabulary import WORDING, unknown_nouns
from nibt.models.base import Model
from nibt.preprocessing.captions import NOUNS

_AGREEING = 0.5  # of the images, clearly more than this share must have the name as their nearest text


def everyday_nouns(model: Model) -> list[str]:
    """Return the everyday nouns that the model knows; none of a model that compares no vectors, as parts need."""
    if model.item_ndim > 1:
        return []
    return known_nouns(unknown_nouns(model))


def known_nouns(unknown: Sequence[str]) -> list[str]:
    """Return the everyday nouns but those that a model does not know."""
    return [noun for noun in NOUNS if noun not in unknown]


def directions(model: Model, texts: Sequence[str]) -> Float[np.ndarray, "text dim"]:
    """Return the unit embedding of each text minus the mean of all texts, again with the length 1."""
    embeddings = F.normalize(encode(model.text, [WORDING.format(text) for text in texts]).float(), dim=-1)
    return F.normalize(embeddings - embeddings.mean(0), dim=-1).cpu().double().numpy()


def name_of(
    changes: Float[np.ndarray, "image dim"],
    texts: Sequence[str],
    vectors: Float[np.ndarray, "text dim"],
    captions: Sequence[str] = (),
) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Return the name of a part, and the two nearest texts with their cosines.

    The texts are chosen on every other image, by what the part adds on average. The nearest one is the name if it is
    also the nearest one in clearly more than half of the other images, each alone: the interval is above 0.5. Otherwise
    the name is empty: what a mark adds is near a noun in each image, but near another one in each.

    Args:
        changes: What the part's cells add to the embedding of each image.
        texts: The texts.
        vectors: Their directions.
        captions: The captions of the images, for a part that is beside the named objects: images whose caption has the
            name do not confirm it. There, what stands for a noun adds the noun, whatever it looks like.
    """
    if len(texts) < 2 or not len(changes):
        return "", ()

    mean = changes[::2].mean(0)
    cosines = vectors @ mean / max(float(np.linalg.norm(mean)), 1e-12)
    order = np.argsort(-cosines, kind="stable")
    best = int(order[0])
    second = int(order[1])
    nearest = (texts[best], float(cosines[best])), (texts[second], float(cosines[second]))

    is_confirming = np.arange(len(changes)) % 2 == 1
    if captions:
        is_confirming &= np.array([texts[best] not in caption for caption in captions])
    is_nearest = (changes[is_confirming] @ vectors.T).argmax(1) == best
    agreeing = interval(is_nearest, (0.0, 1.0))
    return texts[best] if agreeing.has_ends and agreeing.low > _AGREEING else "", nearest
