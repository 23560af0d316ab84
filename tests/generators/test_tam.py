"""Tests of the methods of answers ``tam`` and ``logit_lens`` against loops over their formulas, by the public call."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

import nibt
from nibt.core.side import Side
from nibt.data.images import read_image
from nibt.data.units import SequenceUnits
from nibt.errors import Unsupported
from nibt.generators.answers import AnswerTower, Generator, Prompted
from nibt.generators.forced import ForcedAnswer
from nibt.generators.loading import load_generator
from nibt.registry import find
from nibt.types import SOURCES
from tests import tiny
from tests.generators.test_answers import ANSWER, PROMPT, generator
from tests.suites import few


def side_of(number: int) -> Side:
    model = generator("qwen2_vl")
    prompted = Prompted(read_image("sample:chelsea"), PROMPT)
    answer = model.answers.read(prompted, ANSWER)
    return ForcedAnswer(model, model.answers, prompted, answer).side([number], None, None)


def logits_of(side: Side) -> np.ndarray:
    tower = side.tower
    assert isinstance(tower, AnswerTower)
    with torch.no_grad():
        return tower.logits(tower.last_states(side.cut(tower.depth).hidden))[0].numpy()


def rank_filter(cells: np.ndarray) -> np.ndarray:
    out, padded = np.zeros_like(cells), np.pad(cells, 1, mode="reflect")
    for row in range(cells.shape[0]):
        for column in range(cells.shape[1]):
            window = np.sort(padded[row : row + 3, column : column + 3].flatten())
            if window.mean() > 0:
                sigma = window.std() / window.mean()
                weights = np.exp(-((np.arange(9) - 4.0) ** 2) / (2 * sigma**2))
                out[row, column] = (window * weights / weights.sum()).sum()
    return out


class Sequence(NamedTuple):
    """One forward pass of a model itself: its logits and ids, and where the image, the prompt and the answer stand."""

    logits: np.ndarray
    ids: list[int]
    image: np.ndarray
    prompt: range
    start: int

    @classmethod
    def of(cls, model: Generator, image: str, prompt: str, answer: tuple[int, ...]) -> "Sequence":
        processor = model.request.processor
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        values = dict(processor(text=[chat], images=[read_image(image).pil_image], return_tensors="pt"))
        before, prompt_ids = (
            values["input_ids"][0].tolist(),
            processor.tokenizer(prompt, add_special_tokens=False).input_ids,
        )
        places = [row for row in range(len(before)) if before[row : row + len(prompt_ids)] == prompt_ids]
        values["input_ids"] = torch.tensor([[*before, *answer]])
        values["attention_mask"] = torch.ones_like(values["input_ids"])
        if "mm_token_type_ids" in values:
            zeros = torch.zeros(1, len(answer), dtype=torch.long)
            values["mm_token_type_ids"] = torch.cat([values["mm_token_type_ids"], zeros], 1)
        with torch.no_grad():
            logits = model.module(**values).logits[0].double().numpy()
        cells = np.flatnonzero(np.array(before) == model.module.config.image_token_id)
        return cls(
            logits, values["input_ids"][0].tolist(), cells, range(places[-1], places[-1] + len(prompt_ids)), len(before)
        )

    def tam(self, token: int, grid: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return the map of a token of the answer, and the scores of the tokens of the prompt and of those before."""
        activations = np.maximum(self.logits, 0)
        word = self.ids[self.start + token]
        context = [*self.prompt, *range(self.start, self.start + token)]
        predicted_by = [row - 1 if row >= self.start else row for row in context]
        cells, weights = activations[self.image, word], activations[predicted_by, word]
        others = [place for place, row in enumerate(context) if self.ids[row] != word]
        if others:
            shares = weights[others] / (weights[others].sum() + 1e-8)
            maps = np.stack([activations[self.image, self.ids[context[place]]] for place in others])
            interference = (maps * shares[:, None]).sum(0)
            fit: Any = minimize_scalar(lambda factor: float(np.square(cells - factor * interference).sum()))
            cells = np.maximum(cells - fit.x * interference, 0)
        everything = np.concatenate([cells, weights])
        everything = (everything - everything.min()) / (everything.max() - everything.min())
        return rank_filter(everything[: len(cells)].reshape(grid)), everything[len(cells) :]


@pytest.mark.parametrize("kind", few(["qwen2_vl", "scenes_generator"], ["scenes_generator"]))
def test_the_public_call_gives_the_published_map(kind: str) -> None:
    model = load_generator(kind) if kind == "scenes_generator" else generator(kind)
    image, prompt, answer = "sample:chelsea", PROMPT, ANSWER
    if kind == "scenes_generator":
        image, prompt, answer = "sample:scene", "what is left of the house ?", "a hamburger and a house and a tree"
    explanation = nibt.explain_answer(model, image, prompt, answer, method="tam", other_images=[])
    tokens = model.answers.read(Prompted(read_image(image), prompt), answer)
    sequence = Sequence.of(model, image, prompt, tokens.ids)
    assert [sequence.ids[sequence.start + token] for token in range(len(tokens.ids))] == [*tokens.ids]
    for word in explanation.words:
        grid, context = sequence.tam(word.tokens[0], tuple(word.grid.shape))
        assert np.abs(word.grid.numpy() - grid).max() < 2e-4
        assert len(context) == len(sequence.prompt) + word.tokens[0]
        scores = [float(word.prompt.sum()), float(word.earlier.sum())]
        ends = context[: len(sequence.prompt)].sum(), context[len(sequence.prompt) :].sum()
        assert scores == pytest.approx(ends, abs=1e-3)


def test_the_map_does_not_depend_on_what_is_narrowed() -> None:
    model = generator("qwen2_vl")
    both, image = (
        nibt.explain_answer(model, "sample:chelsea", PROMPT, ANSWER, "tam", narrow=narrow, other_images=[])
        for narrow in (SOURCES, "image")
    )
    for word, alone in zip(both.words, image.words, strict=True):
        assert torch.equal(word.grid, alone.grid)
        assert alone.prompt.abs().max() == 0


def test_logit_lens_is_the_probability_at_each_row() -> None:
    side = side_of(2)
    method = find("methods", "logit_lens").configured(side.tower, "default", {}, {})
    attribution = method(side)
    logits = torch.from_numpy(logits_of(side))
    assert method.layer == (side.tower.depth,)
    target = int(side.inputs.extra["targets"][0, 0])
    expected = logits.softmax(-1)[:, target]
    units = attribution.units
    assert isinstance(units, SequenceUnits)
    assert torch.allclose(attribution.scores[0, : units.grid.count], expected[list(units.grid.tokens)], atol=1e-6)


@pytest.mark.parametrize("name", ["tam", "logit_lens"])
def test_dual_encoders_have_no_answers(name: str) -> None:
    with pytest.raises(Unsupported, match=f"{name} needs answer, which this image tower"):
        find("methods", name).configured(tiny.model("clip").image, "default", {}, {})
