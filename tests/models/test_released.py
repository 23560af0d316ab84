"""Small models with the facts of released ones: nibt reads them as their own documented calls do.

The folders are written from ``benchmarks/models/facts``; see ``benchmarks/models/released.py``.
"""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import open_clip
import pytest
import torch
import torch.nn.functional as F
import transformers
from peft import PromptTuningConfig, get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

import nibt
from benchmarks.models import released, tiny_open_clip
from nibt.errors import BadInput, CannotLoad
from nibt.generators.answers import Generator, Prompted
from nibt.generators.explain import explain_answer
from nibt.generators.loading import load_generator
from nibt.generators.results.answer import AnswerExplanation
from nibt.generators.writing import changed_settings
from tests import tiny
from tests.suites import few

IMAGE, PROMPT, ANSWER = tiny.image(300, 220), "What is in the image?", "a red cat"
CAPTIONS = ["A photo of a red cat on the mat", "two dogs"]
FACTS = {name: released.facts(name) for name in released.names()}
OPEN_CLIP = [name for name, known in FACTS.items() if known["library"] == "open_clip" and released.is_built(known)]
BUILT = {name: known for name, known in FACTS.items() if released.is_built(known) and name not in OPEN_CLIP}
DUAL = [name for name, known in BUILT.items() if known["use"] == "explain" and "pooling" not in known["call"]]
CLASSIFIERS = [name for name, known in BUILT.items() if known["use"] == "classify"]
ANSWERS = [name for name, known in BUILT.items() if known["use"] == "answer"]
TEMPLATED = [name for name in ANSWERS if FACTS[name]["call"].get("template")]
SILENT = [name for name in ANSWERS if FACTS[name]["call"].get("images_only")]
LATE = [name for name, known in BUILT.items() if released.is_late(known)]
POOLED = [name for name, known in BUILT.items() if released.is_pooled(known)]
REFUSED = {
    "apple-aimv2-large-patch14-224-lit": r"comes with its own code \(modeling_aimv2.AIMv2Model in auto_map",
    "jinaai-jina-clip-v1": r"comes with its own code \(",
    "jinaai-jina-clip-v2": r"comes with its own code \(",
    "microsoft-florence-2-base": r"comes with its own code \(",
    "vidore-colqwen2-v1-0": "was saved by the class ColQwen2, which Transformers",
}
dual_encoders = pytest.mark.parametrize("name", few(DUAL, ("google-siglip2-base-patch16-224",)))
generators = pytest.mark.parametrize("name", few(ANSWERS, ("llava-hf-llava-1-5-7b-hf",)))


@cache
def folder_of(name: str) -> Path:
    folder = Path(mkdtemp(prefix="released-")) / name
    released.save(name, folder)
    return folder


@cache
def loaded(name: str) -> Any:
    load = load_generator if name in ANSWERS else nibt.load_model
    trunks = tiny_open_clip.small_trunks(None) if name in OPEN_CLIP else nullcontext()
    with trunks, released.without_hub():
        return load(folder_of(name))


@cache
def own(name: str) -> Any:
    """Return the model as its card loads it."""
    kind = getattr(transformers, FACTS[name]["architecture"])
    with released.without_hub():
        return kind.from_pretrained(folder_of(name), dtype=torch.float32).eval()


def caption_options(name: str) -> dict[str, Any]:
    """Return the options with which the card of a model tokenizes captions."""
    call = FACTS[name]["call"]
    chosen = {key: call[key] for key in ("padding", "max_length", "truncation") if key in call}
    return {key: value for key, value in chosen.items() if key != "padding" or value in (True, "max_length", "longest")}


def own_caption(name: str, caption: str) -> Mapping[str, Tensor]:
    tokenizer = AutoTokenizer.from_pretrained(folder_of(name))
    text = caption.lower() if FACTS[name]["call"].get("lower") else caption
    return tokenizer([text], return_tensors="pt", **caption_options(name))


