"""Decomposition: the similarity as an exact sum over layers, heads and patches or tokens."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F

from nibt.core.side import Side
from nibt.data.images import ImageSource
from nibt.data.pair import Caption, Pair, make_pairs
from nibt.data.units import Grid, Words, WordScore
from nibt.engine.batches import trace_sides
from nibt.engine.explanations import mismatches
from nibt.engine.reactions import word_notes
from nibt.engine.spec import Request, resolve, versions
from nibt.errors import BadOption
from nibt.heads.decomposition import Decomposition
from nibt.heads.direct_paths import direct_paths
from nibt.methods.base import SIDES
from nibt.models._loading import ModelSource, load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, reporter
from nibt.registry import MethodSpec
from nibt.results.attribution import image_fields
from nibt.results.notes import NO_REACTION, Note, note_fields
from nibt.torch_modes import plain_torch
from nibt.types import Embedding, Modality


@plain_torch()
def decompose(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    side: str = "image",
    on_progress: OnProgress | None = None,
) -> Decomposition | list[Decomposition]:
    r"""Split the similarity into what each head adds for each patch or token, and a remainder.

    With the scales of norms frozen at their values, the embedding of a transformer is a sum of the direct paths of its
    blocks (Gandelsman et al., ICLR 2024, arXiv 2310.05916). With the unit embedding of the other side it gives

    $$S = \sum_{l, h, t} c_{lht} + \sum_l m_l + s + b$$

    $c_{lht}$ is what head $h$ of layer $l$ adds for token $t$, value biases included; $m_l$ is what the perceptron
    adds; $s$ is what the first state adds, and $b$ the biases of projections and norms. If the head pools by attention,
    its weights are frozen, too. Changes that a head causes in later layers count as theirs; ``ablate_heads`` measures
    how large they are.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: An image, or a list of images; lists are paired as in ``explain``.
        caption: A caption, or a list of captions.
        side: The side that is decomposed: "image" or "text".
        on_progress: Called after each pair with the number of pairs that are done.

    Returns:
        A ``Decomposition``, or a list of them if ``image`` or ``caption`` is a list. Its parts add up to the similarity
        to about 1e-6.

    Raises:
        BadInput: An image or a caption cannot be read, or lists differ in length.
        BadOption: There is no such side.
        Unsupported: The tower is convolutional or windowed, its head is not linear, or there are several vectors.

    Examples:
        >>> result = decompose("scenes", "sample:scene", "a cat")
        >>> abs(result.gap) < 1e-5
        True
    """
    if not isinstance(side, str) or side not in SIDES:
        raise BadOption(f"side must be image or text (got {side!r})")

    report = reporter(on_progress)
    requested = make_pairs(image, caption, "decompose")

    model = load_model(model)
    results = []
    for pair in requested.pairs:
        results.append(_decompose(model, pair, cast(Modality, side)))
        report(Progress(len(results), len(requested.pairs)))

    return requested.as_requested(results)


def unit_directions(embedding: Embedding, partner: Embedding) -> Embedding:
    """Return the directions whose products with embeddings are their cosines with those of the other side."""
    return F.normalize(partner, dim=-1) / embedding.norm(dim=-1, keepdim=True)


def _decompose(model: Model, pair: Pair, side: Modality) -> Decomposition:
    reads_all_layers = resolve(model, Request(MethodSpec("occlusion")))
    sides = dict(zip(SIDES, trace_sides(reads_all_layers, [pair]), strict=True))
    trace = sides[side].trace
    paths = direct_paths(trace)
    partner: Modality = "text" if side == "image" else "image"
    partner_embedding = sides[partner].trace.embedding
    parts = paths.parts(unit_directions(trace.embedding, partner_embedding.to(trace.embedding)))
    heads = parts.heads[0].float().cpu()
    units = trace.cut(trace.tower.depth).units
    if isinstance(units, Grid):
        kept = units.keep(heads.flatten(0, 1)).unflatten(0, heads.shape[:2])
        maps = units.unfold(kept)
        rest = heads.sum(-1) - kept.sum(-1)
        of_caption: dict[str, Any] = {"special": torch.zeros(0, dtype=torch.bool, device="cpu")}
    else:
        assert isinstance(units, Words)
        words = units[0]
        maps = heads[:, :, None]
        rest = torch.zeros_like(heads[..., 0])
        of_caption = {"words": words.words[0], "tokens": words.tokens[0], "special": ~words.explained.cpu()}

    return Decomposition(
        side=side,
        **image_fields(pair.image),
        region=sides["image"].inputs.regions[0],
        caption=pair.caption,
        similarity=float(model.seen_from(side)(trace.embedding, partner_embedding)),
        model=model.record(),
        versions=dict(versions()),
        **note_fields(_notes(sides["image"], sides["text"], pair)),
        maps=maps,
        rest=rest,
        perceptrons=parts.perceptrons[0].float().cpu(),
        first=float(parts.first),
        constant=float(parts.constant),
        **of_caption,
    )


def _notes(image: Side, text: Side, pair: Pair) -> Iterator[Note | str]:
    """Yield the notes of an explanation that hold for a decomposition: those on the match, the inputs and the words.

    Whether a map is noise is not among them, since that is about the change of the similarity from a baseline.
    """
    match = next(mismatches(image, text))
    if match is not None:
        yield match
    yield from (*image.model.notes, *pair.notes, *image.inputs.notes[0], *text.inputs.notes[0])
    if match is None or match.code != NO_REACTION:
        assert text.inputs.words is not None
        words = [WordScore(word.text, 0.0, word.tokens) for word in text.inputs.words[0].words[0]]
        yield from word_notes(text, 0, words)
