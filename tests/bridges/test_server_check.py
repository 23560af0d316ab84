"""Tests of ``nibt check`` of a model behind a server: what it offers, and whether it has the model of a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ImageOps

import nibt
from nibt.bridges.server_check import ALIKE, EQUAL, Agreement, ServerReading, TokenPair, check_server
from nibt.data.images import ImageInput
from nibt.errors import BadInput
from nibt.generators.answers import Generator, Prompted
from nibt.generators.forced import ForcedAnswer
from tests.bridges.loopback import Refusal, Served, image_of, listening
from tests.bridges.test_answer_servers import PROMPT, serving
from tests.cli.test_vision_language import saved
from tests.generators.test_answers import generator
from tests.helpers import Run
from tests.hub import CLOSED


@dataclass
class ServedModel(Served):
    """A server of answers in the shape of llama.cpp, with a model of this process.

    Attributes:
        model: The model.
        flips: Whether images are flipped.
        shift: What is subtracted from all log-probabilities that are shown.
        shows_ids: Whether the ids of tokens are shown.
    """

    model: Generator = field(kw_only=True)
    flips: bool = False
    shift: float = 0.0
    shows_ids: bool = True

    def respond(self, path: str, body: dict[str, Any]) -> Any:
        if path != "/v1/chat/completions" or body.get("prompt_logprobs") is not None or len(body["messages"]) > 1:
            raise Refusal("not offered")
        tower = self.model.answers
        parts = body["messages"][0]["content"]
        addresses = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
        if not addresses:
            raise Refusal("an image is needed")
        image = image_of(addresses[0])
        prompted = Prompted(ImageInput(ImageOps.flip(image) if self.flips else image, "served"), parts[-1]["text"])
        if "grammar" in body:
            tokens = tower.spelled([int(number) for number in re.findall(r"<\[(\d+)\]>", body["grammar"])])
        else:
            tokens = tower.write(prompted, 12)
        forced = ForcedAnswer(self.model, tower, prompted, tokens)
        logs = (forced.logs(prompted.image) - self.shift)[: body["max_tokens"]]
        entries = [
            {
                **self.entry(number, row),
                "top_logprobs": [self.entry(each, row) for each in row.topk(20).indices.tolist()],
            }
            for number, row in zip(tokens.ids, logs, strict=False)
        ]
        message = {"role": "assistant", "content": tokens.text}
        return {
            "choices": [{"message": message, "logprobs": {"content": entries}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": len(entries)},
        }

    def entry(self, number: int, row: torch.Tensor) -> dict[str, Any]:
        piece = self.model.answers.tokenizer.decode([number])
        entry = {"token": piece, "bytes": list(f" {piece}".encode()), "logprob": min(0.0, float(row[number]))}
        return {"id": number, **entry} if self.shows_ids else entry


def read_of(against: Generator | None = None, images: Sequence[str] = (), **options: Any) -> ServerReading:
    model = generator("llava")
    with listening(ServedModel(model=model, **options)) as served:
        loaded: Any = nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2)
        return check_server(loaded, "a red cat", images, against or model)


@pytest.mark.slow
@pytest.mark.parametrize("shows_ids", [True, False])
def test_a_server_that_has_the_model_of_the_folder_passes(shows_ids: bool) -> None:
    reading = read_of(shows_ids=shows_ids)
    lines = reading.lines
    assert lines["agrees"] == "yes: the server serves this model, up to rounding"
    assert lines["part"] == f"nowhere by more than {EQUAL}"
    assert lines["same answers"] == "3 of 3"
    found = re.match(r"of \d+ tokens, at most (.*) nats; median (.*) of \d+ that are unsure", lines["difference"])
    assert found is not None
    assert max(map(float, found.groups())) < 1e-5
    assert lines["wide images"].startswith("differ by at most")
    assert lines["explained"].startswith("yes, by grammar" if shows_ids else "only answers of one token")
    assert reading.passes


@pytest.mark.slow
@pytest.mark.parametrize("shows_ids", [True, False])
def test_a_server_that_flips_images_serves_another_model(shows_ids: bool) -> None:
    reading = read_of(flips=True, shows_ids=shows_ids)
    assert reading.lines["agrees"].startswith("no: the server serves another model")
    assert re.match("at '.*' of sample:chelsea, whose log-probability is -", reading.lines["part"])
    assert reading.lines["same answers"] == "0 of 3"
    assert "wide images" not in reading.lines, "their difference would have no cause of its own"
    assert not reading.passes


@pytest.mark.slow
def test_a_server_with_other_tokens_serves_another_model() -> None:
    reading = read_of(against=generator("git"), images=["sample:scene"])
    assert reading.lines["agrees"].startswith("no: ")
    assert not reading.passes


@pytest.mark.slow
def test_own_images_are_compared() -> None:
    reading = read_of(images=["sample:scene"], shift=0.02)
    assert reading.lines["agrees"].startswith("yes")
    assert reading.lines["same answers"] == "1 of 1"
    assert "at most 0.02 nats; median 0.02 of" in reading.lines["difference"]
    assert "wide images" not in reading.lines


def agreement(*differences: float, certain: int = 0) -> Agreement:
    unsure = [TokenPair("a.png", "cat", -1.0 - difference, -1.0) for difference in differences]
    return Agreement((*[TokenPair("a.png", "a", 0.0, 0.0)] * certain, *unsure), (True,))


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ((0.0, 0.049, 0.01), "pass"),  # weights of eight bits: at most 0.049; float16 caches: 0.0145
        ((0.001, 0.4, 0.05), "cannot tell"),  # weights of five bits: at most 0.4, median 0.05
        ((0.1, 1.9, 0.1), "cannot tell"),  # weights of four bits: at most 1.9, median 0.10
        ((0.44, 3.5, 0.2), "fail"),  # states of another layer of the image encoder: at most 3.5, median 0.44
        ((ALIKE + 0.01,), "fail"),
    ],
)
def test_verdicts_are_of_unsure_tokens(differences: tuple[float, ...], verdict: str) -> None:
    assert agreement(*differences).verdict == verdict
    assert agreement(*differences, certain=50).verdict == verdict, "all models are certain of the same tokens"
    assert agreement(0.0).first is None
    first = agreement(0.01, 0.2, 0.9).first
    assert first is not None
    assert first.difference == pytest.approx(0.2)


SERVER = ["-m", "toy", "--text", PROMPT, "--load", "image_size=32", "--load", "cells=2"]


def lines_of(out: str) -> dict[str, str]:
    return dict(re.split("  +", line, maxsplit=1) for line in out.splitlines())  # pyright: ignore


@pytest.mark.parametrize(
    ("kind", "explained", "given", "ways"),
    [
        ("llama.cpp", r"yes, by grammar: .* 28 requests \(14 for the image alone\) of about 29 tokens", "yes", "yny"),
        ("vllm", r"yes, by prompt_logprobs: .* 28 requests \(14 for the image alone\)", "yes", "nyy"),
        ("ollama", r"yes, by prefill: .* 83 requests \(38 for the image alone\)", "no: .* does not show", "nny"),
        ("openai", "only answers of one token", "no", "nnn"),
    ],
)
def test_what_a_server_offers_is_shown(run: Run, kind: str, explained: str, given: str, ways: str) -> None:
    with serving(kind=kind) as served:
        code, out, err = run("check", f"{served.address}/v1", *SERVER)
        asked = len(served.requests)
        assert served.address not in out + err
    assert code == 0, err
    lines = lines_of(out)
    assert lines["model"] == "toy, behind a server"
    assert lines["image"] == "sample:chelsea, sent as 32 x 32, in 2 x 2 cells"
    assert lines["answer"] == f"{PROMPT!r} is answered 'a red cat.', 5 tokens, after 23 that are read"
    assert lines["sees image"].startswith("yes: another image changes log-probabilities by up to ")
    assert lines["counts image"] == "yes: 23 tokens are read with it, 7 without"
    assert lines["noise"] == "equal requests differ by 0 nats"
    assert lines["shown"] == f"20 tokens at each place, by their {'ids' if kind == 'llama.cpp' else 'bytes'}"
    assert "".join(lines[way][0] for way in ("grammar", "prompt_logprobs", "prefill")) == ways
    assert re.match(given, lines["given answers"])
    assert re.match(explained, lines["explained"])
    assert lines["asked"].startswith(f"{asked} requests, ")


@pytest.mark.parametrize(
    ("options", "topic", "text"),
    [
        ({"reads_images": False}, "sees image", "no: another image changes log-probabilities by up to 0 nats"),
        ({"sampled": True}, "temperature", r"log-probabilities differ by \d.* nats at 1: .* depend on the temperature"),
        ({"shows": False}, "answer", "no: .*answers without the log-probabilities"),
        ({"kind": "ollama", "shifted": 0.5}, "prefill", "no: the log-probability of .* when it is written and"),
    ],
)
def test_a_server_that_cannot_be_used_ends_with_1(run: Run, options: dict[str, Any], topic: str, text: str) -> None:
    with serving(**options) as served:
        code, out, _ = run("check", f"{served.address}/v1", *SERVER)
    assert re.match(text, lines_of(out)[topic])
    assert (code == 1) == (topic != "prefill"), "answers of one token do not need it"


@pytest.mark.slow
def test_check_compares_a_server_with_a_folder(run: Run, tmp_path: Path) -> None:
    folder = str(saved("llava", tmp_path))
    model = nibt.load_generator(folder)
    options = ["-m", "toy", "--text", "a red cat", "--load", "image_size=32", "--image", "sample:scene"]
    for flips, expected, agrees in ((False, 0, "yes"), (True, 1, "no")):
        with listening(ServedModel(model=model, flips=flips)) as served:
            code, out, err = run("check", f"{served.address}/v1", *options, "--against", folder)
        assert code == expected, out + err
        assert lines_of(out)["agrees"].startswith(agrees)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CLOSED], "the name of the model on the server is missing"),
        ([CLOSED, "-m", "toy", "--key-env", "NO_SUCH_KEY"], "the environment variable NO_SUCH_KEY must have the key"),
        ([CLOSED, "-m", "toy", "--dtype", "float16"], "--device and --dtype are for a model that is loaded"),
        ([CLOSED, "-m", "toy", "--load", "tries=1"], "the server of 'toy' cannot be reached"),
        ([CLOSED, "-m", "toy", "--against", "no-such-model"], "no model 'no-such-model'"),
        (["scenes", "-m", "toy"], "-m, --against, --image, --key-env, --requests and --tokens are for a model behind"),
        (["scenes", "--requests", "3"], "are for a model behind a server"),
    ],
)
def test_wrong_options_of_check_are_refused(run: Run, arguments: list[str], message: str) -> None:
    code, _, err = run("check", *arguments)
    assert code != 0
    assert message in err


@pytest.mark.usefixtures("unchecked")
def test_only_generators_behind_a_server_are_checked() -> None:
    local = nibt.load_generator("scenes_generator")
    served = nibt.load_generator("http://127.0.0.1:9/v1", name="toy")
    with pytest.raises(BadInput, match=r"generator must be behind a server \(got Generator\): load it with"):
        nibt.check_server(local)
    with pytest.raises(BadInput, match="must be behind a server"):
        nibt.check_server("http://127.0.0.1:9/v1")  # pyright: ignore
    with pytest.raises(BadInput, match="against must be the model of a folder"):
        nibt.check_server(served, against=served)


@pytest.mark.usefixtures("unchecked")
def test_one_image_is_taken_as_a_list_of_one() -> None:
    with serving() as served:
        generator = nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2)
        one = nibt.check_server(generator, images="sample:camera")
        several = nibt.check_server(generator, images=["sample:camera"])
        with pytest.raises(BadInput, match=r"an image must be a path.* \(got int\)"):
            nibt.check_server(generator, images=5)  # pyright: ignore
    assert one.lines["image"] == several.lines["image"]
    assert one.lines["image"].startswith("sample:camera, sent as")


def test_what_is_printed_is_the_text_of_the_reading() -> None:
    with serving() as served:
        reading = nibt.check_server(nibt.load_generator(served.address + "/v1", name="toy", image_size=32, cells=2))
    assert str(reading).splitlines()[0] == f"{'model':15}  toy, behind a server"
    assert len(str(reading).splitlines()) == len(reading.lines)
