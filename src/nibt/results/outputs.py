"""Protection of files: an output never replaces an input, or a file that nibt did not write.

Each file that nibt writes has a signature: the version of nibt, the request, and a digest of the file. If the file is
edited, the digest no longer matches, and the file counts as the user's. Text files (JSON, HTML) and safetensors files
have the signature in their first bytes, PDF files in their last, with a digest of all bytes. Images have it in the EXIF
field ImageDescription, with a digest of the pixels and the size of the file. There are no additional files.
"""

import json
import os
import re
import unicodedata
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from os import SEEK_END
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.data.images import open_image
from nibt.errors import WouldOverwrite
from nibt.io import atomic_write, check_writable, existing_paths, load_json, short_digest
from nibt.options import parsed

_UNSIGNED = b"sha256:" + b"0" * 64
_SIGNATURE = re.compile(rb"nibt (\S+) ([A-Za-z0-9_=-]*) (sha256:[0-9a-f]{64})(?: (\d{12}))?")
_DESCRIPTION = 0x010E  # EXIF fields
_SOFTWARE = 0x0131
_HEAD = 1 << 16  # the number of bytes that are searched for a signature


def unsigned(request: Mapping[str, object]) -> str:
    """Return the signature of a new file as ASCII text without quotes. ``signed`` fills in the digest."""
    plain = json.dumps(request, sort_keys=True, default=str).encode()
    return f"nibt {_version()} {urlsafe_b64encode(zlib.compress(plain, 9)).decode()} {_UNSIGNED.decode()}"


def signed(data: bytes) -> bytes:
    """Return the bytes of a file with its ``unsigned`` signature completed by the digest of the bytes."""
    return data.replace(_UNSIGNED, _digest(data), 1)


def image_exif(image: Image.Image, request: Mapping[str, object], size: int = 0) -> Image.Exif:
    """Return the EXIF data with the signature of an image."""
    exif = Image.Exif()
    exif[_SOFTWARE] = f"nibt {_version()}"
    exif[_DESCRIPTION] = unsigned(request).replace(_UNSIGNED.decode(), _pixel_digest(image).decode()) + f" {size:012d}"
    return exif


def read_signature(path: Path) -> Mapping[str, Any] | None:
    """Return the request in the signature of a file, or None if it has no signature or was changed."""
    try:
        signature = _of_bytes(path)
        if signature is None:
            signature = _of_image(path)
        return None if signature is None else load_json(zlib.decompress(urlsafe_b64decode(signature)))
    except (OSError, ValueError, zlib.error):
        return None


def _of_bytes(path: Path) -> bytes | None:
    """Return the encoded request in the signature of a file whose digest is that of its bytes."""
    with path.open("rb") as stream:
        match = _SIGNATURE.search(stream.read(_HEAD))
        if match is None:  # a PDF file has its signature at the end
            stream.seek(max(0, stream.seek(0, SEEK_END) - _HEAD))
            match = _SIGNATURE.search(stream.read())

        if match is None:  # other files are not read as a whole: they may be large
            return None

        # the digest was computed before it took the place of the zeros
        stream.seek(0)
        digest = _digest(stream.read().replace(match[3], _UNSIGNED, 1))
    return match[2] if digest == match[3] else None


def _of_image(path: Path) -> bytes | None:
    """Return the encoded request in the signature of an image, whose digest is that of its pixels."""
    with open_image(path, str(path)) as image:
        text = str(image.getexif().get(_DESCRIPTION, "")).encode("ascii", "replace")
        match = _SIGNATURE.fullmatch(text)
        if match is None or match[4] is None or int(match[4]) != path.stat().st_size:
            return None
        return match[2] if _pixel_digest(image) == match[3] else None


def is_own(path: Path) -> bool:
    """Return whether nibt wrote the file and it was not changed."""
    return read_signature(path) is not None


