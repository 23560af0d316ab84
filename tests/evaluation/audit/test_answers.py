"""Tests of ``nibt.evaluation.audit.answers``, with the embedded generator and copies of it."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer

import nibt
from nibt.data.images import Region, read_image
from nibt.data.objects import Object
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.audit.answer_checks import AnswerMap, common_places, masks_of, places_beside
from nibt.evaluation.audit.answers import Question
from nibt.evaluation.audit.evidence import LEAST_IMAGES
from nibt.evaluation.finished import finished_work
from nibt.evaluation.maps import Map
from nibt.generators.results.answer_word import HARDLY
from nibt.progress import Progress
from nibt.results.audit import Audit
from nibt.results.audit_questions import QUESTIONNAIRES
from nibt.types import SOURCES
from tests.helpers import Run

COUNT = 24
PROMPT = "which color is the background ?"


def questions(count: int = COUNT, masks: bool = True) -> list[Question]:
    """Questions about the backgrounds of drawn scenes, which are their masks."""
    data = Scenes(count=count, seed=501, fewest=1, most=2, backgrounds=("plain",))
    asked: list[Question] = []
    for number in range(count):
        scene = data.scene(number)
        mask = ~np.any(scene.masks, axis=0) if masks else None
        asked.append((Image.fromarray(scene.pixels), PROMPT, None, mask))
    return asked


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded generator with a projector whose weights are zero, so that it ignores the image."""
    folder = tmp_path_factory.mktemp("models") / "blind"
    generator = nibt.load_generator("scenes_generator")
    module = generator.module
    with torch.no_grad():
        for name, weight in module.model.multi_modal_projector.named_parameters():  # pyright: ignore
            if name.endswith("weight"):  # the biases stay, so that it still writes an answer
                weight.zero_()
    module.save_pretrained(folder)  # pyright: ignore
    source = Path(nibt.__file__).parent / "models" / "embedded" / "scenes_generator"
    for file in source.iterdir():
        if not (folder / file.name).exists() and file.suffix != ".safetensors":
            shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def audited() -> Audit:
    """The audit of the embedded generator."""
    return nibt.audit_answers("scenes_generator", questions())


def verdicts(audit: Audit) -> dict[str, str]:
    return {check.name: check.verdict for check in audit.checks}


@pytest.mark.slow
def test_a_generator_that_reads_the_image_passes(audited: Audit) -> None:
    assert verdicts(audited)["changes"] == "pass"
    assert audited.subject == "answers"
    assert "fail" not in verdicts(audited).values()


@pytest.mark.slow
def test_a_generator_that_ignores_the_image_fails(blind: Path) -> None:
    audit = nibt.audit_answers(blind, questions(), quick=True)
    (check,) = [check for check in audit.checks if check.name == "changes"]
    assert (check.value, check.verdict) == (0.0, "fail")
    assert not {"inside", "border", "needed_place"} & set(verdicts(audit)), "answers that were not seen have no map"
    assert any("24 of 24 answers have no map" in note for note in audit.notes)


@pytest.mark.slow
def test_shares_and_losses_are_those_of_the_explanations(audited: Audit) -> None:
    asked = questions()
    images = [question[0] for question in asked]
    shares = dict.fromkeys(SOURCES, 0.0)
    losses = []
    for number, (image, prompt, *_) in enumerate(asked):
        following = [images[(number + step) % COUNT] for step in range(1, 9)]
        explanation = nibt.explain_answer("scenes_generator", image, prompt, other_images=following)
        words = explanation.words
        losses.append(sum(word.log_probability - np.mean(word.each_other_image) for word in words))
        sizes = {
            "image": sum(float(word.grid.abs().sum()) for word in words),
            "prompt": sum(float(word.prompt.abs().sum()) for word in words),
            "earlier": sum(float(word.earlier.abs().sum()) for word in words),
        }
        for source in SOURCES:
            shares[source] += sizes[source] / sum(sizes.values()) / COUNT
        assert len(set(explanation.target["options"]["other_images_hash"])) == 8

    means = {mean.metric: mean.value for mean in audited.scores}
    for source in SOURCES:
        assert means[f"share of the absolute scores: {source}"] == pytest.approx(shares[source], abs=1e-5)
    assert means["nats lost with other images"] == pytest.approx(float(np.mean(losses)), abs=1e-4)


