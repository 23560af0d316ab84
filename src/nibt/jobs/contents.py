"""Comparison of the rows of a job with its data set."""

from collections.abc import Callable, Iterator
from itertools import islice

from nibt.datasets._table import as_utf8
from nibt.datasets.base import Dataset, Record
from nibt.errors import OtherRequest
from nibt.jobs.job import Job
from nibt.records import JsonObject

_COLUMNS = ("row", "key", "source", "image_hash", "error")
_MOST = 3  # the number of differences in a message


def check_contents(job: Job, data: Dataset, on_row: Callable[[], None] = lambda: None) -> set[int]:
    """Check that the keys, captions and images of a data set are those of the rows of a job."""
    retry: set[int] = set()
    differences = list(islice(_differences(job, data, on_row, retry), _MOST + 1))
    if differences:
        more = "\n  ..." if len(differences) > _MOST else ""
        lines = "".join(f"\n  {difference}" for difference in differences[:_MOST])
        raise OtherRequest(
            f"{job.folder} has the results of other images or captions:{lines}{more}\nChoose a new folder."
        )
    return retry


def _differences(job: Job, data: Dataset, on_row: Callable[[], None], retry: set[int]) -> Iterator[str]:
    chunks, size = set(job.chunks()), job.chunk_size
    records = (record for record in data.records(lambda row: row // size in chunks) if record is not None)
    texts = ("prompt", "forced_answer") if job.has_prompts else ("caption",)
    for row in job.rows((*_COLUMNS, *texts)):
        on_row()
        record = next(records, None)
        while record is not None and record.row < row["row"]:
            record = next(records, None)
        if record is None or record.row != row["row"]:
            yield f"row {row['row']}: {row['source']!r} (now missing)"
        elif row["error"] is None:
            yield from _difference(record, row)
        elif record.digest() != row["image_hash"]:
            retry.add(record.row // size)


def _difference(record: Record, row: JsonObject) -> Iterator[str]:
    if not record.source and record.image is None:
        return  # data sets that generate their pairs are compared as a whole
    now: JsonObject = {"key": as_utf8(record.key), "source": as_utf8(record.source)}
    if "prompt" in row:
        now |= {"prompt": (record.caption or "").strip(), "forced_answer": record.answer}
    else:
        now["caption"] = record.caption
    for name, value in now.items():
        if row[name] != value:
            yield f"row {row['row']}: {name} {row[name]!r} (now {value!r})"
            return
    digest = record.digest()
    if digest != row["image_hash"]:
        yield (f"row {row['row']}: {record.source} with the digest {row['image_hash']} (now {digest or 'unreadable'})")