@dual_encoders
def test_captions_are_tokenized_as_the_card_says(name: str) -> None:
    tokens = own_caption(name, CAPTIONS[0])
    expected, padding = tokens["input_ids"][0].tolist(), AutoTokenizer.from_pretrained(folder_of(name)).pad_token_id
    actual = loaded(name).text.prepare(CAPTIONS[:1]).values[0].tolist()
    least = min(len(actual), len(expected))
    assert actual[:least] == expected[:least]
    if FACTS[name]["call"].get("padding") == "max_length" and "attention_mask" not in tokens:
        assert len(actual) == len(expected)  # the model reads its padding
    assert {*actual[least:], *expected[least:]} <= {padding}


def own_similarity(name: str, caption: str) -> float:
    """Return the similarity that the model itself gives an image and a caption."""
    module, images = own(name), AutoImageProcessor.from_pretrained(folder_of(name))
    pixels = images(images=IMAGE.pil_image, return_tensors="pt")
    pixels = {key: pixels[key] for key in ("pixel_values", "pixel_attention_mask", "spatial_shapes") if key in pixels}
    tokens = own_caption(name, caption)
    with torch.no_grad():
        if "Blip2" in type(module).__name__:
            out = module(**pixels, **tokens, use_image_text_matching_head=False)
            return float(out.logits_per_image[0, 0])
        if "Blip" in type(module).__name__:
            return float(module(**pixels, **tokens, use_itm_head=False).itm_score[0, 0])
        for part in ("clip", "flava", "owlvit", "owlv2"):
            module = getattr(module, part, module) if not hasattr(module, "get_image_features") else module
        image, text = module.get_image_features(**pixels), module.get_text_features(**tokens)
    image, text = (out if isinstance(out, Tensor) else out.pooler_output for out in (image, text))
    if image.ndim == 3:  # FLAVA projects all tokens
        image, text = image[:, 0], text[:, 0]
    return float(F.cosine_similarity(image, text))


@dual_encoders
def test_similarities_are_those_of_the_own_calls(name: str) -> None:
    for caption in CAPTIONS:
        actual = nibt.explain(loaded(name), IMAGE.pil_image, caption, method="center").similarity
        assert actual == pytest.approx(own_similarity(name, caption), abs=1e-5)


SCORES = {
    "salesforce-blip-itm-base-coco": "matching",
    "salesforce-blip2-itm-vit-g": "matching",
    "google-owlvit-base-patch32": "box",
    "google-owlv2-base-patch16-ensemble": "box",
    "cidas-clipseg-rd64-refined": "mask",
    "dandelin-vilt-b32-finetuned-coco": "matching",
    "idea-research-grounding-dino-tiny": "box",
    "openmmlab-community-mm-grounding-dino-tiny-o365v1-goldg": "box",
    "bridgetower-bridgetower-base-itm-mlm": "matching",
    "facebook-sam3": "box",
    "omlab-omdet-turbo-swin-tiny-hf": "box",
}
"""The score of models that read both inputs in one network, some of which compare embeddings, too."""


def own_score(name: str, caption: str) -> float:
    """Return the score of a matching head, of the best box, or of a mask, as the model itself computes it."""
    module = own(name)
    with released.without_hub():
        processor = AutoProcessor.from_pretrained(folder_of(name))
    text = [[caption]] if SCORES[name] == "box" and "Sam3" not in type(module).__name__ else caption
    inputs = processor(images=IMAGE.pil_image, text=text, return_tensors="pt")
    options = {"use_image_text_matching_head": True} if "Blip2" in type(module).__name__ else {}
    with torch.no_grad():
        out = module(**inputs, **options)
    if "Sam3" in type(module).__name__:
        return float((out.pred_logits.sigmoid() * out.presence_logits.sigmoid()).max())
    if SCORES[name] == "box":
        return float(getattr(out, "logits", getattr(out, "decoder_class_logits", None)).sigmoid().max())
    if SCORES[name] == "mask":
        mask = out.logits > 0
        return float(out.logits[mask].mean() if mask.any() else out.logits.max())
    if "Vilt" in type(module).__name__:
        return float(out.logits)
    logits = next(out[key] for key in ("itm_score", "logits_per_image", "logits") if key in out)
    return float(logits[0].diff())


@pytest.mark.parametrize("name", few(list(SCORES), ("salesforce-blip-itm-base-coco", "google-owlvit-base-patch32")))
def test_scores_of_one_network_are_those_of_the_own_calls(name: str) -> None:
    with released.without_hub():
        scored = nibt.load_model(folder_of(name), score=SCORES[name])
    actual = nibt.explain(scored, IMAGE.pil_image, CAPTIONS[0], method="center").similarity
    assert actual == pytest.approx(own_score(name, CAPTIONS[0]), abs=1e-4, rel=1e-5)


