"""The wrong answers in a log of lmms-eval, with their questions and images."""

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from nibt.data.images import is_url, names_image
from nibt.datasets._files import lines, natural, row_values
from nibt.datasets._records import RecordDataset, file_hash
from nibt.datasets._split_table import SplitTable, split_names
from nibt.datasets._table import caption_text
from nibt.datasets.base import ImageLocation, Record, Wanted
from nibt.errors import BadInput, BadOption
from nibt.records import JsonObject

_SIGNS = ("doc_id", "target", "filtered_resps")
"""Keys that each sample of a log has."""
_FACTS = (*_SIGNS, "doc", "arguments", "input", "resps", "token_counts", "doc_hash", "input_media")
"""Keys of a sample that are no metrics."""
_RIGHT = 0.5  # the least score of an answer that is not wrong
_QUESTIONS = ("question", "query", "prompt", "problem", "instruction", "text")
"""Columns by which it is checked that a row is that of a question."""
_FEWEST = 3  # words of a text that tells one question from another
_PLACE = re.compile(r"<image[^<>]*>")  # of an image in a question
_INLINE = re.compile(r"data:image/[\w.+-]+;base64,")
_GIVE = (
    "give the data set that was evaluated with -D data=FOLDER (in Python data=): its Parquet files, a folder of "
    "save_to_disk, or a folder of images"
)


def is_sample_log(path: Path) -> bool:
    """Return whether the first line of a file is a sample of lmms-eval."""
    line, where = next(lines(path), ("", ""))
    values = row_values(line, where)
    return isinstance(values, dict) and all(key in values for key in _SIGNS)


