"""MMVP: questions about pairs of images that CLIP embeds almost alike."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from nibt.datasets._files import table
from nibt.datasets._questions import QuestionDataset
from nibt.datasets.base import Record
from nibt.errors import BadInput

_COLUMNS = ("Question", "Options", "Correct Answer")


@dataclass(frozen=True, kw_only=True)
class MMVP(QuestionDataset, name="mmvp"):
    """MMVP: 300 questions about 150 pairs of images that CLIP embeds almost alike, for a generator.

    The questions of MMVP with their options, as the authors put them to a model, in the order of the table.

    The key of a row is the number of its image, from 1, and its reference is the right option, such as "(a)". Two
    successive rows are a pair, whose images differ in what the question asks.

    Source:
        Tong et al., CVPR 2024
    """

    title = "MMVP"
    layout = "Questions.csv with the columns Question, Options and Correct Answer, and 'MMVP Images/1.jpg' and so on"
    home = "the data set MMVP/MMVP on the Hugging Face hub, which github.com/tsb0601/MMVP links"

    def read_records(self) -> list[Record]:
        return list(self._rows())

    def _rows(self) -> Iterator[Record]:
        path = self.inside("Questions.csv")
        folder = self.inside("MMVP Images", "images", what="the folder MMVP Images")
        for (row, where), number in zip(table(path, _COLUMNS), count(1)):
            question, options, answer = (row[column].strip() for column in _COLUMNS)
            if not question or not answer:
                raise BadInput(f"{where}: the question and its right answer must not be empty (got {question!r:.60})")
            if answer not in options:
                raise BadInput(f"{where}: the right answer must be one of the options (got {answer!r:.60})")
            if row.get("Index", str(number)).strip() != str(number):  # which is not read otherwise
                raise BadInput(
                    f"{where}: Index must be {number}, the number of the row and of its image (got "
                    f"{row['Index']!r:.60}): give all rows in the order of the authors"
                )
            prompt = f"{question} {options}".strip()
            yield Record((prompt,), str(folder / f"{number}.jpg"), where, key=str(number), reference=answer)
