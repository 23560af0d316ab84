"""The card of a finished job: a README that lets its folder be shared as a data set."""

from collections import Counter

from nibt.errors import BadInput
from nibt.folder import open_table
from nibt.jobs.job import Job
from nibt.results.explanation import method_text

FILE = "README.md"
_HEADER = """---
configs:
- config_name: default
  data_files: parts/*.parquet
tags:
- explainability
- image-text
---
"""
"""What tools that read cards know of the files."""


def card(job: Job) -> str:
    """Return the card of a job in Markdown."""
    manifest, request = job.manifest, job.manifest.request
    if manifest.rows is None or "method" not in request or "target" not in request or "model" not in request:
        raise BadInput("a card needs a finished job: run it again to resume it")
    paths = next(iter(job.chunks().values()), None)
    if paths is None:
        raise BadInput(
            f"{job.folder} has no rows that a card could describe: check it with nibt show {job.folder} --verify"
        )
    with open_table(paths[0]) as table:
        columns = [(field.name, str(field.type)) for field in table.schema_arrow]
    model, sessions = request["model"], manifest.sessions
    what = "the words that a model wrote" if job.has_prompts else "pairs of an image and a caption"
    versions = Counter(
        f"nibt {session['versions'].get('nibt')}, torch {session['versions'].get('torch')}" for session in sessions
    )
    lines = [
        f"# Explanations of {what}",
        "",
        f"{manifest.rows:,} rows, {manifest.errors or 0:,} of which failed (column `error`). Method: "
        f"`{method_text(request['method'])}`. Target: `{request['target']['name']}`. Model: `{model['id']}`, weights "
        f"`{model['weights_hash']}`, {model['dtype']}. Versions: {'; '.join(versions)}.",
        "",
        "Scores are signed: positive scores raise the target. Images are not included: `source` is the name of each, "
        "and `image_hash` identifies its file. Captions are included; check that you may publish them.",
        "",
        "```python",
        "import datasets",
        "",
        'rows = datasets.load_dataset("parquet", data_files="parts/*.parquet", split="train")',
        "```",
        "",
        "`nibt show FOLDER ROW` draws a row, `nibt show FOLDER --verify` checks the files.",
        "",
        "| column | type |",
        "|---|---|",
        *(f"| `{name}` | `{of_column.replace('|', ' ')}` |" for name, of_column in columns),
        "",
    ]
    return _HEADER + "\n" + "\n".join(lines)


def write_card(job: Job, overwrite: bool = False) -> str:
    """Write the card into the folder of a job, and return it."""
    text = card(job)
    job.write_reports({FILE: text}, overwrite)
    return text
