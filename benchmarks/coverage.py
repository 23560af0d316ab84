"""How often 95 % intervals of means over pairs contain the mean, on values of real pairs.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py measure --out RUN [--models MODELS] [--photos FOLDER]    # resumes
    python benchmarks/coverage.py report --out RUN --csv docs/explanation/study/coverage.csv

``measure`` keeps the value of each pair for the checks of an audit and for metrics: of ``scenes`` and of the models of
``recipes/scenes/shortcut.py`` (MODELS/mark-1 ...) on drawn scenes, and of ``lite`` on photographs with annotations. The
values of a check or a metric are taken as the population. ``report`` draws samples of pairs from it, with replacement,
and counts how often the interval contains the mean of the population, for the rule that nibt uses and for Student's,
and how often the interval is on the side that lets a model pass. A check of a model that passes is mixed with that of a
model that fails, so that the mean is at the failing threshold: then the check must not pass.
"""

import argparse
import csv
import json
import math
import sys
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from scipy import stats

import nibt
from nibt.data.images import read_image
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.evaluation import statistics
from nibt.evaluation.audit.checks import BOUNDS, CheckValues, MetricScores, discrimination
from nibt.evaluation.audit.evidence import fixed_place
from nibt.evaluation.audit.exchange import NAMES, Exchange
from nibt.evaluation.audit.runner import AuditRunner
from nibt.evaluation.measure import measure
from nibt.evaluation.statistics import bootstrap_t, gaffke, interval, student, weighted_mean
from nibt.registry import MethodSpec, find

COUNTS = (12, 24, 64, 200)
SAMPLES, DRAWS, FEWER_RESAMPLES = 1000, 2000, 400
FEW = 600  # samples for rules that resample each of them
PAIRS, SEED, METRIC_SEED = 240, 20_261_130, 424_242
METHODS = ("nib:fast", "gae", "grad_cam", "random")
METRICS = (
    "pointing_game average_precision energy intersection_over_union deletion insertion confidence_drop "
    "confidence_increase sparseness special_token_share corner_share word_auc relevance_rank score_contrast "
    "completeness_gap own_object road decisive_area"
).split()
KINDS = ("mark", "background", "text", "companion", "template", "word", "honest")
CSV = "kind value method source pairs rule coverage misses_passing width_to_student false_passes".split()


