"""The finished requests to a server in a folder, so that an explanation that was stopped does not send them again."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from nibt.bridges.answer_servers import TokenValue, Values
from nibt.folder import ChunkFile, Manifest, RunFolder, require_unchanged
from nibt.generators.fingerprints import agree
from nibt.io import load_json
from nibt.records import JsonObject

_DIGITS = 32  # of the name of a request
_TOGETHER = 16  # finished requests in a file: so many are sent again at most if the process is killed


class RequestsManifest(Manifest):
    """The manifest of a folder of finished requests."""

    kind: str = "finished requests"
    request: JsonObject
    fingerprint: JsonObject | None = None


class RequestsFolder(RunFolder[RequestsManifest]):
    """A folder of finished requests to one model. It has neither the address of the server nor images or texts."""

    manifest_class = RequestsManifest
    chunk_pattern = rf"[0-9a-f]{{{_DIGITS}}}"


class FinishedRequests:
    """The log-probabilities of the tokens of answers, by names of what was asked; without a folder, none are kept."""

    def __init__(self, folder: RequestsFolder | None = None) -> None:
        self._folder = folder
        self._values: dict[str, list[list[float | bool]]] = {}
        self._new: dict[str, list[list[float | bool]]] = {}
        for path, *_ in {} if folder is None else folder.files().values():
            self._values |= load_json(require_unchanged(path))

    def get(self, name: str) -> Values | None:
        """Return the log-probabilities of a request; None if it is not finished."""
        values = self._values.get(name)
        return None if values is None else [TokenValue(float(value), bool(is_bound)) for value, is_bound in values]

    def add(self, name: str, values: Values) -> None:
        """Keep the log-probabilities of a request."""
        if self._folder is None:
            return
        self._new[name] = [[value.value, value.is_bound] for value in values]
        if len(self._new) >= _TOGETHER:
            self.write()

    def write(self) -> None:
        """Write what is not in a file yet."""
        if self._folder is None or not self._new:
            return
        self._folder.add(ChunkFile(next(iter(self._new)), json.dumps(self._new).encode(), suffix=".json"))
        self._values |= self._new
        self._new = {}


def name_of(*parts: str | bytes) -> str:
    """Return the name of a request: a digest of what is asked."""
    digest = sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:_DIGITS]


@contextmanager
def finished_requests(
    folder: Path | None, request: JsonObject, fingerprint: Callable[[], JsonObject]
) -> Iterator[FinishedRequests]:
    """Open a folder of finished requests to a model; None for none. What is finished at the end or an error is kept.

    Raises:
        WouldOverwrite: The folder has other files.
        OtherRequest: The folder has the requests to another model.
    """
    if folder is None:
        yield FinishedRequests()
        return

    requests = RequestsFolder(folder)
    with requests.writing(request):
        agree(requests, fingerprint(), "requests to", request["model"])
        finished = FinishedRequests(requests)
        try:
            yield finished
        finally:
            finished.write()
