"""Names of new files that replace no results of other requests."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nibt.results.outputs import read_signature


def distinct(paths: Sequence[Path], request: Mapping[str, object], taken: Iterable[Path] = ()) -> list[Path]:
    """Return paths that do not replace the results of other requests, and take their names: new files are empty.

    Call ``release`` if they are not written after all.

    If a path is taken or has the result of another request, all paths get the same number, as in
    ``photo-a-cat-2.png``.
    """
    taken = set(taken)
    wanted = json.loads(json.dumps(request, default=str))  # as a signature has it, with lists for tuples

    numbered = list(paths)
    number = 1
    while not taken.isdisjoint(numbered) or not _are_free(numbered, wanted) or not _take(numbered):
        number += 1
        numbered = [path.with_stem(f"{path.stem}-{number}") for path in paths]

    return numbered


def _are_free(paths: Iterable[Path], request: Mapping[str, object]) -> bool:
    return all(not path.exists() or read_signature(path) == request for path in paths)


def release(paths: Iterable[Path]) -> None:
    """Remove those files of ``distinct`` that are still empty."""
    for path in paths:
        if path.is_file() and not path.stat().st_size:
            path.unlink()


def _take(paths: Sequence[Path]) -> bool:
    """Create the files that do not exist, empty, so that no other call takes their names; or none of them."""
    created: list[Path] = []
    for path in paths:
        if path.exists():
            continue
        try:
            path.open("x").close()
        except FileExistsError:
            for placeholder in created:
                placeholder.unlink(missing_ok=True)
            return False
        created.append(path)

    return True
