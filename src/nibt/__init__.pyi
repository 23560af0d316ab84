"""The public names: the one list of them, from which ``nibt/__init__.py`` imports each when it is first used."""

from .data.pair import Caption as Caption
from .data.pair import Pair as Pair
from .datasets.base import Dataset as Dataset
from .engine.calibrate import calibrate as calibrate
from .engine.embeddings import Contributions as Contributions
from .engine.embeddings import contributions as contributions
from .engine.embeddings import explain_embeddings as explain_embeddings
from .engine.explain import compare as compare
from .engine.explain import explain as explain
from .engine.explain import explain_labels as explain_labels
from .engine.explain import rank as rank
from .engine.narrowing import narrowing_curve as narrowing_curve
from .engine.regions import regions as regions
from .errors import NibtError as NibtError
from .evaluation.audit import audit as audit
from .evaluation.bench.plan import Plan as Plan
from .evaluation.bench.report import write_report as write_report
from .evaluation.bench.run import benchmark as benchmark
from .evaluation.measure import measure as measure
from .evaluation.roar import roar as roar
from .formats.base import save as save
from .jobs.job import Job as Job
from .jobs.run import batch as batch
from .methods.base import Method as Method
from .metrics.base import Metric as Metric
from .models._loading import load_model as load_model
from .models.base import Model as Model
from .models.base import Tower as Tower
from .registry import available as available
from .report.html.view import Panel as Panel
from .report.image.explanation import draw as draw
from .report.image.links import draw_links as draw_links
from .report.notebook import show as show
from .results.attribution import Attribution as Attribution
from .results.audit import Audit as Audit
from .results.coco import to_coco as to_coco
from .results.explanation import Explanation as Explanation
from .results.frames import to_frame as to_frame
from .results.map_regions import MapRegion as MapRegion
from .results.measurement import Measurement as Measurement
from .results.narrowing import NarrowingCurve as NarrowingCurve
from .results.regions import Regions as Regions
from .results.roar import Roar as Roar
from .targets.base import Target as Target

__version__: str
