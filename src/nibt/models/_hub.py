"""Asking a hub: once and with little patience, since a download tries one that is out of reach for most of a minute."""

from collections.abc import Sequence
from pathlib import Path

_PATIENCE = 10.0  # seconds


def cached(repository: str, files: Sequence[str]) -> Path | None:
    """The first of these files that an earlier download left in the cache."""
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(repository, file) for file in files)
    return next((Path(path) for path in found if isinstance(path, str)), None)


def has(repository: str, file: str) -> bool:
    """Whether a repository has a file; raises what the hub's library raises where no hub answers."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(repository, file), timeout=_PATIENCE)
    except EntryNotFoundError:
        return False
    return True