@pytest.mark.slow
def test_a_folder_with_a_backbone_of_timm_is_loaded_without_the_hub() -> None:
    """Transformers asks the hub whether the name of the backbone of OmDet-Turbo is a repository."""
    name = "omlab-omdet-turbo-swin-tiny-hf"
    folder = folder_of(name)
    with patch("huggingface_hub.HfApi.repo_exists", side_effect=AssertionError("the hub was asked")):
        model = nibt.load_model(folder, score="box")
        actual = nibt.explain(model, IMAGE.pil_image, CAPTIONS[0], method="center").similarity
    assert actual == pytest.approx(own_score(name, CAPTIONS[0]), abs=1e-4, rel=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of weights that are not used
def test_the_thinker_of_an_omni_model_is_read_from_the_file_of_all_parts(tmp_path: Path) -> None:
    """The released file has the weights of the part that speaks, too, and those of the thinker with a prefix."""
    name = "qwen-qwen2-5-omni-7b"
    released.save(name, tmp_path / "omni")
    for path in (tmp_path / "omni").glob("*.safetensors"):
        weights = {f"thinker.{key}": value for key, value in load_file(path).items()}
        save_file({**weights, "talker.codec_head.weight": torch.ones(4, 4)}, path, metadata={"format": "pt"})
    index = tmp_path / "omni" / "model.safetensors.index.json"
    if index.is_file():
        table = json.loads(index.read_text())
        table["weight_map"] = {f"thinker.{key}": file for key, file in table["weight_map"].items()}
        table["weight_map"]["talker.codec_head.weight"] = next(iter(table["weight_map"].values()))
        index.write_text(json.dumps(table))

    generator = load_generator(tmp_path / "omni")
    expected = loaded(name)
    assert generator.record()["weights_hash"] == expected.record()["weights_hash"]
    answers = [
        explain_answer(model, IMAGE, PROMPT, ANSWER, method="center", other_images=[]).words
        for model in (generator, expected)
    ]
    assert [word.log_probability for word in answers[0]] == [word.log_probability for word in answers[1]]


@pytest.mark.parametrize("name", few(CLASSIFIERS, ("google-vit-base-patch16-224",)))
def test_classifiers_give_the_logits_of_their_own_calls(name: str) -> None:
    processor = AutoImageProcessor.from_pretrained(folder_of(name))
    with torch.no_grad():
        logits = own(name)(**processor(images=IMAGE.pil_image, return_tensors="pt")).logits[0]
    for number, text in ((0, "tench"), (1, "goldfish, Carassius auratus"), (134, "134: crane"), (281, "Tabby Cat")):
        actual = nibt.explain(loaded(name), IMAGE.pil_image, text, method="center").similarity
        assert actual == pytest.approx(float(logits[number]), abs=1e-5, rel=1e-5)


def processor_of(name: str) -> Any:
    kind = getattr(transformers, FACTS[name]["call"].get("processor", "AutoProcessor"))
    return kind.from_pretrained(folder_of(name))


def own_prompt(name: str) -> tuple[str, str]:
    """Return the prompt as a user of nibt gives it, and the text that the card gives the processor."""
    processor, call = processor_of(name), FACTS[name]["call"]
    if call.get("template") and processor.chat_template:
        content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
        message = [{"role": "user", "content": content}]
        return PROMPT, processor.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
    if name in SILENT:
        return "", ""
    text = call.get("text", "{prompt}").format(prompt=PROMPT, question=PROMPT)
    return text, "" if call.get("writes_prompt") else text


def own_inputs(name: str) -> dict[str, Tensor]:
    """Return what the documented call of a generator gives its model."""
    processor, call = processor_of(name), FACTS[name]["call"]
    if call.get("template") and processor.chat_template:
        content = [{"type": "image", "image": IMAGE.pil_image}, {"type": "text", "text": PROMPT}]
        values = processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    elif call.get("decoder_prompt"):
        ids = processor.tokenizer(own_prompt(name)[1], add_special_tokens=False, return_tensors="pt").input_ids
        pixels = processor(images=IMAGE.pil_image, return_tensors="pt").pixel_values
        return {"pixel_values": pixels, "decoder_input_ids": ids}
    elif call.get("writes_prompt"):
        values = processor(images=IMAGE.pil_image, return_tensors="pt")
    elif name in SILENT:
        values = AutoImageProcessor.from_pretrained(folder_of(name))(images=IMAGE.pil_image, return_tensors="pt")
    else:
        values = processor(images=IMAGE.pil_image, text=own_prompt(name)[1], return_tensors="pt")
    return {key: value for key, value in values.items() if key not in ("labels", "num_crops", "num_patches")}


NEUTRAL = {
    "do_sample": False,
    "num_beams": 1,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "max_new_tokens": 8,
    "output_logits": True,
    "return_dict_in_generate": True,
}


@generators
def test_answers_are_those_of_the_own_greedy_search(name: str) -> None:
    """The ids that are fed, the answer and its log-probabilities are those of the model's own greedy search."""
    generator: Generator = loaded(name)
    with torch.no_grad():
        out = own(name).generate(**own_inputs(name), **NEUTRAL)
    logits = torch.stack(out.logits, 1)[0].log_softmax(-1)
    ids = out.sequences[0, -len(logits) :].tolist()
    if FACTS[name]["config"].get("model_type") == "florence2":  # whose first token is forced
        ids, logits = ids[1:], logits[1:]
    prompted = Prompted(IMAGE, own_prompt(name)[0])
    answer = generator.answers.write(prompted, 2)
    least = min(len(answer.ids), len(ids) - 1)  # the last one of a limit may be forced
    assert list(answer.ids[:least]) == ids[:least]
    if not answer.words:
        return
    result = explain_answer(generator, IMAGE, prompted.prompt, method="center", other_images=[], max_words=2)
    for word in result.words:
        rows = [row for row in word.tokens if row < least]
        if len(rows) == len(word.tokens):
            expected = sum(float(logits[row, ids[row]]) for row in rows)
            assert word.log_probability == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
@generators
def test_answers_with_settings_are_those_of_the_own_generate(name: str) -> None:
    """``generation=model`` writes as the model's ``generate`` does; else a note names the settings."""
    folder = folder_of(name)
    options = {"tokenizer": processor_of(name).tokenizer} if own(name).generation_config.stop_strings else {}
    most = 9 if FACTS[name]["config"]["model_type"] == "florence2" else 8  # whose first token is forced
    with torch.no_grad():
        expected = own(name).generate(**own_inputs(name), do_sample=False, max_new_tokens=most, **options)[0]
    if not loaded(name).answers.write(Prompted(IMAGE, own_prompt(name)[0]), 2).words:
        return
    generator = load_generator(folder, generation="model")
    written = generator.answers.write(Prompted(IMAGE, own_prompt(name)[0]), 2).ids
    text = ",".join(map(str, expected.tolist())) + ","
    assert not written or ",".join(map(str, written)) + "," in text
    settings = changed_settings(own(name))
    notes = explained(name).warnings
    assert any("without the settings of the model" in note for note in notes) == bool(settings), settings


def explained(name: str, **options: Any) -> AnswerExplanation:
    options = {"method": "center", "other_images": [], "max_words": 2, **options}
    return explain_answer(loaded(name), IMAGE, own_prompt(name)[0], **options)


@pytest.mark.parametrize("name", few(POOLED, ("qwen-qwen3-vl-embedding-2b",)))
def test_embedders_read_the_prompts_of_their_cards(name: str) -> None:
    processor, call = processor_of(name), FACTS[name]["call"]
    if call.get("template"):

        def prompt(content: dict[str, str]) -> str:
            messages = [
                {"role": "system", "content": [{"type": "text", "text": call["instruction"]}]},
                {"role": "user", "content": [content]},
            ]
            return processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

        image, text = prompt({"type": "image"}), prompt({"type": "text", "text": CAPTIONS[0]})
    else:
        words = {"instruction": call.get("instruction"), "text": CAPTIONS[0], "caption": CAPTIONS[0]}
        image, text = (call[side].format(**words) for side in ("image", "text"))
    values = processor(text=[image], images=[IMAGE.pil_image], return_tensors="pt")
    tokens = processor.tokenizer([text], return_tensors="pt")
    model = loaded(name)
    assert model.image.prepare([IMAGE]).extra["input_ids"].tolist() == values["input_ids"].tolist()
    assert model.text.prepare(CAPTIONS[:1]).values.tolist() == tokens["input_ids"].tolist()
    if name.startswith("alibaba"):
        return  # its own code numbers positions in another way; see test_vision_language.py
    with torch.no_grad():
        first, second = (own(name).model(**inputs).last_hidden_state[:, -1] for inputs in (values, tokens))
    expected = float(F.cosine_similarity(first, second))
    actual = nibt.explain(model, IMAGE.pil_image, CAPTIONS[0], method="center").similarity
    assert actual == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", few(LATE, ("vidore-colpali-v1-3-hf",)))
def test_late_interaction_is_that_of_the_own_calls(name: str) -> None:
    processor = processor_of(name)
    with torch.no_grad():
        image = own(name)(**processor.process_images([IMAGE.pil_image])).embeddings
        query = own(name)(**processor.process_queries(CAPTIONS[:1])).embeddings
    expected = processor.score_retrieval(query, image).item()
    actual = nibt.explain(loaded(name), IMAGE.pil_image, CAPTIONS[0], method="center").similarity
    assert actual == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_models_with_code_of_their_own_are_refused_by_name(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FACTS[name]["config"]))
    load = nibt.load_model if FACTS[name]["use"] == "explain" else load_generator
    with pytest.raises(CannotLoad, match=message) as error:
        load(tmp_path)
    assert len(str(error.value)) < 500


