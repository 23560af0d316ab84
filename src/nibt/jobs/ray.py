"""Jobs on a Ray cluster, where each worker loads the model.

Only this file imports ray. It uses actors instead of Ray Data, which splits and merges blocks itself: the bytes of a
chunk must not depend on when and where it was computed. The driver reads records and writes files, so that the folder
has a single writer, and workers need no access to it. If a worker dies, another worker gets its chunks.

P. Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from nibt.datasets.base import Dataset
from nibt.errors import BadOption, NibtError, Unsupported, import_optional
from nibt.folder import ChunkFile
from nibt.jobs._chunks import Chunk, JobSpec
from nibt.jobs.worker import Worker, worker_of
from nibt.models._loaded import LoadedModel
from nibt.options import NotNegative, Positive, Workers, complete
from nibt.records import JsonObject

_CHUNKS_PER_WORKER = 2  # one in progress and one in the queue
_CONNECTION_SECONDS = 10.0
_MAX_DEATHS = 5  # of workers on the same chunk, before the job fails


class Actor:
    """A worker as a Ray actor, in a separate process."""

    def __init__(self, spec: JobSpec, data: Dataset, threads: int) -> None:
        torch.set_num_threads(threads)  # rounding depends on the number of threads
        self._worker: Worker | NibtError
        try:
            self._worker = worker_of(spec, data)
        except NibtError as error:  # Ray would wrap an error that is raised here
            self._worker = error

    def introduce(self) -> JsonObject:
        if isinstance(self._worker, NibtError):
            raise self._worker
        return self._worker.introduce()

    def explain(self, chunk: Chunk) -> ChunkFile:
        if isinstance(self._worker, NibtError):
            raise self._worker
        return next(self._worker.explain_chunks([chunk]))


@dataclass(frozen=True)
class Cluster:
    """The workers of a job with their resources; without an address, the cluster is a temporary one on this machine."""

    workers: Workers = 1
    cpus: Positive = 1.0
    gpus: NotNegative = 0.0
    address: str | None = None
    send_images: bool = False

    def __post_init__(self) -> None:
        complete(self)
        _ray()

    @property
    def threads(self) -> int:
        return max(1, int(self.cpus))

    def record(self) -> JsonObject:
        """Return the workers and their resources as plain data, for the manifest."""
        return {"workers": self.workers, "cpus": self.cpus, "gpus": self.gpus, "threads_per_worker": self.threads}

    def explain(
        self, spec: JobSpec, data: Dataset, chunks: Iterator[Chunk], on_description: Callable[[JsonObject], None]
    ) -> Iterator[ChunkFile]:
        if isinstance(spec.model, LoadedModel | torch.nn.Module):
            raise BadOption("model must be a name or a folder, since workers load it themselves (got a loaded model)")

        ray = _ray()
        with self._connected(ray):
            actor = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0)(Actor)
            pool = _Pool(ray, lambda: actor.remote(spec, data, self.threads), self.workers)
            try:
                on_description(pool.introduce())
                if self.send_images:
                    chunks = (
                        replace(chunk, records=[record.with_bytes() for record in chunk.records]) for chunk in chunks
                    )
                yield from pool.explain_chunks(chunks)
            finally:
                for worker in pool.actors:
                    ray.kill(worker)

    @contextmanager
    def _connected(self, ray: ModuleType) -> Iterator[None]:
        """Connect to the cluster: an existing connection, the address, or a temporary cluster on this machine."""
        if ray.is_initialized():
            yield
            return

        if self.address:
            _check_listens(self.address)
        options: JsonObject = (
            {"address": self.address}
            if self.address
            else {
                "address": "local",
                "num_cpus": max(os.cpu_count() or 1, -int(-self.workers * self.cpus // 1)),
                "include_dashboard": False,
            }
        )
        name = "RAY_USAGE_STATS_ENABLED"  # turned off while ray starts, unless the environment sets it
        is_set = name in os.environ
        os.environ.setdefault(name, "0")
        try:
            ray.init(**options, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError) as error:
            raise _unreachable(self.address or "this machine", error) from error
        finally:
            if not is_set:
                del os.environ[name]

        try:
            yield
        finally:
            ray.shutdown()


def _check_listens(address: str) -> None:
    """Check that something listens at an address with a host and a port; Ray itself would try for minutes."""
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        if not parts.hostname or not parts.port:  # such as "auto"
            return
        socket.create_connection((parts.hostname, parts.port), _CONNECTION_SECONDS).close()
    except (OSError, ValueError) as error:
        raise _unreachable(address, error) from error


def _unreachable(where: str, error: Exception) -> Unsupported:
    return Unsupported(
        f"no Ray cluster can be reached at {where} ({_line(error)}): give the address that ray start --head printed, "
        "and set RAY_AUTH_TOKEN if the cluster has a token"
    )


@dataclass
class _Pool:
    """The actors, the actor and chunk of each unfinished result, and how often actors died, by chunk and in a row."""

    ray: ModuleType
    make: Callable[[], Any]
    size: int
    actors: list[Any] = field(default_factory=list)
    assigned: dict[Any, tuple[Any, Chunk]] = field(default_factory=dict)
    deaths: dict[int, int] = field(default_factory=dict)
    failed: int = 0

    def introduce(self) -> JsonObject:
        """Start the actors, and return the resolved request."""
        self.actors = [self.make() for _ in range(self.size)]
        return self._result(self.actors[0].introduce.remote())

    def explain_chunks(self, chunks: Iterator[Chunk]) -> Iterator[ChunkFile]:
        """Yield the file of each chunk; the next chunk is read when a worker is free."""
        requeued: deque[Chunk] = deque()
        while True:
            while (actor := self._free()) is not None:
                chunk = requeued.popleft() if requeued else next(chunks, None)
                if chunk is None:
                    break
                self.assigned[actor.explain.remote(chunk)] = actor, chunk

            if not self.assigned:
                return

            (done, *_), _ = self.ray.wait(list(self.assigned), num_returns=1)
            actor, chunk = self.assigned.pop(done)
            try:
                file = self._result(done)
            except self.ray.exceptions.RayError as error:
                requeued.extend(self._requeue(actor, chunk, error))
                continue

            self.failed = 0
            yield file

    def _free(self) -> Any:
        """Return the actor with the fewest chunks, or None if all have the largest number."""
        busy = dict.fromkeys(self.actors, 0)
        for actor, _ in self.assigned.values():
            busy[actor] += 1
        actor = min(self.actors, key=busy.__getitem__)
        return actor if busy[actor] < _CHUNKS_PER_WORKER else None

    def _requeue(self, actor: Any, chunk: Chunk, error: Exception) -> list[Chunk]:
        """Replace a dead worker, and return its chunks in order."""
        self.failed += 1
        lost = [chunk]
        for reference, (owner, waiting) in list(self.assigned.items()):
            if owner == actor:
                del self.assigned[reference]
                lost.append(waiting)

        lost.sort(key=lambda chunk: chunk.number)
        first = lost[0]
        self.deaths[first.number] = self.deaths.get(first.number, 0) + 1
        if self.deaths[first.number] >= _MAX_DEATHS or self.failed >= _MAX_DEATHS * self.size:
            raise Unsupported(
                f"workers die repeatedly, the last one on rows {first.records[0].row} to "
                f"{first.records[-1].row} ({_line(error)}): give workers more memory, leave these rows out, or run "
                "without Ray to see the cause"
            ) from error

        self.actors[self.actors.index(actor)] = self.make()
        return lost

    def _result(self, reference: Any) -> Any:
        """Return a result, or raise the error that was raised in the worker."""
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200]


def _ray() -> Any:
    return import_optional("ray", "Ray is needed", "ray")
