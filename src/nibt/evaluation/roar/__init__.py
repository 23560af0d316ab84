"""ROAR+: remove what a map is highest for, train again, and see how much less the model learns.

The protocol of the papers of M2IB and NIB (after ROAR, Hooker et al., 2019), made affordable: training may start from
cached features, or be of the last blocks only, and a run goes on where it was stopped. ``docs/roar.md`` says what was
chosen.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from nibt.data.pair import Pair, pairs_hash, require_image_text
from nibt.engine.spec import resolve
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.evaluation.maps import raw_scores, with_controls
from nibt.evaluation.roar.bootstrap import Bootstrap, stats
from nibt.evaluation.roar.folder import ORIGINAL, Cell, Folder
from nibt.evaluation.roar.inputs import TowerInputs
from nibt.evaluation.roar.settings import FORMS, HIDDEN, LEAST_PAIRS, Settings, chosen, rates
from nibt.evaluation.roar.trainers import KINDS, Trainer, trained_blocks
from nibt.evaluation.roar.training import Sources, fitting, split, trained, untrained
from nibt.methods.base import SIDES, MethodSpec
from nibt.models._loading import load_model
from nibt.models.base import Model
from nibt.progress import OnProgress, Progress, no_progress
from nibt.registry import find
from nibt.results.roar import Roar, Training
from nibt.torch_modes import plain_torch
from nibt.types import Modality


@plain_torch()
def roar(
    model: Model | str | Path | nn.Module,
    pairs: Sequence[Pair],
    methods: str | Sequence[str] = "nib",
    *,
    out: str | Path,
    form: str | Iterable[str] = "features",
    hidden: str | Iterable[str] = HIDDEN,
    repeats: int = 3,
    rate: float | Mapping[str, float] | None = None,
    data: Mapping[str, Any] | None = None,
    on_progress: OnProgress = no_progress,
    **choices: Any,
) -> Roar:
    """Measure how much less a model learns from pairs without what each method's maps are highest for.

    ``methods`` are names, or names with a variant (``nib:paper``); ``random``, ``centre`` and ``ones`` always come
    along. ``form`` is one or several of ``features`` (cached embeddings, a linear map on each side), ``last`` (the last
    blocks and the heads, from cached streams) and ``whole``; ``hidden`` one or several of ``image``, ``text`` and
    ``both``. ``rate`` is Adam's, for all forms or by form. ``choices`` are the fields of
    ``nibt.evaluation.roar.settings.Settings``: ``epochs``, ``batch_size``, ``validation``, ``image_percentile``,
    ``text_percentile``, ``blocks``, ``start``, ``seed``, ``explain_batch``.

    ``out`` is the folder of the run. One that is there goes on, with the same bits, and may be given more methods,
    forms and repeats. The model is not changed: copies are trained.

    Raises:
        BadInput: There are fewer than 10 pairs.
        OtherRequest: The folder holds a run of other settings, of another model or of other pairs.
        BadOption: An option cannot have that value, or training came apart.
        UnknownName: No method, variant or option has that name.
        Unsupported: scipy is not there, the model is not in float32, or it lacks what a method needs.

    """
    named = [MethodSpec.parse(name) for name in dict.fromkeys([methods] if isinstance(methods, str) else methods)]
    forms, kinds = chosen("form", form, FORMS), chosen("hidden", hidden, HIDDEN)
    settings = _settings(rate, choices)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or repeats < 1:
        raise BadOption(f"repeats must be a whole number of at least 1 (got {repeats!r})")
    _check_sides(named)
    stats()
    if len(pairs) < LEAST_PAIRS:
        raise BadInput(
            f"at least {LEAST_PAIRS} pairs are needed, to train with some and validate with others (got {len(pairs)})"
        )
    pairs = [require_image_text(pair, "roar") for pair in pairs]
    model = load_model(model)
    if model.dtype != "float32":
        raise Unsupported(f"models are trained in float32 (got {model.dtype}): load it with dtype='float32'")
    asked = with_controls(named)
    for one in asked:
        resolve(model, one, seed=settings.seed)  # names and what the model lacks are told before any work
    run = RoarRunner(model, pairs, asked, forms, kinds, repeats, settings, Path(out), data or {"pairs": len(pairs)})
    run.go(on_progress)
    return run.result()


class RoarRunner:
    """A run: what is asked of it, and its folder."""

    def __init__(
        self,
        model: Model,
        pairs: Sequence[Pair],
        asked: Sequence[MethodSpec],
        forms: Sequence[str],
        kinds: Sequence[str],
        repeats: int,
        settings: Settings,
        out: Path,
        data: Mapping[str, Any],
    ) -> None:
        self.model, self.pairs, self.asked, self.data = model, pairs, asked, dict(data)
        self.forms, self.kinds, self.repeats, self.settings = forms, kinds, repeats, settings
        self.whole: dict[Modality, TowerInputs] = {
            side: TowerInputs.of(model.tower(side), [_item(pair, side) for pair in pairs]) for side in SIDES
        }
        self.made: dict[str, Trainer] = {}
        self.kept: dict[tuple[str, Modality], Any] = {}
        for name in forms:
            self.form(name)  # what the model does not allow is told before anything is written
        self.fits = fitting(pairs)
        facts = model.facts()
        self.folder = Folder.begin(
            out, {"model": facts, "data": self.data, "pairs": pairs_hash(pairs), "choices": settings.record()}
        )
        self.session = self.folder.session()

    def form(self, name: str) -> Trainer:
        """A form, made once."""
        if name not in self.made:
            blocks, size = self.settings.blocks, self.settings.explain_batch
            self.made[name] = KINDS[name](self.model, self.whole, blocks, size)
        return self.made[name]

    def cells(self, form: str, method: str) -> list[Cell]:
        """The trainings of a form and a method."""
        kinds = ("",) if method == ORIGINAL else self.kinds
        return [Cell(form, method, kind, repeat) for kind in kinds for repeat in range(self.repeats)]

    def go(self, on_progress: OnProgress) -> None:
        """Train what is lacking."""
        work = [(form, method) for form in self.forms for method in (ORIGINAL, *map(str, self.asked))]
        count, done = sum(len(self.cells(*one)) for one in work), 0
        before = _fresh_hash(self.model)
        for name, method in work:
            cells = self.cells(name, method)
            left = [cell for cell in cells if not self.folder.has(cell)]
            done += len(cells) - len(left)
            if not left:
                continue
            on_progress(Progress(done, count, f"{name}: {method}"))
            form = self.form(name)
            untouched: Sources = {side: self._source(form, side) for side in SIDES}
            fed = untouched if method == ORIGINAL else self._fed(form, method, _Reporter(on_progress, done, count))
            for cell in left:
                on_progress(Progress(done, count, f"{name}: {method} {cell.hidden}".rstrip()))
                self.folder.keep(cell, self._trained(form, cell, fed, untouched))
                done += 1
        on_progress(Progress(done, count, "done"))
        if _fresh_hash(self.model) != before:
            raise Unsupported(f"the weights of {self.model.id} changed meanwhile: measure a model that is at rest")

    def _source(self, form: Trainer, side: Modality) -> Any:
        """The untouched material of a side, made once for each form."""
        if (form.name, side) not in self.kept:
            self.kept[form.name, side] = form.source(side, self.whole[side])
        return self.kept[form.name, side]

    def _fed(self, form: Trainer, method: str, report: "_Reporter") -> Sources:
        """Both sides without what the method's maps are highest for."""
        asked = next(one for one in self.asked if str(one) == method)
        own, pairs = self.settings, self.pairs

        def on_progress(progress: Progress) -> None:
            report(f"maps of {method}: {progress.done} of {progress.total}")

        scores = self.folder.maps(
            method, lambda: raw_scores(self.model, pairs, asked, own.seed, own.explain_batch, on_progress)
        )
        percentiles: dict[Modality, int] = {"image": own.image_percentile, "text": own.text_percentile}
        return {
            side: form.source(
                side, self.whole[side].without(self.model.tower(side), scores[side], percentiles[side], own.seed)
            )
            for side in SIDES
            if any(kind in (side, "both") for kind in self.kinds)
        }

    def _trained(self, form: Trainer, cell: Cell, fed: Sources, untouched: Sources) -> dict[str, Any]:
        started = time.perf_counter()
        chosen: Sources = {side: fed[side] if cell.hidden in (side, "both") else untouched[side] for side in SIDES}
        told = {
            "losses": trained(form, chosen, untouched, self.fits, self.settings, cell.repeat),
            "parameters": form.count,
            "seconds": time.perf_counter() - started,
        }
        if cell.method == ORIGINAL:
            told["before"] = untrained(form, untouched, self.fits, self.settings, cell.repeat)
        return told

    def result(self) -> Roar:
        """What the files of the run say."""
        losses: dict[tuple[str, str, str], np.ndarray] = {}
        trainings = []
        for form in self.forms:
            kept = {
                cell: self.folder.read(cell)
                for method in (ORIGINAL, *map(str, self.asked))
                for cell in self.cells(form, method)
            }
            for cell, told in kept.items():
                key = (form, "" if cell.method == ORIGINAL else cell.method, cell.hidden)
                losses[key] = np.array([*losses.get(key, []), told["losses"]])
            trainings.append(self._training(form, kept))
        resampled = Bootstrap(losses, self.settings.seed)
        return Roar(
            self.model.facts(),
            self.data,
            self.settings.record()
            | {
                "blocks": {side: trained_blocks(self.model, side, self.settings.blocks) for side in SIDES},
                "repeats": self.repeats,
                "hidden": list(self.kinds),
                "training": self._sizes()[0],
                "validating": self._sizes()[1],
            },
            tuple(map(str, self.asked)),
            self.session["versions"],
            self.session["machine"],
            self.session["began"],
            tuple(trainings),
            tuple(resampled.gains()),
            tuple(resampled.agreements()),
            tuple(self._notes()),
        )

    def _training(self, form: str, kept: Mapping[Cell, dict[str, Any]]) -> Training:
        originals = [told for cell, told in kept.items() if cell.method == ORIGINAL]
        before, after = (float(np.mean([told[name] for told in originals])) for name in ("before", "losses"))
        seconds = sum(told["seconds"] for told in kept.values()) / len(kept)
        rate = self.settings.rates[form]
        return Training(form, originals[0]["parameters"], rate, before, after, seconds)

    def _sizes(self) -> tuple[int, int]:
        train, check = split(len(self.pairs), self.settings, 0)
        return len(train), len(check)

    def _notes(self) -> Iterator[str]:
        count = len(self.pairs)
        yield (
            f"{self.fits.sum() / (count * (count - 1)):.1%} of the negatives are none (the caption fits that "
            "image, too) and are left out of every loss"
        )
        explained = [group.inputs.words.explained for group in self.whole["text"].groups if group.inputs.words]
        short = sum(int(words.sum()) == 1 for group in explained for words in group)
        if short:
            yield f"{short} of {count} captions have a single token, which is hidden whatever the map"
        if self.repeats == 1:
            yield "there is one repeat: the intervals know nothing of the luck of the split and the order"


def _settings(rate: float | Mapping[str, float] | None, choices: Mapping[str, Any]) -> Settings:
    from dataclasses import fields

    from nibt.errors import UnknownName

    known = {one.name for one in fields(Settings)} - {"rates"}
    for name in choices:
        if name not in known:
            raise UnknownName("options", name, known)
    return replace(Settings(rates=rates(rate)), **choices)


def _check_sides(asked: Sequence[MethodSpec]) -> None:
    """Refuse a method that has no map of what is to be hidden."""
    for one in asked:
        sides = find("methods", one.name).sides
        for side in SIDES:
            if side not in sides:
                raise BadOption(f"{one} has no map of the {side} side, and both sides are explained here: leave it out")


def _item(pair: Pair, side: Modality) -> Any:
    return pair.image if side == "image" else pair.caption


@dataclass(frozen=True)
class _Reporter:
    """Reports what happens within one step."""

    on_progress: OnProgress
    done: int
    total: int

    def __call__(self, stage: str) -> None:
        self.on_progress(Progress(self.done, self.total, stage))


def _fresh_hash(model: Model) -> str:
    """The hash of the weights as they are now, whatever was remembered."""
    return replace(model, _hashes={}).weights_hash
