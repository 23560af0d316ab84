"""The queries whose first result is wrong in predictions of MTEB, with what was retrieved."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from nibt.datasets._files import format_errors, read_json
from nibt.datasets._records import RecordDataset, file_hash
from nibt.datasets._split_table import SplitTable
from nibt.datasets._table import TableCell, caption_text
from nibt.datasets.base import Record, Wanted
from nibt.errors import BadInput, BadOption
from nibt.records import JsonObject, is_finite

_META = "mteb_model_meta"
_DEFAULT = "default"  # the subset of tasks that have one
_TEXTS = ("_id", "id", "text", "title", "modality")
_FOLDERS = {"corpus": ("corpus",), "queries": ("query", "queries"), "qrels": ("qrels", "default", "data")}
"""The folders of a data set of the hub; those of another subset begin with its name."""
_Scores = Mapping[str, Mapping[str, float]]
_LAYOUT = (
    "a copy of the task's data set on the hub, with the folders corpus, queries (or query) and qrels of Parquet files, "
    "or folders of save_to_disk with these names"
)


@dataclass(frozen=True)
class _Item:
    """A query or a document: a text or an image."""

    name: str
    text: str
    image: TableCell | None


@dataclass(frozen=True, kw_only=True)
class MTEB(RecordDataset, name="mteb"):
    """Queries whose first result is wrong in predictions of MTEB, each with that result.

    The queries whose first retrieved document is not relevant, in predictions that MTEB saved
    (``prediction_folder=``), for tasks of images and texts. A row has the image and the text of the query and the
    document; its key is the id of the query. ``folder`` is the file ``TASK_predictions.json``, or its folder.

    Queries without relevant documents are left out, as in MTEB.

    C. Xiao et al., MIEB: Massive Image Embedding Benchmark, ICCV 2025; N. Muennighoff et al., MTEB: Massive Text
    Embedding Benchmark, EACL 2023.

    Attributes:
        data: A copy of the data set of the task, which has the queries, the documents and which are relevant: a folder
            as on the hub, with ``corpus``, ``queries`` (or ``query``) and ``qrels``.
        subset: The subset, such as a language; None means the only one.
        split: The split; None means the only one.
        compare: Whether each result is compared with the first relevant document, for the target ``difference``.
    """

    data: str | Path | None = None
    subset: str | None = None
    split: str | None = None
    compare: bool = False

    @property
    def compares(self) -> bool:
        return self.compare

    @property
    def against(self) -> str | None:
        """What each row is compared with, as the column of a table: ``against`` or ``against_image``."""
        if not self.compare:
            return None
        return "against_image" if self._documents_have_images else "against"

    def identity(self) -> JsonObject:
        options = {"subset": self.subset, "split": self.split, "compare": self.compare}
        return {"kind": "mteb", "fingerprint": file_hash(self._file), **options}

    def quick_length(self) -> int:
        return len(self._wrong)

    def stream(self, wanted: Wanted) -> Iterator[Record | None]:
        for row, (query, document) in enumerate(self._wrong):
            yield self._record(row, query, document) if wanted(row) else None

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def _file(self) -> Path:
        """The file of the predictions."""
        if not self.root.is_dir():
            return self.root

        files = sorted(self.root.glob("*_predictions.json"))
        if len(files) != 1:
            names = ", ".join(path.name for path in files[:5]) or "none"
            raise BadInput(f"{self.root} must have one file *_predictions.json (got {names}): give the file itself")
        return files[0]

    @cached_property
    def _chosen(self) -> tuple[str, str, _Scores]:
        """The subset and the split, with the scores of the documents of each query."""
        data = read_json(self._file)
        subsets = {name: value for name, value in data.items() if name != _META} if isinstance(data, dict) else {}
        if not subsets or not all(isinstance(value, dict) for value in subsets.values()):
            raise self._other_layout()

        if all(_is_ranking(value) for value in subsets.values()):  # of the first version of MTEB
            return self.subset or _DEFAULT, self.split or "test", subsets

        subset = _one_of("subset", self.subset, subsets)
        split = _one_of("split", self.split, subsets[subset])
        scores = subsets[subset][split]
        if not isinstance(scores, dict) or not scores or not all(_is_ranking(value) for value in scores.values()):
            raise self._other_layout()
        return subset, split, scores

    def _other_layout(self) -> BadInput:
        return BadInput(
            f"{self._file} has no predictions of a retrieval task: MTEB writes such a file, with the scores of the "
            "documents of each query, if a task of retrieval is evaluated with prediction_folder="
        )

    @cached_property
    def _relevant(self) -> dict[str, list[str]]:
        """The ids of the relevant documents of each query."""
        table = self._open("qrels")
        relevant: dict[str, list[str]] = {}
        with format_errors(str(table.paths[0].parent)):
            for row in table.rows(("query-id", "corpus-id", "score")):
                if int(row["score"]) > 0:
                    relevant.setdefault(str(row["query-id"]), []).append(str(row["corpus-id"]))
        return relevant

    @cached_property
    def _wrong(self) -> list[tuple[str, str]]:
        """The queries whose first result is not relevant, with that result."""
        scores = self._chosen[2]
        relevant = self._relevant
        judged = [query for query in scores if relevant.get(query) and scores[query]]
        if not judged:
            raise BadInput(
                f"none of the {len(scores):,} queries of {self._file.name} has results and relevant documents in "
                f"{self.data}: give the data set of the same task"
            )

        firsts = [(query, max(scores[query], key=lambda name: scores[query][name])) for query in judged]
        wrong = [(query, first) for query, first in firsts if first not in relevant[query]]
        if not wrong:
            raise BadInput(f"{self._file.name} has no wrong first result: all {len(judged):,} are relevant")
        self._queries  # noqa: B018 - a missing table is one error, not one of each row
        self._documents  # noqa: B018
        return wrong

    def _open(self, part: str) -> SplitTable:
        """Open the table of the queries, of the documents, or of which are relevant."""
        if self.data is None:
            raise BadInput(f"predictions of MTEB have ids only: give with -D data=FOLDER (in Python data=) {_LAYOUT}")

        subset, split, _ = self._chosen
        root = Path(self.data).expanduser()
        prefix = "" if subset == _DEFAULT else f"{subset}-"
        for name in _FOLDERS[part]:
            folder = root / f"{prefix}{name}"
            if folder.is_dir():
                return SplitTable.open(folder, split, only=True)
        names = " or ".join(f"{prefix}{name}" for name in _FOLDERS[part])
        raise BadInput(f"{str(self.data)!r} has no folder {names}: it must be {_LAYOUT}")

    @cached_property
    def _queries(self) -> tuple[SplitTable, dict[str, tuple[int, JsonObject]]]:
        return self._items("queries")

    @cached_property
    def _documents(self) -> tuple[SplitTable, dict[str, tuple[int, JsonObject]]]:
        return self._items("corpus")

    def _items(self, part: str) -> tuple[SplitTable, dict[str, tuple[int, JsonObject]]]:
        """Open a table; return it with the position and the texts of each row by its id."""
        table = self._open(part)
        rows = table.rows(_TEXTS)
        name = "id" if "id" in table.names else "_id"
        with format_errors(str(table.paths[0].parent)):
            return table, {str(row[name]): (position, row) for position, row in enumerate(rows)}

    @property
    def _documents_have_images(self) -> bool:
        return any(self._document(document).image is not None for _, document in self._wrong[:1])

    def _query(self, name: str) -> _Item:
        return _item("the query", name, *self._queries)

    def _document(self, name: str) -> _Item:
        return _item("the document", name, *self._documents)

    def _record(self, row: int, query: str, document: str) -> Record:
        """Build the record of a query and a document; one that cannot be read gives a record with its error."""
        where = f"query {query}"
        try:
            asked = self._query(query)
            found = self._document(document)
            right = [self._document(name) for name in self._relevant[query]]
            with_image, with_text = (asked, found) if asked.image is not None else (found, asked)
            if with_image.image is None or with_text.image is not None:
                kind = "text" if with_image.image is None else "image"
                raise BadInput(f"the query and the document must be an image and a text (got {kind} and {kind})")
            text = caption_text(with_text.text)
        except BadInput as error:
            return Record.of_error(error, row, where, query)

        against = None
        if self.compare:
            first = right[0]
            against = Record((first.text,)) if first.image is None else Record(image=first.image, name=first.name)
        return Record(
            (text,),
            with_image.image,
            where,
            row,
            with_image.name,
            query,
            against=against,
            reference="; ".join(item.text or item.name for item in right),
            log_score=float(self._chosen[2][query][document]),
        )


def _is_ranking(value: object) -> bool:
    """Return whether a value has the scores of documents by their ids."""
    return isinstance(value, dict) and all(map(is_finite, value.values()))


def _one_of(option: str, value: str | None, names: Mapping[str, object]) -> str:
    """Return the value of an option that names a part of the predictions, or the only part."""
    if value is None and len(names) == 1:
        return next(iter(names))
    if value is None or value not in names:
        raise BadOption(f"{option} must be one of {', '.join(names)} (got {value!r}): set it with -D {option}=NAME")
    return value


def _item(kind: str, name: str, table: SplitTable, rows: Mapping[str, tuple[int, JsonObject]]) -> _Item:
    """Return a query or a document by its id."""
    if name not in rows:
        raise BadInput(f"{kind} {name!r:.100} is not in {table.paths[0].parent}: give the data set of the same task")

    row, values = rows[name]
    text = " ".join(part.strip() for part in (values.get("title"), values.get("text")) if isinstance(part, str))
    text = text.strip()
    if "image" not in table.names or (text and table.value(row, "image") is None):
        return _Item(name, text, None)
    if text:
        raise BadInput(f"{kind} {name!r:.100} has an image and a text: only queries and documents of one are explained")
    return _Item(name, "", table.cell(row, "image"))
