"""The recipe that trains the generator of scenes further on two images, and its measure."""

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.helpers import recipe_modules


@pytest.fixture(scope="module")
def recipe() -> Iterator[Any]:
    with recipe_modules("generator"):
        yield importlib.import_module("two_images")


def test_packed_questions_have_the_logits_of_the_model(recipe: Any) -> None:
    """Each question of a row reads the images and itself, and neither other questions nor padding."""
    training = recipe.TwoImages()
    training.model.eval()
    pairs = [recipe.drawn(recipe.VALIDATION, item, 20) for item in range(2)]
    questions = [
        [kinds["which"][-1][0], *(task for task, _, _ in kinds["describe"][:item])]
        for item, (_, kinds) in enumerate(pairs)
    ]
    scenes = [number for numbers, _ in pairs for number in numbers]
    with torch.no_grad():
        packed, answers = training.answered(training.features_of(recipe.VALIDATION, scenes), questions)
        alone, ids = [], []
        for (numbers, _), several in zip(pairs, questions, strict=True):
            images = [recipe.Image.fromarray(recipe.scene_of(recipe.VALIDATION, number).pixels) for number in numbers]
            for task in several:
                content = [*[{"type": "image"}] * 2, {"type": "text", "text": task.prompt}]
                text = training.processor.apply_chat_template(
                    [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
                )
                values = training.processor(text=[text], images=[images], return_tensors="pt")
                answer = training.ids(task.answer)
                values["input_ids"] = torch.cat([values["input_ids"], torch.tensor([answer])], 1)
                values["attention_mask"] = torch.ones_like(values["input_ids"])
                alone.append(training.model(**values).logits[0, -1 - len(answer) : -1])
                ids += answer
    assert answers.tolist() == ids
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("item", range(3))
def test_only_one_image_has_the_answer(recipe: Any, item: int) -> None:
    (*numbers, another), kinds = recipe.drawn(recipe.TEST, item, 1000, 3)
    for kind, questions in kinds.items():
        for task, image, noun in questions:
            shown = [recipe.order_of(recipe.TEST, number) for number in (*numbers, another)]
            assert [noun in names for names in shown] == [image == place for place in range(3)]
            assert set(task.needed) - {"left", "right"} <= set(shown[image])
            assert noun in task.answer.split() or (kind == "which" and task.answer == recipe.PLACES[image])


def test_auc_is_that_of_all_sums(recipe: Any) -> None:
    sums = np.random.default_rng(0).normal([0.8, 0.0], size=(60, 2)).round(1)
    result = recipe.auc(sums)
    assert result.mean == pytest.approx(roc_auc_score([1] * 60 + [0] * 60, sums.T.flatten()))
    assert result.low < result.mean < result.high
