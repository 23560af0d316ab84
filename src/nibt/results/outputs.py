"""Protection of files: an output never replaces an input, or a file that nibt did not write.

Each file that nibt writes has a signature: the version of nibt, the request, and a digest of the file. If the file is
edited, the digest no longer matches, and the file counts as the user's. Text files (JSON, HTML) and safetensors files
have the signature in their first bytes, PDF files in their last, with a digest of all bytes. Images have it in the EXIF
field ImageDescription,
with a digest of the pixels and the size of the file. There are no additional files.
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
from safetensors.torch import save as serialized
from torch import Tensor

from nibt.data.images import open_image
from nibt.errors import BadInput, WouldOverwrite
from nibt.io import atomic_write, check_writable, existing_paths, load_json, short_digest
from nibt.options import parsed

_UNSIGNED = b"sha256:" + b"0" * 64
_SIGNATURE = re.compile(rb"nibt (\S+) ([A-Za-z0-9_=-]*) (sha256:[0-9a-f]{64})(?: (\d{12}))?")
_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131  # EXIF fields
_HEAD = 1 << 16  # the number of bytes that are searched for a signature


def unsigned(request: Mapping[str, Any]) -> str:
    """Return the signature of a new file as ASCII text without quotes. ``signed`` fills in the digest."""
    plain = json.dumps(request, sort_keys=True, default=str).encode()
    return f"nibt {_version()} {urlsafe_b64encode(zlib.compress(plain, 9)).decode()} {_UNSIGNED.decode()}"


def signed(data: bytes) -> bytes:
    """Return the bytes of a file with its ``unsigned`` signature completed by the digest of the bytes."""
    return data.replace(_UNSIGNED, _digest(data), 1)


def tensor_file(tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> bytes:
    """Return the bytes of a safetensors file of finite numbers, with the names in its header sorted.

    The library writes metadata in arbitrary order, but equal contents must give equal bytes.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise BadInput(
                f"{name} was changed after it was computed, and has NaN or infinite numbers: compute it again"
            )
    data = serialized({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    length = int.from_bytes(data[:8], "little")
    header = load_json(data[8 : 8 + length])
    metadata = dict(sorted(header.pop("__metadata__", {}).items()))
    text = json.dumps({"__metadata__": metadata, **dict(sorted(header.items()))}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def image_exif(image: Image.Image, request: Mapping[str, Any], size: int = 0) -> Image.Exif:
    """Return the EXIF data with the signature of an image."""
    exif = Image.Exif()
    exif[_SOFTWARE] = f"nibt {_version()}"
    exif[_DESCRIPTION] = unsigned(request).replace(_UNSIGNED.decode(), _pixel_digest(image).decode()) + f" {size:012d}"
    return exif


def read_signature(path: Path) -> Mapping[str, Any] | None:
    """Return the request in the signature of a file, or None if it has no signature or was changed."""
    try:
        with path.open("rb") as stream:
            match = _SIGNATURE.search(stream.read(_HEAD))
            if match is None:  # a PDF file has its signature at the end
                stream.seek(max(0, stream.seek(0, SEEK_END) - _HEAD))
                match = _SIGNATURE.search(stream.read())
            stream.seek(0)
            # other files are not read as a whole: they may be large
            intact = match and _digest(stream.read().replace(match[3], _UNSIGNED, 1)) == match[3]
        if not intact:
            with open_image(path, str(path)) as image:
                text = str(image.getexif().get(_DESCRIPTION, "")).encode("ascii", "replace")
                match = _SIGNATURE.fullmatch(text)
                sized = match and match[4] is not None and int(match[4]) == path.stat().st_size
                if not (match and sized and _pixel_digest(image) == match[3]):
                    return None
        return match and load_json(zlib.decompress(urlsafe_b64decode(match[2])))
    except (OSError, ValueError, zlib.error):
        return None


def is_own(path: Path) -> bool:
    """Return whether nibt wrote the file and it was not changed."""
    return read_signature(path) is not None


def check_targets(targets: Sequence[Path], inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Check the outputs of a call before a computation starts."""
    inputs, names = list(inputs), {}
    for target in targets:
        # paths that are the same file on a case-insensitive file system have the same key
        earlier = names.setdefault(unicodedata.normalize("NFC", str(target.resolve())).casefold(), target)
        if earlier is not target:
            raise WouldOverwrite(
                f"two outputs of this call go to the same file ({earlier} and {target}): give them different names"
            )
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


def write_bytes(path: Path, data: bytes, records: Sequence[Mapping[str, Any]], overwrite: bool = False) -> None:
    """Write a file, completely or not at all, and complete its ``unsigned`` signature.

    A file that the ``records`` of its results name, by a path or by its digest, is an input of them and never replaced.
    """
    _check_inputs(path, records)
    check_replaceable(path, overwrite)
    with atomic_write(path) as draft:
        draft.write_bytes(signed(data))


def distinct(paths: Sequence[Path], request: Mapping[str, Any], taken: Iterable[Path] = ()) -> list[Path]:
    """Return paths that do not replace the results of other requests, and take their names: new files are empty.

    Call ``release`` if they are not written after all.

    If a path is taken or has the result of another request, all paths get the same number, as in
    ``photo-a-cat-2.png``.
    """
    taken = set(taken)
    wanted, number = json.loads(json.dumps(request, default=str)), 1
    while True:
        numbered = [path.with_stem(f"{path.stem}-{number}") if number > 1 else path for path in paths]
        free = (not path.exists() or read_signature(path) == wanted for path in numbered)
        if taken.isdisjoint(numbered) and all(free) and _take(numbered):
            return numbered
        number += 1


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


def _check_inputs(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
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
        model = record.get("model")
        for text in _texts([model.get("id") if isinstance(model, Mapping) else model, record.get("data")]):
            for source in existing_paths(text):
                _check_input(path, source)


def _texts(data: Any) -> Iterator[str]:
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
        names = (os.path.join(place, name) for place, _, names in os.walk(source) for name in names)
        same = (name for name in names if os.path.exists(name) and target.samefile(name))  # under any name
        inside = target.resolve().is_relative_to(source.resolve()) or next(same, None) is not None
        if inside and target.is_file() and not is_own(target):
            raise WouldOverwrite(f"{target} is in the folder {source}, which this call reads: choose another name")
    elif source.exists() and target.samefile(source):
        raise WouldOverwrite(
            f"{target} is an input of this call ({source}), and would be replaced: choose another name"
        )


def _pixel_digest(image: Image.Image) -> bytes:
    shape = f"{image.mode} {image.width} {image.height}".encode()
    return b"sha256:" + sha256(shape + image.tobytes()).hexdigest().encode()


def _digest(data: bytes) -> bytes:
    return b"sha256:" + sha256(data).hexdigest().encode()


@cache
def _version() -> str:
    return version("nibt")
