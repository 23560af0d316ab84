"""Which files an output may replace: no input, and no file that nibt did not write.

A file that nibt writes carries a signature: the version of nibt, the request that the file answers, and a digest of the
file itself. A file that was edited since no longer has that digest, so it counts as the user's. Text files (JSON, HTML)
and safetensors hold the signature in their first bytes, with a digest of all bytes; images hold it in the EXIF field
ImageDescription, with a digest of their pixels and the size of the file. Nothing is written beside a file.
"""

import json
import re
import unicodedata
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image

from nibt.errors import WouldOverwrite
from nibt.io import atomic_write, check_writable

_UNSIGNED = b"sha256:" + b"0" * 64
_SIGNATURE = re.compile(rb"nibt (\S+) ([A-Za-z0-9_=-]*) (sha256:[0-9a-f]{64})(?: (\d{12}))?")
_DESCRIPTION, _SOFTWARE = 0x010E, 0x0131  # EXIF fields
_HEAD = 1 << 16  # bytes of a text file in which its signature begins


@dataclass(frozen=True)
class Signature:
    """What a file says of itself: the version of nibt that wrote it, and the request that it answers."""

    version: str
    request: Mapping[str, Any] = field(default_factory=dict)


def unsigned(request: Mapping[str, Any]) -> str:
    """The signature of a file that is about to be written: ASCII, without quotes. ``signed`` fills in the digest."""
    plain = json.dumps(request, sort_keys=True, default=str).encode()
    return f"nibt {_version()} {urlsafe_b64encode(zlib.compress(plain, 9)).decode()} {_UNSIGNED.decode()}"


def signed(data: bytes) -> bytes:
    """The bytes of a file that holds an ``unsigned`` signature, with their digest in it."""
    return data.replace(_UNSIGNED, _digest(data), 1)


def sorted_header(data: bytes) -> bytes:
    """Return the bytes of a safetensors file with the names in its header sorted.

    The library writes metadata in any order, and the same content must be the same bytes.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = dict(sorted(header.pop("__metadata__", {}).items()))
    text = json.dumps({"__metadata__": metadata, **dict(sorted(header.items()))}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def image_exif(image: Image.Image, request: Mapping[str, Any], size: int = 0) -> Image.Exif:
    """Return EXIF data that sign an image, as its file will decode, and the ``size`` of the file in bytes.

    The size reveals frames, comments or bytes that a user added.
    """
    exif = Image.Exif()
    exif[_SOFTWARE] = f"nibt {_version()}"
    exif[_DESCRIPTION] = unsigned(request).replace(_UNSIGNED.decode(), _pixel_digest(image).decode()) + f" {size:012d}"
    return exif


def read_signature(path: Path) -> Signature | None:
    """The signature of a file as nibt wrote it; None where there is none, or the file was changed since."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
            match = _SIGNATURE.search(head)  # the rest of a file that has none is not read: it may be of any size
            whole = match and _digest((head + stream.read()).replace(match[3], _UNSIGNED, 1)) == match[3]
        if not whole:
            match = _image_signature(path)
        return match and Signature(match[1].decode(), json.loads(zlib.decompress(urlsafe_b64decode(match[2]))))
    except (OSError, ValueError, SyntaxError, zlib.error, Image.DecompressionBombError, EOFError):
        return None


def is_own(path: Path) -> bool:
    """Whether nibt wrote the file, and nobody changed it since."""
    return read_signature(path) is not None


def check_targets(targets: Sequence[Path], inputs: Iterable[Path] = (), overwrite: bool = False) -> None:
    """Refuse outputs that would replace an input, one another, or a file that is not nibt's, before any work is done.

    ``inputs`` are the files and folders that the call reads. With ``overwrite`` any file may be replaced that is
    neither an input nor read-only.

    Raises:
        WouldOverwrite: A target is such a file.
        CannotWrite: A folder is missing or closed.

    """
    inputs, names = list(inputs), {}
    for target in targets:
        other = names.setdefault(_folded(target), target)
        if other is not target:
            raise WouldOverwrite(
                f"two outputs of this call go to the same file ({other} and {target}): give each its own name"
            )
    for target in targets:
        for source in inputs:
            _check_input(target, source)
        check_replaceable(target, overwrite)
        check_writable(target)


