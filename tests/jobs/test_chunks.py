"""Tests of ``nibt.jobs.chunks``."""

import tracemalloc
from pathlib import Path

from nibt.datasets._opening import open_pairs
from nibt.jobs.chunks import Chunks


def test_chunks_do_not_keep_rows_in_memory(tmp_path: Path) -> None:
    """A single pass with memory for one chunk, whatever is done already."""
    path = tmp_path / "pairs.csv"
    path.write_text("image,caption\n" + "".join(f"{item}.png,a cat number {item}\n" for item in range(12_000)))
    chunks = Chunks(open_pairs(path), 100, lambda number: number % 3 == 2)
    next(iter(chunks))  # imports what reads tables, which would count otherwise
    tracemalloc.start()
    numbers = [(chunk.number, len(chunk.records), chunk.records[0].row) for chunk in chunks]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == [(number, 100, 100 * number) for number in range(2, 120, 3)]
    assert chunks.count == 12_000
    assert peak < 1_000_000
