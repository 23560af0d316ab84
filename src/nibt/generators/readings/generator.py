"""What nibt reads of a generator."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from nibt.data.images import ImageInput
from nibt.engine.reading import image_line, token_line
from nibt.generators.answers import ForcedWord, Generator, Prompted
from nibt.generators.loading import load_generator, replay_errors
from nibt.generators.writing import changed_settings
from nibt.options import Keywords
from nibt.preprocessing.captions import Tokenizer
from nibt.registry import Plugin

_ANSWER = "a cat"


class GeneratorReading(Plugin, name="generator"):
    """The lines of a model that writes."""

    @staticmethod
    def load(name: str, loading: Keywords) -> Generator:
        """Load a generator."""
        return load_generator(name, **loading)

    @staticmethod
    def lines(model: Generator, image: ImageInput, text: str | None) -> dict[str, str]:
        """Return the lines of a model that writes."""
        tower = model.answers
        tokenizer = model.answers.tokenizer
        prompt = tower.example_prompt if text is None or tower.prompts == "none" else text
        prompted = Prompted(image, prompt)
        answer = tower.read(prompted, _ANSWER)
        inputs = tower.prepare([ForcedWord(prompted, answer)])
        rows = [token_line(_texts(tokenizer, row)) for row in _prompt_ids(inputs.extra, list(answer.ids))]
        has_template = bool(getattr(model.request.processor, "chat_template", None))
        template = "in the chat template" if has_template else "without a chat template"
        errors = replay_errors(tower, inputs)
        cut = ", ".join(str(layer) for layer in errors if layer is not None)
        return {
            "image": image_line(tower, inputs, image, model.request.image_processor),
            "prompt": f"{prompt!r} {template} becomes {'; '.join(rows)}",
            "answer": f"{_ANSWER!r} becomes {token_line(_texts(tokenizer, answer.ids))}",
            "sources": ", ".join(tower.sources),
            "layers": str(tower.depth),
            "generation": _generation_line(model),
            "cut": f"passed: cut at layers {cut}, log-probabilities are those of the whole model (by at most "
            f"{max(errors.values()):.0e})",
        }


def _prompt_ids(inputs: Mapping[str, Tensor], answer: list[int]) -> list[list[int]]:
    """Return the ids of each sequence that reads the prompt; the last one may end with the answer."""
    names = [name for name in ("question", "qformer_input_ids", "input_ids", "ids") if name in inputs]
    ids = [inputs[name][0].tolist() for name in names]
    if ids and ids[-1][-len(answer) :] == answer:
        del ids[-1][-len(answer) :]
    return ids


def _generation_line(model: Generator) -> str:
    """Return how a model writes, and whether the settings of its folder are used."""
    tokenizer = model.answers.tokenizer
    ends = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    if ends is None:
        ends = tokenizer.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    line = f"the most probable token until {' or '.join(_texts(tokenizer, ends))}"

    settings = ", ".join(f"{name}={value}" for name, value in changed_settings(model.module).items())
    if not settings:
        return line

    used = "used" if model.request.generation == "model" else "not used: generation=model uses them"
    return f"{line}; settings of the folder: {settings} ({used})"


def _texts(tokenizer: Tokenizer, ids: Iterable[int | None]) -> list[str]:
    """Return the texts of tokens; an id without a token, such as the start of BLIP's decoder, in brackets."""
    pieces = [None if number is None else tokenizer.convert_ids_to_tokens(number) for number in ids]
    return [f"[{number}]" if piece is None else str(piece) for number, piece in zip(ids, pieces, strict=True)]