def shortcut_pairs(kind):
    """Pairs with a shortcut, as recipes/scenes/audits.py draws them."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "scenes"))
    from audits import pairs_of

    return pairs_of("one" if kind == "honest" else kind, PAIRS, SEED)


def photo_pairs(folder):
    """A pair for each photograph and each of its first two captions that names an object with a box."""
    pairs = []
    for entry in json.loads((folder / "annotations.json").read_text())["images"]:
        image = read_image(folder / entry["file"])
        for number, caption in enumerate(entry["captions"][:2]):
            named = [each for each in entry["grounded_words"] if each["caption"] == number]
            objects = tuple(
                Object(box["category"], tuple(box["box_xywh"]), None, ((word["start"], word["end"]),))
                for word in named
                for box in entry["objects"]
                if box["category"] == word["category"]
            )
            if objects:
                pairs.append(Pair(image, caption, objects))
    return pairs


def audited(model, pairs, method, few):
    """The values of the checks of an audit; with ``few`` only those that need no further maps."""
    spec = MethodSpec.parse(method)
    runner = AuditRunner(model, pairs, [spec], 0, 16)
    measured = [runner.corners(spec)]
    evidence = runner.evidence[str(spec)]
    for name, values in evidence.values.items():
        least, most = evidence.bounds.get(name, (None, None))
        if name != "fixed_place":  # it is no mean over pairs
            measured.append(CheckValues(name, method, "", values, least=least, most=most))
    if not few:
        measured += runner.other_side()
        measured += runner.wording(2)
        measured += discrimination(model, pairs)
        scores = MetricScores(model, pairs, 0, 16, 5, None)
        scores.add(MethodSpec("random"), control=True)
        scores.add(spec)
        counts = {side: np.full(len(pairs), 9) for side in ("image", "text")}
        measured += [*scores.faithfulness(spec, counts), *scores.special_tokens(spec)]
        measured += runner.weights(3, lambda stage: None)[0]
    grids = [image_map.scores.clip(0) for image_map in runner.unchanged[str(spec), "image"]]
    shares = [(grid / grid.sum()).tolist() for grid in grids if grid.shape == grids[0].shape and grid.sum()]
    places = {"name": "fixed_place", "bound": "fixed_place", "side": "", "grids": shares}
    exchanges = [
        {
            "name": NAMES[side],
            "bound": NAMES[side],
            "side": side,
            "least": None,
            "most": None,
            "losses": [exchange.by_rest.tolist(), exchange.by_objects.tolist()],
        }
        for side, exchange in runner.exchanges.items()
    ]
    return [places, *exchanges] + [
        {
            "name": each.name,
            "bound": each.bound or each.name,
            "side": each.side,
            "least": each.least,
            "most": each.most,
            "values": each.values.tolist(),
        }
        for each in measured
    ]


def jobs(options):
    """Each population: its name, and what computes it."""
    scenes = list(Scenes(count=PAIRS, seed=SEED, named="some"))
    for method in METHODS:
        yield f"audit|scenes|{method}", lambda method=method: audited(nibt.load_model("scenes"), scenes, method, False)
    for kind in KINDS if options.models else ():
        folder = options.models / f"{kind}-1"
        if (folder / "model.safetensors").exists():
            yield (
                f"audit|{kind}|nib:fast",
                lambda kind=kind, folder=folder: audited(
                    nibt.load_model(folder), shortcut_pairs(kind), "nib:fast", True
                ),
            )
    if options.photos:
        for method in ("nib:fast", "grad_cam"):  # lite has no attention
            yield (
                f"audit|photographs|{method}",
                lambda method=method: audited(nibt.load_model("lite"), photo_pairs(options.photos), method, True),
            )
    for method in METHODS:

        def metrics(method=method):
            by_name = {}
            pairs = list(Scenes(count=PAIRS, seed=METRIC_SEED, named="some"))
            seed = 0 if method == "random" else None
            for record in measure("scenes", pairs, METRICS, method, seed=seed):
                by_name.setdefault((record.metric, record.side), []).append(record.value)
            return [{"name": name, "side": side, "values": values} for (name, side), values in by_name.items()]

        yield f"metric|scenes|{method}", metrics


def collect(options):
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, compute in jobs(options):
        path = options.out / f"{name.replace('|', '--').replace(':', '@')}.json"
        if not path.exists():
            path.write_text(json.dumps({"name": name, "populations": compute()}))
            print(name, flush=True)


def ends(samples, rule, bounds, weights):
    """The ends of the intervals of samples (sample, pair), by a rule; as nibt.evaluation.statistics, many at once."""
    count = samples.shape[1]
    means, deviations = samples.mean(1), samples.std(1, ddof=1)
    reach = stats.t.ppf(0.975, count - 1) * deviations / math.sqrt(count)
    low, high = means - reach, means + reach
    if rule == "bootstrap-t":
        return np.transpose([bootstrap_t(count, weighted_mean(sample), bounds)[1:] for sample in samples[:FEW]])
    if rule == "hits":
        hits = np.round((means - bounds[0]) / (bounds[1] - bounds[0]) * count)
        shares = [
            np.nan_to_num(stats.beta.ppf(0.025, hits, count - hits + 1)),
            np.where(hits == count, 1.0, stats.beta.ppf(0.975, hits + 1, count - hits)),
        ]
        return [bounds[0] + (bounds[1] - bounds[0]) * share for share in shares]
    if rule == "gaffke":
        of_values = samples @ weights[:, :-1].T
        if math.isfinite(bounds[0]):
            low = np.quantile(of_values + bounds[0] * weights[:, -1], 0.025, axis=1)
        if math.isfinite(bounds[1]):
            high = np.quantile(of_values + bounds[1] * weights[:, -1], 0.975, axis=1)
    return low, high


def place_rows(source, method, one):
    """The rows of the check of a fixed place: samples of maps in place of samples of values."""
    grids = np.array(one["grids"])
    total = grids.sum(0)
    mirrored = sum(total[::down, ::across] for down in (1, -1) for across in (1, -1)) / 4
    # of a population with so many copies of each map that pairs of equal maps count
    truth = (total * total).sum() / (total * mirrored).sum()
    for count in COUNTS:
        draws = np.random.default_rng((zlib.crc32(f"{source} {method}".encode()), count))
        samples = [
            fixed_place(list(grids[draws.integers(len(grids), size=count)]), [""] * count)[1] for _ in range(FEW)
        ]
        lows, highs = (np.array([getattr(sample, end) for sample in samples]) for end in ("low", "high"))
        yield {
            "kind": "audit",
            "value": "fixed_place",
            "method": method,
            "source": source,
            "pairs": count,
            "rule": "bootstrap-t (used)",
            "coverage": round(float(((lows <= truth) & (truth <= highs)).mean()), 4),
            "misses_passing": round(float((highs < truth).mean()), 4),
            "width_to_student": "",
            "false_passes": "",
        }


def exchange_rows(source, method, one, losses, is_at_threshold=False):
    """The rows of the check of an exchange: samples of losses (pair, exchange) of which the share is computed."""
    bound = BOUNDS[one["name"]]
    truth = losses[:, 0].sum() / losses.sum()
    seed = zlib.crc32(f"{source} {method} {one['name']}".encode())
    for count in COUNTS:
        draws = np.random.default_rng((seed, count))
        samples = [Exchange(*draws.choice(losses, count).T).share() for _ in range(FEW)]
        means, lows, highs = np.transpose(samples)
        false_passes = ""
        if is_at_threshold and count >= bound.least_pairs(-1.0, 2.0):
            false_passes = round(float(((means <= bound.passes) & (highs < truth)).mean()), 4)
        yield {
            "kind": "audit",
            "value": f"{one['name']} {one['side']}",
            "method": method,
            "source": source,
            "pairs": count,
            "rule": "fieller (used)",
            "coverage": round(float(((lows <= truth) & (truth <= highs)).mean()), 4),
            "misses_passing": round(float((highs < truth).mean()), 4),
            "width_to_student": "",
            "false_passes": false_passes,
        }


def mixed_losses(passing, failing, fails):
    """Losses of pairs whose share is at the failing threshold: those of a model that passes, and one that fails."""
    first, second = ((losses[:, 0] - fails * losses.sum(1)).mean() for losses in (passing, failing))
    count = round(1000 * first / (first - second))
    draws = np.random.default_rng(0)
    return np.concatenate([draws.choice(passing, 1000 - count), draws.choice(failing, count)])


def drawn_weights(count):
    """The weights of Gaffke's interval."""
    weights = np.random.default_rng(0).standard_exponential((DRAWS, count + 1))
    return weights / weights.sum(1, keepdims=True)


