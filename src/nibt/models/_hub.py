"""Queries of a hub with a short timeout, since downloads retry an unreachable hub for most of a minute."""

from collections.abc import Sequence
from pathlib import Path

_TIMEOUT = 10.0  # seconds


def cached(repository: str, files: Sequence[str]) -> Path | None:
    """Return the path of the first of these files that is in the cache; None if there is none."""
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def has(repository: str, file: str) -> bool:
    """Return whether a repository has a file. The hub's library raises its errors if no hub is reachable."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(repository, file), timeout=_TIMEOUT)
    except EntryNotFoundError:
        return False
    return True