def labels(name: str) -> list[int] | None:
    """Return the ids of a given answer as the processor of a model labels it for training; None if it does not."""
    processor, call = processor_of(name), FACTS[name]["call"]
    if "paligemma" in name:
        out = processor(images=IMAGE.pil_image, text=own_prompt(name)[1], suffix=ANSWER, return_tensors="pt")
        ids = out["labels"][0]
        return ids[(ids != -100) & (ids != processor.tokenizer.eos_token_id)].tolist()
    if not call.get("template") or not processor.chat_template:
        return None
    content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
    messages = [{"role": "user", "content": content}]
    answered = [*messages, {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]}]
    before = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    whole = processor.apply_chat_template(answered, tokenize=False)
    if not whole.startswith(before):
        return None  # as with SmolVLM, whose template ends a prompt in another way than a message
    start = whole.index(ANSWER, len(before)) + len(ANSWER)
    ids = [processor.tokenizer(text, add_special_tokens=False).input_ids for text in (before, whole[:start])]
    return ids[1][len(ids[0]) :]


@generators
def test_forced_answers_are_the_labels_of_the_processor(name: str) -> None:
    expected, tower = labels(name), loaded(name).answers
    if expected is None:
        expected = tower.tokenizer(ANSWER, add_special_tokens=False).input_ids
        text = own_prompt(name)[1]
        if text and text[-1:] in ":]" and not own(name).config.is_encoder_decoder:  # after which a blank follows
            before, both = (tower.tokenizer(piece).input_ids for piece in (text, f"{text} {ANSWER}"))
            expected = both[len(before) :]
    answer = tower.read(Prompted(IMAGE, own_prompt(name)[0]), ANSWER)
    assert [*answer.ids][-len(expected) :] == expected
    assert answer.text == ANSWER


