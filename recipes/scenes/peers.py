"""Do other procedures find a planted cue? RaVL's and CCI's beside ``nibt.parts``, on models whose reason is known.

    OMP_NUM_THREADS=1 python recipes/scenes/peers.py measure --models MODELS --out RUN [--count 200]
    python recipes/scenes/peers.py report --out RUN    # prints the table, and writes study/part_peers.csv

The measure is RaVL's (Varma et al., NeurIPS 2024): of the ten regions that represent the first cluster, the share that
show the cue. Its images are drawn as RaVL needs them: eight nouns, and the cue of any of these at random, so that the
model errs where the cue contradicts the object. ``nibt.parts`` is also asked about pairs as a user has them, in which
cue and object agree, and without masks.

- RaVL: written from the authors' program. The regions are 4 x 4 squares; the embedding of one is that of the mean of
  its patches' last states, in place of their pooling of convolutional maps.
- CCI (Agarwal et al., CVPR 2026): written from public summaries, as there is no program: the last states of the patches
  of one image are clustered, all attention to a cluster is masked, and its score is the share of the similarity that is
  lost. The number of clusters, and masking in all blocks, are ours. The ten regions are the clusters with the largest
  scores of ten images, those with the largest scores of all. A cluster shows the cue if half of its patches do.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import cues  # noqa: F401 - which adds its kinds to SHORTCUTS
import numpy as np
import torch
import torch.nn.functional as F
from parts import COVERED, by_share, distance, ends, is_cue_setting, loaded, settings, without_seed
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, print_table, stored, write_csv
from shortcut import SHORTCUTS, image, unit
from sklearn.metrics import silhouette_score

import nibt
from nibt.data.ground_truth import covered_share
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import TEMPLATES, Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.encode import encode
from nibt.evaluation.maps import maps
from nibt.evaluation.parts.clusters import kmeans, nearest, squared_distances
from nibt.evaluation.parts.evidence import evidence_cells
from nibt.evaluation.parts.found import DEPTH, default_count
from nibt.evaluation.parts.groups import grouped, object_cells
from nibt.evaluation.statistics import interval
from nibt.models._attention import AttentionRecord, AttentionRecorder
from nibt.registry import MethodSpec

CLASSES = NOUNS[::8]
"""Of the nouns that share a cue of color or texture, one each."""
REGION = 2  # patches, along each axis
FIRST = 10
CLUSTERS = 5
"""The number of clusters of the patches of an image, for CCI."""
INFLUENCE = 0.25
"""RaVL's least influence of a cluster."""
CSV = Path(__file__).parents[2] / "docs" / "explanation" / "study" / "part_peers.csv"


@dataclass(frozen=True)
class Planted:
    """Pairs with a cue, and where it is.

    Attributes:
        pairs: The pairs, whose label is the object.
        cues: The pixels of each cue.
    """

    pairs: list
    cues: list


def planted_pairs(kind, count, seed, is_agreeing):
    """Pairs of the nouns of ``CLASSES`` with a cue: that of the object, or that of any of these nouns."""
    data, draws = Scenes(count=100 * count, seed=seed, fewest=2, most=3, named="one"), np.random.default_rng(seed)
    pairs, masks = [], []
    for item in range(len(data)):
        pair = data[item]
        target = next(obj for obj in pair.objects if obj.spans)
        if target.name not in CLASSES:
            continue

        noun = target.name if is_agreeing else str(draws.choice(CLASSES))
        pixels, cue = SHORTCUTS[kind].plant(data.scene(item), noun)
        shown = Object(target.name, None, target.mask & ~cue, target.spans)
        pairs.append(Pair(image(pixels), pair.caption, (shown,), labels=CLASSES, label=CLASSES.index(target.name)))
        masks.append(cue)
        if len(pairs) == count:
            break

    return Planted(pairs, masks)


@torch.no_grad()
def last_states(model, images):
    """The last states of the patches of images: (image, row, column, dim)."""
    states = []
    for first in range(0, len(images), 16):
        cut = _traced(model, images[first : first + 16])
        of_cells = cut.units.keep(cut.hidden.movedim(-1, 0).flatten(0, 1))
        states.append(of_cells.unflatten(0, (cut.hidden.shape[-1], -1)).movedim(0, -1))
    return torch.cat(states).unflatten(1, cut.units.shape)


def _traced(model, images):
    tower = model.image
    return tower.trace(tower.prepare(images), tower.depth).cut(tower.depth)


@torch.no_grad()
def region_embeddings(model, images):
    """The embedding of each region of each image: (image, region, dim)."""
    states = last_states(model, images)
    means = F.avg_pool2d(states.movedim(-1, 1), REGION).flatten(2).mT  # (image, region, dim)
    cut = _traced(model, images[:1])
    rows = means.flatten(0, 1)
    alone = rows[:, None, None].expand(-1, 1, cut.hidden.shape[1], -1)
    return unit(torch.cat([cut.rest(some)[:, 0] for some in alone.split(64)])).unflatten(0, means.shape[:2])


