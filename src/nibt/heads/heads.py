"""Heads over a list of images: names from texts (TextSpan), and a test of decompositions by ablation."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from nibt.data.images import ImageInput, ImageSource, is_batch, read_image
from nibt.data.pair import Caption, Pair, as_list, make_pairs, read_caption, repeated
from nibt.engine.encode import encode, groups_of
from nibt.errors import BadInput, BadOption
from nibt.heads.decompose import unit_directions
from nibt.heads.direct_paths import direct_paths
from nibt.models._attention import AttentionRecord, with_attention
from nibt.models._loading import ModelSource, load_model
from nibt.models._tower import Trace
from nibt.models.base import Model
from nibt.options import Top, parsed
from nibt.progress import OnProgress, Progress, reporter
from nibt.torch_modes import plain_torch
from nibt.types import ByValue, Embedding

_BATCH = 8
_ROUNDING = 1e-6  # of similarities in single precision
_LEAST = 1e-9  # of the variance of a head; what is left below it is rounding


@dataclass(frozen=True)
class HeadName:
    """A head, and the texts whose directions explain what it adds to the embeddings of images.

    Attributes:
        layer: The number of the block, from 0.
        head: The number of the head, from 0.
        texts: The texts, in the order in which they were chosen. Their shares do not have to decrease.
        shares: The share of the head's variance that each text explains after those before it.
        variance: The variance of what the head adds to the unit embedding, over the images.
    """

    layer: int
    head: int
    texts: tuple[str, ...]
    shares: tuple[float, ...]
    variance: float

    def __repr__(self) -> str:
        named = ", ".join(f"{text!r} {share:.0%}" for text, share in zip(self.texts, self.shares, strict=True))
        return f"head {self.layer}.{self.head}: {named}"


@plain_torch()
def name_heads(
    model: ModelSource,
    images: Sequence[ImageSource | Pair],
    texts: Sequence[str | Caption],
    count: int = 5,
    *,
    rank: int = 80,
    on_progress: OnProgress | None = None,
) -> list[HeadName]:
    """Name the heads of the image tower by texts that explain how their outputs vary over images.

    TextSpan (Gandelsman et al., ICLR 2024, arXiv 2310.05916) projects the texts onto the main directions of what a head
    adds to the embedding. It takes the text whose product with the outputs varies most over the images, removes its
    direction from the outputs and the texts, and repeats.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        images: The images, or pairs, such as a ``Dataset``.
        texts: The words or captions that names are chosen from.
        count: The largest number of texts per head.
        rank: The number of main directions of the outputs. The mean of the outputs is not subtracted to compute them.
        on_progress: Called after each batch with the number of images that are done.

    Returns:
        All heads, those whose outputs vary most first.

    Raises:
        BadInput: There are fewer than two images, or no text, or an image cannot be read.
        BadOption: ``count`` or ``rank`` is not positive.
        Unsupported: The tower cannot be decomposed.
    """
    count = parsed("count", count, Top)
    rank = parsed("rank", rank, Top)
    report = reporter(on_progress)
    read = _read_images(images, "name_heads")
    captions = list(dict.fromkeys(read_caption(text) for text in as_list(texts)))
    if not captions:
        raise BadInput("name_heads needs at least one text to name heads with (got none)")

    model = load_model(model)
    outputs: dict[int, Tensor] = {}
    done = 0
    for indices, trace in _traces(model, read):
        vectors = direct_paths(trace).head_vectors() / trace.embedding.norm(dim=-1)[:, None, None, None]
        outputs |= dict(zip(indices, vectors.cpu().double(), strict=True))  # mps has no float64
        done += len(indices)
        report(Progress(done, len(read)))

    directions = F.normalize(encode(model.text, captions), dim=-1).cpu().double().numpy()
    stacked = torch.stack([outputs[index] for index in range(len(read))]).numpy()
    names = []
    for layer, head in np.ndindex(stacked.shape[1:3]):
        positions, shares, variance = text_span(stacked[:, layer, head], directions, count, rank)
        names.append(HeadName(layer, head, tuple(captions[position] for position in positions), shares, variance))

    return sorted(names, key=lambda name: -name.variance)


def text_span(
    outputs: Float[np.ndarray, "image dim"], texts: Float[np.ndarray, "text dim"], count: int, rank: int = 80
) -> tuple[tuple[int, ...], tuple[float, ...], float]:
    """Choose texts greedily whose directions explain the variance of outputs; return their positions and shares.

    Texts are first projected onto ``rank`` singular vectors of the outputs, whose mean counts, as in the authors'
    program. Their directions are then removed one by one.
    """
    centered = outputs - outputs.mean(0)
    total = float((centered**2).sum())
    variance = total / len(outputs)
    axes = np.linalg.svd(outputs, full_matrices=False)[2][:rank]
    rows = centered @ axes.T
    left = texts @ axes.T
    positions: list[int] = []
    shares: list[float] = []
    while len(positions) < min(count, len(texts)):
        spread = ((rows @ left.T) ** 2).sum(0)
        best = int(spread.argmax())
        length = float(np.linalg.norm(left[best]))
        if spread[best] <= _LEAST * total * max(length, 1e-30) ** 2 or best in positions:
            break

        direction = left[best] / length
        along = rows @ direction
        positions.append(best)
        shares.append(float((along**2).sum()) / total)
        rows = rows - along[:, None] * direction
        left = left - (left @ direction)[:, None] * direction

    return tuple(positions), tuple(shares), variance


@dataclass(frozen=True, eq=False)
class HeadAblation(ByValue):
    """The change of the similarity of pairs if heads are replaced, each alone, by their means over the images.

    Attributes:
        heads: The layer and the head of each column.
        predicted: The change that the decomposition predicts: pairs x heads.
        actual: The change of the model's similarity: pairs x heads.
    """

    heads: tuple[tuple[int, int], ...]
    predicted: Float[Tensor, "pair head"]
    actual: Float[Tensor, "pair head"]

    @property
    def correlation(self) -> float:
        """Pearson's correlation of predicted and actual changes.

        It is NaN for fewer than three changes, and if either are the same up to rounding, as those of equal pairs are.
        """
        if self.predicted.numel() < 3:  # of two, it is 1 or -1
            return math.nan

        deviations = [changes.flatten().double() - changes.double().mean() for changes in (self.predicted, self.actual)]
        if any(deviation.abs().max() < _ROUNDING for deviation in deviations):
            return math.nan
        lengths = deviations[0].norm() * deviations[1].norm()
        return float((deviations[0] * deviations[1]).sum() / lengths)

    @property
    def largest_difference(self) -> float:
        """The largest absolute difference of a predicted and an actual change."""
        return float((self.predicted - self.actual).abs().max())

    def of_layer(self, layer: int) -> "HeadAblation":
        """Return the changes of the heads of one layer."""
        layers = [head_layer for head_layer, _ in self.heads]
        columns = [column for column, head_layer in enumerate(layers) if head_layer == layer]
        if not columns:
            raise BadOption(f"layer must be one of {sorted(set(layers))} (got {layer})")
        return HeadAblation(
            tuple(self.heads[column] for column in columns), self.predicted[:, columns], self.actual[:, columns]
        )

    def __repr__(self) -> str:
        return (
            f"HeadAblation of {len(self.heads)} heads on {len(self.predicted)} pairs: correlation "
            f"{'unknown' if math.isnan(self.correlation) else f'{self.correlation:.3f}'}, largest difference "
            f"{self.largest_difference:.2g}"
        )


@plain_torch()
def ablate_heads(
    model: ModelSource,
    image: ImageSource | Sequence[ImageSource],
    caption: str | Caption | Sequence[str | Caption],
    *,
    heads: Sequence[tuple[int, int]] = (),
    on_progress: OnProgress | None = None,
) -> HeadAblation:
    """Test a decomposition: replace single heads of the image tower by their means over images.

    The prediction is the change of the direct contribution. The actual change is the change of the similarity if the
    rest of the model runs with the replaced head, so that later layers and norms react, too. The model is not changed.

    Args:
        model: A loaded model, or what ``load_model`` takes.
        image: At least two images.
        caption: A caption, or a caption for each image.
        heads: The layer and the head of each head that is replaced; empty means all, which takes about half a forward
            pass per head and batch.
        on_progress: Called after each batch with the number of pairs that are done.

    Raises:
        BadInput: There are fewer than two images, the model cuts them to grids of several sizes, or an input cannot be
            read.
        BadOption: There is no such head.
        Unsupported: The tower cannot be decomposed.
    """
    report = reporter(on_progress)
    pairs = make_pairs(image, caption, "ablate_heads").pairs
    images = _read_images(pairs, "ablate_heads")
    model = load_model(model)
    texts = encode(model.text, [pair.caption for pair in pairs])
    batches = []
    for indices, trace in _traces(model, images):
        partner = texts[indices].to(trace.embedding)
        batches.append((indices, trace, partner, *_at_heads(trace, partner)))

    if len({trace.tower.units(trace.inputs, trace.streams[-1]) for _, trace, *_ in batches}) > 1:
        raise BadInput("ablate_heads needs images that the model cuts to one grid: resize them to one size")

    means = [torch.cat(layer).mean(0) for layer in zip(*(outputs for *_, outputs, _ in batches), strict=True)]
    listed = _listed(heads, len(means), means[0].shape[0])
    predicted, actual = (torch.zeros(len(pairs), len(listed), device="cpu", dtype=torch.float32) for _ in range(2))
    done = 0
    for indices, trace, partner, outputs, gradients in batches:
        changes = [
            (gradient * (mean - output)).sum((2, 3))
            for gradient, mean, output in zip(gradients, means, outputs, strict=True)
        ]
        predicted[indices] = torch.stack([changes[layer][:, head] for layer, head in listed], 1).float().cpu()
        before = model.similarity(trace.embedding, partner)
        for column, (layer, head) in enumerate(listed):
            with torch.no_grad():
                stream = with_attention(trace, layer, partial(_replaced, head, means[layer])).stream
                after = model.similarity(trace.cut(layer + 1).rest(stream[None])[0], partner)
            actual[indices, column] = (after - before).float().cpu()

        done += len(indices)
        report(Progress(done, len(pairs)))

    return HeadAblation(listed, predicted, actual)


def _listed(heads: Sequence[tuple[int, int]], depth: int, width: int) -> tuple[tuple[int, int], ...]:
    all_heads = tuple((layer, head) for layer in range(depth) for head in range(width))
    numbers = [list(pair) if isinstance(pair, list | tuple) else [pair] for pair in as_list(heads)]
    listed = tuple(tuple(parsed("heads", number, int) for number in pair) for pair in numbers) or all_heads
    if (double := repeated(listed)) is not None:
        raise BadOption(f"heads has {listed[double]} {listed.count(listed[double])} times: give each head once")

    wrong = next((pair for pair in listed if pair not in all_heads), None)
    if wrong is not None:
        raise BadOption(
            f"heads must be pairs of a layer from 0 to {depth - 1} and a head from 0 to {width - 1} (got {wrong})"
        )
    return cast(tuple[tuple[int, int], ...], listed)


def _at_heads(trace: Trace, partner: Embedding) -> tuple[list[Tensor], Sequence[Tensor]]:
    """Return the outputs of the heads of each layer, and the gradients of the similarity there."""
    paths = direct_paths(trace)
    gradients = paths.gradients(unit_directions(paths.embedding.detach(), partner))[1 : len(paths.attentions) + 1]
    return [record.output.detach() for record in paths.attentions], gradients


def _replaced(head: int, mean: Tensor, record: AttentionRecord) -> Tensor:
    output = record.output.clone()
    output[:, head] = mean[head]
    return output


def _read_images(images: object, caller: str) -> list[ImageInput]:
    items: list[Any] = []
    several = False
    if is_batch(images) or (isinstance(images, Sequence) and not isinstance(images, str | bytes)):
        items = list(images)
        several = True

    read = [read_image(item.image if isinstance(item, Pair) else item) for item in items]
    if len(read) < 2:
        raise BadInput(f"{caller} needs a list of at least two images (got {len(read) if several else 'no list'})")
    return read


def _traces(model: Model, images: Sequence[ImageInput]) -> Iterator[tuple[list[int], Trace]]:
    tower = model.image
    for indices in groups_of([tower.group(image) for image in images], _BATCH):
        yield indices, tower.trace(tower.prepare([images[index] for index in indices]))