@pytest.mark.slow
def test_examples_have_the_maps_of_the_words_that_were_seen(audited: Audit) -> None:
    asked = questions()
    example = audited.examples[0]
    images = [question[0] for question in asked]
    for number, (image, prompt, *_) in enumerate(asked):
        following = [images[(number + step) % COUNT] for step in range(1, 9)]
        words = nibt.explain_answer("scenes_generator", image, prompt, other_images=following).words
        seen = [word for word in words if word.judgment == "seen" and word.changes["image"] >= HARDLY]
        if seen:
            grid = torch.stack([word.grid for word in seen]).sum(0)
            torch.testing.assert_close(torch.tensor(example.maps["answer"]), grid, atol=1e-5, rtol=1e-5)
            return
    pytest.fail("no word was seen")


@pytest.mark.slow
def test_a_stopped_audit_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    asked = questions(8)

    class Stopped(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.done == 12:
            raise Stopped

    with pytest.raises(Stopped):
        nibt.audit_answers("scenes_generator", asked, quick=True, folder=tmp_path / "work", on_progress=stop)
    assert (tmp_path / "work").is_dir()
    resumed = nibt.audit_answers("scenes_generator", asked, quick=True, folder=tmp_path / "work")
    whole = nibt.audit_answers("scenes_generator", asked, quick=True)
    first, second = (audit.to_json() for audit in (resumed, whole))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert set(verdicts(whole).values()) == {"no verdict"}, "eight questions are too few"
    whole.save(tmp_path / "a.json")
    assert Audit.load(tmp_path / "a.json").to_json() == second


@pytest.mark.usefixtures("unchecked")
def test_bad_types_of_questions_are_clear_errors() -> None:
    with pytest.raises(BadInput, match="must be a list of tuples"):
        nibt.audit_answers("scenes_generator", "questions.csv")  # type: ignore[arg-type]
    with pytest.raises(BadInput, match=r"questions\[0\] must be a tuple of an image, a prompt"):
        nibt.audit_answers("scenes_generator", [("sample:scene",)] * 8)  # type: ignore[list-item]


def test_an_object_that_the_map_does_not_cover_is_not_known() -> None:
    image = read_image("sample:scene")
    answer = AnswerMap(Map(np.ones((8, 8)), region=Region(0, 0, 64, 128)), {}, True)
    for box, known in (((5, 5, 0, 30), False), ((70, 5, 20, 20), False), ((50, 5, 20, 20), True)):
        pair = nibt.Pair(image, PROMPT, (Object("cat", box),))
        (mask,) = masks_of([pair], [answer])
        assert (mask is not None) == known, box


def test_maps_without_positive_scores_have_no_common_place() -> None:
    drawn = np.random.default_rng(0).random((LEAST_IMAGES + 1, 8, 8))
    maps = [AnswerMap(Map(scores, region=Region(0, 0, 128, 128)), {}, True) for scores in drawn]
    empty = AnswerMap(Map(-np.ones((8, 8)), region=Region(0, 0, 128, 128)), {}, True)
    places = common_places([*maps, empty], [None] * (len(maps) + 1), 0)
    alone = common_places(maps, [None] * len(maps), 0)
    assert places[-1] is None
    for place, expected in zip(places, alone, strict=False):
        assert place is not None
        assert expected is not None
        assert (place.suspicious == expected.suspicious).all()


def test_masks_of_whole_images_leave_nothing_beside_to_exchange() -> None:
    maps = [AnswerMap(Map(np.ones((8, 8)), region=Region(0, 0, 128, 128)), {}, True)] * 8
    masks = [torch.ones(128, 128, dtype=torch.bool)] * 8
    assert places_beside(maps, masks, 0) == common_places(maps, masks, 0) == [None] * 8
    texts = QUESTIONNAIRES["answers"].checks
    assert "Without masks" not in texts["needed_beside"].missing
    assert "masks leave too few cells free" in texts["needed_place"].missing


def test_what_a_model_lacks_is_an_error_before_the_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="similarity_map needs vectors, which this generator lacks"):
        nibt.audit_answers("scenes_generator", questions(8), ["nib", "similarity_map"], folder=tmp_path / "work")
    with pytest.raises(Unsupported, match="which a server lacks: load the model itself"):
        nibt.audit_answers("http://localhost:9/v1", questions(8), folder=tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_the_printed_command_repeats_the_audit_of_a_folder(run: Run, tmp_path: Path) -> None:
    lines = []
    for number, (image, *_) in enumerate(questions(8)):
        image.save(tmp_path / f"{number}.png")  # type: ignore[union-attr]
        boxes = [{"name": "background", "box": [0, 0, 9, 9]}, {"name": "cat", "box": [9, 9, 9, 9]}]
        lines.append(json.dumps({"image": f"{number}.png", "question": PROMPT, "boxes": boxes}))
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines) + "\n")

    options = ("-m", "scenes_generator", "--method", "gae", "--quick")
    code, out, err = run("audit", f"folder:{tmp_path}", *options, "-D", "prompt=question", "-o", "a.json")
    assert code == 0, err
    words = shlex.split(" ".join(out.split()).partition("Repeat it: ")[2])
    repeated = words[1 : words.index("prompt=question") + 1]
    code, _, err = run(*repeated, "-o", "b.json")
    assert code == 0, err
    first, second = (Audit.load(name) for name in ("a.json", "b.json"))
    assert first.checks == second.checks
    assert "8 objects are not counted, such as 'cat': neither the prompt nor the right answer" in str(first.notes)

    (work := Path("c.json.work")).mkdir()
    with finished_work(work, {"model": "another"}) as finished:
        finished.record("one", dict)
    code, _, err = run(*repeated, "-o", "c.json")
    assert code == 2
    assert "delete this folder, or choose another one" in " ".join(err.split())


