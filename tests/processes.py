"""What tests run in other processes; light, since each process imports it."""

import resource
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

import nibt

PROCESSES = get_context("forkserver")
PROCESSES.set_forkserver_preload(["nibt.jobs.run", "nibt.models.clip", "transformers.models.clip", "tests.processes"])
CHUNK = 4


def parts(out: Path) -> list[str]:
    """Return the names of the chunk files, which contain a hash of their bytes."""
    return sorted(path.name for path in (out / "parts").glob("[0-9]*.parquet"))


def job(model: Path, pairs: Path, out: Path, most: int | None = None) -> None:
    """Run a job with one thread, in which no file may be longer than ``most`` bytes."""
    torch.set_num_threads(1)
    if most is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    nibt.batch(model, pairs, out, chunk_size=CHUNK, batch_size=2, steps=2)


def report_job(model: Path, pairs: Path, out: Path, most: int | None, pipe: Connection) -> None:
    """Run a job, and send its error message, or an empty text."""
    try:
        job(model, pairs, out, most)
    except nibt.NibtError as error:
        pipe.send(f"{type(error).__name__}: {error}")
    else:
        pipe.send("")


def scores(model: Any, pairs: Sequence[tuple[Any, str]], methods: Sequence[str]) -> list[torch.Tensor]:
    """Return all scores of all pairs, each explained alone."""
    answers = [nibt.explain(model, *pair, method, **small(method)) for method in methods for pair in pairs]
    return [side.scores for answer in answers for side in (answer.image, answer.text)]


def small(method: str) -> dict[str, Any]:
    """Return options that make an expensive method quick."""
    return {"rise": {"masks": 8}, "m2ib": {"steps": 2}, "shapley": {"budget": 8}}.get(method, {})


def sent(model: Any, pairs: Sequence[tuple[Any, str]], methods: Sequence[str], pipe: Connection) -> None:
    """Send the scores as bytes, from a process with one thread."""
    torch.set_num_threads(1)
    pipe.send([tensor.numpy().tobytes() for tensor in scores(model, pairs, methods)])
