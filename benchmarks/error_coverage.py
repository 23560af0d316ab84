"""How often the intervals of estimated scores contain the exact ones, and how many requests an error of 0.1 takes.

    OMP_NUM_THREADS=1 python benchmarks/error_coverage.py measure --out RUN [--models FOLDER ...] [--count 1000]
    python benchmarks/error_coverage.py report --out RUN --csv docs/explanation/study/error_coverage.csv
    python benchmarks/error_coverage.py requests --out RUN [--games 60]

``measure``, which resumes, evaluates all 512 coalitions of the 3 x 3 cells of drawn scenes with ``scenes``, and with
further models: the similarity of the caption of a scene, and of those of the next two. So the Shapley and Banzhaf
values are known exactly. Of the first scenes, it keeps the map of ``nib:fast``, too.

``report`` draws coalitions as the methods of nibt do, and counts how often the interval of a score contains its exact
value, at the levels 0.8, 0.9 and 0.95.

``requests`` prints the number of requests (evaluated coalitions) from which on 95 % of the estimates of each score are
within 0.1 of the largest score: for the methods of nibt, for the same methods without pairs of complements, with a map
of ``nib`` as a prior, with the model ``scenes`` in the role of a local model whose coalitions cost no requests, for
RISE, and for the estimators of shapiq.
"""

import argparse
import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import nibt
from nibt.core.perturbation import masker
from nibt.core.side import Side
from nibt.data.units import Grid
from nibt.datasets.scenes import Scenes
from nibt.methods._coalitions import drawn_coalitions, subsets
from nibt.methods._errors import mean_error
from nibt.methods.coalition_values import Banzhaf, Shapley, _sizes
from nibt.results.pixels import to_pixels

sys.path = [path for path in sys.path if Path(path) != Path(__file__).parent]  # which has a coverage.py of its own
ROWS, CELLS, CAPTIONS, SEED = 3, 9, 3, 31_337
LEVELS = (0.8, 0.9, 0.95)
SEEDS = 4  # estimates of each game, for the coverage
REPEATS = 40  # estimates of each game, for the requests
BUDGETS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048, 4096)
NUMBER = 2 ** np.arange(CELLS)
SHAPIQ = ("KernelSHAP", "kADDSHAP", "PermutationSamplingSV", "SVARM", "UnbiasedKernelSHAP")
CSV = "model method requests scenes estimates nominal coverage width".split()


def measure(options):
    """Keep the values of all coalitions of each scene, (coalition, caption)."""
    torch.set_num_threads(1)
    pairs = list(Scenes(count=options.count, seed=SEED, named="some"))
    models = {Path(name).name: nibt.load_model(name) for name in ["scenes", *map(str, options.models)]}
    keep = torch.from_numpy(subsets(CELLS)).float()[:, None]
    for number, pair in enumerate(pairs):
        captions = [pairs[(number + step) % len(pairs)].caption for step in range(CAPTIONS)]
        for name, model in models.items():
            path = options.out / name / f"{number}.npz"
            if path.exists():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            trace = model.image.trace(model.image.prepare([pair.image]), model.image.depth)
            score = masker(Side(model, trace, lambda embeddings: embeddings), Grid(ROWS, ROWS))
            images = F.normalize(score(keep)[:, 0], dim=-1)
            with torch.no_grad():
                texts = [F.normalize(model.text.encode(model.text.prepare([text]))[0], dim=-1) for text in captions]
            np.savez(path, values=(images @ torch.stack(texts).T).double().numpy())

    model = models["scenes"]
    for number, pair in enumerate(pairs[: options.games]):
        path = options.out / "scenes" / f"{number}.prior.npy"
        if not path.exists():
            grid = nibt.explain(model, pair.image, pair.caption, "nib:fast").grid
            pixels = to_pixels(grid[None], 96, 96)[0]  # whose sums over cells are parts of the sum of the map
            np.save(path, F.adaptive_avg_pool2d(pixels[None], ROWS)[0].flatten().double().numpy())


def values_of(game, coalitions):
    return game[coalitions @ NUMBER]