def medoids_of(distances, count, seed=0):
    """The medoid of each cluster (k-medoids++, then alternating steps), and the cluster of each point."""
    draws = np.random.default_rng(seed)
    chosen = [int(draws.integers(len(distances)))]
    while len(chosen) < count:
        weights = distances[:, chosen].min(1) ** 2
        chosen.append(int(draws.choice(len(distances), p=weights / weights.sum())))

    medoids = np.array(chosen)
    for _ in range(100):
        members = distances[:, medoids].argmin(1)
        moved = medoids.copy()
        for cluster in range(count):
            inside = np.flatnonzero(members == cluster)
            if len(inside):
                moved[cluster] = inside[distances[np.ix_(inside, inside)].sum(1).argmin()]
        if np.array_equal(moved, medoids):
            break
        medoids = moved

    return medoids, distances[:, medoids].argmin(1)


def gaps(inside, labels, is_right):
    """Of each class, how much more often the model is right on images of a cluster, weighted as RaVL weights it."""
    of_class = {}
    for label in np.unique(labels[inside]):
        with_cluster, without = is_right[inside & (labels == label)], is_right[~inside & (labels == label)]
        if len(without):
            weight = 2 * min(len(with_cluster), len(without)) / (len(with_cluster) + len(without))
            of_class[label] = weight * (with_cluster.mean() - without.mean())
    return of_class


def ravl(model, world):
    """The regions of the cluster that RaVL finds first, the most typical ones first: (image, region) pairs."""
    images = [pair.image for pair in world.pairs]
    labels = np.array([pair.label for pair in world.pairs])
    texts = unit(encode(model.text, [TEMPLATES[1].format(with_article(noun)) for noun in CLASSES]))
    scale = float(model.module.logit_scale.exp())
    guesses = (unit(encode(model.image, images)) @ texts.T).argmax(1).numpy()
    regions = region_embeddings(model, images)
    of_regions = (scale * regions @ texts.T).softmax(-1).numpy()  # (image, region, class)

    points = regions.flatten(0, 1).numpy().astype(float)
    owners = np.repeat(np.arange(len(images)), regions.shape[1])
    distances = (1 - points @ points.T).clip(0, 1)
    np.fill_diagonal(distances, 0)
    numbers = range(2 * len(CLASSES), 5 * len(CLASSES))
    found = {number: medoids_of(distances, number) for number in numbers}
    silhouettes = {
        number: silhouette_score(distances, members, metric="precomputed") for number, (_, members) in found.items()
    }
    medoids, members = found[max(silhouettes, key=silhouettes.get)]

    best = of_regions[np.arange(len(images)), :, guesses].argmax(1)  # the region nearest to what the model says
    is_right = guesses == labels
    ranked = []
    for cluster in np.unique(members):
        inside = np.zeros(len(images), bool)
        inside[owners[members == cluster]] = True
        of_class = gaps(inside, labels, is_right)
        is_spurious = any(gap > 0 for gap in of_class.values()) and any(gap < 0 for gap in of_class.values())
        is_best = members[np.arange(len(images)) * regions.shape[1] + best] == cluster
        shares = [
            is_best[inside & ~is_right & (labels == label)].mean()
            for label, gap in of_class.items()
            if gap < 0 and (inside & ~is_right & (labels == label)).any()
        ]
        if is_spurious and shares and max(shares) >= INFLUENCE:
            ranked.append((sum(map(abs, of_class.values())), cluster))

    if not ranked:
        return []
    first = max(ranked)[1]
    own = np.flatnonzero(members == first)
    order = own[np.argsort(distances[own, medoids[first]], kind="stable")]
    return [divmod(int(place), regions.shape[1]) for place in order]


def shows_cue(mask, shape):
    return covered_share(torch.from_numpy(mask), shape).numpy() > COVERED


def ravl_precision(model, world):
    """The share of the first ten regions that show the cue; 0 if nothing is found."""
    side = model.image.trace(model.image.prepare([world.pairs[0].image]), 0).cut(model.image.depth).units.shape[0]
    shape = side // REGION, side // REGION
    first = ravl(model, world)[:FIRST]
    return float(np.mean([shows_cue(world.cues[item], shape).flat[region] for item, region in first])) if first else 0.0


class Masked(AttentionRecorder):
    """Context in which no token attends to some tokens of each item."""

    def __init__(self, keep):
        super().__init__(keep=True)
        self._seen = keep  # (item, token)

    def attended(self, record: AttentionRecord):
        weights = record.weights * self._seen[:, None, None].to(record.weights)
        return (weights / weights.sum(-1, keepdim=True)) @ record.value


