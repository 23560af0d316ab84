"""pandas, which is imported when the first run is summarized."""

from typing import Any, TypeAlias

from nibt.errors import import_optional

DataFrame: TypeAlias = Any
"""A ``pandas.DataFrame``; the types of its columns are not known to a type checker."""
Column: TypeAlias = Any
"""A ``pandas.Series``."""


def pandas() -> Any:
    """Return the module ``pandas``.

    Raises:
        Unsupported: pandas is not installed.

    """
    return import_optional("pandas", "the summary of a benchmark needs pandas", "bench")
