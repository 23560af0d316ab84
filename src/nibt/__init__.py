"""Explanations of image-text models: which parts of an image and which words of a caption make a model match them.

Explain pairs:
    explain, explain_labels, rank      maps and word scores of images with captions; ranked labels
    explain_interactions               which words go with which parts of an image
    contributions, explain_embeddings  maps of one image for many captions or embeddings
    narrowing_curve                    the score against what a bottleneck lets through
    batch                              explanations of many pairs, in a folder of Parquet files

Models:
    load_model, calibrate              load a model by its name, folder or object; compute its mean states
    Model, Tower                       a loaded model and its two encoders

Inputs and results:
    Caption, Pair, Dataset             inputs
    Explanation, Comparison, Interaction, Contributions, Attribution, NarrowingCurve, Job
                                       results
    MapRegion, to_coco, to_frame       regions of maps, also as COCO annotations; pandas DataFrames
    save, draw, show, Panel            files of any format, pictures, pages in a notebook
    draw_links                         a figure of the strongest links from words to parts of an image

Measure and audit:
    measure, roar, audit               metrics of maps, retraining without removed inputs, an audit of a model
    measure_interactions               metrics of word-region tables
    benchmark, write_report            a benchmark from a plan, and its report
    Measurement, TableMeasurement, Plan, Roar, Audit
                                       their inputs and results

Extend:
    available, Method, Metric, Target  the names of all plugins, and the base classes

All errors that nibt raises are subclasses of NibtError. ``help(nibt.explain)`` shows the documentation of a function.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nibt.data.pair import Caption as Caption
    from nibt.data.pair import Pair as Pair
    from nibt.datasets.base import Dataset as Dataset
    from nibt.engine.calibrate import calibrate as calibrate
    from nibt.engine.embeddings import Contributions as Contributions
    from nibt.engine.embeddings import contributions as contributions
    from nibt.engine.embeddings import explain_embeddings as explain_embeddings
    from nibt.engine.explain import explain as explain
    from nibt.engine.explain import explain_labels as explain_labels
    from nibt.engine.explain import rank as rank
    from nibt.engine.interactions import explain_interactions as explain_interactions
    from nibt.engine.narrowing import narrowing_curve as narrowing_curve
    from nibt.errors import NibtError as NibtError
    from nibt.evaluation.audit import audit as audit
    from nibt.evaluation.bench.plan import Plan as Plan
    from nibt.evaluation.bench.report import write_report as write_report
    from nibt.evaluation.bench.run import benchmark as benchmark
    from nibt.evaluation.measure import measure as measure
    from nibt.evaluation.measure_interactions import measure_interactions as measure_interactions
    from nibt.evaluation.roar import roar as roar
    from nibt.formats.base import save as save
    from nibt.jobs.job import Job as Job
    from nibt.jobs.run import batch as batch
    from nibt.methods.base import Method as Method
    from nibt.metrics.base import Metric as Metric
    from nibt.models._loading import load_model as load_model
    from nibt.models.base import Model as Model
    from nibt.models.base import Tower as Tower
    from nibt.registry import available as available
    from nibt.report.html.view import Panel as Panel
    from nibt.report.image.explanation import draw as draw
    from nibt.report.image.links import draw_links as draw_links
    from nibt.report.notebook import show as show
    from nibt.results.attribution import Attribution as Attribution
    from nibt.results.audit import Audit as Audit
    from nibt.results.coco import to_coco as to_coco
    from nibt.results.explanation import Comparison as Comparison
    from nibt.results.explanation import Explanation as Explanation
    from nibt.results.frames import to_frame as to_frame
    from nibt.results.interaction import Interaction as Interaction
    from nibt.results.measurement import Measurement as Measurement
    from nibt.results.measurement import TableMeasurement as TableMeasurement
    from nibt.results.narrowing import NarrowingCurve as NarrowingCurve
    from nibt.results.regions import MapRegion as MapRegion
    from nibt.results.roar import Roar as Roar
    from nibt.targets.base import Target as Target

_HOMES = {
    "Attribution": "results.attribution",
    "Audit": "results.audit",
    "Caption": "data.pair",
    "Comparison": "results.explanation",
    "Contributions": "engine.embeddings",
    "Dataset": "datasets.base",
    "Explanation": "results.explanation",
    "Interaction": "results.interaction",
    "Job": "jobs.job",
    "MapRegion": "results.regions",
    "Measurement": "results.measurement",
    "Method": "methods.base",
    "Metric": "metrics.base",
    "Model": "models.base",
    "NarrowingCurve": "results.narrowing",
    "NibtError": "errors",
    "Pair": "data.pair",
    "Panel": "report.html.view",
    "Plan": "evaluation.bench.plan",
    "Roar": "results.roar",
    "TableMeasurement": "results.measurement",
    "Target": "targets.base",
    "Tower": "models.base",
    "audit": "evaluation.audit",
    "available": "registry",
    "batch": "jobs.run",
    "benchmark": "evaluation.bench.run",
    "calibrate": "engine.calibrate",
    "contributions": "engine.embeddings",
    "draw": "report.image.explanation",
    "draw_links": "report.image.links",
    "explain": "engine.explain",
    "explain_embeddings": "engine.embeddings",
    "explain_interactions": "engine.interactions",
    "explain_labels": "engine.explain",
    "load_model": "models._loading",
    "measure": "evaluation.measure",
    "measure_interactions": "evaluation.measure_interactions",
    "narrowing_curve": "engine.narrowing",
    "rank": "engine.explain",
    "roar": "evaluation.roar",
    "save": "formats.base",
    "show": "report.notebook",
    "to_coco": "results.coco",
    "to_frame": "results.frames",
    "write_report": "evaluation.bench.report",
}
__all__ = sorted(_HOMES)
__version__ = version("nibt")


def __getattr__(name: str) -> Any:
    """Import a public name lazily, so that ``import nibt`` does not import torch."""
    if name in _HOMES:
        return getattr(import_module(f"nibt.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, for ``dir`` and tab completion."""
    return sorted([*__all__, "__version__"])


def _register_displays() -> None:
    """Let a running IPython shell display results as pages and pictures. Nothing that draws is imported here."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        from nibt.report.displays import register

        register(shell)


_register_displays()
