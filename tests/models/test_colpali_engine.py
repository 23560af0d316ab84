"""Models of colpali-engine in memory, built and called as its pages do."""

from typing import Any

import pytest
import torch
from transformers import Qwen2VLVideoProcessor

import nibt
from nibt.errors import CannotLoad
from tests import tiny, tiny_vision_language
from tests.suites import few

QUERY = "two red cars"
CLASSES = {"colpali": "ColPali", "colqwen2": "ColQwen2", "colqwen2_5": "ColQwen2_5", "idefics3": "ColIdefics3"}


def built(kind: str) -> tuple[Any, Any]:
    """Return a small random model of the library and its processor."""
    library = pytest.importorskip(
        "colpali_engine.models", reason="needs colpali-engine: pip install --no-deps colpali-engine"
    )
    source: Any = tiny_vision_language.built(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = source.module.config
        model = getattr(library, CLASSES[kind])(getattr(config, "vlm_config", config)).eval().requires_grad_(False)
    parts = {"image_processor": source.processor.image_processor, "tokenizer": source.processor.tokenizer}
    if kind == "idefics3":
        parts["image_seq_len"] = source.processor.image_seq_len
    if kind.startswith("colqwen"):
        sizes = {name: getattr(parts["image_processor"], name) for name in ("patch_size", "merge_size")}
        parts["video_processor"] = Qwen2VLVideoProcessor(**sizes)
    names = (f"{CLASSES[kind]}{line}Processor" for line in ("", "_"))
    return model, next(getattr(library, name) for name in names if hasattr(library, name))(**parts)


@torch.no_grad()
def embedded(model: Any, processor: Any) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """Return the vectors of the query and of the image, and the prepared image, as the pages of the library do."""
    page = processor.process_images([tiny.image().pil_image])
    return model(**processor.process_queries([QUERY])), model(**page), page


@pytest.mark.parametrize("kind", few(CLASSES, ["colqwen2"]))
def test_score_of_the_library_is_explained(kind: str) -> None:
    model, processor = built(kind)
    query, page, _ = embedded(model, processor)
    expected = float(processor.score(list(query), list(page), device="cpu"))
    explanation = nibt.explain(nibt.load_model(model, processor=processor), tiny.image(), QUERY, steps=2)
    assert explanation.similarity == pytest.approx(expected, rel=1e-5)
    assert [word.text for word in explanation.words] == QUERY.split()


@pytest.mark.parametrize("kind", few(["colpali", "colqwen2", "colqwen2_5"], ["colpali"]))
def test_maps_of_the_library_are_the_similarity_map(kind: str) -> None:
    """Its maps are the dot products of each token of a query with each patch; nibt's add those of the tokens."""
    model, processor = built(kind)
    query, page, prepared = embedded(model, processor)
    patches = page[0][processor.get_image_mask(prepared)[0]]
    loaded = nibt.load_model(model, processor=processor)
    regions = nibt.regions(loaded, tiny.image(), QUERY, method="similarity_map")
    expected = patches @ query[0].T
    for word, scores in zip(regions.words, regions.table, strict=True):
        assert torch.allclose(scores.flatten(), expected[:, list(word.tokens)].sum(1), atol=1e-5)


def test_masked_prompts_and_folders_are_refused(tmp_path: Any) -> None:
    model, processor = built("colpali")
    model.mask_non_image_embeddings = True
    with pytest.raises(CannotLoad, match=r"set model.mask_non_image_embeddings"):
        nibt.load_model(model, processor=processor)
    model.save_pretrained(tmp_path)
    with pytest.raises(CannotLoad, match="was saved by the class ColPali, which Transformers"):
        nibt.load_model(tmp_path)