@torch.no_grad()
def cci(model, pair, states):
    """The share of the similarity that is lost without each cluster of patches, and the cluster of each patch."""
    points = unit(states.flatten(0, 1)).double().numpy()
    weights = np.ones(len(points))
    members = nearest(points, kmeans(points, weights, CLUSTERS, np.random.default_rng(0)))
    units = _traced(model, [pair.image]).units
    tokens = np.array(units.tokens)
    inputs = model.image.prepare([pair.image] * CLUSTERS)
    keep = torch.ones(CLUSTERS, 1 + tokens.max())
    for cluster in range(CLUSTERS):
        keep[cluster, tokens[members == cluster]] = 0

    text = unit(encode(model.text, [pair.caption]))[0]
    with Masked(keep):
        without = unit(model.image.encode(inputs)) @ text
    whole = float(unit(encode(model.image, [pair.image]))[0] @ text)
    return (whole - without.numpy()) / max(abs(whole), 1e-6), members


def cci_precision(model, world):
    """The share of the ten clusters with the largest scores, of an image each, of which half shows the cue."""
    states = last_states(model, [pair.image for pair in world.pairs])
    best = []
    for pair, mask, of_image in zip(world.pairs, world.cues, states, strict=True):
        scores, members = cci(model, pair, of_image)
        first = int(scores.argmax())
        is_cue = shows_cue(mask, of_image.shape[:2]).ravel()[members == first]
        best.append((float(scores[first]), float(is_cue.mean() >= 0.5)))
    return float(np.mean([is_cue for _, is_cue in sorted(best, reverse=True)[:FIRST]]))


def parts_precision(model, world):
    """The share of the ten most typical cells of the first part that show the cue: with masks, and without."""
    pairs = world.pairs
    image_maps = maps(model, pairs, MethodSpec.parse("nib:fast"), "image", 0)
    cells = evidence_cells(
        model, [pair.image for pair in pairs], image_maps, model.image.relative(DEPTH), 16, "nib:fast"
    )
    count = default_count(len(pairs))
    first = nibt.parts(model, pairs, texts=[]).parts[0]
    groups = grouped(cells, object_cells(pairs, cells.regions, cells.shape), count, 0)
    with_masks = min(groups, key=lambda group: distance(first, group))
    without = by_share(grouped(cells, None, count, 0), cells)[0]
    return tuple(typical(group, cells, world.cues) for group in (with_masks, without))


def typical(group, cells, masks):
    far = squared_distances(cells.points[group.chosen], group.center[None])[:, 0]
    chosen = group.chosen[np.argsort(far, kind="stable")][:FIRST]
    return float(
        np.mean([shows_cue(masks[cells.images[cell]], cells.shape).flat[cells.places[cell]] for cell in chosen])
    )


def measure(options):
    torch.set_num_threads(1)
    path = options.out / f"peers-{options.part}.jsonl"
    for number, (name, kind) in enumerate(settings(options.models)):
        if number % options.parts != options.part or name in stored(path) or not is_cue_setting(name, kind):
            continue
        model = loaded(name, options.models)
        random = planted_pairs(kind, options.count, UNSEEN + 15, is_agreeing=False)
        agreeing = planted_pairs(kind, options.count, UNSEEN + 16, is_agreeing=True)
        record, started = {}, time.perf_counter()
        record["RaVL"] = ravl_precision(model, random)
        record["CCI"] = cci_precision(model, random)
        record["parts, same images"], _ = parts_precision(model, random)
        record["parts"], record["parts, no masks"] = parts_precision(model, agreeing)
        kept(path, {"key": name, **record, "seconds": round(time.perf_counter() - started)})
        print(name, record, flush=True)


EVERYWHERE = ("background", "texture", "tint")
"""Cues on all of the ground, so that most regions show them."""
PROCEDURES = ("RaVL", "CCI", "parts, same images", "parts", "parts, no masks")


def report(options):
    records = collect(options.out, "peers")
    table = []
    for name, record in sorted(records.items(), key=lambda row: row[0].startswith("half")):
        table.append({"model": name, **{procedure: f"{record[procedure]:.1f}" for procedure in PROCEDURES}})
    for title in ("full", "half"):
        chosen = [
            record
            for name, record in records.items()
            if name.startswith("half") == (title == "half") and without_seed(name).split()[-1] not in EVERYWHERE
        ]
        means = {name: ends(interval([record[name] for record in chosen], (0.0, 1.0))) for name in PROCEDURES}
        table.append({"model": f"all {len(chosen)} {title} with a place", **means})

    print(f"{machine()}; {options.count} scenes of seeds {UNSEEN + 15} and {UNSEEN + 16}\n")
    headings = ("model", *PROCEDURES)
    print_table(headings, table)
    write_csv(CSV, headings, table)


def extend(parser):
    parser.add_argument("--models", type=Path, help="the folder of the models")


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, extend)
    {"measure": measure, "report": report}[arguments.what](arguments)
