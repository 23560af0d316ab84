"""Shards of a job: array jobs of a cluster each explain some of its chunks, in folders of their own.

No two runs write into one folder, so that no lock has to work across machines. The job takes over the files of its
shards when it is run without a shard.
"""

from contextlib import suppress
from pathlib import Path

from nibt.errors import OtherRequest
from nibt.folder import MANIFEST, ChunkFile, require_unchanged
from nibt.jobs._chunks import Shard
from nibt.jobs.job import SHARDS, Job
from nibt.results.same_request import require_same


def shard_job(folder: Path, shard: Shard) -> Job:
    """Return the job of a shard, inside the folder of the whole job.

    Raises:
        OtherRequest: The whole job has results already.
    """
    if Job(folder).is_begun:
        raise OtherRequest(
            f"{str(folder)!r} has results of a run without shards: run it again without a shard, or choose a new folder"
        )
    return Job(folder / SHARDS / f"{shard.number}-of-{shard.count}")


def join_shards(job: Job) -> None:
    """Take over the files of the shards of a job, whose folder is locked, and remove their folders.

    Raises:
        BadInput: A shard is still running.
        OtherRequest: A shard has another request.
    """
    for folder in sorted((job.folder / SHARDS).glob("*-of-*")):
        if (folder / MANIFEST).is_file():
            _join(job, Job(folder))

    with suppress(OSError):  # it has other files, or does not exist
        (job.folder / SHARDS).rmdir()


def _join(job: Job, shard: Job) -> None:
    """Take over the files of one shard, and remove its folder."""
    manifest = shard.manifest
    request = dict(manifest.request)
    _require_same_request(job, shard)
    if manifest.fingerprint is not None:
        job.agree_model(manifest.fingerprint)

    with shard.writing(request, names=manifest.names, shard=manifest.shard):  # it may have no chunk, and is then new
        for number, (path, *_) in shard.chunks().items():
            if number not in job.chunks():
                name = path.name.partition("-")[0]
                job.add(ChunkFile(name, require_unchanged(path).read_bytes()))

        job.update(sessions=[*job.manifest.sessions, *manifest.sessions])
        shard.discard()


def _require_same_request(job: Job, shard: Job) -> None:
    """Check that a shard has the request of the job, as far as the job knows it, and record the rest in the job."""
    request = job.manifest.request
    found = shard.manifest.request
    both = {key: request[key] for key in found if key in request}
    advice = "Repeat the call with the options of this shard, or remove its folder, and its rows are explained again."
    require_same(shard.folder, {key: found[key] for key in both}, both, advice)
    job.agree(dict(found))