def estimated(method, game):
    """Return the scores of a method with its coalitions, and the half-widths at each level."""
    coalitions, weights = method.coalitions(CELLS)
    values = values_of(game, coalitions)
    scores = method.fit(coalitions, weights, values, game[-1])
    return scores, [method.half_widths(coalitions, values, game[-1], scores, level) for level in LEVELS]


def exact(method, game):
    return estimated(method, game)[0]


def rise(requests, seed, game):
    """Return the scores of RISE with the cells as masks, kept with the probability 1/2, and their half-widths."""
    kept = np.random.default_rng(seed).random((requests, CELLS)) < 0.5
    terms = values_of(game, kept)[:, None] * kept / 0.5
    sums, squares = terms.sum(0), (terms**2).sum(0)
    return sums / requests, [mean_error(sums, squares, requests, level) for level in LEVELS]


def exact_rise(game):
    kept = subsets(CELLS)
    return (game[kept @ NUMBER][:, None] * kept / 0.5).mean(0)


METHODS = {
    "shapley": lambda requests, seed: Shapley(requests, seed=seed),
    "banzhaf": lambda requests, seed: Banzhaf(requests, seed=seed),
    "banzhaf share=0.3": lambda requests, seed: Banzhaf(requests, share=0.3, seed=seed),
    "banzhaf estimate=means": lambda requests, seed: Banzhaf(requests, estimate="means", seed=seed),
    "banzhaf ridge=4": lambda requests, seed: Banzhaf(requests, ridge=4.0, seed=seed),
}


def exact_values(name, game):
    if name == "rise":
        return exact_rise(game)
    if name.startswith("shapley"):
        return exact(Shapley(512), game)
    return exact(Banzhaf(512, share=0.3 if "0.3" in name else 0.5), game)


def coverage_rows(model, games, scenes):
    """Yield how often the intervals of each method contain the exact scores."""
    for name in (*METHODS, "rise"):
        for requests in (24, 64, 128, 256):
            inside, widths = [], []
            for number, game in enumerate(games):
                wanted = exact_values(name, game)
                for seed in range(SEEDS * number, SEEDS * (number + 1)):
                    if name == "rise":
                        scores, halves = rise(requests, seed, game)
                    else:
                        scores, halves = estimated(METHODS[name](requests, seed), game)
                    inside.append([np.mean(np.abs(scores - wanted) <= half) for half in halves])
                    widths.append(halves[-1].max() / np.abs(scores).max())
            for level, hits in zip(LEVELS, np.mean(inside, 0), strict=True):
                yield {
                    "model": model,
                    "method": name,
                    "requests": requests,
                    "scenes": scenes,
                    "estimates": len(inside),
                    "nominal": level,
                    "coverage": round(float(hits), 4),
                    "width": round(float(np.median(widths)), 3),
                }


def stopped(games):
    """Return the coverage at 0.95 of estimates that ended at an error of 0.1, and their requests."""
    results = {}
    for name, factory in (("shapley", Shapley), ("banzhaf", Banzhaf)):
        inside, used = [], []
        for number, game in enumerate(games):
            wanted = exact_values(name, game)
            for seed in range(SEEDS * number, SEEDS * (number + 1)):
                method = factory(511 if name == "banzhaf" else 509, seed=seed)
                ended = method.until_reached(0.1, lambda kept, game=game: values_of(game, kept), game[-1], CELLS)
                inside.append(np.mean(np.abs(ended.effects - wanted) <= ended.errors))
                used.append(len(ended.values))
        results[name] = float(np.mean(inside)), float(np.median(used)), float(np.quantile(used, 0.9))
    return results


