"""A small task of lmms-eval on drawn colors, its data, and the log that lmms-eval itself writes.

``lmms_eval_samples.jsonl`` is the log of this task by lmms-eval 0.7.3, which needs other versions of packages than
nibt, so most tests read the file. ``test_lmms_eval`` writes it again where lmms-eval is installed.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

LOG = Path(__file__).parent / "lmms_eval_samples.jsonl"
COLORS = {"red": "yes", "blue": "no", "green": "no", "black": "yes"}
"""The colors with their right answers; the model always answers yes."""
WRONG = ("blue", "green")
_UTILS = """
def visual(doc):
    return [doc["image"].convert("RGB")]

def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"] + "\\nAnswer the question using a single word or phrase."

def results(doc, results):
    prediction = results[0].lower().strip()
    score = 1.0 if prediction == doc["answer"] else 0.0
    entry = {"question_id": doc["question_id"], "score": score, "prediction": prediction, "ground_truth": doc["answer"]}
    return {"pope_accuracy": entry, "pope_precision": entry}

def mean(results):
    return sum(result["score"] for result in results) / len(results)
"""
_TASK = """
dataset_path: {data}
dataset_kwargs:
  load_from_disk: true
task: tiny_pope
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: "answer"
generation_kwargs:
  max_new_tokens: 8
process_results: !function utils.results
metric_list:
  - metric: pope_accuracy
    aggregation: !function utils.mean
    higher_is_better: true
  - metric: pope_precision
    aggregation: !function utils.mean
    higher_is_better: true
metadata:
  - version: 0.0
"""


def rows() -> list[dict[str, Any]]:
    """Return the rows of the data set of the task."""
    return [
        {
            "image": Image.new("RGB", (32, 24), color),
            "question": f"Is there something {color} here?",
            "answer": answer,
            "question_id": str(number),
        }
        for number, (color, answer) in enumerate(COLORS.items())
    ]


def table() -> Any:
    """Return the rows as a table of the package datasets."""
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    return package.Dataset.from_list(rows()).cast_column("image", package.Image())


def write_log(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Evaluate a model that always answers yes with lmms-eval, and return the log of its samples."""
    pytest.importorskip("lmms_eval", reason="lmms-eval is not part of the tools of developers")
    package = pytest.importorskip("datasets")
    monkeypatch.setattr("sys.argv", ["lmms_eval"])
    from lmms_eval import evaluator
    from lmms_eval.api.model import lmms
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker
    from lmms_eval.tasks import TaskManager

    # it sets up file locks by a module that only some versions of filelock have
    monkeypatch.setattr(evaluator, "_enable_reentrant_filelocks", lambda: None)
    package.DatasetDict({"test": table()}).save_to_disk(folder / "data")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "utils.py").write_text(_UTILS)
    (folder / "tasks" / "tiny_pope.yaml").write_text(_TASK.format(data=folder / "data"))

    class Yes(lmms):
        def generate_until(self, requests: Any) -> list[str]:
            return ["Yes"] * len(requests)

        def loglikelihood(self, requests: Any) -> Any:
            raise NotImplementedError

        def generate_until_multi_round(self, requests: Any) -> Any:
            raise NotImplementedError

    tracker = EvaluationTracker(output_path=str(folder / "logs"))
    tracker.date_id = "20260801_120000"
    tracker.general_config_tracker.log_experiment_args("yes", "", "", "", False)
    evaluated = evaluator.simple_evaluate(
        Yes(),
        tasks=["tiny_pope"],
        task_manager=TaskManager("INFO", include_path=str(folder / "tasks")),
        evaluation_tracker=tracker,
        cli_args=SimpleNamespace(process_with_media=True, output_path=str(folder / "logs"), tasks="tiny_pope"),
        bootstrap_iters=0,
    )
    tracker.save_results_samples("tiny_pope", evaluated["samples"]["tiny_pope"])
    (log,) = (folder / "logs").rglob("*_samples_*.jsonl")
    return log
