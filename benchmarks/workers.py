"""Rows a second of a job by the number of its workers: in this process, and by workers of Ray on this machine.

It feeds docs/explanation/cost.md.

    OMP_NUM_THREADS=1 python benchmarks/workers.py --out FOLDER [--count 640] [--workers 1 2] [--rounds 2]
    OMP_NUM_THREADS=1 python benchmarks/workers.py --out FOLDER --explain [--large] [--count 320] [--rounds 3]

The pairs are drawn scenes, saved as images with a table; the model is the embedded `scenes`, the method NIB with two
nodes a side. Each worker has one thread. The time to start (processes, imports, models) is told apart: a job of a
million rows does not feel it. Rounds alternate between the ways, and the quickest of each counts, since machines are
shared. All ways must give the same bits. Then what the driver does for a row, which no number of workers makes
quicker: reading its place from the table, and writing its answer. The last lines are computed, not measured: what a
million pairs take on several GPUs, from the arithmetic of a ViT-B/32-size CLIP (A. Radford et al., ICML 2021) and of
NIB's defaults.

`--explain` compares something else: the rate of a job in this process with that of `nibt.explain` for the same pairs,
both with images on disk, by turns, wall and processor time. The images are JPEG files of 640 x 480 pixels, the captions
one to three sentences of `everyday.txt`, so that their lengths differ. The model is loaded before; everything else that
a job does is counted, its checks too. `--large` has a CLIP of ViT-B/32 size with random weights.
"""

import argparse
import csv
import platform
import random
import shutil
import statistics
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from PIL import Image
from regions import model as large

import nibt
from nibt.datasets._opening import open_pairs
from nibt.datasets.scenes import Scenes
from nibt.folder import ChunkFile
from nibt.jobs._chunks import Chunks

CHUNK = 32


def images(folder, count):
    """The pairs as images with a table."""
    table = folder / "pairs.csv"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = []
        for item, pair in enumerate(Scenes(count=count, seed=2026)):
            pair.image.pil_image.save(folder / f"{item}.png")
            rows.append((f"{item}.png", pair.caption))
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([("image", "caption"), *rows])
    return table


def photographs(folder, count):
    """Pairs as large as photographs, with captions of many lengths."""
    table = folder / "pairs.csv"
    if not table.exists():
        folder.mkdir(parents=True, exist_ok=True)
        sentences = Path(__file__).with_name("everyday.txt").read_text().splitlines()
        draw, rows = random.Random(0), []
        for item, pair in enumerate(Scenes(count=count, seed=2026)):
            image = pair.image.pil_image.resize((640, 480), Image.Resampling.BICUBIC)
            image.save(folder / f"{item}.jpg", quality=90)
            rows.append((f"{item}.jpg", " and ".join(draw.sample(sentences, draw.choice((1, 1, 1, 2, 2, 3))))))
        with table.open("w", newline="") as stream:
            csv.writer(stream).writerows([("image", "caption"), *rows])
    return table


def against_explain(model, table, out, rounds):
    """Lines with the rates of both ways in each round, and the medians of their ratios."""
    with table.open(newline="") as stream:
        pairs = [(table.parent / row["image"], row["caption"]) for row in csv.DictReader(stream)]
    paths, captions = ([str(part) for part in column] for column in zip(*pairs, strict=True))

    def job():
        shutil.rmtree(out, ignore_errors=True)
        nibt.batch(model, table, out, steps=2)

    def clocks(work):
        began = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - began[0], time.process_time() - began[1]

    nibt.explain(model, paths[:16], captions[:16], steps=2)  # warm-up
    ratios = []
    yield "| round | explain, rows/s | job, rows/s | ratio | ratio of processor time |\n|---|---|---|---|---|"
    for number in range(rounds):
        alone, together = clocks(lambda: nibt.explain(model, paths, captions, steps=2)), clocks(job)
        ratios.append([one / other for one, other in zip(alone, together, strict=True)])
        rates = len(pairs) / alone[0], len(pairs) / together[0]
        yield f"| {number + 1} | {rates[0]:.2f} | {rates[1]:.2f} | {ratios[-1][0]:.3f} | {ratios[-1][1]:.3f} |"
    wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    yield f"median: the job has {wall:.3f} times the rate of explain, {processor:.3f} times by processor time"


def timed(table, out, **where):
    """Seconds until the first chunk, seconds for the rows after it, how many these are, and the bits."""
    shutil.rmtree(out, ignore_errors=True)
    began, marks = time.perf_counter(), []
    nibt.batch(
        "scenes",
        table,
        out,
        steps=2,
        chunk_size=CHUNK,
        on_progress=lambda progress: marks.append((time.perf_counter() - began, progress.done)),
        **where,
    )
    skipped = where.get("workers", 1)  # the first chunk of each worker holds its start
    start, end = marks[skipped - 1][0], marks[-1][0]
    return (
        start,
        end - start,
        sum(rows for _, rows in marks[skipped:]),
        sorted(p.name for p in (out / "parts").iterdir()),
    )


