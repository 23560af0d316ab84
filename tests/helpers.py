"""What tests of several folders share: assertions, inputs and sides of tiny models, and the state of a model."""

import json
import math
import re
import sys
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import nibt
from nibt.core.side import Side
from nibt.data.pair import Pair
from nibt.engine.explain import explain
from nibt.errors import Unsupported
from nibt.methods.base import pair_methods
from nibt.models._inputs import Cut
from nibt.models.base import Inputs, Model, Tower
from nibt.options import Range, _Rule, _rule, field_types
from nibt.registry import find
from nibt.results.attribution import PathSummary, allowed
from nibt.results.explanation import Explanation
from nibt.results.regions import Regions
from nibt.targets.base import CosineSimilarity
from tests import tiny

ROOT = Path(__file__).parents[1]
Run = Callable[..., tuple[int, str, str]]
"""The command in an empty folder: it returns the exit code, standard output and standard error."""
both_sides = pytest.mark.parametrize("modality", ["image", "text"])

# Assertions


@contextmanager
def recipe_modules(name: str) -> Iterator[None]:
    """Let modules of a folder of recipes be imported, and forget them at the end: several folders have a ``train``."""
    folder = str(ROOT / "recipes" / name)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        for module in [key for key, each in sys.modules.items() if _file_of(each).startswith(folder)]:
            del sys.modules[module]


def _file_of(module: Any) -> str:
    return str(getattr(module, "__file__", ""))


def assert_close(actual: Tensor, expected: Tensor, share: float = 1e-5, least: float = 0.0, rtol: float = 0.0) -> None:
    """Check that tensors are equal to a share of the largest expected value, or to ``least`` if that is more."""
    atol = max(share * float(expected.detach().abs().max()), least)
    torch.testing.assert_close(actual, expected, atol=atol, rtol=rtol)


def assert_embeddings_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Check that embeddings have the same direction, and the same numbers up to rounding."""
    assert F.cosine_similarity(actual, expected, dim=-1).min() > 0.99999
    assert_close(actual, expected, tolerance, tolerance, tolerance)


def assert_same_bits(actual: Explanation, expected: Explanation) -> None:
    """Check that two explanations are equal to the bit, and hold plain tensors."""
    for side in ("image", "text"):
        one, other = getattr(actual, side).scores, getattr(expected, side).scores
        assert one.device.type == "cpu"
        assert one.dtype == torch.float32
        assert not one.is_inference(), "it could not be used with gradients afterwards"
        assert not one.requires_grad
        assert torch.equal(one, other), f"{side}: {float((one - other).abs().max() / other.abs().max()):.2g}"
    assert actual.to_json() == expected.to_json()


def check_page(text: str, links: Sequence[str] = ()) -> str:
    """Check that a page is valid HTML, and that its policy allows what is in it and nothing else; return the page.

    ``links`` are the addresses of other files to which it has links.
    """
    import html5lib  # here, since the core tests run without it

    html5lib.HTMLParser(strict=True).parse(text)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert policy.endswith("; base-uri 'none'; form-action 'none'")
    assert text.index("Content-Security-Policy") < min(text.index("<style>"), text.index("<title>"))
    for kind, name in (("style", "style-src"), ("script", "script-src")):
        sources = re.search(rf"{name} ([^;]*)", policy)
        assert sources is not None
        inside = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        hashes = [f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in inside]
        assert sources[1].split() == (hashes or ["'none'"])
    tree = html5lib.parse(text, namespaceHTMLElements=False)
    for element in tree.iter():
        names = {str(name).lower() for name in element.attrib}
        assert "style" not in names
        assert not any(name.startswith("on") for name in names)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            address = element.attrib.get(name, "data:")
            is_link = (element.tag, name) == ("a", "href") and address in links
            assert is_link or address.startswith(("data:", "#")), (element.tag, name)
        assert element.tag not in ("link", "iframe", "object", "embed", "base")
        assert element.tag != "script" or set(element.attrib) <= {"type", "class"}
    assert "@import" not in text
    assert "url(" not in text
    return text


# Oracles


def peer(name: str) -> Any:
    """Return what another package has under a dotted name; without the package the test is skipped."""
    module, _, member = name.rpartition(".")
    package = name.partition(".")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(pytest.importorskip(module, reason=f"the oracle is {package}: pip install {package}"), member)


def captum(name: str) -> Any:
    """Return what captum has under a dotted name, such as ``attr.Saliency``; without captum the test is skipped."""
    return peer(f"captum.{name}")


Record = Callable[[str, object], None]
"""pytest's ``record_property``: it writes to the report that ``--junitxml`` names."""


