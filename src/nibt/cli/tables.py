"""``nibt tables``, which compares the word-region tables of methods."""

from dataclasses import dataclass
from typing import Annotated

from typer import Option

from nibt.cli.data import open_data, read_pairs
from nibt.cli.groups import expand_groups
from nibt.cli.options import DataOptions, MethodsOptions, QuietOptions, RequiredModelOptions, check_name
from nibt.cli.terminal import print_csv, say
from nibt.errors import BadOption

COUNT = 24
FORMATS = ("markdown", "latex", "csv")


@dataclass(frozen=True, kw_only=True)
class TableOutput(QuietOptions):
    """The metrics, and what is printed."""

    metric: Annotated[
        list[str] | None, Option("--metric", help="A table metric; repeatable. Default: all (nibt list table_metrics).")
    ] = None
    format: Annotated[str, Option(help="markdown, latex (for the package booktabs) or csv (one line per value).")] = (
        "markdown"
    )

    def __post_init__(self) -> None:
        for name in self.metric or []:
            check_name("table_metrics", name)
        if self.format not in FORMATS:
            raise BadOption(f"--format must be one of {', '.join(FORMATS)} (got {self.format!r})")


@expand_groups
def tables(model: RequiredModelOptions, data: DataOptions, methods: MethodsOptions, output: TableOutput) -> None:
    """Compare word-region tables of several methods on images with captions, and print a table of metrics.

    Data sets with objects that captions name, such as scenes, have all metrics.
    """
    from nibt.cli.progress import show_progress
    from nibt.evaluation.measure_interactions import measure_interactions
    from nibt.evaluation.table_comparison import compare_tables

    specs = methods.specs
    if data.count == 0:
        raise BadOption(f"--count must be at least 1 (got {data.count})")
    count = data.count or COUNT
    pairs, record = read_pairs(open_data(data, count), count, output.quiet)
    loaded = model.loaded(output.quiet)
    measured = {}
    for text, spec in specs.items():
        with show_progress(f"explaining with {text}", output.quiet, len(pairs)) as on_progress:
            measured[text] = measure_interactions(
                loaded,
                pairs,
                output.metric,
                spec,
                on_progress=on_progress,
            )
    if output.format == "csv":
        lines = [[text, row.item, row.label, row.value, row.seconds] for text, rows in measured.items() for row in rows]
        print_csv([["method", "pair", "metric", "value", "seconds"], *lines])
        return
    table = compare_tables(f"{record['dataset']} with {loaded.id}, {len(pairs)} pair{'s' * (len(pairs) > 1)}", measured)
    say(table.latex() if output.format == "latex" else table.markdown())