def check_rules():
    """The vectorized intervals are those of nibt."""
    draws = np.random.default_rng(1)
    values = draws.random(24)
    low, high = ends(values[None], "gaffke", (0.0, 1.0), drawn_weights(24))
    assert np.allclose([low[0], high[0]], gaffke(values, (0.0, 1.0))[1:], atol=0.01)
    low, high = ends(values[None], "student", (0.0, 1.0), None)
    assert np.allclose([low[0], high[0]], student(values)[1:])
    hits = (values > 0.3).astype(float)
    low, high = ends(hits[None], "hits", (0.0, 1.0), None)
    assert np.allclose([low[0], high[0]], interval(hits)[1:])


def rule_of(kind, one, values):
    """The rule that nibt uses for a population, the bounds, and the thresholds of its check."""
    if kind == "audit":
        bound = BOUNDS[one["bound"]]
        bounds = tuple(getattr(bound, end) if one[end] is None else one[end] for end in ("least", "most"))
        return bound.interval, bounds, bound
    metric = find("metrics", one["name"])
    if not np.isfinite(metric.bounds).all():
        return "bootstrap-t", metric.bounds, None
    return "hits" if np.isin(values, metric.bounds).all() else "gaffke", metric.bounds, None


def mixed(passing, failing, bound):
    """Values of pairs whose mean is at the failing threshold: those of a model that passes, and one that fails."""
    first, second = passing.mean(), failing.mean()
    share = (bound.fails - first) / (second - first)
    count = round(share * 1000)
    draws = np.random.default_rng(0)
    return np.concatenate([draws.choice(passing, 1000 - count), draws.choice(failing, count)])