@dataclass(frozen=True)
class _Sample:
    """What a line of a log has."""

    where: str
    doc_id: object
    values: JsonObject
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class LmmsEval(RecordDataset, name="lmms_eval"):
    """Wrong answers in a log of samples of lmms-eval (--log_samples), for a generator.

    The wrong answers in a log of samples that lmms-eval wrote with ``--log_samples``, in the order of the log.
    ``folder`` is the path of the file, such as ``20260801_120000_samples_pope.jsonl``.

    An answer is wrong if its score is below 0.5. The key of a row is the ``doc_id`` of the log.

    K. Zhang et al., LMMs-Eval: Reality Check on the Evaluation of Large Multimodal Models, NAACL Findings 2025.

    Attributes:
        data: Where the images are, which a log has only rarely: the data set that was evaluated, as Parquet files (a
            file, or a folder as on the hub) or a folder of ``save_to_disk``, whose row ``doc_id`` has the image; or a
            folder of images with the names that the log has, or named by ``doc_id``. None means the images in the log.
        metric: The metric whose scores say which answers are wrong; None means the only one of the log.
        image: The column of ``data`` with the images.
        split: The split of ``data``; None means the only one.
    """

    data: str | Path | None = None
    metric: str | None = None
    image: str = "image"
    split: str | None = None

    @property
    def has_prompts(self) -> bool:
        return True

    def identity(self) -> JsonObject:
        options = {"metric": self._metric, "image": self.image, "split": self.split}
        return {"kind": "lmms_eval", "fingerprint": file_hash(self.root), **options}

    def quick_length(self) -> int:
        return len(self._wrong)

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        for row, sample in enumerate(self._wrong):
            yield self._record(row, sample) if wanted(row) else None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def _samples(self) -> list[_Sample]:
        """The samples of the log."""
        samples = []
        for line, where in lines(self.root):
            values = row_values(line, where)
            if isinstance(values, BadInput):
                raise values
            if not isinstance(values, dict) or any(key not in values for key in _SIGNS):
                raise BadInput(f"{where}: a sample of lmms-eval must be an object with {', '.join(_SIGNS)}")

            scores = {name: _score(value) for name, value in values.items() if name not in _FACTS}
            known = {name: score for name, score in scores.items() if score is not None}
            samples.append(_Sample(where, values["doc_id"], values, known))

        if not samples:
            raise BadInput(f"{self.root} has no samples: give a log that lmms-eval wrote with --log_samples")
        return samples

    @cached_property
    def _metric(self) -> str:
        """The name of the metric, whose scores are checked."""
        counts = Counter(name for sample in self._samples for name in sample.scores)
        metric = self._default_metric(counts) if self.metric is None else self.metric
        if metric not in counts:
            known = ", ".join(sorted(counts)) or "no metric with a score per sample"
            raise BadOption(f"{self.root.name} has no scores of {metric}: it has {known}; choose with -D metric=NAME")

        for sample in self._samples:
            score = sample.scores.get(metric, 0.0)
            if not 0 <= score <= 1:
                raise BadOption(
                    f"{sample.where}: scores of {metric} must be between 0 and 1 to tell which answers are wrong (got "
                    f"{score:g}): choose another metric, or write a table with the columns image, prompt and answer"
                )
        return metric

    def _default_metric(self, counts: Counter[str]) -> str:
        """Return the metric that all samples have; of several, only one whose scores are those of all others."""
        complete = [name for name, count in counts.items() if count == len(self._samples)] or list(counts)
        if not complete:
            others = sorted({key for sample in self._samples for key in sample.values} - {*_FACTS})
            raise BadInput(
                f"{self.root.name} has no score per sample (its metrics are {', '.join(others) or 'none'}), so it does "
                "not say which answers are wrong: write a table with the columns image, prompt and answer"
            )

        same = all(len({sample.scores.get(name) for name in complete}) == 1 for sample in self._samples)
        if not same:
            raise BadOption(
                f"{self.root.name} has scores of several metrics ({', '.join(sorted(complete))}): choose one with "
                "-D metric=NAME (in Python metric=)"
            )
        return complete[0]

    @cached_property
    def _wrong(self) -> list[_Sample]:
        """The samples whose answers are wrong."""
        metric = self._metric
        wrong = [sample for sample in self._samples if sample.scores.get(metric, 1.0) < _RIGHT]
        if not wrong:
            raise BadInput(
                f"{self.root.name} has no wrong answer: the scores of {metric} are at least {_RIGHT} in all samples "
                f"that have one ({sum(metric in sample.scores for sample in self._samples):,} of "
                f"{len(self._samples):,})"
            )
        if self.data is None and not any(_media(sample) for sample in wrong):
            raise BadInput(f"{self.root.name} has no images, as most logs of lmms-eval: {_GIVE}")
        if self.data is not None and not self._place.exists():
            raise BadInput(f"there is no data set {str(self.data)!r}: {_GIVE}")
        self._table  # noqa: B018 - a wrong split or column is one error, not one of each row
        return wrong

    def _record(self, row: int, sample: _Sample) -> Record:
        """Build the record of a sample; one that cannot be read gives a record with its error."""
        key = str(sample.doc_id)
        values = sample.values
        try:
            prompt = _prompt(values)
            answer = _answer(values)
            name, location = self._image(sample, prompt)
        except BadInput as error:
            return Record.of_error(error, row, sample.where, key)

        target = values["target"]
        return Record(
            (caption_text(prompt, "prompt"),),
            location,
            sample.where,
            row,
            name,
            key,
            caption_text(answer, "answer"),
            reference=target if isinstance(target, str) else str(target),
            log_score=sample.scores[self._metric],
        )

    @property
    def _place(self) -> Path:
        return Path(self.data or "").expanduser()

    @cached_property
    def _table(self) -> tuple[SplitTable, list[JsonObject]] | None:
        """The table with the images, and the texts of its rows by which they are checked; None without a table."""
        if self.data is None or (self._place.is_dir() and not split_names(self._place)):
            return None

        table = SplitTable.open(self._place, self.split)
        if self.image not in table.names:
            raise BadOption(
                f"{self._place} has no column {self.image}: it has {', '.join(table.names)}; choose that of the images "
                "with -D image=NAME (in Python image=)"
            )
        return table, table.rows(_QUESTIONS)

    def _image(self, sample: _Sample, prompt: str) -> tuple[str, ImageLocation]:
        """Return the name and the location of the image of a question."""
        if self.data is None:
            return _image_of_log(sample, self.root.parent)
        if self._table is not None:
            return self._image_of_table(sample, prompt)
        return self._image_of_folder(sample)

    def _image_of_table(self, sample: _Sample, prompt: str) -> tuple[str, ImageLocation]:
        assert self._table is not None
        table, texts = self._table
        row = sample.doc_id
        if not isinstance(row, int) or not 0 <= row < len(table):
            raise BadInput(f"doc_id must be a row of {self._place}, from 0 to {len(table) - 1} (got {row!r:.60})")

        questions = [_words(text) for text in texts[row].values() if isinstance(text, str)]
        telling = [text for text in questions if text.count(" ") >= _FEWEST - 1]
        if telling and not any(text in _words(prompt) for text in telling):
            raise BadInput(
                f"row {row} of {self._place} has another question ({telling[0]!r:.80}) than the log "
                f"({_words(prompt)!r:.80}): give the data and the split that were evaluated (-D split=NAME), or write "
                "a table with the columns image, prompt and answer"
            )
        return f"row {row}", table.cell(row, self.image)

    def _image_of_folder(self, sample: _Sample) -> tuple[str, ImageLocation]:
        """Return an image by its name in the log, or by the ``doc_id``."""
        media = sample.values.get("input_media")
        if isinstance(media, list) and len(media) > 1:
            raise _several_images(len(media))

        names = [text.split("?")[0] for text in _media(sample) if not _INLINE.match(text)]
        relative = [name for name in names if not Path(name).is_absolute() and ".." not in Path(name).parts]
        for name in (*relative, *(Path(name).name for name in names)):
            if not is_url(name) and (self._place / name).is_file():
                return name, str(self._place / name)

        paths = [path for path in self._place.glob(f"{_escaped(sample.doc_id)}.*") if names_image(path.name)]
        if paths:
            path = min(paths, key=lambda path: natural(path.name))
            return path.name, str(path)

        wanted = [*dict.fromkeys(Path(name).name for name in names), f"{sample.doc_id}.jpg (or .png)"]
        raise BadInput(f"{self._place} has no image of the question: it must have {' or '.join(wanted)}")


