"""Reading of pickles that hold plain data only."""

import pickle
from pathlib import Path
from typing import Any

from nibt.errors import BadInput


class _PlainUnpickler(pickle.Unpickler):
    """An unpickler for lists, tuples, sets, dictionaries, numbers and strings. It imports and calls nothing."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it holds {module}.{name}, and only plain data are read")


def read_pickle(path: Path) -> Any:
    """Read a pickle of plain data, such as those that Python 2 wrote."""
    try:
        with path.open("rb") as stream:
            return _PlainUnpickler(stream, encoding="utf-8", errors="replace").load()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    # a damaged pickle may cause nearly any error
    except Exception as error:
        raise BadInput(f"{path} cannot be read as a pickle of plain data ({error}): use the published file") from error