@generators
@pytest.mark.parametrize("text", ["a naïve cat in a café", "東京 x² 🙂 ok", "👩‍🚀"])
def test_words_are_spans_of_characters(name: str, text: str) -> None:
    tower = loaded(name).answers
    answer = tower.read(Prompted(IMAGE, own_prompt(name)[0]), text)
    if tower.tokenizer.unk_token_id in answer.ids or answer.text != text:
        return  # BERT and T5 have no bytes of other characters
    pieces = {"東京 x² 🙂 ok": ["東", "京", "x²", "🙂", "ok"]}.get(text, text.split())
    assert [word.text for word in answer.words] == pieces
    assert sorted(row for word in answer.words for row in word.tokens) == list(range(len(answer.ids)))


@pytest.mark.parametrize("name", few(OPEN_CLIP, ("microsoft-biomedclip",)))
def test_models_of_open_clip_are_read_as_its_own_calls_do(name: str) -> None:
    place = f"local-dir:{folder_of(name)}"
    with tiny_open_clip.small_trunks(None):
        module, preprocess = open_clip.create_model_from_pretrained(place)
    module.eval()
    model, tokenizer = loaded(name), open_clip.get_tokenizer(place)
    pixels, ids = preprocess(IMAGE.pil_image)[None], tokenizer(CAPTIONS)
    assert model.text.prepare(CAPTIONS).values.tolist() == ids.tolist()
    torch.testing.assert_close(model.image.prepare([IMAGE]).values, pixels, atol=1e-6, rtol=0)
    with torch.no_grad():
        cosines = F.cosine_similarity(module.encode_image(pixels), module.encode_text(ids))
    for caption, cosine in zip(CAPTIONS, cosines.tolist(), strict=True):
        actual = nibt.explain(model, IMAGE.pil_image, caption, method="center").similarity
        assert actual == pytest.approx(cosine, abs=1e-5)