def unpaired(requests, seed, game, of_shapley):
    """Return the scores of the same regressions from coalitions that are drawn alone."""
    if not of_shapley:
        kept, weights = drawn_coalitions(CELLS, min(requests, 511), 0.5 + 1e-9, seed)
        if requests > 511:
            kept = np.random.default_rng(seed).random((requests, CELLS)) < 0.5
            weights = np.full(requests, 1 / requests)
        return Banzhaf(512).fit(kept, weights, values_of(game, kept), game[-1])
    draws = np.random.default_rng(seed)
    sizes, chances = _sizes(CELLS)
    drawn = draws.choice(sizes, size=requests, p=chances)
    kept = draws.random((requests, CELLS)).argsort(1) < drawn[:, None]
    kept = np.concatenate([kept, np.zeros((1, CELLS), bool)])
    return Shapley(512).fit(kept, np.append(np.ones(requests), np.inf), values_of(game, kept), game[-1])


def with_prior(requests, seed, game, prior, penalty):
    """Return Banzhaf values by paired draws, with a penalty on the distance from a prior that has the best factor."""
    kept, weights = Banzhaf(requests, seed=seed).coalitions(CELLS)
    values = values_of(game, kept)
    column = kept @ prior
    factor = np.cov(column, values)[0, 1] / max(column.var(ddof=1), 1e-12)
    rest = values - factor * column
    return factor * prior + Banzhaf(requests, ridge=penalty).fit(kept, weights, rest, game[-1])


def with_local(requests, seed, game, local):
    """Return Banzhaf values by paired draws of what another model, whose values are known exactly, does not explain."""
    method = Banzhaf(requests, seed=seed)
    kept, weights = method.coalitions(CELLS)
    both = np.stack([values_of(game, kept), values_of(local, kept)], 1)
    rests = both - kept @ method.fit(kept, weights, both, game[-1]) if requests < 512 else np.ones((2, 2))
    rests = rests - rests.mean(0)
    factor = (rests[:, 0] @ rests[:, 1]) / max(rests[:, 1] @ rests[:, 1], 1e-12)
    return method.fit(kept, weights, both[:, 0] - factor * both[:, 1], game[-1]) + factor * exact(Banzhaf(512), local)


def by_shapiq(name, requests, seed, game):
    import shapiq

    options = {"max_order": 1} if name == "kADDSHAP" else {}
    approximator = getattr(shapiq, name)(CELLS, random_state=seed, **options)
    normalized = game - game[0]
    values = approximator.approximate(requests, lambda kept: values_of(normalized, np.atleast_2d(kept).astype(int)))
    return np.array([values[(cell,)] for cell in range(CELLS)])


def requests_for(estimate, games, wanted):
    """Return for each game the least requests from which on 95 % of the estimates of each score are within 0.1."""
    needed = []
    for number, (game, truth) in enumerate(zip(games, wanted, strict=True)):
        for requests in BUDGETS:
            errors = [np.abs(estimate(requests, seed, game, number) - truth) for seed in range(REPEATS)]
            if np.quantile(errors, 0.95, axis=0).max() <= 0.1 * np.abs(truth).max():
                needed.append(requests)
                break
        else:
            needed.append(np.inf)
    return needed


def games_of(folder):
    """Return the games of a folder by scene and caption."""
    files = sorted(folder.glob("*.npz"), key=lambda path: int(path.stem))
    return {(int(path.stem), place): game for path in files for place, game in enumerate(np.load(path)["values"].T)}


