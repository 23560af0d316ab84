"""Does a model stop reading a planted cue after training with exchanged cells? On models whose reason is known.

    OMP_NUM_THREADS=1 python recipes/scenes/mend.py measure --models MODELS --out RUN --count 150
    python recipes/scenes/mend.py report --out RUN    # prints tables, and writes docs/explanation/study/mend.csv

In all training pairs, cue and object agree, as in the data of a user: there is no counterexample. The parts come from
``nibt.parts`` on the first 120 of them, with masks; those beside the objects are exchanged. ``plain`` is the same
training without exchange. ``directions`` is no training: the centers of the parts, minus that of the others, are taken
out of the states of the layer of the parts. Settings were chosen on ``mark``, on other scenes.

Why some cues stay: ``moved`` is an exchange that puts the part of the other image in the place of the image's own part,
so that it never covers the object; ``mixed`` does so in half of the images; ``true`` is ``moved`` with the cells of the
planted cue. ``masks`` trains on the images with masks only, in which all cells beside the object are moved.

Two published peers: ``reasons`` is the plain training with a penalty on the gradients at the pixels of the same cells
(right for the right reasons: Ross et al., IJCAI 2017). ``heads`` is no training: the heads that make the model say the
noun of the cue are replaced by their means in the embedding (the first half of LTC: Yeo et al., arXiv 2505.17425,
written from the authors' program; the other half needs texts from a language model). It gets what the others do not
have: images whose cue contradicts the object, with their labels.
"""

import copy
import csv
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cues  # noqa: F401 - which adds its kinds to SHORTCUTS
import numpy as np
import torch
import torch.nn.functional as F
from audits import pairs_of
from reasons import UNSEEN
from runs import collect, kept, machine, parse_arguments, print_table, stored, write_csv
from scipy.spatial import KDTree
from shortcut import SHORTCUTS, image, interventions, planted, share, unit
from torch.nn.attention import SDPBackend, sdpa_kernel

import nibt
from nibt.bridges.repair import Exchange, PartCells, part_cells
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import TEMPLATES, Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.encode import encode
from nibt.evaluation.statistics import interval, jackknife
from nibt.heads.direct_paths import direct_paths
from nibt.results.parts import Parts

KINDS = ("mark", "background", "text", "companion", "frame", "badge")
SEEDS = ("1", "2")
"""The seeds of the models."""
CHOSEN_ON = {"mark": "yes", "background": "first run", "text": "first run"}
"""Where settings were chosen, and what was seen of a first run before they were chosen."""
WITH_MASKS, POOL, STEPS, BATCH, RATE = 120, 2400, 100, 48, 3e-4
FRACTION = 1.0
PENALTY = 10.0
"""The weight of ``reasons``."""
TRAINING = 4711
"""The seed of the training scenes."""
HITS = ("other", "without", "agreeing", "retrieved")
CSV = Path(__file__).parents[2] / "docs" / "explanation" / "study" / "mend.csv"


def training_pair(kind, data, item):
    """A pair as a user has it: cue and object agree."""
    pair, scene = data[item], data.scene(item)
    target = next(obj for obj in pair.objects if obj.spans)
    pixels, mask = SHORTCUTS[kind].plant(scene, target.name)
    objects = (Object(target.name, None, target.mask & ~mask, target.spans),)
    return Pair(image(pixels), pair.caption, objects, labels=NOUNS, label=NOUNS.index(target.name))


def captions(number):
    """The captions of all nouns, in one template."""
    return [TEMPLATES[number].format(with_article(noun)) for noun in NOUNS]


def loaded(module, model):
    request = model.request
    return nibt.load_model(module.eval(), processor=request.processor, tokenizer=request.tokenizer)