DIRTY = {
    "repetition_penalty": {"repetition_penalty": 3.0},
    "num_beams": {"num_beams": 3},
    "min_new_tokens": {"min_new_tokens": 8},
    "suppress_tokens": {"suppress_tokens": list(range(20, 200))},
    "bad_words_ids": {"bad_words_ids": [[token] for token in range(20, 200)]},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1},
    "guidance_scale": {"guidance_scale": 3.0},
    "stop_strings": {"stop_strings": ["e"]},
    "sampling": {"do_sample": True, "temperature": 0.2, "top_p": 0.5},
}


@pytest.mark.parametrize("setting", few(DIRTY, ("repetition_penalty",)))
def test_settings_of_a_folder_change_no_answer(setting: str, tmp_path: Path) -> None:
    """A note names those that would change it, and none names how a model draws."""
    name = "llava-hf-llava-1-5-7b-hf"
    shutil.copytree(folder_of(name), tmp_path / "model")
    path = tmp_path / "model" / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | DIRTY[setting]))
    prompted = Prompted(IMAGE, PROMPT)
    expected = loaded(name).answers.write(prompted, 2).ids
    generator = load_generator(tmp_path / "model")
    assert generator.answers.write(prompted, 2).ids == expected
    result = explain_answer(generator, IMAGE, PROMPT, method="center", other_images=[], max_words=2)
    notes = [note for note in result.warnings if "without the settings of the model" in note]
    assert [setting in note for note in notes] == ([] if setting == "sampling" else [True])
    by_settings = load_generator(tmp_path / "model", generation="model")
    state = torch.random.get_rng_state()
    own_module = LlavaForConditionalGeneration.from_pretrained(tmp_path / "model", dtype=torch.float32).eval()
    options = {"tokenizer": processor_of(name).tokenizer} if setting == "stop_strings" else {}
    with torch.no_grad():
        out = own_module.generate(**own_inputs(name), do_sample=False, max_new_tokens=8, **options)[0].tolist()
    written = list(by_settings.answers.write(prompted, 2).ids)
    assert out[own_inputs(name)["input_ids"].shape[1] :][: len(written)] == written
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", few(TEMPLATED, ("qwen-qwen2-vl-2b-instruct",)))
@pytest.mark.parametrize("prompt", ["assistant", "a", "user"])
def test_words_of_prompts_are_those_of_the_user(name: str, prompt: str) -> None:
    """They may be words of the template, too: changing them changes the tokens of their rows alone."""
    tower = loaded(name).answers
    ids = [tower._prepared(Prompted(IMAGE, text))["input_ids"][0].tolist() for text in (prompt, "zz")]
    (word,) = tower._prompt_words(Prompted(IMAGE, prompt), ids[0])
    first, last = min(word.tokens), max(word.tokens)
    assert ids[0][:first] == ids[1][:first]
    after = len(ids[0]) - last - 1
    assert ids[0][last + 1 :] == ids[1][len(ids[1]) - after :]


