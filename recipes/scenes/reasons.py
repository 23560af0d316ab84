"""Does a map show why? Maps of models whose reason is known, against what interventions say.

    OMP_NUM_THREADS=1 python recipes/scenes/shortcut.py train --kind KIND --seed 1 --out MODELS/KIND-1    # of each kind
    OMP_NUM_THREADS=1 python recipes/scenes/reasons.py measure --models MODELS --out RUN [--count 50] [--part 0/2]
    python recipes/scenes/reasons.py report --out RUN    # into docs/explanation/study

``share`` is the positive evidence of a map on the shortcut, of that on the shortcut and the object (for captions: the
words of the shortcut and the noun), and the used share is what the similarity loses with another shortcut, of this and
what it loses without the object. Both are of three models for each shortcut: the one that was trained to read it, one
half way to it (the mean of its weights and those of ``scenes``), and one trained without. ``r`` and ``slope`` are over
all of these, ``per image`` is the rank correlation of both shares over the scenes of a model, and AUC tells the first
model from the last by one map. ``drift`` is the rank correlation of the maps of an image and of the image with noise of
at most 2 of 255 that changes the map, and the similarity by at most 1 % of its change from the blank image: noise from
a search by squares, from gradients that change the scores of hidden states, or from an attack on the method, which
goes on from the best of the latter by squares. Beside it is the mean for other wordings of the caption. Slow methods
have a fifth of the scenes. The used share of each noun is that of its own scenes.
``--method`` adds a row, also of a method of your own that is installed.
"""

import re
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from runs import collect, kept, machine, parse_arguments, stored, write_tables
from scipy import stats
from shortcut import (
    CHOOSING,
    SHORTCUTS,
    VERSIONS,
    evidence_share,
    image,
    interventions,
    mixed,
    planted,
    share,
    unit,
)
from torch.nn.attention import SDPBackend, sdpa_kernel

import nibt
from nibt.data.ground_truth import ground_truth
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets._captions import with_article
from nibt.datasets.scenes import TEMPLATES, Scenes
from nibt.datasets.scenes.drawing import NOUNS
from nibt.engine.batches import explain_batches
from nibt.engine.spec import Request, resolve
from nibt.engine.targets import Contrast
from nibt.evaluation.statistics import interval, jackknife
from nibt.registry import MethodSpec, find
from nibt.results.pixels import to_pixels

STUDY = Path(__file__).parents[2] / "docs" / "explanation" / "study"
PAGE = STUDY.parent / "shortcuts.md"
UNSEEN = 20261201
"""The seed of scenes on which nothing was chosen; models of seed 0 have others."""
BATCH, FEWER, SIDE = 25, 5, 128
MEAN = "nib, baseline mean"
"""The row whose baseline is computed for each model."""
SLOW = ("integrated_gradients", "occlusion", "banzhaf", "shapley", "rise")
PATCH = 16


def edges(scene):
    """A control that is no method: how much neighboring pixels differ."""
    down, right = np.gradient(scene.images[0].astype(float).mean(-1))
    return torch.from_numpy(np.hypot(down, right))