def driver(table, out):
    """Microseconds a row to read rows from the table and to write and check their files; bytes a row on the disk."""
    source, job = open_pairs(table), nibt.Job.open(out)
    began = time.perf_counter()
    chunks = Chunks(source, CHUNK, lambda number: True)
    for _ in chunks:
        pass
    read = time.perf_counter() - began
    files = [ChunkFile(name, path.read_bytes()) for name, (path, *_) in job.files().items()]
    began = time.perf_counter()
    for file in files:
        job.add(file)
    job.tally()
    job.check()
    written, size = time.perf_counter() - began, sum(len(file.data) for file in files)
    return 1e6 * read / chunks.count, 1e6 * written / chunks.count, size / chunks.count


def forward(blocks, tokens, width):
    """Floating-point operations of a tower's forward pass: matrices of 12 x width^2 weights a block, and attention."""
    return blocks * tokens * (24 * width**2 + 4 * tokens * width)


def explained(image, text):
    """Operations of NIB with its defaults: a forward pass of each tower, then for each node the blocks above the layer
    forward and, for the stream alone, backward, which costs as much: 4 nodes over 2/5 of the image's blocks, 8 over all
    of the caption's.
    """
    return image * (1 + 4 * 2 * 0.4) + text * (1 + 8 * 2)


def computed(gpus, peak, share, words, limit):
    """What a million pairs take, as text."""
    image, text = forward(12, 50, 768) + 2 * 49 * 3 * 32**2 * 768, forward(12, words, 512)
    each = explained(image, text)
    rate = gpus * peak * share / each
    return (
        f"computed, not measured: {each / 1e9:.0f} GFLOP a pair ({image / 1e9:.1f} an image's forward pass, "
        f"{text / 1e9:.1f} that of a caption of {words} tokens); {gpus} GPUs of {peak / 1e12:g} TFLOP/s (float32) "
        f"at {share:.0%} of it: {rate:,.0f} pairs a second, a million in {1e6 / rate / 60:.0f} min; the driver "
        f"alone could serve {limit:,.0f} a second"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=640)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--peak", type=float, default=19.5e12, help="float32 FLOP/s of one (an A100's)")
    parser.add_argument("--share", type=float, default=0.25, help="of the peak that is reached")
    parser.add_argument("--words", type=int, default=12, help="tokens of a caption")
    parser.add_argument("--explain", action="store_true", help="a job against explain, in this process")
    parser.add_argument("--large", action="store_true", help="with --explain: a model of ViT-B/32 size")
    options = parser.parse_args()
    if options.explain:
        table = photographs(options.out / f"photographs-{options.count}", options.count)
        model = large() if options.large else nibt.load_model("scenes")
        for line in against_explain(model, table, options.out / "job", options.rounds):
            print(line, flush=True)
        print(f"{options.count} rows, {date.today()}, {platform.machine()}, torch {version('torch')}")
        return
    table = images(options.out / f"pairs-{options.count}", options.count)
    ways = {"this process": {}, **{f"Ray, {n} worker(s)": {"on": "ray", "workers": n} for n in options.workers}}
    runs_by_way = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way, where in ways.items():
            runs_by_way[way].append(timed(table, options.out / "job", **where))
    bits = {str(one[3]) for runs in runs_by_way.values() for one in runs}
    best = {way: min(runs, key=lambda one: one[1] / one[2]) for way, runs in runs_by_way.items()}
    alone = best["this process"][2] / best["this process"][1]
    print("| where | until the first chunks, s | rows a second | to this process |\n|---|---|---|---|")
    for way, (start, seconds, rows, _) in best.items():
        print(f"| {way} | {start:.1f} | {rows / seconds:.1f} | {rows / seconds / alone:.2f} |")
    print(
        f"bits of all {len(options.workers) + 1} ways and {options.rounds} rounds: "
        f"{'the same' if len(bits) == 1 else 'DIFFERENT'}"
    )
    read, written, size = driver(table, options.out / "job")
    print(f"the driver: {read:.0f} us a row to read, {written:.0f} us to write and check; {size:,.0f} bytes a row")
    print(computed(options.gpus, options.peak, options.share, options.words, 1e6 / (read + written)))
    print(
        f"{options.count} rows in chunks of {CHUNK}, {date.today()}, {platform.machine()}, Python "
        f"{platform.python_version()}, torch {version('torch')}, ray {version('ray')}, {torch.get_num_threads()} "
        "thread(s)"
    )


if __name__ == "__main__":
    main()
