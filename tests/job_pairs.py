"""Ten pairs, and the options of jobs of them."""

import csv
from pathlib import Path
from typing import Any

from tests import tiny
from tests.processes import CHUNK

COUNT = 10


NAMED = [f"{item}.png" for item in range(COUNT)]


CAPTIONS = [tiny.CAPTIONS[item % 4] for item in range(COUNT)]


OPTIONS: dict[str, Any] = {"chunk_size": CHUNK, "batch_size": 2, "steps": 2}


def as_csv(job_images: Path, out: Path) -> Path:
    with (out / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "caption"], *zip(NAMED, CAPTIONS, strict=True)])
    return out / "pairs.csv"
