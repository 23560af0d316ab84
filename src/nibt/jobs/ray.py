"""The same job by many workers of a Ray cluster, each holding the model: the only file with ray.

Plain actors, and not Ray Data: a job's unit is the chunk, whose bytes must not depend on who made it or when, and Ray
Data cuts, merges and spills blocks as it sees fit. The driver reads rows and writes files, so the folder has one writer
and needs not be reached by the workers; a chunk goes to another worker when its own dies.

P. Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from nibt.datasets.base import Dataset
from nibt.errors import BadOption, NibtError, Unsupported
from nibt.jobs.chunks import Chunk
from nibt.jobs.worker import JobSpec, Shard, Worker
from nibt.models.base import Model

_EACH = 2  # chunks that a worker is given: one it works on, one that waits for it
_DEATHS = 5  # of workers over one chunk, until it is the chunk's fault


class Actor:
    """What lives in a worker's process."""

    def __init__(self, asked: JobSpec, source: Dataset, threads: int) -> None:
        torch.set_num_threads(threads)  # the process is ours; sums over threads are rounded by their number
        self._worker: Worker | NibtError
        try:
            self._worker = Worker(asked, source)
        except NibtError as error:  # raised here it would be one of Ray's
            self._worker = error

    def told(self) -> dict[str, Any]:
        return self._ready().told()

    def shard(self, chunk: Chunk) -> Shard:
        return next(self._ready().shards([chunk]))

    def _ready(self) -> Worker:
        if isinstance(self._worker, NibtError):
            raise self._worker
        return self._worker


@dataclass(frozen=True)
class Cluster:
    """Where a job runs: so many workers, and what each of them takes."""

    workers: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None
    send_images: bool = False

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.gpus < 0:
            raise BadOption(f"a worker needs cpus above 0, and gpus from 0 (got {self.cpus} and {self.gpus})")
        _ray()

    @property
    def threads(self) -> int:
        """Of each worker."""
        return max(1, int(self.cpus))

    def record(self) -> dict[str, Any]:
        return {"workers": self.workers, "cpus": self.cpus, "gpus": self.gpus, "threads_of_a_worker": self.threads}

    def explain(
        self, asked: JobSpec, source: Dataset, chunks: Iterator[Chunk], on_told: Callable[[dict[str, Any]], None]
    ) -> Iterator[Shard]:
        """The shards of chunks, in the order in which they are done.

        Raises:
            BadOption: the model is an object in memory.
            Unsupported: workers die again and again.
            NibtError: what a worker raised.

        """
        if isinstance(asked.model, Model | torch.nn.Module):
            raise BadOption("workers load the model themselves: give its name or its folder, not an object in memory")
        ray = _ray()
        with self._connected(ray):
            pool = _Pool(ray, lambda: self._actor(ray, asked, source), self.workers)
            try:
                on_told(pool.told())
                if self.send_images:
                    chunks = (
                        replace(chunk, records=[record.with_bytes() for record in chunk.records]) for chunk in chunks
                    )
                yield from pool.shards(chunks)
            finally:
                pool.close()

    def _actor(self, ray: Any, asked: JobSpec, source: Dataset) -> Any:
        kind = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0)(Actor)
        return kind.remote(asked, source, self.threads)

    @contextmanager
    def _connected(self, ray: Any) -> Iterator[None]:
        """A cluster: the caller's, the one with the address, or one on this machine for as long as it takes."""
        if ray.is_initialized():
            yield
            return
        options: dict[str, Any] = (
            {"address": self.address}
            if self.address
            else {
                "address": "local",
                "num_cpus": max(os.cpu_count() or 1, -int(-self.workers * self.cpus // 1)),
                "include_dashboard": False,
            }
        )
        try:
            with _silent():
                ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError) as error:
            where = self.address or "this machine"
            raise Unsupported(
                f"no Ray cluster can be reached at {where} ({_line(error)}): give the address that ray "
                "start --head told, and as RAY_AUTH_TOKEN its token, if any"
            ) from error
        try:
            yield
        finally:
            ray.shutdown()


@dataclass
class _Pool:
    """Actors, and which chunk each of them was given."""

    ray: Any
    make: Callable[[], Any]
    size: int
    actors: list[Any] = field(default_factory=list)
    given: dict[Any, tuple[Any, Chunk]] = field(default_factory=dict)  # by the promise of a shard
    deaths: dict[int, int] = field(default_factory=dict)
    failed: int = 0

    def told(self) -> dict[str, Any]:
        """What a worker says of the question."""
        self.actors = [self.make() for _ in range(self.size)]
        return self._got(self.actors[0].told.remote())

    def shards(self, chunks: Iterator[Chunk]) -> Iterator[Shard]:
        """All shards; chunks are read as workers become free."""
        again: deque[Chunk] = deque()
        while True:
            while (actor := self._free()) is not None:
                chunk = again.popleft() if again else next(chunks, None)
                if chunk is None:
                    break
                self.given[actor.shard.remote(chunk)] = actor, chunk
            if not self.given:
                return
            (done, *_), _ = self.ray.wait(list(self.given), num_returns=1)
            actor, chunk = self.given.pop(done)
            try:
                shard = self._got(done)
            except self.ray.exceptions.RayError as error:
                again.extend(self._requeue(actor, chunk, error))
                continue
            self.failed = 0
            yield shard

    def close(self) -> None:
        """End the workers."""
        for actor in self.actors:
            self.ray.kill(actor)

    def _free(self) -> Any:
        """The actor with the least to do, if it may have more."""
        busy = dict.fromkeys(self.actors, 0)
        for actor, _ in self.given.values():
            busy[actor] += 1
        actor = min(self.actors, key=lambda one: busy[one])
        return actor if busy[actor] < _EACH else None

    def _requeue(self, actor: Any, chunk: Chunk, error: Exception) -> list[Chunk]:
        """The chunks of a worker that died, the one that it worked on last, and another worker in its place."""
        self.failed += 1
        lost = [chunk]
        for promise, (other, waiting) in list(self.given.items()):
            if other == actor:
                del self.given[promise]
                lost.append(waiting)
        first = min(lost, key=lambda one: one.number)
        self.deaths[first.number] = self.deaths.get(first.number, 0) + 1
        if self.deaths[first.number] >= _DEATHS or self.failed >= _DEATHS * self.size:
            raise Unsupported(
                f"workers die again and again, the last over rows {first.records[0].row} to "
                f"{first.records[-1].row} ({_line(error)}): look for too little memory, leave these rows "
                "out, or run without --on ray to see why"
            ) from error
        self.actors[self.actors.index(actor)] = self.make()
        return sorted(lost, key=lambda one: one.number)

    def _got(self, promise: Any) -> Any:
        """What was promised; an error of ours is raised as it was there."""
        try:
            return self.ray.get(promise)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error


@contextmanager
def _silent() -> Iterator[None]:
    """No telling home about the use of Ray, unless the environment asks for it."""
    name = "RAY_USAGE_STATS_ENABLED"
    there = os.environ.get(name)
    os.environ.setdefault(name, "0")
    try:
        yield
    finally:
        if there is None:
            del os.environ[name]


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise Unsupported("--on ray needs Ray: pip install 'nibt[ray]'") from error
    return ray
