"""Why loading a model failed, in words: what a hub answers, and which file of a folder is broken."""

import zipfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from re import fullmatch
from typing import Any

from nibt.errors import first_line
from nibt.io import load_json
from nibt.models._embedded import alternatives

_LOG_IN = "log in with 'hf auth login'"
_LONGEST = 300  # characters of a sentence of a hub


def cause_of(error: BaseException) -> str:
    """Return what the hub answered, why it cannot be asked, or the message of a library."""
    return of_hub(error) or first_line(error)


def of_hub(error: BaseException) -> str | None:
    """Return what the hub answered, or why it cannot be asked, and what to do; None if the error is another."""
    answer = refusal(error)
    if answer is not None:
        return answer

    connection = no_connection(error)
    return None if connection is None else f"{connection}. Without a hub, use {alternatives()}"


def refusal(error: BaseException) -> str | None:
    """Return what the hub answered and what to do about it; None if the error is not an answer of a hub."""
    from huggingface_hub import errors

    for cause in _causes(error):
        if isinstance(cause, errors.HfHubHTTPError):
            return _answer(cause)
        if str(cause).startswith("Consistency check failed"):
            return f"the download broke off ({first_line(cause).removeprefix('Consistency check failed: ')}): try again"

    return None


def no_connection(error: BaseException) -> str | None:
    """Return why no hub could be asked; None if the error is another."""
    from huggingface_hub import constants, errors

    for cause in _causes(error):
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return (
                "HF_HUB_OFFLINE is set, and the cache does not have all of it: unset it to download, or copy the cache "
                "of a machine with network"
            )
        if isinstance(cause, errors.HTTPError):
            return (
                f"the cache does not have all of it, and the hub {constants.ENDPOINT} cannot be reached "
                f"({first_line(cause)}): check the connection"
            )

    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _answer(error: Any) -> str:
    """Return the sentence for an answer of the hub that is an error."""
    from huggingface_hub import constants, errors

    status = error.response.status_code
    words = " ".join((error.server_message or "").split()).rstrip(".")[:_LONGEST]
    says = f" ({words})" if words else f" (status {status})"
    address = str(error.response.url)
    path = address.partition("?")[0].removeprefix(constants.ENDPOINT).strip("/").removeprefix("api/models/")
    repository = getattr(error, "repo_id", None) or "/".join(path.split("/")[:2])

    if isinstance(error, errors.GatedRepoError):
        page = f"{constants.ENDPOINT}/{repository}"
        return f"{repository} is gated{says}: {_LOG_IN}, and accept its terms at {page}"
    if isinstance(error, errors.DisabledRepoError):
        return f"{repository} is disabled on the hub{says}: use another model"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no such revision{says}: check the name after the @"
    if isinstance(error, errors.EntryNotFoundError):
        return f"{repository} lacks the file {address.rpartition('/')[2]}{says}"
    if status == 401 and "credentials" in words.lower():
        return f"the hub rejects your token{says}: {_LOG_IN} again"
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return f"{repository} is not on the hub, or is private{says}: check the name; if it is private, {_LOG_IN}"
    if status == 403:
        return f"the hub forbids access to {repository}{says}: {_LOG_IN}, and check what your token may read"
    if status == 429:
        wait = _wait(error.response.headers)
        return f"the hub limits your requests{says}: {wait} and try again, or {_LOG_IN}, which raises the limit"
    return f"the hub answers with status {status}{says}: try again later"


def _wait(headers: Mapping[str, str]) -> str:
    from huggingface_hub.utils import parse_ratelimit_headers

    seconds = headers.get("retry-after", "")
    limit = parse_ratelimit_headers(headers)
    if limit is not None and limit.remaining == 0:
        seconds = limit.reset_in_seconds
    return f"wait {seconds} seconds" if str(seconds).isdigit() else "wait"


def broken_file(folder: Path | None) -> str | None:
    """Return which file of a folder is broken and what to do about it; None if none is."""
    if folder is None or not folder.is_dir():
        return None

    for file in sorted(folder.iterdir()):
        defect = _defect(file) if file.is_file() else None
        if defect is None:
            continue

        if any(name.startswith("models--") for name in file.parts):  # the cache of a hub, which has links to files
            in_cache = f"{file.name} in the cache, which is {file.resolve()},"
            return f"the file {in_cache} is broken ({defect}): delete it, and load the model again"
        return f"the file {file} is broken ({defect}): save the model again"

    return None


def _defect(file: Path) -> str | None:
    try:
        if file.suffix == ".json":
            load_json(str(file.read_bytes(), "utf-8"))  # strictly, as Transformers
        elif file.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(str(file), "pt"):
                pass
        elif file.suffix in (".bin", ".pt") and _is_cut(file):
            return "its end is missing"
    except Exception as error:  # of several libraries
        return first_line(error)
    return _changed(file)


def _is_cut(file: Path) -> bool:
    with file.open("rb") as stream:
        start = stream.read(2)
    return not start or (start == b"PK" and not zipfile.is_zipfile(file))


def _changed(file: Path) -> str | None:
    """Compare a weight file in the cache with its name there, which is its digest."""
    name = file.resolve().name
    if not file.is_symlink() or not fullmatch(r"[0-9a-f]{64}", name):
        return None

    digest = sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 24):
            digest.update(block)

    return None if digest.hexdigest() == name else "its digest is another than that of the hub"
