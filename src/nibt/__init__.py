"""Explains what in an image and in a caption makes a CLIP-like model think that they belong together.

Explain pairs:
    explain, explain_labels, rank      maps and word scores of pictures with captions; labels from best to worst
    explain_interactions               which words go with which parts of a picture
    contributions, explain_embeddings  one picture for many captions; embeddings in place of inputs
    batch                              many pairs into a folder of Parquet files

Models:
    load_model, calibrate              a model by its name, folder or object; its mean states
    Model, Tower                       what a model family supplies

Inputs and results:
    Caption, Pair, Dataset             what is explained
    Explanation, Comparison, Interaction, Contributions, Attribution, Job
    draw, write_page, show, Panel      an image, an HTML page, a notebook

Measure and audit:
    measure, run, roar, audit          metrics of maps, benchmarks, retraining, an audit of a model
    Row, Plan, Roar, Audit             what they return

Extend:
    available, Method, Metric, Target  the parts that there are, and what each kind must be

Every error that is raised on purpose is a NibtError. ``help(nibt.explain)`` describes a function.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nibt.attribution import Attribution as Attribution
    from nibt.audit_result import Audit as Audit
    from nibt.auditing import audit as audit
    from nibt.batching.job import Job as Job
    from nibt.batching.running import batch as batch
    from nibt.bench.plan import Plan as Plan
    from nibt.bench.running import run as run
    from nibt.calibrating import calibrate as calibrate
    from nibt.comparison import Comparison as Comparison
    from nibt.contributing import Contributions as Contributions
    from nibt.contributing import contributions as contributions
    from nibt.datasets.base import Dataset as Dataset
    from nibt.embeddings import explain_embeddings as explain_embeddings
    from nibt.errors import NibtError as NibtError
    from nibt.explaining import explain as explain
    from nibt.explaining import explain_labels as explain_labels
    from nibt.explaining import rank as rank
    from nibt.explanation import Explanation as Explanation
    from nibt.interacting import explain_interactions as explain_interactions
    from nibt.interaction import Interaction as Interaction
    from nibt.loading import load_model as load_model
    from nibt.measuring import measure as measure
    from nibt.methods.base import Method as Method
    from nibt.metrics.base import Metric as Metric
    from nibt.models.base import Model as Model
    from nibt.models.base import Tower as Tower
    from nibt.pair import Caption as Caption
    from nibt.pair import Pair as Pair
    from nibt.registry import available as available
    from nibt.report.notebook import show as show
    from nibt.report.page import write_page as write_page
    from nibt.report.picture import draw as draw
    from nibt.report.view import Panel as Panel
    from nibt.retraining import roar as roar
    from nibt.roar_result import Roar as Roar
    from nibt.row import Row as Row
    from nibt.targets.base import Target as Target

_HOMES = {
    "Attribution": "attribution",
    "Audit": "audit_result",
    "Caption": "pair",
    "Comparison": "comparison",
    "Contributions": "contributing",
    "Dataset": "datasets.base",
    "Explanation": "explanation",
    "Interaction": "interaction",
    "Job": "batching.job",
    "Method": "methods.base",
    "Metric": "metrics.base",
    "Model": "models.base",
    "NibtError": "errors",
    "Pair": "pair",
    "Panel": "report.view",
    "Plan": "bench.plan",
    "Roar": "roar_result",
    "Row": "row",
    "Target": "targets.base",
    "Tower": "models.base",
    "audit": "auditing",
    "available": "registry",
    "batch": "batching.running",
    "calibrate": "calibrating",
    "contributions": "contributing",
    "draw": "report.picture",
    "explain": "explaining",
    "explain_embeddings": "embeddings",
    "explain_interactions": "interacting",
    "explain_labels": "explaining",
    "load_model": "loading",
    "measure": "measuring",
    "rank": "explaining",
    "roar": "retraining",
    "run": "bench.running",
    "show": "report.notebook",
    "write_page": "report.page",
}
__all__ = sorted(_HOMES)
__version__ = version("nibt")


def __getattr__(name: str) -> Any:
    """Open a room only when somebody asks for it: ``import nibt`` costs no torch."""
    if name in _HOMES:
        return getattr(import_module(f"nibt.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for ``dir`` and tab completion."""
    return sorted([*__all__, "__version__"])


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext nibt`` in a notebook: answers are shown as pages."""
    from nibt.report.notebook import register

    register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext nibt``: the notebook is as it was."""
    from nibt.report.notebook import unregister

    unregister(shell)