def report(options):
    by_model = {path.name: games_of(path) for path in sorted(options.out.iterdir()) if path.is_dir()}
    rows = []
    for model, games in by_model.items():
        rows += coverage_rows(model, list(games.values()), len(games) // CAPTIONS)
    with options.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print_coverage(rows)

    print("\nended at an error of 0.1: coverage at 0.95, requests (median, 90th percentile)")
    for model, games in by_model.items():
        for name, (share, median, most) in stopped(games.values()).items():
            print(f"{model} {name}: {share:.3f}, {median:g}, {most:g}")


def requests(options):
    by_model = {path.name: games_of(path) for path in sorted(options.out.iterdir()) if path.is_dir()}
    others = [name for name in by_model if name != "scenes"]
    common = [(number, 0) for number in range(options.games) if all((number, 0) in by_model[name] for name in by_model)]
    for name in others:
        print_local(name, [(by_model[name][key], by_model["scenes"][key]) for key in common])
    print_requests([by_model["scenes"][key] for key in common], [priors(options.out, key[0]) for key in common])


def priors(out, number):
    return np.load(out / "scenes" / f"{number}.prior.npy")


def print_coverage(rows):
    models = sorted({row["model"] for row in rows})
    scenes = {row["model"]: row["scenes"] for row in rows}
    print(f"scenes: {scenes}, {CAPTIONS} captions each, {SEEDS} estimates of each, {CELLS} scores\n")
    groups = defaultdict(list)
    for row in rows:
        groups[row["method"], row["requests"], row["nominal"]].append(row)
    print("| method | requests | nominal | " + " | ".join(models) + " | error (median) |")
    print("|---" * (4 + len(models)) + "|")
    for (method, requests, nominal), of_group in groups.items():
        by_name = {row["model"]: row["coverage"] for row in of_group}
        shares = " | ".join(f"{by_name[model]:.3f}" for model in models)
        print(f"| {method} | {requests} | {nominal} | {shares} | {np.mean([row['width'] for row in of_group]):.2f} |")


HEADING = "| estimator | requests: median | 90th percentile | games above 4096 |\n|---|---|---|---|"


def print_needed(name, needed):
    most = np.quantile(needed, 0.9, method="nearest")
    print(f"| {name} | {np.median(needed):g} | {most:g} | {np.isinf(needed).sum()} |", flush=True)


def print_requests(games, of_nib):
    print(f"\nrequests for an error of 0.1: {len(games)} scenes of scenes, {REPEATS} estimates with each number\n")
    shapley, banzhaf, of_rise = (
        [exact_values(name, game) for game in games] for name in ("shapley", "banzhaf", "rise")
    )
    drawn = {
        "shapley, pairs (nibt)": (lambda n, s, g, k: exact(Shapley(n - 2, seed=s), g), shapley),
        "shapley, no pairs": (lambda n, s, g, k: unpaired(n - 2, s, g, True), shapley),
        "banzhaf, pairs (nibt)": (lambda n, s, g, k: exact(Banzhaf(n, seed=s), g), banzhaf),
        "banzhaf, no pairs": (lambda n, s, g, k: unpaired(n, s, g, False), banzhaf),
        "banzhaf, means, pairs (nibt)": (lambda n, s, g, k: exact(Banzhaf(n, estimate="means", seed=s), g), banzhaf),
        "rise": (lambda n, s, g, k: rise(n, s, g)[0], of_rise),
    }
    for penalty in (0.0, 1.0, 4.0):
        name = f"banzhaf, pairs, prior of nib, ridge={penalty:g}"
        drawn[name] = (lambda n, s, g, k, p=penalty: with_prior(n, s, g, of_nib[k], p), banzhaf)
    for name in SHAPIQ:
        drawn[f"shapiq {name}"] = (lambda n, s, g, k, name=name: by_shapiq(name, n, s, g), shapley)
    print(HEADING)
    for name, (estimate, wanted) in drawn.items():
        print_needed(name, requests_for(estimate, games, wanted))


def print_local(name, pairs):
    print(f"\nthe same for {name}, with scenes as the local model: {len(pairs)} scenes\n")
    games, local = zip(*pairs, strict=True)
    wanted = [exact_values("banzhaf", game) for game in games]
    print(HEADING)
    print_needed("banzhaf, pairs", requests_for(lambda n, s, g, k: exact(Banzhaf(n, seed=s), g), games, wanted))
    print_needed("banzhaf, pairs, local", requests_for(lambda n, s, g, k: with_local(n, s, g, local[k]), games, wanted))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "report", "requests"])
    parser.add_argument("--out", type=Path, required=True, help="the folder of the values of coalitions")
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="folders of further models of scenes")
    parser.add_argument("--count", type=int, default=1000, help="the number of scenes")
    parser.add_argument("--games", type=int, default=60, help="the number of games for the requests")
    parser.add_argument("--csv", type=Path, default=Path("error_coverage.csv"))
    options = parser.parse_args()
    {"measure": measure, "report": report, "requests": requests}[options.what](options)


if __name__ == "__main__":
    main()