def check_replaceable(path: Path, overwrite: bool = False) -> None:
    """Refuse to replace a file that nibt did not write, unless ``overwrite``; read-only files in any case.

    Raises:
        WouldOverwrite: There is such a file.

    """
    if path.is_dir() or not (path.exists() or path.is_symlink()):
        return
    if not path.is_file():
        kind = "a link to nothing" if path.is_symlink() and not path.exists() else "no regular file"
        raise WouldOverwrite(
            f"{path} is {kind}, and would be replaced by a file: choose another name (--json - writes "
            "to standard output)"
        )
    if not path.stat().st_mode & 0o222:
        raise WouldOverwrite(f"{path} is read-only: make it writable, or choose another name")
    if not overwrite and not is_own(path):
        raise WouldOverwrite(
            f"{path} exists, and nibt did not write it, or it was changed since: choose another name, "
            "or give --overwrite (in Python overwrite=True) to replace it"
        )


def check_run_folder(folder: Path, manifest: str) -> None:
    """Refuse a folder for a run that holds something else; one that holds a run has its ``manifest``.

    Raises:
        WouldOverwrite: It is a file, or a folder with other files.

    """
    if folder.exists() and not folder.is_dir():
        raise WouldOverwrite(f"{folder} is a file: name a folder")
    if folder.is_dir() and not (folder / manifest).is_file() and not all(map(_is_trace, folder.iterdir())):
        raise WouldOverwrite(f"{str(folder)!r} is not empty, and holds no {manifest} of nibt: choose a new folder")


@contextmanager
def replacing(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary path that takes the place of ``path`` when the block ends well; a link is followed, and stays.

    Raises:
        WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    check_replaceable(path, overwrite)
    with atomic_write(path.resolve() if path.is_symlink() else path) as draft:
        yield draft


def write_bytes(path: Path, data: bytes, overwrite: bool = False) -> None:
    """Write a file, whole or not at all; an ``unsigned`` signature in it is signed.

    Raises:
        WouldOverwrite: A file is there that nibt did not write, and ``overwrite`` is not given.
        CannotWrite: The folder is missing or closed, or the disk is full.

    """
    with replacing(path, overwrite) as draft:
        draft.write_bytes(signed(data))


def distinct(paths: Sequence[Path], request: Mapping[str, Any], taken: Iterable[Path] = ()) -> list[Path]:
    """Return the names, with a number (``photo-a-cat-2.png``) if one is taken or holds another request's answer."""
    taken = set(taken)
    wanted, number = json.loads(json.dumps(request, default=str)), 1
    while True:
        numbered = [path.with_stem(f"{path.stem}-{number}") if number > 1 else path for path in paths]
        if all(path not in taken and (not path.exists() or _answers(path, wanted)) for path in numbered):
            return numbered
        number += 1


def _answers(path: Path, request: Mapping[str, Any]) -> bool:
    signature = read_signature(path)
    return signature is not None and signature.request == request


def _check_input(target: Path, source: Path) -> None:
    """Refuse an input, under whatever name; of an input folder any file but nibt's own."""
    if not target.exists():
        return
    if source.is_dir():
        inside = target.resolve().is_relative_to(source.resolve())
        if inside and target.is_file() and not is_own(target):
            raise WouldOverwrite(f"{target} is in the folder {source}, which this call reads: choose another name")
    elif source.exists() and target.samefile(source):
        raise WouldOverwrite(
            f"{target} is an input of this call ({source}), and would be replaced: choose another name"
        )


def _is_trace(path: Path) -> bool:
    """Whether a run that was killed as it began may have left this, and nothing of anybody's is in it."""
    return path.name.startswith(".") or (path.is_dir() and all(map(_is_trace, path.iterdir())))


def _folded(path: Path) -> str:
    """The same for names that are one file on any file system: some take letters of either case for the same."""
    return unicodedata.normalize("NFC", str(path.resolve())).casefold()


def _image_signature(path: Path) -> re.Match[bytes] | None:
    with Image.open(path) as image:
        text = str(image.getexif().get(_DESCRIPTION, "")).encode("ascii", "replace")
        match = _SIGNATURE.fullmatch(text)
        whole = match and match[4] is not None and int(match[4]) == path.stat().st_size
        return match if match and whole and _pixel_digest(image) == match[3] else None


def _pixel_digest(image: Image.Image) -> bytes:
    shape = f"{image.mode} {image.width} {image.height}".encode()
    return b"sha256:" + sha256(shape + image.tobytes()).hexdigest().encode()


def _digest(data: bytes) -> bytes:
    return b"sha256:" + sha256(data).hexdigest().encode()


@cache
def _version() -> str:
    return version("nibt")
