"""The progress of downloads, which is reported like that of other loops."""

from collections.abc import Callable, Mapping
from typing import Any

from nibt.progress import Progress, listener, no_progress

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Bar:
    """The progress of several files. Without a listener, the hub's library shows its own bars."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._report = listener()
        self._done: dict[str, int] = {}
        self.total = 0

    def kind_for(self, file: str) -> Any:
        """Return the class of the bar of a file, for the hub's library; None for its own."""
        if self._report is no_progress:
            return None

        def create(**options: Any) -> "_FileBar":
            start = int(options.get("initial") or 0)
            self._update(file, start)  # the first megabytes take a while
            return _FileBar(lambda done: self._update(file, done), start)

        return create

    def _update(self, file: str, done: int) -> None:
        self._done[file] = max(done, self._done.get(file, 0))  # a file may have a second bar, of its transfer
        total, done = max(self.total, self._sizes.get(file, 0)), sum(self._done.values())
        stage = f"downloading {file}, {amount(done)} of {amount(total)}"
        self._report(Progress(done, total or None, stage))


class _FileBar:
    """What the hub's library needs of a bar."""

    def __init__(self, report: Callable[[int], None], done: int) -> None:
        self.n = done
        self.total = None
        self._report = report

    def __enter__(self) -> "_FileBar":
        return self

    def __exit__(self, *error: object) -> None: ...

    def update(self, count: int | float | None = 1) -> None:
        self.n += int(count or 0)
        self._report(self.n)

    def __getattr__(self, name: str) -> Any:
        """Return a method that does nothing: bars have many, for their looks."""
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args, **options: None


def amount(count: int) -> str:
    """Return a number of bytes as text.

    >>> amount(605_157_884), amount(12)
    ('605 MB', '12 B')

    """
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"