def _score(value: object) -> float | None:
    """Return the score of a metric: a number, or an object that has it as ``score``; None for others."""
    if isinstance(value, dict):
        value = value.get("score")
    if not isinstance(value, bool | int | float) or not math.isfinite(value):
        return None
    return float(value)


def _prompt(values: JsonObject) -> str:
    """Return the question as the model got it: the first argument of the request."""
    arguments = values.get("arguments")
    prompt = values.get("input", arguments[0] if isinstance(arguments, list) and arguments else None)
    while isinstance(prompt, list) and prompt:  # older logs have the arguments of each request
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt.strip():
        raise BadInput(f"the log has no text of the question as input (got {prompt!r:.60})")
    return prompt


def _answer(values: JsonObject) -> str:
    """Return what the model wrote: ``resps``, which are left out where the filters of the task changed nothing."""
    written = values.get("resps", values["filtered_resps"])
    while isinstance(written, list) and len(written) == 1:
        written = written[0]

    if isinstance(written, list):
        raise BadInput(
            f"the log has {len(written)} responses, as of tasks that compare the likelihoods of choices, or ask "
            "several times: only one written answer per question can be explained"
        )
    if not isinstance(written, str) or not written.strip():
        raise BadInput(f"the model wrote no answer (got {written!r:.60})")
    return written.strip()


def _media(sample: _Sample) -> list[str]:
    """Return the images that a sample has: names of files, addresses, or images as text; older logs have the doc."""
    media = sample.values.get("input_media")
    listed = media if isinstance(media, list) else []
    doc = sample.values.get("doc")
    named = doc.values() if isinstance(doc, dict) else ()
    texts = [text for text in (*listed, *named) if isinstance(text, str)]
    return [text for text in texts if _INLINE.match(text) or names_image(text.split("?")[0])]


def _image_of_log(sample: _Sample, folder: Path) -> tuple[str, ImageLocation]:
    """Return the image that a log has itself, or whose path it has."""
    media = list(dict.fromkeys(_media(sample)))
    inline = [text for text in media if _INLINE.match(text)]
    if len(inline or media) > 1:
        raise _several_images(len(inline or media))
    if inline:
        try:
            return f"doc {sample.doc_id}", base64.b64decode(_INLINE.sub("", inline[0], count=1), validate=True)
        except binascii.Error as error:
            raise BadInput(f"the image in the log is not Base64 ({error})") from error
    if not media:
        raise BadInput(f"the log has no image of the question: {_GIVE}")
    if is_url(media[0]) or not (folder / media[0]).is_file():
        raise BadInput(f"the image {media[0]!r:.200} of the log is no file here: {_GIVE}")
    return media[0], str(folder / media[0])


def _several_images(count: int) -> BadInput:
    return BadInput(
        f"the question has {count} images in the log, and a row of a job has one: explain it by nibt.explain_answer"
    )


def _words(text: str) -> str:
    """Return the words of a question, by which it is compared."""
    return " ".join(re.findall(r"\w+", _PLACE.sub(" ", text).casefold()))


def _escaped(doc_id: object) -> str:
    """Return an id as a pattern of names of files, which matches itself only."""
    return re.sub(r"([\[\]*?])", r"[\1]", Path(str(doc_id)).name)
