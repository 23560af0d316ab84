"""The text side of classifiers: the names of their classes, each of which is one unit."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, ClassVar

import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from nibt.data.units import Word
from nibt.errors import BadInput
from nibt.models._inputs import Inputs
from nibt.models._text_tower import TextTower
from nibt.preprocessing.captions import Tokens
from nibt.types import Embedding

_MOST_LISTED = 5  # class names in an error


class ClassTable(nn.Module):
    """The table of the unit vectors of classes, without its memory; the vector of the last id, of no class, is zero."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, ids: Int[Tensor, "*ids"]) -> Tensor:
        """Return the vectors of ids."""
        return F.one_hot(ids, self.count + 1)[..., :-1].float()


class _ClassBlock(nn.Module):
    """A block that returns its input, for methods of blocks and attention.

    It adds the attention of the single token to itself, which is the token, less the token.
    """

    def forward(self, stream: Tensor) -> Tensor:
        rows = stream[:, None]
        return stream + (F.scaled_dot_product_attention(rows, rows, rows)[:, 0] - stream)


class ClassNamesTower(TextTower):
    """The names of the classes of a classifier as texts; the embedding of a class is its unit vector, (1, class)."""

    positional: ClassVar[bool] = False
    distributes = False
    reads_units: Any = True
    has_special_tokens: Any = False
    tokenizer = None

    def __init__(self, root: nn.Module, class_names: Sequence[str]) -> None:
        super().__init__()
        self.root = root
        self.class_names = tuple(class_names)
        self.examples = self.text_of(0), self.text_of(len(class_names) - 1)
        self.sample = self.examples[0]
        self.table = ClassTable(len(class_names))
        self.layers: list[nn.Module] = [_ClassBlock().eval()]

    @property
    def blocks(self) -> list[nn.Module]:
        return self.layers

    @property
    def embedder(self) -> nn.Module:
        return self.table

    @cached_property
    def pad(self) -> tuple[int, str]:
        """The id of no class."""
        return len(self.class_names), ""

    def text_of(self, number: int) -> str:
        """Return a text that names a class: its name, with its number if another class has that name, too."""
        name = self.class_names[number]
        return name if self.class_names.count(name) == 1 else f"{number}: {name}"

    @cached_property
    def _numbers(self) -> list[dict[str, list[int]]]:
        """The classes by what may be written for each: first its name, last one of the names that commas part."""
        every = list(enumerate(self.class_names))
        synonyms = [(number, synonym.strip()) for number, name in every if "," in name for synonym in name.split(",")]
        numbered = [(number, f"{number}: {name}") for number, name in every]
        written = [every + numbered, [(number, name.casefold()) for number, name in every]]
        written += [synonyms, [(number, synonym.casefold()) for number, synonym in synonyms]]
        tables: list[dict[str, list[int]]] = []
        for pairs in written:
            tables.append({})
            for number, text in pairs:
                numbers = tables[-1].setdefault(text, [])
                if number not in numbers:
                    numbers.append(number)

        return tables

    def number(self, text: str) -> int:
        """Return the class that a text names: by its name, in any case, or by one of the names that commas part."""
        text = " ".join(text.split())
        exact, folded, synonyms, folded_synonyms = self._numbers
        forms = ((exact, text), (folded, text.casefold()), (synonyms, text), (folded_synonyms, text.casefold()))
        found = next((table[form] for table, form in forms if form in table), [])
        if len(found) == 1:
            return found[0]
        if found:
            texts = [f"'{number}: {self.class_names[number]}'" for number in found[:_MOST_LISTED]]
            raise BadInput(f"{text!r} names {len(found)} classes of the model: write one of {', '.join(texts)}")

        raise BadInput(f"the model has no class {text!r:.100}: {self._nearest(text)}")

    def _nearest(self, text: str) -> str:
        """Return what to write for a text that names no class."""
        tables = self._numbers[1], self._numbers[3]
        near = get_close_matches(text.casefold(), [form for table in tables for form in table], _MOST_LISTED, 0.6)
        parts = set(text.casefold().split())
        near += [form for table in tables for form in table if parts & set(form.replace(",", " ").split())]
        numbers = [number for form in near for table in tables for number in table.get(form, [])]
        names = [repr(self.class_names[number]) for number in dict.fromkeys(numbers)][:_MOST_LISTED]
        if names:
            return f"the nearest of its {len(self.class_names):,} classes are {', '.join(names)}"

        first = ", ".join(map(repr, self.class_names[:_MOST_LISTED]))
        return f"write one of its {len(self.class_names):,} classes, such as {first}"

    def tokens(self, caption: str) -> Tokens:
        if not caption:
            return Tokens((), (), (), ())

        number = self.number(caption)
        name = self.class_names[number]
        return Tokens((number,), (name,), (True,), (Word(name, (0,)),))

    def run(self, inputs: Inputs) -> Embedding:
        return self.head(self.layers[0](self.table(inputs.values)), {})

    def head(self, stream: Tensor, extra: dict[str, Tensor]) -> Embedding:
        """Return the vector of the class, as a set of one."""
        return stream