def test_bad_questions_are_clear_errors() -> None:
    asked = questions(8)
    same = [(asked[0][0], PROMPT)] * 8
    two = [(asked[number % 2][0], PROMPT) for number in range(8)]
    wrong_size = [(*question[:3], np.ones((3, 3), bool)) for question in asked]
    empty_mask = [(*question[:3], np.zeros((128, 128), bool)) for question in asked]
    cases = [
        ([], "at least 8 questions (got 0)"),
        (asked[:7], "at least 8 questions (got 7)"),
        (same, "at least 3 different images (got 1)"),
        (two, "at least 3 different images (got 2)"),
        ([("nowhere.png", PROMPT)] * 8, "nowhere.png"),
        (wrong_size, "questions[0]: the mask of the object"),
        (empty_mask, "the mask of questions[0] has no pixel"),
        ([(image, "") for image, *_ in asked], "prompt"),
    ]
    for bad, message in cases:
        with pytest.raises(BadInput) as caught:
            nibt.audit_answers("scenes_generator", bad)
        assert message in str(caught.value), message


def test_other_bad_arguments_are_clear_errors() -> None:
    asked = questions(8)
    with pytest.raises(BadOption, match="methods is empty"):
        nibt.audit_answers("scenes_generator", asked, [])
    with pytest.raises(BadOption, match="take no options"):
        nibt.audit_answers("scenes_generator", asked, "nib steps=3")
    generator = nibt.load_generator("scenes_generator", generation="model")
    with pytest.raises(BadOption, match="load the model without generation=model"):
        nibt.audit_answers(generator, asked)


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded generator with "pink" as the token at which an answer ends, so that it writes nothing for "pink"."""
    folder = tmp_path_factory.mktemp("models") / "silent"
    shutil.copytree(Path(nibt.__file__).parent / "models" / "embedded" / "scenes_generator", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"additional_special_tokens": ["pink"]})
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["eos_token_id"] = [settings["eos_token_id"], tokenizer.convert_tokens_to_ids("pink")]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.slow
def test_questions_without_an_answer_are_left_out(silent: Path) -> None:
    asked = questions(16)
    written = [nibt.explain_answer("scenes_generator", *question[:2], method="ones").answer for question in asked]
    without = written.count("pink")
    assert 0 < without < 8
    audit = nibt.audit_answers(silent, asked, quick=True)
    assert f"{without} of 16 questions are left out: the model writes no word to them" in audit.notes
    assert next(check.count for check in audit.checks if check.name == "changes") == 16 - without

    pink = [question for question, answer in zip(asked, written, strict=True) if answer == "pink"]
    others = [question for question, answer in zip(asked, written, strict=True) if answer != "pink"]
    with pytest.raises(BadInput, match="writes a word to 7 of 9 questions, and an audit needs at least 8"):
        nibt.audit_answers(silent, [*pink[:2], *others[:7]])


def table(folder: Path, count: int = 8) -> Path:
    """Write a table of questions."""
    lines = ["image,prompt,answer"]
    for number, (image, *_) in enumerate(questions(count)):
        image.save(folder / f"{number}.png")  # type: ignore[union-attr]
        lines.append(f"{number}.png,{PROMPT},")
    path = folder / "questions.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
def test_the_command_audits_a_table_of_questions(run: Run, tmp_path: Path, blind: Path) -> None:
    path = table(tmp_path)
    files = ("-o", "a.html", "-o", "a.json", "-o", "a.card.md", "-o", "a.junit.xml", "-o", "a.badge.svg")
    code, out, err = run("audit", path, "-m", "scenes_generator", "--quick", *files)
    assert code == 0, err
    assert "1. Does the model read the image?" in out
    audit = Audit.load("a.json")
    assert (audit.subject, audit.data["dataset"], audit.data["pairs"]) == ("answers", "table", 8)
    assert "Does the model read the image?" in Path("a.html").read_text()
    assert "8 questions" in Path("a.card.md").read_text()
    assert "8 questions:" in Path("a.badge.svg").read_text()
    code, out, err = run("audit", path, "-m", blind, "--quick", "--strict", "-o", "-")
    assert code == 0, "eight questions have no verdict, so nothing fails"
    assert json.loads(out)["subject"] == "answers"

    code, out, err = run("audit", table(tmp_path, 24), "-m", blind, "--quick", "--strict", "-o", "-")
    assert code == 1
    assert [check["verdict"] for check in json.loads(out)["checks"] if check["name"] == "changes"] == ["fail"]


def test_the_command_refuses_what_is_for_pairs(run: Run, tmp_path: Path) -> None:
    path = table(tmp_path)
    cases = [
        ((path, "-m", "scenes_generator", "--against", "scenes"), 2, "--against is for models that compare images"),
        ((path, "-m", "scenes"), 1, "scenes"),
        ((path, "-m", "http://localhost:9/v1"), 1, "which a server lacks: load the model itself"),
        (("scenes", "--count", "8", "-m", "scenes_generator"), 1, "scenes_generator writes answers"),
        (("scenes", "--count", "8", "-m", "scenes_generator", "-D", "prompt=x"), 2, "-D prompt is for tables"),
    ]
    for arguments, code, message in cases:
        actual, out, err = run("audit", *arguments)
        assert actual == code, (arguments, err)
        assert message in " ".join(err.split())
        assert "Traceback" not in out + err


def test_the_command_refuses_an_empty_table(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("image,prompt\n")
    code, _, err = run("audit", path, "-m", "scenes_generator")
    assert code == 1
    assert "at least 8 questions (got 0)" in " ".join(err.split())
    path = table(tmp_path)
    path.write_text(path.read_text().replace(PROMPT, " ", 1))
    code, _, err = run("audit", path, "-m", "scenes_generator")
    assert code == 1
    assert "line 2: the prompt is blank" in " ".join(err.split())
