"""Tests of ``nibt.jobs.worker``."""

import tracemalloc
from pathlib import Path

from nibt.datasets._opening import open_pairs
from nibt.jobs._chunks import Chunks


def every_third(path: Path, rows: int) -> Chunks:
    """Return chunks of a hundred rows, of which two thirds are done already."""
    path.write_text("image,caption\n" + "".join(f"{item}.png,a cat number {item}\n" for item in range(rows)))
    return Chunks(open_pairs(path), 100, lambda number: number % 3 == 2)


def test_chunks_have_the_rows_that_are_not_done(tmp_path: Path) -> None:
    chunks = every_third(tmp_path / "pairs.csv", 12_000)
    numbers = [(chunk.number, len(chunk.records), chunk.records[0].row) for chunk in chunks]
    assert numbers == [(number, 100, 100 * number) for number in range(2, 120, 3)]
    assert chunks.count == 12_000


def peak_memory(chunks: Chunks) -> int:
    """Return the most bytes that a pass allocates: of three passes the least, since other threads allocate, too."""
    peaks = []
    for _ in range(3):
        tracemalloc.start()
        for _ in chunks:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return min(peaks)


def test_chunks_do_not_keep_rows_in_memory(tmp_path: Path) -> None:
    """A pass over ten times as many rows needs the same memory."""
    few, many = every_third(tmp_path / "few.csv", 600), every_third(tmp_path / "many.csv", 6_000)
    list(few)  # imports what reads tables, which would count otherwise
    assert peak_memory(many) < 2 * peak_memory(few)