class Moved:
    """An exchange that moves the part of another image to the place of the image's own part.

    The medians of both parts are aligned, and each cell gets the nearest one. A ``fraction`` of the images is exchanged
    like that, and the others as ``Exchange`` does.
    """

    def __init__(self, cells, fraction=1.0):
        self.exchange, self.fraction = Exchange(cells), fraction
        self.draws = np.random.default_rng(0)

    def __call__(self, pixels, masks):
        changed = self.exchange(pixels, masks)
        side = pixels.shape[-1] // masks.shape[-1]
        having = [item for item in range(len(masks)) if masks[item].any()]
        for item in having:
            if self.draws.random() >= self.fraction or len(having) < 2:
                continue
            donor = self.draws.choice([other for other in having if other != item])
            own, other = (np.argwhere(masks[place].numpy()) for place in (item, donor))
            shift = np.median(own, 0) - np.median(other, 0)
            nearest = other[KDTree(other + shift).query(own)[1]]
            changed[item] = pixels[item]
            for target, source in zip(own * side, nearest * side, strict=True):
                changed[item][square(target, side)] = pixels[donor][square(source, side)]
        return changed


def square(corner, side):
    return np.s_[:, corner[0] : corner[0] + side, corner[1] : corner[1] + side]


def fine_tuned(world, fraction=0.0, weight=0.0, exchange=None):
    """A copy of the model after training on pairs.

    Cells are exchanged in a ``fraction`` of the images, or as ``exchange`` does. The gradients at their pixels are
    penalized by a ``weight``, in units of the penalty of the first batch.
    """
    model, pairs, cells = world.model, world.pairs, world.cells
    module = copy.deepcopy(model.module).float().train().requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), RATE, weight_decay=0.0)
    exchange, draws = exchange or Exchange(cells, fraction), np.random.default_rng(0)
    order = np.concatenate([draws.permutation(len(pairs)) for _ in range(1 + STEPS * BATCH // len(pairs))])
    first_penalty = None
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20, (STEPS - step) / 60)
        items = order[step * BATCH : (step + 1) * BATCH]
        pixels = model.image.prepare([pairs[item].image for item in items]).values
        pixels = exchange(pixels, cells.masks[items]).requires_grad_(weight > 0)
        labels = torch.tensor([pairs[item].label for item in items])
        texts = model.text.prepare(captions(draws.integers(len(TEMPLATES))))
        read = unit(module.get_text_features(texts.values, **texts.extra))
        with sdpa_kernel(SDPBackend.MATH) if weight else nullcontext():  # other kernels have no second derivative
            logits = module.logit_scale.exp() * unit(module.get_image_features(pixels)) @ read.T
            loss = F.cross_entropy(logits, labels)
            if weight:
                wrong = penalty(logits, pixels, cells.masks[items])
                first_penalty = first_penalty or float(wrong.detach())
                loss = loss + weight * wrong / first_penalty
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
        if (step + 1) % 20 == 0:
            print(step + 1, round(loss.item(), 3), flush=True)
    return loaded(module, model)


def with_true_cells(world):
    cue, _ = world.true_cells
    cells = PartCells(cue, world.cells.size)
    return fine_tuned(replace(world, cells=cells), exchange=Moved(cells))


def with_masks(world):
    """The images with masks only: all cells beside the named object are those of another image."""
    _, shown = world.true_cells
    cells = PartCells(~shown[:WITH_MASKS], world.cells.size)
    return fine_tuned(replace(world, pairs=world.pairs[:WITH_MASKS], cells=cells), exchange=Moved(cells))


def penalty(logits, pixels, masks):
    """The mean over images of the squared gradients at masked pixels of the sum of the log-probabilities."""
    (gradient,) = torch.autograd.grad(logits.log_softmax(-1).sum(), pixels, create_graph=True)
    masked = F.interpolate(masks[:, None].float(), pixels.shape[-2:])
    return (gradient * masked).square().sum((1, 2, 3)).mean()


def head_vectors(model, images):
    """What each head adds to the embedding of each image: (image, layer, head, dim)."""
    tower = model.image
    batches = [images[first : first + 16] for first in range(0, len(images), 16)]
    return torch.cat([direct_paths(tower.trace(tower.prepare(batch), 0)).head_vectors() for batch in batches])


def first_heads(vectors, differences):
    """How often each head adds most to a difference of logits, as a share of the images: (layer, head)."""
    products = torch.einsum("nlhd,nd->nlh", vectors, differences).flatten(1)
    return (torch.bincount(products.argmax(1), minlength=products.shape[1]) / max(1, len(products))).numpy()


def heads_of_the_cue(model, kind):
    """The heads that LTC blames, and the mean of what each head adds.

    Of images whose cue contradicts the object: a head is blamed if it adds most to what the model says, against the
    right label, more often where the model is wrong than where it is right (against the second), by more than one in
    the number of heads that ever come first.
    """
    data = Scenes(count=WITH_MASKS, seed=TRAINING, fewest=1, most=3, named="one")
    images = [image(planted(kind, data, item).images[1]) for item in range(WITH_MASKS)]
    labels = torch.tensor([training_pair(kind, data, item).label for item in range(WITH_MASKS)])
    texts = unit(encode(model.text, captions(0)))
    order = (encode(model.image, images) @ texts.T).argsort(1, descending=True)
    is_right = order[:, 0] == labels
    differences = texts[order[:, 0]] - texts[torch.where(is_right, order[:, 1], labels)]
    vectors = head_vectors(model, images)
    wrong, right = (first_heads(vectors[chosen], differences[chosen]) for chosen in (~is_right, is_right))
    blamed = np.flatnonzero(wrong - right > 1 / np.count_nonzero((wrong > 0) | (right > 0)))
    return [divmod(int(place), vectors.shape[2]) for place in blamed], vectors.mean(0)


def without_heads(world):
    """The model whose embedding has the means of the heads of the cue, by hooks on a copy of the tower of CLIP."""
    model = world.model
    heads, means = heads_of_the_cue(model, world.kind)
    module = copy.deepcopy(model.module)
    vision, seen = module.vision_model, {}

    def note(key):
        def hook(_, args):
            seen[key] = args[0]

        return hook

    for layer, _ in heads:
        vision.encoder.layers[layer].self_attn.out_proj.register_forward_pre_hook(note(layer))
    vision.post_layernorm.register_forward_pre_hook(note("norm"))

    def ablate(_, __, embedding):
        state = seen["norm"]
        scale = (state.var(-1, unbiased=False, keepdim=True) + vision.post_layernorm.eps).sqrt()
        for layer, head in heads:
            attention = vision.encoder.layers[layer].self_attn
            width = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            added = seen[layer][:, 0, width] @ attention.out_proj.weight[:, width].T
            normed = (added - added.mean(-1, keepdim=True)) / scale * vision.post_layernorm.weight
            embedding = embedding - (normed @ module.visual_projection.weight.T - means[layer, head])
        return embedding

    module.visual_projection.register_forward_hook(ablate)
    print(world.kind, "heads", heads, flush=True)
    return loaded(module, model)


def without_directions(world):
    """The model without the directions of the shortcuts in the states of a layer, by a hook on a copy."""
    model, parts = world.model, world.parts
    others = [part for part in parts.parts if part.verdict != "shortcut"]
    shares = torch.tensor([part.share for part in others])
    center = sum(share * part.center for share, part in zip(shares / shares.sum(), others, strict=True))
    centers = torch.stack([part.center for part in parts.shortcuts])
    directions = torch.linalg.qr(((centers - center) * parts.deviations).T).Q
    mean = parts.means + center * parts.deviations

    def remove(_, args):
        return args[0] - (args[0] - mean) @ directions @ directions.T, *args[1:]

    module = copy.deepcopy(model.module)
    loaded(module, model).image.blocks[parts.layer].register_forward_pre_hook(remove)
    return loaded(module, model)


@torch.no_grad()
def hits(model, images, labels):
    """Whether the noun of each image comes first among all."""
    read, seen = unit(encode(model.text, captions(0))), unit(encode(model.image, [image(each) for each in images]))
    return ((seen @ read.T).argmax(1).numpy() == np.array(labels)).astype(float).tolist()


@torch.no_grad()
def retrieved(model, pairs):
    """Whether the caption of each image comes first among those of all."""
    read, seen = (encode(model.text, [pair.caption for pair in pairs]), encode(model.image, [p.image for p in pairs]))
    return ((unit(seen) @ unit(read).T).argmax(1).numpy() == np.arange(len(pairs))).astype(float).tolist()


def evaluated(model, kind, count, seed):
    """What is kept of a model: its used share, by painting, and hits on images with and without the cue."""
    data = Scenes(count=count, seed=seed, fewest=2, most=3, named="one")
    single = Scenes(count=count, seed=seed + 1, fewest=1, most=1, named="one")
    values = interventions(model, [planted(kind, data, item) for item in range(count)])
    scenes = [planted(kind, single, item) for item in range(count)]
    labels = [NOUNS.index(single.scene(item).names[0]) for item in range(count)]
    record = {"used": list(jackknife(values, share)), "similarity": values[:, 3].tolist()}
    for version, name in ((0, "agreeing"), (1, "other"), (3, "without")):
        record[name] = hits(model, [scene.images[version] for scene in scenes], labels)
    return record | {"retrieved": retrieved(model, list(Scenes(count=count, seed=seed + 2, named="some")))}


@dataclass(frozen=True)
class World:
    """A model that reads a cue, training pairs in which cue and object agree, and the cells of its shortcuts there."""

    kind: str
    model: nibt.Model
    parts: Parts
    pairs: list[Pair]
    cells: PartCells

    @classmethod
    def of(cls, kind, options):
        model = nibt.load_model(options.models / f"{kind}-{options.seed}")
        data = Scenes(count=POOL, seed=TRAINING, fewest=1, most=3, named="one")
        pairs = [training_pair(kind, data, item) for item in range(POOL)]
        path = options.out / f"{kind}-{options.seed}.json"
        if not path.exists():
            nibt.parts(model, pairs[:WITH_MASKS], texts=[]).save(path)
        return cls(kind, model, Parts.load(path), pairs, part_cells(model, [pair.image for pair in pairs], path))

    @cached_property
    def true_cells(self):
        """The cells of the planted cue, and those of the named object, in the training pairs."""
        data = Scenes(count=POOL, seed=TRAINING, fewest=1, most=3, named="one")
        masks = []
        for item, pair in enumerate(self.pairs):
            _, cue = SHORTCUTS[self.kind].plant(data.scene(item), NOUNS[pair.label])
            masks.append(np.stack([cue, pair.objects[0].mask]).astype(float))
        shares = F.adaptive_avg_pool2d(torch.from_numpy(np.stack(masks)), self.cells.masks.shape[1:])
        return (shares > 0.3).unbind(1)

    def facts(self):
        masks, (cue, shown) = self.cells.masks, self.true_cells
        return {
            "shortcuts": len(self.parts.shortcuts),
            "having": float(masks.flatten(1).any(1).float().mean()),
            "cue found": float((masks & cue).sum() / cue.sum()),
            "object taken": float((masks & shown).sum() / shown.sum()),
            "object covered": float(((masks | masks.roll(1, 0)) & shown).sum() / shown.sum()),
        }


ARMS = {
    "before": lambda world: world.model,
    "plain": fine_tuned,
    "exchange": lambda world: fine_tuned(world, FRACTION),
    "moved": lambda world: fine_tuned(world, exchange=Moved(world.cells)),
    "mixed": lambda world: fine_tuned(world, exchange=Moved(world.cells, 0.5)),
    "true": with_true_cells,
    "masks": with_masks,
    "directions": without_directions,
    "reasons": lambda world: fine_tuned(world, weight=PENALTY),
    "heads": without_heads,
}


def measure(options):
    torch.set_num_threads(1)
    path = options.out / f"mend-{options.part}.jsonl"
    for kind in options.kinds.split(",")[options.part :: options.parts]:
        world = None
        for arm in ("honest", *options.arms.split(",")):
            key = f"{kind}|{options.seed}|{arm}"
            if key in stored(path):
                continue
            world = world or World.of(kind, options)
            started = time.perf_counter()
            model = nibt.load_model(options.models / "honest-1") if arm == "honest" else ARMS[arm](world)
            record = {"seconds": time.perf_counter() - started, **world.facts()}
            record |= evaluated(model, kind, options.count, UNSEEN + 9)
            if arm != "honest":
                pairs = pairs_of(kind, options.count, UNSEEN + 9)
                used = nibt.used_share(model, pairs, world.parts, parts_model=world.model)
                record["by_parts"] = [used.value, used.low, used.high]
            kept(path, {"key": key, **record})
            print(key, ends(record["used"]), *(f"{np.mean(record[name]):.2f}" for name in HITS), flush=True)


def ends(values):
    return "-" if values is None else "{:.2f} [{:.2f}, {:.2f}]".format(*values)


SHARES = ("cue used", "used share by parts", "with another's cue", "without a cue", "with its cue")
SHARES += ("retrieval without cues",)
CELLS = ("cue found", "object taken", "object covered")
"""The shares of the cells of the cue, and of the object, in the parts, and of the object in those of two images."""
HEADINGS = ("model", "seed", "chosen on", "training", "scenes", *SHARES, "images with the parts", *CELLS)


def rows(records):
    for key, record in records.items():
        kind, seed, arm = key.split("|")
        yield {
            "model": kind,
            "seed": seed,
            "chosen on": chosen_on(kind, seed),
            "training": arm,
            "scenes": str(len(record["other"])),
            "cue used": ends(record["used"]),
            "used share by parts": ends(record.get("by_parts")),
            **{heading: ends(interval(record[name])) for heading, name in zip(SHARES[2:], HITS, strict=True)},
            "images with the parts": f"{record['having']:.2f}" if arm == "exchange" else "",
            **{name: f"{record[name]:.2f}" if arm == "moved" else "" for name in CELLS},
        }


def chosen_on(kind, seed):
    return CHOSEN_ON.get(kind, "no") if seed == "1" or kind not in CHOSEN_ON else "seed 1"


def report(options):
    """Print the tables of what was measured; of what was not, the rows of the file stay."""
    records = collect(options.out, "mend")
    with CSV.open(newline="") as file:
        known = {(row["model"], row["seed"], row["training"]): row for row in csv.DictReader(file)}
    known |= {(row["model"], row["seed"], row["training"]): row for row in rows(records)}
    order = [(kind, seed, arm) for seed in SEEDS for kind in KINDS for arm in ("honest", *ARMS)]
    table = [known[key] for key in order if key in known]
    print(f"{machine()}; scenes of seed {UNSEEN + 9}\n")
    for seed in sorted({row["seed"] for row in table}):
        of_seed = [row for row in table if row["seed"] == seed]
        for heading in SHARES:
            print(f"{heading}, models of seed {seed}")
            print_by_training(of_seed, heading)
        print("cells of the parts")
        print_table(
            ("model", *CELLS),
            [{name: row[name] for name in ("model", *CELLS)} for row in of_seed if row["training"] == "moved"],
        )
        print()
    write_csv(CSV, HEADINGS, table)


def print_by_training(table, heading):
    """Print one value of all models and trainings."""
    arms = [arm for arm in ("honest", *ARMS) if any(row["training"] == arm for row in table)]
    lines = []
    for kind in KINDS:
        of_kind = {row["training"]: row for row in table if row["model"] == kind}
        if of_kind:
            line = {"model": kind, "chosen on": next(iter(of_kind.values()))["chosen on"]}
            lines.append(line | {arm: of_kind[arm][heading] if arm in of_kind else "-" for arm in arms})
    print_table(("model", "chosen on", *arms), lines)
    print()


def extend(parser):
    parser.add_argument("--models", type=Path, help="the folder of the models, which are named KIND-SEED")
    parser.add_argument("--seed", choices=SEEDS, default="1", help="the seed of the models")
    parser.add_argument("--kinds", default=",".join(KINDS), help="the kinds of models, of KINDS")
    parser.add_argument(
        "--arms", default="before,exchange,directions,plain,reasons,heads", help="what is measured, of ARMS"
    )


if __name__ == "__main__":
    arguments = parse_arguments(__doc__, extend)
    {"measure": measure, "report": report}[arguments.what](arguments)