def object_by_patches(scene):
    """A control that is no method: the share of each patch that the object covers."""
    patches = scene.of_object.reshape(SIDE // PATCH, PATCH, SIDE // PATCH, PATCH)
    return to_pixels(torch.from_numpy(patches.mean((1, 3)))[None], SIDE, SIDE)[0]


PLAIN = (
    "nib",
    "nib:fast",
    "nib:paper",
    "gae",
    "legrad",
    "grad_eclip",
    "grad_cam",
    "clip_surgery",
    "chefer",
    "saliency_map",
    "fast_ig",
    "integrated_gradients",
    "occlusion",
)
CONTROLS = {name: MethodSpec(name) for name in ("random", "center", "ones")}
ROWS = {
    "image": {
        **{name: MethodSpec.of(name, None, {}, None) for name in PLAIN},
        "nib, 1 view": MethodSpec("nib", "default", {"image_views": 1}),
        "nib, 5 views": MethodSpec("nib", "default", {"image_views": 5}),
        "gae, 3 views": MethodSpec("gae", "default", {"image_views": 3}),
        "maskclip": MethodSpec("maskclip"),
        "rollout": MethodSpec("rollout"),
        "banzhaf, budget 64": MethodSpec("banzhaf", "default", {"budget": 64}),
        **CONTROLS,
        "edges": edges,
        "object": object_by_patches,
    },
    "text": {
        **{name: MethodSpec.of(name, None, {}, None) for name in PLAIN},
        MEAN: MethodSpec("nib"),
        **CONTROLS,
    },
}
STRENGTHS = {"full": 1.0, "half": 0.5, "honest": 0.0}
OF_SIDES = {"shortcuts": "image", "shortcuts-words": "text"}
DRIFT = ("nib", "nib, 1 view", "nib:fast", "nib:paper", "gae", "gae, 3 views", "legrad", "grad_eclip", "grad_cam")
DRIFT += ("clip_surgery", "chefer", "saliency_map", "fast_ig")
DRIFTS = ("drift", "attack", "wording")
"""Records of one or two columns of the table each."""
PLANTED = 0.3
"""The used share from which on a shortcut is taken to be planted: maps of other models are not compared."""
NOISE, QUERIES, ATTACKS, ATTACKED = 2, 60, 300, 10
WORDINGS = (TEMPLATES[0], *TEMPLATES[2::3])
OF_NOUN = 8
"""The scenes of each noun."""
LAYERS, DESCENTS = (4, 7, 10), 40
"""The layers whose scores the noise of gradients changes, and the steps of it."""


def explained(model, method, pairs, side):
    """The maps of pairs in pixels, or their scores of words."""
    spec = resolve(model, Request(method, "cosine", Contrast.of((), (), ()), seed=0))
    results = {}
    for batch in explain_batches(spec, pairs, BATCH, [side]):
        attribution = batch.attributions[("image", "text").index(side)]
        for position, index in enumerate(batch.indices):
            one = attribution[position]
            words = torch.tensor([word.score for word in one.words]) if side == "text" else None
            results[index] = to_pixels(one.grid[None], SIDE, SIDE)[0] if words is None else words
    return [results[index] for index in range(len(pairs))]


def as_pair(scene):
    return Pair(image(scene.images[0]), scene.captions[0])


def shares(model, method, scenes, side):
    """The share of the evidence on the shortcut of each scene."""
    if isinstance(method, MethodSpec):
        maps = explained(model, method, [as_pair(scene) for scene in scenes], side)
    else:
        maps = [method(scene) for scene in scenes]
    if side == "image":
        places = [(scene.of_object, scene.of_shortcut) for scene in scenes]
    else:
        places = [on_words(model, scene) for scene in scenes]
    return [evidence_share(np.asarray(scores), *each) for scores, each in zip(maps, places, strict=True)]


def on_words(model, scene):
    """The words of the noun, and of the shortcut."""
    noun = Object("noun", (0, 0, 1, 1), None, scene.of_object)
    pair = Pair(image(scene.images[0]), scene.captions[0], (noun,), scene.of_shortcut)
    inputs = model.text.prepare([pair.caption])
    truth = ground_truth(pair, model.image.prepare([pair.image]).regions[0], inputs.words[0])
    return np.array(truth.named), np.array(truth.absent)


def objects_named(model, count=100):
    """For each scene of one object, whether it is first among all nouns."""
    data = Scenes(count=count, seed=CHOOSING + 9, fewest=1, most=1)
    prompts = unit(model.text.encode(model.text.prepare([with_article(noun) for noun in NOUNS])))
    seen = unit(model.image.encode(model.image.prepare([pair.image for pair in data])))
    first = (seen @ prompts.T).argmax(1).tolist()
    return [float(NOUNS[place] == pair.objects[0].name) for place, pair in zip(first, data, strict=True)]


def scenes_of_nouns(kind):
    """The first scenes whose caption names a noun, of each noun in turn."""
    data, items = Scenes(count=32 * len(NOUNS), seed=UNSEEN + 3, fewest=2, most=3, named="one"), {}
    for item in range(len(data)):
        items.setdefault(next(obj.name for obj in data[item].objects if obj.spans), []).append(item)
    assert min(map(len, items.values())) >= OF_NOUN
    return [planted(kind, data, item) for noun in NOUNS for item in items[noun][:OF_NOUN]]


def interventions_on_nouns(model, kind):
    return interventions(model, scenes_of_nouns(kind))


def measure(options):
    path = options.out / f"reasons-{options.part}.jsonl"
    data = Scenes(count=options.count, seed=UNSEEN if options.seed else CHOOSING, fewest=2, most=3, named="one")
    honest = nibt.load_model(options.models / f"honest-{options.seed}")
    for number, (kind, shortcut) in enumerate(SHORTCUTS.items()):
        folder = options.models / f"{kind}-{options.seed}"
        if number % options.parts != options.part or not (folder / "model.safetensors").exists():
            continue
        scenes = [planted(kind, data, item) for item in range(options.count)]
        for strength, amount in STRENGTHS.items():
            model = mixed(folder, amount) if amount else honest
            once(path, f"used|{kind}|{strength}", interventions, model, scenes)
            once(path, f"named|{kind}|{strength}", objects_named, model)
            once(path, f"nouns|{kind}|{strength}", interventions_on_nouns, model, kind)
            for row, method in ROWS[shortcut.side].items():
                key = f"{row}|{kind}|{strength}"
                if row == MEAN and key not in stored(path):
                    method = with_mean(model, kind, options.out / f"{kind}-{strength}.safetensors")
                few = options.count // FEWER if getattr(method, "name", "") in SLOW else options.count
                once(path, key, shares, model, method, scenes[:few], shortcut.side)
    if options.part == options.parts - 1:
        pairs = list(Scenes(count=ATTACKED, seed=UNSEEN + 1, fewest=2, most=3, named="one"))
        for row in DRIFT:
            once(path, f"drift|{row}", drift, honest, ROWS["image"][row], pairs)
            once(path, f"wording|{row}", drift_by_wording, honest, ROWS["image"][row], pairs)
        lacking = [row for row in DRIFT if f"attack|{row}" not in stored(path)]
        noises = lacking and gradient_noises(honest, pairs)
        for row in lacking:
            once(path, f"attack|{row}", drift_by_attack, honest, ROWS["image"][row], pairs, noises)


def with_mean(model, kind, path):
    """NIB with the mean state of 300 captions of other scenes, with their shortcuts, as its baseline."""
    data = Scenes(count=300, seed=CHOOSING + 1, fewest=2, most=3, named="one")
    captions = [planted(kind, data, item).captions[0] for item in range(len(data))]
    nibt.calibrate(model, [data[0].image], captions).save(path)
    return MethodSpec("nib", "default", {"text_baseline": f"mean:{path}"})


def once(path, key, compute, *arguments):
    """Compute what the file lacks, and keep it."""
    if key not in stored(path):
        values = np.round(compute(*arguments), 5).tolist()
        kept(path, {"key": key, "values": values})
        print(key, np.round(np.mean(values, 0), 3), flush=True)


class Attack:
    """Images whose maps noise changes, and how much it may change their similarities."""

    def __init__(self, model, method, pairs):
        self.model, self.method, self.pairs = model, method, pairs
        self.pixels = [np.array(pair.image.pil_image).astype(int) for pair in pairs]
        self.text = texts_of(model, pairs)
        self.before = explained(model, method, pairs, "image")
        self.start, self.least = self.seen([np.zeros_like(each) for each in self.pixels])
        self.allowed = 0.01 * np.abs(self.start - blank_similarities(model, self.text, pairs))

    def seen(self, noise):
        """The similarities and the correlations of the maps with noise."""
        noisy = [
            image((each + one).clip(0, 255).astype(np.uint8)) for each, one in zip(self.pixels, noise, strict=True)
        ]
        pairs = [Pair(one, pair.caption) for one, pair in zip(noisy, self.pairs, strict=True)]
        maps = explained(self.model, self.method, pairs, "image")
        correlations = [stats.spearmanr(*map(torch.flatten, each))[0] for each in zip(self.before, maps, strict=True)]
        with torch.no_grad():
            similarities = unit(self.model.image.encode(self.model.image.prepare(noisy))) * self.text
        return similarities.sum(1).numpy(), np.array(correlations)

    def better(self, noise):
        """The images whose map this noise changes more than all before, without the similarity; they are kept."""
        similarities, correlations = self.seen(noise)
        better = (correlations < self.least) & (np.abs(similarities - self.start) <= self.allowed)
        self.least = np.where(better, correlations, self.least)
        return np.flatnonzero(better)


@torch.no_grad()
def texts_of(model, pairs):
    return unit(torch.cat([model.text.encode(model.text.prepare([pair.caption])) for pair in pairs]))


@torch.no_grad()
def blank_similarities(model, text, pairs):
    blank = unit(model.image.encode(model.image.blank_inputs(model.image.prepare([pairs[0].image]))))
    return (blank * text).sum(1).numpy()


def drift(model, method, pairs):
    """The rank correlation of each map with itself: after noise at random, and after the search."""
    draws, attack = np.random.default_rng(0), Attack(model, method, pairs)
    noise = [np.zeros_like(each) for each in attack.pixels]
    _, at_random = attack.seen([draws.choice([-NOISE, NOISE], each.shape) for each in noise])
    search(attack, noise, draws, QUERIES)
    return np.stack([at_random, attack.least], 1)


def search(attack, noise, draws, queries):
    """Change the noise of each image by squares that become smaller, and keep those that are better."""
    for query in range(queries):
        side = max(8, round(SIDE * (1 - query / queries) ** 2))
        tried = [one.copy() for one in noise]
        for one in tried:
            top, left = draws.integers(SIDE - side + 1, size=2)
            one[top : top + side, left : left + side] = proposal(draws, side)
        for item in attack.better(tried):
            noise[item] = tried[item]


def drift_by_wording(model, method, pairs):
    """The mean rank correlation of each map with those for other templates of its caption."""
    nouns = [with_article(next(obj.name for obj in pair.objects if obj.spans)) for pair in pairs]
    maps = []
    for template in WORDINGS:
        worded = [Pair(pair.image, template.format(noun)) for pair, noun in zip(pairs, nouns, strict=True)]
        maps.append([one.flatten() for one in explained(model, method, worded, "image")])
    first, *others = maps
    return [[np.mean([stats.spearmanr(each, other[item])[0] for other in others])] for item, each in enumerate(first)]


def drift_by_attack(model, method, pairs, noises):
    """The smallest rank correlation of each map with itself: of all noises that gradients gave, and after a search."""
    attack = Attack(model, method, pairs)
    best = [np.zeros_like(each) for each in attack.pixels]
    for noise in noises:
        for item in attack.better(noise):
            best[item] = noise[item]
    of_gradients = attack.least
    search(attack, best, np.random.default_rng(0), ATTACKS)
    return np.stack([of_gradients, attack.least], 1)


def gradient_noises(model, pairs):
    """Noise that changes the scores of hidden states most: state times gradient at some layers, by descent.

    It is the same for all methods; every fifth step gives a noise.
    """
    pixels = torch.tensor(np.stack([np.array(pair.image.pil_image) for pair in pairs]), dtype=torch.float32)
    black, white = (
        model.image.prepare([image(np.full((SIDE, SIDE, 3), level, np.uint8))]).values for level in (0, 255)
    )
    text, module = texts_of(model, pairs), model.module

    def scores(values):
        """The similarities, and the scores of patches at each layer."""
        states = module.vision_model(values, output_hidden_states=True)
        similarities = (unit(module.visual_projection(states.pooler_output)) * text).sum(1)
        chosen = [states.hidden_states[layer] for layer in LAYERS]
        gradients = torch.autograd.grad(similarities.sum(), chosen, create_graph=True)
        return similarities, [(one * each).sum(-1)[:, 1:] for one, each in zip(chosen, gradients, strict=True)]

    def values_of(noise):
        noisy = (pixels + noise).clamp(0, 255).permute(0, 3, 1, 2) / 255
        return black + (white - black) * noisy

    with sdpa_kernel(SDPBackend.MATH):  # which has a second derivative
        start, before = scores(values_of(torch.zeros_like(pixels).requires_grad_()))
        start, before = start.detach(), [each.detach() for each in before]
        noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
        noises = []
        for step in range(DESCENTS):
            noise.requires_grad_(True)
            similarities, after = scores(values_of(noise))
            likeness = sum(correlation(*each).sum() for each in zip(before, after, strict=True))
            (of_map,) = torch.autograd.grad(likeness, noise, retain_graph=True)
            (of_similarity,) = torch.autograd.grad(similarities.sum(), noise)
            # the part of the slope that leaves the similarity, and then what takes the similarity back
            along = of_map - per_image(of_map * of_similarity) / per_image(of_similarity**2) * of_similarity
            rate = 0.1 * (1 - step / DESCENTS) * NOISE / per_image(along.abs()) * along[0].numel()
            noise = (noise.detach() - rate * along).clamp(-NOISE, NOISE)
            free = of_similarity * (noise.abs() < NOISE)
            back = (similarities.detach() - start)[:, None, None, None] / per_image(free * free)
            noise = (noise - back * free).clamp(-NOISE, NOISE)
            if (step + 1) % 5 == 0:
                noises += [(part * noise).round().int().numpy() for part in (1, 0.5)]
    return noises


def per_image(values):
    return values.sum((1, 2, 3), keepdim=True)


def correlation(before, after):
    """Pearson's correlation of the scores of each image."""
    return F.cosine_similarity(before - before.mean(1, keepdim=True), after - after.mean(1, keepdim=True))


def proposal(draws, side):
    """Noise of full size: a square of one color, or stripes as at the start of a square attack."""
    columns = 1 if draws.random() < 0.5 else side
    return draws.choice([-NOISE, NOISE], (1, columns, 3))


def stated(values):
    """A mean with its interval, as the tables have it."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*values)


def above(rows, weights):
    """The probability that a map of the first model has a larger share than one of the other."""
    wins = (rows[:, None, 0] > rows[None, :, 1]) + 0.5 * (rows[:, None, 0] == rows[None, :, 1])
    return np.einsum("sa,ab,sb->s", weights, wins, weights) / weights.sum(1) ** 2


def measured_kinds(records, side):
    """The shortcuts of a side that all models were measured with."""
    complete = [kind for kind in SHORTCUTS if all(f"named|{kind}|{strength}" in records for strength in STRENGTHS)]
    return [kind for kind in complete if SHORTCUTS[kind].side == side]


def planted_kinds(records, side):
    """Those that the trained model uses."""
    values = {kind: np.array(records[f"used|{kind}|full"]["values"]) for kind in measured_kinds(records, side)}
    return [kind for kind, each in values.items() if share(each)[0] >= PLANTED]


def used_table(records):
    """What each model uses, by intervention."""
    heads = ["", *(f"used share, {strength}" for strength in STRENGTHS), *VERSIONS, "object first"]
    lines = []
    for kind in (*measured_kinds(records, "image"), *measured_kinds(records, "text")):
        values = {strength: np.array(records[f"used|{kind}|{strength}"]["values"]) for strength in STRENGTHS}
        cells = [stated(jackknife(each, share)) for each in values.values()]
        cells += [f"{mean:.3f}" for mean in values["full"].mean(0)]
        lines.append([kind, *cells, stated(interval(records[f"named|{kind}|full"]["values"]))])
    return as_table(heads, lines)


def shares_of_nouns(records, kind, strength):
    """The used share of each noun with its interval."""
    values = np.array(records[f"nouns|{kind}|{strength}"]["values"])
    return [jackknife(each, share) for each in values.reshape(len(NOUNS), OF_NOUN, -1)]


def nouns_tables(records):
    """What each model uses, noun by noun, and how much nouns differ."""
    kinds = [*measured_kinds(records, "image"), *measured_kinds(records, "text")]
    models = [(kind, strength) for kind in kinds for strength in STRENGTHS]
    shares = {each: shares_of_nouns(records, *each) for each in models}
    columns = [[f"{kind}, {strength}", *map(stated, shares[kind, strength])] for kind, strength in models]
    head, *nouns = zip(["", *NOUNS], *columns, strict=True)
    lines = []
    for kind in kinds:
        means = np.array([each.mean for each in shares[kind, "full"]])
        cells = [f"{mean:.3f}" for mean in np.quantile(means, (0, 0.1, 0.5, 0.9, 1))]
        cells += [f"{NOUNS[means.argmin()]}, {NOUNS[means.argmax()]}"]
        cells += [str(sum(each.low > PLANTED for each in shares[kind, strength])) for strength in STRENGTHS]
        lines.append([kind, *cells])
    heads = ["", "lowest", "10 %", "median", "90 %", "highest", "lowest and highest noun"]
    heads += [f"above {PLANTED}, {strength}" for strength in STRENGTHS]
    return {"shortcuts-nouns": as_table(head, nouns), "shortcuts-of-nouns": as_table(heads, lines)}


def as_table(heads, lines):
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def methods_table(records, side):
    """Every method against what the models use, and how well one map tells models apart."""
    kinds = planted_kinds(records, side)
    heads = ["", "r", "slope", "per image", "mean AUC", *(f"AUC {kind}" for kind in kinds)]
    heads += [f"{strength} {kind}" for kind in kinds for strength in ("full", "honest")] + ["forwards", "scenes"]
    models, lines = [(kind, strength) for kind in kinds for strength in STRENGTHS], []
    used = {each: np.array(records["|".join(("used", *each))]["values"]) for each in models}
    for row, method in ROWS[side].items():
        if not all("|".join((row, *each)) in records for each in models):
            continue
        of_maps = {each: np.array(records["|".join((row, *each))]["values"]) for each in models}
        truth, means = [share(used[each])[0] for each in models], [of_maps[each].mean() for each in models]
        correlation = stats.linregress(truth, means)
        per_image = [
            stats.spearmanr(values, of_scenes(used[each])[: len(values)])[0]
            for each, values in of_maps.items()
            if each[1] != "honest" and values.std()
        ]
        pairs = [np.stack([of_maps[kind, "full"], of_maps[kind, "honest"]], 1) for kind in kinds]
        aucs = [jackknife(each, above, (0.0, 1.0)) for each in pairs]
        cells = ["" if np.isnan(number) else f"{number:.2f}" for number in (correlation.rvalue, correlation.slope)]
        cells += [f"{np.mean(per_image):.2f}" if per_image else "", f"{np.mean([auc.mean for auc in aucs]):.3f}"]
        cells += [stated(auc) for auc in aucs]
        cells += [f"{of_maps[kind, strength].mean():.3f}" for kind in kinds for strength in ("full", "honest")]
        lines.append([row, *cells, forwards(method, side), str(len(pairs[0]))])
    return as_table(heads, lines)


def of_scenes(values):
    """The used share of each scene, from 0 to 1."""
    changes = (values[:, :1] - values[:, 1:3]).clip(0)
    return changes[:, 0] / np.maximum(changes.sum(1), 1e-9)


def forwards(method, side):
    """The cost in forward passes of the tower."""
    if not isinstance(method, MethodSpec):
        return "0"
    tower = nibt.load_model("scenes").tower(side)
    chosen = {name.removeprefix(f"{side}_"): value for name, value in method.options.items()}
    configured = find("methods", method.name).configured(tower, method.variant, chosen, {})
    return f"{configured.forwards(tower.depth, 64 if side == 'image' else 5):.4g}"


def drift_table(records):
    lines = [
        [row, *(stated(interval(values, (-1.0, 1.0))) for values in columns), str(int(np.isfinite(columns[1]).sum()))]
        for row in DRIFT
        if all(f"{kind}|{row}" in records for kind in DRIFTS)
        for columns in [np.hstack([records[f"{kind}|{row}"]["values"] for kind in DRIFTS]).T]
    ]
    heads = ["", "noise at random", "noise that was searched", "noise of gradients", "attack on the method"]
    return as_table([*heads, "other wordings", "scenes"], lines)


def on_page(table, left_out=("full ", "honest ")):
    """A table for the page: without intervals of AUC, which the file has, and without the mean shares."""
    heads, _, *lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in table.splitlines()]
    columns = [
        [head, *(re.sub(r" \[.*", "", cell) if head.startswith("AUC ") else cell for cell in cells)]
        for head, *cells in zip(heads, *lines, strict=True)
        if not head.startswith(left_out)
    ]
    head, *lines = zip(*columns, strict=True)
    return as_table(head, [(f"`{method}`" if method in PLAIN else method, *cells) for method, *cells in lines])


def report(options):
    records, page = collect(options.out, "reasons"), PAGE.read_text()
    tables = {"shortcuts-used": used_table(records)}
    tables |= {name: methods_table(records, side) for name, side in OF_SIDES.items() if planted_kinds(records, side)}
    tables |= {**nouns_tables(records), "shortcuts-drift": drift_table(records)}
    for name, table in tables.items():
        print(name, table, sep="\n")
        page = re.sub(rf"(<!--{name}-->\n).*?(\n\n)", rf"\g<1>{on_page(table)}\g<2>", page, flags=re.DOTALL)
    if options.seed:  # the others are for choosing
        PAGE.write_text(page)
        write_tables(STUDY, tables, f"{machine()}; models of seed {options.seed}, scenes of seed {UNSEEN}")


def extend(parser):
    parser.add_argument("--models", type=Path, help="measure: the folder of the models, KIND-SEED")
    parser.add_argument("--seed", type=int, default=1, help="that of the models")
    parser.add_argument("--method", action="append", default=[], help="one more row, such as 'nib steps=6'; repeatable")


def main():
    options = parse_arguments(__doc__, extend)
    for rows in ROWS.values():
        rows |= {method: MethodSpec.of(method) for method in options.method}
    measure(options) if options.what == "measure" else report(options)


if __name__ == "__main__":
    main()
