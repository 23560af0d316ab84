"""Tests of ``nibt check``."""

from pathlib import Path

import pytest

from benchmarks.models import released
from nibt.engine.reading import describe
from nibt.models._loading import load_model
from tests import tiny_vision_language
from tests.helpers import Run

TOPICS = ["model", "class", "weights", "image", "layers", "cut", "ignored", "versions"]


def lines(run: Run, *arguments: str) -> dict[str, str]:
    code, out, err = run("check", *arguments)
    assert code == 0, err
    return dict(line.split(None, 1) for line in out.splitlines())


def test_check_shows_what_is_read_of_a_model(run: Run) -> None:
    shown = lines(run, "scenes", "--text", "a cat")
    assert [topic for topic in shown if topic in TOPICS] == TOPICS
    assert shown["class"].startswith("CLIPModel, family clip")
    assert shown["caption"] == "'a cat' becomes 4 tokens: <|startoftext|> a</w> cat</w> <|endoftext|>"
    assert "300 x 300 are seen as 128 x 128, in 8 x 8 cells" in shown["image"]
    assert shown["layers"] == "image 12, text 12"


@pytest.mark.parametrize(
    ("name", "topics"),
    [
        ("qwen-qwen2-5-vl-3b-instruct", {"generation": "repetition_penalty=1.05 (not used", "prompt": "<|im_start|>"}),
        ("microsoft-trocr-base-printed", {"ignored": "2 weights of encoder", "sources": "image"}),
        (
            "qwen-qwen3-vl-embedding-2b",
            {"pooling": "last", "text_prompt": "Represent the user's input.", "cut": "text"},
        ),
    ],
)
def test_check_shows_what_is_special_in_a_released_model(
    run: Run, name: str, topics: dict[str, str], tmp_path: Path
) -> None:
    released.save(name, tmp_path / name)
    shown = lines(run, str(tmp_path / name))
    assert [topic for topic in shown if topic in TOPICS] == TOPICS
    for topic, part in topics.items():
        assert part in shown[topic]


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("llava", "23 tokens: <|im_start|> user <image> x 16 a cat <|im_end|> <|im_start|> assistant"),
        ("git", "3 tokens: <bos> a cat"),
        ("florence_2", "21 tokens: <image> x 17 <bos> a cat <eos>"),
        ("blip_2_t5", "9 tokens: <image> x 5 <bos> a cat <eos>; 1 token: <pad>"),
    ],
)
def test_tokens_of_a_prompt_are_not_those_of_the_answer(kind: str, tokens: str) -> None:
    shown = describe(tiny_vision_language.generator(kind), "a cat")
    assert shown["prompt"].endswith(f" becomes {tokens}")
    assert shown["answer"] == "'a cat' becomes 2 tokens: a cat"


def test_processor_of_another_model_is_an_option_of_loading(run: Run, tmp_path: Path) -> None:
    load_model("scenes").module.save_pretrained(tmp_path)
    shown = lines(run, str(tmp_path), "--load", "processor=scenes")
    assert shown["processor"] == lines(run, "scenes")["processor"]


def test_check_of_no_model_is_one_error(run: Run) -> None:
    code, out, err = run("check", "no-such-model")
    assert (code, out) == (1, "")
    assert "there is no model 'no-such-model'" in err
    code, out, err = run("check", "scenes", "--load", "generation=model")
    assert code == 2
    assert "generation" in err
