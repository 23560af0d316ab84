"""Failures of libraries while a model is loaded, as errors of nibt that say what to do."""

from asyncio import CancelledError
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

import torch

from nibt.errors import CannotLoad, NibtError, first_line

REFERENCE = "the reference of models lists the supported classes"
DUAL = f"use a model that embeds images and captions ({REFERENCE})"


class WritesText(CannotLoad):
    """A model writes text about images, and no image can be compared with a caption."""


class WrongFiles(CannotLoad):
    """The files of a repository on the hub are not those of a model that can be loaded as it was requested."""


_RAISED = (KeyboardInterrupt, SystemExit, GeneratorExit, CancelledError, MemoryError)
"""What is no failure of a library. The panic of one in Rust, as for a damaged tokenizer.json, is no ``Exception``."""


@contextmanager
def loading(name: str, folder: Path | None = None) -> Iterator[None]:
    """Convert the exceptions of libraries to ``CannotLoad``, which names a file of the folder if that is broken."""
    try:
        with torch.random.fork_rng(devices=[]):  # libraries draw weights before they read those of the file
            yield
    except _RAISED:
        raise
    except BaseException as error:  # libraries raise many types
        from nibt.models._reasons import broken_file, cause_of  # which only failures need

        if isinstance(error, NibtError) and not isinstance(error, CannotLoad):
            raise

        # a broken file is named also where a message of nibt itself says less
        broken = broken_file(folder)
        if broken is not None:
            raise CannotLoad(f"cannot load the model {name!r}: {broken}") from error
        if isinstance(error, NibtError):
            raise
        raise CannotLoad(f"cannot load the model {name!r}: {cause_of(error)}") from error


@contextmanager
def step(name: str, problem: str, remedy: str, classes: Iterable[type] = ()) -> Iterator[None]:
    """Convert the exceptions of libraries in one step of loading to ``CannotLoad``, which says what to correct.

    ``classes`` are those of the family and its towers: what classes of another package raise is corrected there.
    """
    try:
        yield
    except (NibtError, *_RAISED):
        raise
    except BaseException as error:  # libraries raise many types
        from nibt.models._reasons import of_hub  # which only failures need

        if of_hub(error) is not None:
            raise
        foreign = [family_class for family_class in classes if family_class.__module__.partition(".")[0] != "nibt"]
        if foreign:
            remedy = f"correct {_place_in(foreign, error)}"
        raise CannotLoad(f"cannot load the model {name!r}: {problem} ({first_line(error)}): {remedy}") from error


def _place_in(classes: Sequence[type], error: BaseException) -> str:
    """Return the last function of the modules of classes that was running, or the classes if there is none."""
    modules = {defined.__module__ for defined in classes}
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__) if frame.f_globals.get("__name__") in modules]
    return codes[-1].co_qualname if codes else " and ".join(defined.__qualname__ for defined in classes)