def rows(kind, source, method, one, values, truth, failing_at=None):
    """The rows of a population: of each number of pairs, and each rule."""
    rule, bounds, bound = rule_of(kind, one, values)
    passes_below = (bound.better if bound else getattr(find("metrics", one["name"]), "better", "neither")) == "lower"
    seed = zlib.crc32(f"{kind} {source} {method} {one['name']} {one['side']}".encode())
    for count in COUNTS:
        samples = np.random.default_rng((seed, count)).choice(values, (SAMPLES, count))
        widths = {}
        for name in dict.fromkeys(("student", rule)):
            weights = drawn_weights(count) if name == "gaffke" else None
            low, high = ends(samples, name, bounds, weights)
            widths[name] = np.mean(high - low)
            passing_misses = (high < truth) if passes_below else (low > truth)
            passes = ""
            if failing_at is not None and count >= bound.least_pairs(*bounds):
                means = samples.mean(1)[: len(high)]
                better = (means <= bound.passes) & (high < truth)
                if not passes_below:
                    better = (means >= bound.passes) & (low > truth)
                passes = round(float(better.mean()), 4)
            yield {
                "kind": kind,
                "value": f"{one['name']} {one['side']}".strip(),
                "method": method,
                "source": source,
                "pairs": count,
                "rule": name + (" (used)" if name == rule else ""),
                "coverage": round(float(((low <= truth) & (truth <= high)).mean()), 4),
                "misses_passing": round(float(passing_misses.mean()), 4),
                "width_to_student": round(float(widths[name] / widths["student"]), 3),
                "false_passes": passes,
            }


def report(options):
    check_rules()
    statistics.RESAMPLES = FEWER_RESAMPLES  # of this process alone: samples count more than their resamples
    table, by_check, exchanges = [], defaultdict(dict), defaultdict(dict)
    for path in sorted(options.out.glob("*.json")):
        data = json.loads(path.read_text())
        kind, source, method = data["name"].split("|")
        for one in data["populations"]:
            if "grids" in one:
                table += place_rows(source, method, one)
                continue
            if "losses" in one:
                losses = np.array(one["losses"], float).T
                losses = losses[~np.isnan(losses[:, 0])]
                if len(losses) >= 40:
                    exchanges[one["name"]][source, method] = one, losses
                continue
            values = np.array([math.nan if value is None else value for value in one["values"]], float)
            values = values[~np.isnan(values)]
            if len(values) < 40 or not np.ptp(values):
                continue
            table += rows(kind, source, method, one, values, values.mean())
            if kind == "audit":
                by_check[one["name"], one["side"]][source, method] = one, values
    for populations in by_check.values():
        for passing, (one, values) in populations.items():
            bound = BOUNDS[one["bound"]]
            sign = 1 if bound.better == "higher" else -1
            for failing, (_, others) in populations.items():
                if sign * values.mean() > sign * bound.fails > sign * others.mean():
                    both = mixed(values, others, bound)
                    source = f"{passing[0]} with {failing[0]}"
                    table += rows("audit", source, failing[1], one, both, both.mean(), bound.fails)
    for populations in exchanges.values():
        # the exchange is of the model: another method only has other cells
        of_sources = {source: each for (source, _), each in populations.items()}
        for passing, (one, losses) in of_sources.items():
            fails = BOUNDS[one["name"]].fails
            table += exchange_rows(passing, "", one, losses)
            for failing, (_, others) in of_sources.items():
                if losses[:, 0].sum() / losses.sum() < fails < others[:, 0].sum() / others.sum():
                    both = mixed_losses(losses, others, fails)
                    table += exchange_rows(f"{passing} with {failing}", "", one, both, is_at_threshold=True)
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV)
        writer.writeheader()
        writer.writerows(table)
    summarize(table)


def summarize(table):
    heads = ["value", "pairs", "populations", "rule", "coverage: least, mean", "misses that pass: most"]
    heads += ["width", "passes at the threshold: most"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    groups = defaultdict(list)
    for row in table:
        groups[row["kind"], row["value"].split(" ")[0], row["pairs"], row["rule"]].append(row)
    for (_, value, pairs, rule), of_group in sorted(groups.items()):
        coverage = [row["coverage"] for row in of_group]
        widths = [row["width_to_student"] for row in of_group if row["width_to_student"] != ""]
        passes = [row["false_passes"] for row in of_group if row["false_passes"] != ""]
        cells = [
            value,
            str(pairs),
            str(len(of_group)),
            rule,
            f"{min(coverage):.3f}, {np.mean(coverage):.3f}",
            f"{max(row['misses_passing'] for row in of_group):.3f}",
            f"{np.median(widths):.2f}" if widths else "",
            f"{max(passes):.3f}" if passes else "",
        ]
        print(f"| {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "report"])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the values")
    parser.add_argument("--models", type=Path, help="the folder of the models with shortcuts")
    parser.add_argument("--photos", type=Path, help="a folder with images and annotations.json in COCO's format")
    parser.add_argument("--csv", type=Path, default=Path("coverage.csv"))
    options = parser.parse_args()
    collect(options) if options.what == "measure" else report(options)


if __name__ == "__main__":
    main()