def check_targets(targets: Sequence[Path], inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Check the outputs of a call before a computation starts."""
    names: dict[str, Path] = {}
    for target in targets:
        # paths that are the same file on a case-insensitive file system have the same key
        key = unicodedata.normalize("NFC", str(target.resolve())).casefold()
        earlier = names.setdefault(key, target)
        if earlier is not target:
            raise WouldOverwrite(
                f"two outputs of this call go to the same file ({earlier} and {target}): give them different names"
            )

    inputs = list(inputs)
    for target in targets:
        for source in inputs:
            _check_input(target, source)
        check_replaceable(target, overwrite)
        check_writable(target)


def check_replaceable(path: Path, overwrite: bool = False) -> None:
    """Check that a path is free, or that its file may be replaced."""
    overwrite = parsed("overwrite", overwrite, bool)
    if path.is_dir() or not (path.exists() or path.is_symlink()):
        return

    if not path.is_file():
        state = "a broken link" if path.is_symlink() and not path.exists() else "not a regular file"
        raise WouldOverwrite(
            f"{path} is {state}, and would be replaced by a file: choose another name (-o - prints to standard output)"
        )
    if not path.stat().st_mode & 0o222:
        raise WouldOverwrite(f"{path} is read-only: make it writable, or choose another name")
    if not overwrite and path.stat().st_size and not is_own(path):  # in an empty file, nothing can be lost
        raise WouldOverwrite(
            f"{path} exists, and was edited or not written by nibt: choose another name, or replace it with "
            "--overwrite (in Python overwrite=True)"
        )


def write_bytes(path: Path, data: bytes, records: Sequence[Mapping[str, object]], overwrite: bool = False) -> None:
    """Write a file, completely or not at all, and complete its ``unsigned`` signature.

    A file that the ``records`` of its results name, by a path or by its digest, is an input of them and never replaced.
    """
    _check_inputs(path, records)
    check_replaceable(path, overwrite)
    with atomic_write(path) as draft:
        draft.write_bytes(signed(data))


def _check_inputs(path: Path, records: Iterable[Mapping[str, object]]) -> None:
    """Check that no text of the records names a file, and that it is in no folder of their models and data."""
    if not path.is_file():
        return

    digest = short_digest(path)
    for record in records:
        for text in set(_texts(record)):
            if text == digest:
                raise WouldOverwrite(f"{path} has the same bytes as an input of this result: choose another name")
            for source in existing_paths(text):
                if source.is_file():
                    _check_input(path, source)

        # folders count only here: a word of a caption may be the name of one
        model = record.get("model")
        model_id = model.get("id") if isinstance(model, Mapping) else model
        for text in _texts([model_id, record.get("data")]):
            for source in existing_paths(text):
                _check_input(path, source)


def _texts(data: object) -> Iterator[str]:
    """Yield all texts in plain data."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        for item in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(item)


def _check_input(target: Path, source: Path) -> None:
    """Check that a target is not an input under another name, nor a user's file in an input folder.

    Files are compared by their device and number, which all names of a file share: links, and mounts of a folder.
    """
    if not target.exists():
        return

    if source.is_dir():
        if target.is_file() and _is_in(target, source) and not is_own(target):
            raise WouldOverwrite(f"{target} is in the folder {source}, which this call reads: choose another name")
    elif source.exists() and target.samefile(source):
        raise WouldOverwrite(
            f"{target} is an input of this call ({source}), and would be replaced: choose another name"
        )


def _is_in(file: Path, folder: Path) -> bool:
    """Return whether a file is in a folder, under any name."""
    if file.resolve().is_relative_to(folder.resolve()):
        return True

    # the folder may be mounted, or its file linked, under a path that has nothing in common with that of the folder
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if os.path.exists(path) and file.samefile(path):
                return True

    return False


def _pixel_digest(image: Image.Image) -> bytes:
    shape = f"{image.mode} {image.width} {image.height}".encode()
    return b"sha256:" + sha256(shape + image.tobytes()).hexdigest().encode()


def _digest(data: bytes) -> bytes:
    return b"sha256:" + sha256(data).hexdigest().encode()


@cache
def _version() -> str:
    return version("nibt")
