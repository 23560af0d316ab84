"""A small retrieval task of MTEB on drawn colors, and its predictions, which MTEB itself writes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

COLORS = ("red", "blue", "green", "black")
WRONG = {"blue": "green", "green": "red"}
"""What a model retrieves first for the queries whose first result is wrong."""


def write_data(folder: Path, category: str = "t2i") -> None:
    """Write the data set of the task as on the hub: captions and images of colors, either as the queries."""
    package = pytest.importorskip("datasets", reason="needs the package datasets: pip install '.[data]'")
    texts = [{"id": f"t-{color}", "text": f"a {color} square", "modality": "text"} for color in COLORS]
    pictures = [
        {"id": f"i-{color}", "image": Image.new("RGB", (32, 24), color), "modality": "image"} for color in COLORS
    ]
    images = package.Dataset.from_list(pictures).cast_column("image", package.Image())
    tables = {"texts": package.Dataset.from_list(texts), "images": images}
    queries, corpus = ("texts", "images") if category == "t2i" else ("images", "texts")
    letters = queries[0], corpus[0]
    judged = [
        {"query-id": f"{letters[0]}-{color}", "corpus-id": f"{letters[1]}-{color}", "score": 1} for color in COLORS
    ]
    parts = {"query": tables[queries], "corpus": tables[corpus], "qrels": package.Dataset.from_list(judged)}
    configs = ""
    for name, table in parts.items():
        (folder / name).mkdir(parents=True)
        table.to_parquet(folder / name / "test-00000-of-00001.parquet")
        configs += f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test-*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}---\n")


def write_predictions(data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, category: str = "t2i") -> Path:
    """Evaluate a model with MTEB, which retrieves ``WRONG`` first, and return the file of its predictions."""
    mteb = pytest.importorskip("mteb", reason="needs the package mteb: pip install mteb")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")  # it knows folders by their last name
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta

    class Colors(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="ColorsRetrieval",
            description="Colors.",
            reference=None,
            dataset={"path": str(data), "revision": "main"},
            type="Any2AnyRetrieval",
            category=category,
            modalities=["text", "image"],
            eval_splits=["test"],
            eval_langs=["eng-Latn"],
            main_score="ndcg_at_10",
            date=None,
            domains=None,
            task_subtypes=None,
            license=None,
            annotations_creators=None,
            dialect=None,
            sample_creation=None,
            bibtex_citation="",
        )

    class Encoder:
        """Embeds what shows or names a color as a unit vector, and queries of ``WRONG`` as another color's."""

        mteb_model_meta = ModelMeta.create_empty(
            {"name": "tests/colors", "revision": "1", "modalities": ["text", "image"]}
        )

        def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> np.ndarray:
            vectors = []
            for batch in inputs:
                for index in range(len(next(iter(batch.values())))):
                    color = _color({name: values[index] for name, values in batch.items()})
                    if str(getattr(prompt_type, "value", prompt_type)) == "query":
                        color = WRONG.get(color, color)
                    vectors.append(np.eye(len(COLORS))[COLORS.index(color)] + 0.1)
            return np.array(vectors, np.float32)

        def similarity(self, first: Any, second: Any) -> Any:
            return torch.as_tensor(first) @ torch.as_tensor(second).T

        def similarity_pairwise(self, first: Any, second: Any) -> Any:
            import torch

            return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)

    mteb.evaluate(Encoder(), Colors(), cache=None, prediction_folder=folder, show_progress_bar=False)
    return folder / "ColorsRetrieval_predictions.json"


def _color(item: dict[str, Any]) -> str:
    if item.get("image") is not None:
        pixel = item["image"].convert("RGB").getpixel((0, 0))
        return next(color for color in COLORS if Image.new("RGB", (1, 1), color).getpixel((0, 0)) == pixel)
    return item["text"].split()[1]