def assert_error_below(bound: float, actual: Any, expected: Any, record: Record) -> None:
    """Check the largest error of numbers, and record it."""
    actual, expected = (np.asarray(values, dtype=np.float64) for values in (actual, expected))
    assert actual.shape == expected.shape
    assert bound < 1e-3 * np.ptp(expected), "the bound is no small share of the numbers"
    error = float(np.abs(actual - expected).max())
    record("largest error", error)
    assert error <= bound, f"largest error {error:.2g}, of numbers up to {np.abs(expected).max():.2g}"


# Inputs and sides


def make_inputs(tower: Tower, count: int = 2, first_seed: int = 0) -> Inputs:
    """Return the inputs of a tower for several images or captions."""
    if tower.modality == "image":
        return tower.prepare([tiny.image(seed=seed) for seed in range(first_seed, first_seed + count)])
    return tower.prepare(list(tiny.CAPTIONS[:count]))


def make_side(model: Model, modality: str, captions: tuple[str, ...] = tiny.CAPTIONS[:2]) -> Side:
    """Return one side of two pairs, whose score is the cosine with the other side."""
    image = model.image.trace(model.image.prepare([tiny.image(seed=seed) for seed in (1, 2)]))
    text = model.text.trace(model.text.prepare(captions))
    own, other = (image, text) if modality == "image" else (text, image)
    return Side(model, own, lambda embedding: cosine(embedding, other.embedding.detach()))


_CAPTIONS = (
    "a photo of a cat",
    "two red cars on a mat",
    "the blue sky with a bird",
    "a small gray dog",
    "cats on a tree",
    "a sleeping red bird",
    "the dog and the cars",
    "a photo of the two cats",
    "cat",
    "the small tree",
    "a red mat",
    "two birds",
)


def noise_pairs(count: int) -> list[Pair]:
    """Return images of noise with captions that differ; the first eight captions have at least three words."""
    return [Pair(tiny.image(seed=item), _CAPTIONS[item % len(_CAPTIONS)]) for item in range(count)]


# Methods

cosine = CosineSimilarity()
METHODS = {name: find("methods", name) for name in pair_methods()}
"""The methods of dual encoders; those that need the vectors of late interaction are tested with such models."""
QUICK: dict[str, dict[str, Any]] = {
    "banzhaf": {"budget": 64},
    "fixlip": {"budget": 64},
    "grad_cam": {"layer": 1},
    "integrated_gradients": {"steps": 4},
    "m2ib": {"steps": 2, "samples": 2, "layer": 1},
    "mfaba": {"steps": 2},
    "nib": {"steps": 2},
    "rise": {"masks": 32},
    "shapley": {"budget": 64},
}
"""Options that make an expensive method quick, and layers that are not among the last two: these towers are shallow,
and the output of a last block reaches the score by one row only. What a method keeps, it keeps with any options.
"""
CHEAP = {
    **QUICK,
    "integrated_gradients": {"steps": 2},
    "rise": {"masks": 8},
    "shapley": {"budget": 16},
    "banzhaf": {"budget": 16},
    "fixlip": {"budget": 16},
}


def explain_cheaply(kind: str, method: str) -> Explanation:
    """Explain one pair with a tiny model and few steps."""
    return explain(tiny.model(kind), tiny.image(), tiny.CAPTIONS[0], method, **CHEAP.get(method, {}))


@cache
def cheap_explanation(kind: str, method: str) -> Explanation | None:
    """The same, once per session; None if the model has no attention and the method needs it."""
    try:
        return explain_cheaply(kind, method)
    except Unsupported:
        return None