def test_a_whole_prompt_is_used_with_its_line_breaks() -> None:
    name = "qwen-qwen2-vl-2b-instruct"
    whole = loaded(name).answers.chat(PROMPT)
    assert whole.endswith("\n")
    results = [
        explain_answer(loaded(name), IMAGE, prompt, method="center", other_images=[], max_words=2)
        for prompt in (PROMPT, whole)
    ]
    assert results[0].answer == results[1].answer
    assert [word.log_probability for word in results[0].words] == [word.log_probability for word in results[1].words]


@pytest.mark.parametrize(
    "name",
    few(
        ["salesforce-blip2-opt-2-7b", "google-gemma-3-4b-it", "huggingfacetb-smolvlm-instruct"],
        ["google-gemma-3-4b-it"],
    ),
)
def test_tokens_by_which_a_model_reads_images_are_refused_in_a_prompt(name: str) -> None:
    piece = {
        "google-gemma-3-4b-it": "<image_soft_token>",
        "huggingfacetb-smolvlm-instruct": "<fake_token_around_image>",
    }
    with pytest.raises(BadInput, match=r"the prompt must not contain '<.*>', a token by which the model reads images"):
        explain_answer(loaded(name), IMAGE, f"is {piece.get(name, '<image>')} x", other_images=[])


def test_other_blanks_are_no_words() -> None:
    for name in ("llava-hf-llava-1-5-7b-hf", "qwen-qwen2-vl-2b-instruct"):
        answer = loaded(name).answers.read(Prompted(IMAGE, PROMPT), "a\r\nb\u00a0c\u3000")
        assert [word.text for word in answer.words] == ["a", "b", "c"]


def test_how_a_model_embeds_is_known_by_its_repository_alone(tmp_path: Path) -> None:
    place = tmp_path / "qwen3-vl-embedding-work" / "mine"
    shutil.copytree(folder_of("qwen-qwen2-vl-2b-instruct"), place)
    with pytest.raises(CannotLoad, match="nothing says that or how it embeds"):
        nibt.load_model(place)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # PEFT calls it
def test_adapters_outside_of_layers_are_refused() -> None:
    plain = LlavaForConditionalGeneration.from_pretrained(folder_of("llava-hf-llava-1-5-7b-hf"), dtype=torch.float32)
    tuned = get_peft_model(plain, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)).eval()
    with pytest.raises(CannotLoad, match="adapters of the kind PromptTuning change the input of a model"):
        load_generator(tuned, processor=processor_of("llava-hf-llava-1-5-7b-hf"))


class _Largest(TorchDispatchMode):
    """Remembers the length of the largest tensor that is created."""

    length = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        lengths = [leaf.numel() for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        self.length = max(self.length, *lengths, 0)
        return output


@pytest.mark.parametrize("answer", [None, "a cat"])
def test_a_task_beside_other_text_is_refused_in_words(answer: str | None) -> None:
    with pytest.raises(BadInput, match="the prompt must be a task alone"):
        explain_answer(loaded("florence-community-florence-2-base"), IMAGE, "<CAPTION> what", answer)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 9_000)])
@pytest.mark.parametrize("name", few(BUILT, ("llava-hf-llava-v1-6-mistral-7b-hf",)))
def test_no_strip_becomes_a_huge_image(name: str, size: tuple[int, int]) -> None:
    """A strip whose short side is resized to that of the model would have gigabytes."""
    strip, prompt = Image.new("RGB", size, "red"), "" if name in SILENT else CAPTIONS[0]
    if name in CLASSIFIERS:
        prompt = "tench"

    def explain(image: Image.Image) -> None:
        if name in ANSWERS:
            nibt.explain_answer(loaded(name), image, prompt, CAPTIONS[1], "grad_cam", batch_size=1)
        elif FACTS[name]["use"] == "score":  # whose network is not cut
            nibt.explain(loaded(name), image, prompt, "center")
        else:
            nibt.explain(loaded(name), image, prompt, "grad_cam")

    with _Largest() as largest:
        try:
            explain(strip)
        except BadInput as error:
            assert re.search("crop it|scale it down", str(error))  # noqa: PT017 - not all refuse it
    if largest.length >= 50_000_000:  # as GOT-OCR 2 has for any image: each of its 4096 patches attends to all
        with _Largest() as ordinary:
            explain(IMAGE.pil_image)
        assert largest.length <= ordinary.length
