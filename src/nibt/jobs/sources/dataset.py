"""Rows of one of nibt's own data sets, whose pairs are made where they are explained."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from nibt.data.images import ImageInput
from nibt.data.pair import Pair
from nibt.datasets.base import Dataset
from nibt.jobs.sources.base import Place, RawRow, Source, Wanted


@dataclass(frozen=True)
class DatasetSource(Source):
    """The pairs by their numbers."""

    data: Dataset

    def facts(self) -> dict[str, Any]:
        told = json.dumps(self.data.record(), sort_keys=True, default=str)
        contents = self.data.fingerprint()
        return {"kind": "dataset", "fingerprint": sha256(told.encode()).hexdigest()[:16], "contents": contents}

    def count(self) -> int:
        return len(self.data)

    def rows(self, wanted: Wanted) -> Iterator[RawRow | None]:
        for row in range(len(self.data)):
            yield RawRow(row) if wanted(row) else None

    def read(self, raw: RawRow, images: dict[Place, ImageInput]) -> Pair:
        return self.data[raw.row]