def explain_with_table(caption: str = tiny.CAPTIONS[0], **options: Any) -> tuple[Explanation, Regions]:
    """Explain a tiny image, and compute its word-region table with these options."""
    model, image = tiny.model("clip"), tiny.image()
    answer, table = nibt.explain(model, image, caption), nibt.regions(model, image, caption, **options)
    assert isinstance(answer, Explanation)
    assert isinstance(table, Regions)
    return answer, table


# The output of the authors


@dataclass(frozen=True)
class Golden:
    """A random model, and what the code of the authors returns for it.

    Attributes:
        folder: The folder of the model, the images and the outputs.
        outputs: The outputs by their names.
        images: The images of the cases.
        captions: The captions of the cases.

    """

    folder: Path
    outputs: dict[str, np.ndarray]
    images: list[Path]
    captions: list[str]

    @classmethod
    def read(cls, folder: Path) -> "Golden":
        """Read the outputs and the cases of a folder."""
        cases = json.loads((folder / "cases.json").read_text())
        with np.load(folder / "reference.npz") as file:
            outputs = {name: file[name] for name in file.files}
        return cls(folder, outputs, [folder / name for name in cases["images"]], cases["captions"])

    @property
    def model(self) -> Model:
        """The model, loaded anew."""
        return nibt.load_model(self.folder / "clip")


def stretch(scores: Tensor) -> np.ndarray:
    """Return scores stretched to [0, 1], as the authors publish their maps; a flat map becomes 0."""
    return ((scores - scores.min()) / (scores.max() - scores.min()).clamp_min(1e-12)).detach().numpy()


# The state of a model, and of folders


def count_hooks(module: nn.Module) -> int:
    """Return the number of hooks on a module and its parts."""
    parts = list(module.modules())
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(part, kind)) for part in parts for kind in kinds)


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by its name; a link counts as the file it points to."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def list_folder() -> list[str]:
    """Return the names in the current folder."""
    return sorted(path.name for path in Path().iterdir())


def compare(kind: str, first: Any, second: Any, **options: Any) -> Any:
    """Explain two images or two captions with a tiny model."""
    answer = nibt.compare(tiny.model(kind), first, second, **options)
    assert isinstance(answer, nibt.Explanation | list)
    return answer


def page_data(text: str) -> dict[str, Any]:
    """Return the data of a page, as a browser reads it."""
    import html5lib

    tree = html5lib.parse(text, namespaceHTMLElements=False)
    (element,) = [one for one in tree.iter("script") if one.attrib.get("type") == "application/json"]
    return json.loads(element.text)


varied_kinds = pytest.mark.parametrize(
    "kind", ["clip", "siglip", "siglip naflex", "own vit", "coca", "bert", "convnext"]
)


def is_number(field_type: Any) -> bool:
    """Whether the field of an option is a number, or a number or None."""
    rule = _rule(field_type)
    return rule is not None and rule.target in (int, float)


def rules(kind: type) -> dict[str, _Rule]:
    """Return the rule of each option of a plugin that has a range or listed words."""
    found = {name: _rule(field_type) for name, field_type in field_types(kind).items()}
    return {name: rule for name, rule in found.items() if rule is not None and rule.limits is not None}


def refused(rule: _Rule) -> list[Any]:
    """Return values just outside of the range of a rule, or words that it does not list."""
    if rule.target is str:
        return ["", "another"]
    limits = rule.limits
    assert isinstance(limits, Range)
    step = 1 if rule.target is int else 1e-9
    low = limits.low if limits.above else limits.low - step
    high = limits.high if limits.below else limits.high + step
    numbers = [low, high] if math.isfinite(high) else [low]
    return numbers if rule.target is int else [*numbers, math.nan]


def at_end(of: Side, name: str, layer: int | None, cut: Cut, state: Tensor) -> Tensor:
    """Compute the score at the low end of a path: of the baseline, or of a state before it."""
    with torch.no_grad():
        return of.score(of.end(name, layer, cut, state))


def all_tokens(path: PathSummary) -> Tensor:
    """Return the sum of the scores of all tokens, special tokens included."""
    return path.sum + path.special_tokens


def is_rough(path: PathSummary) -> bool:
    """Return whether what is shown misses more than 30 % of the change."""
    return bool(path.gap.abs() > allowed(path.at_input - path.at_baseline, 0.3))
