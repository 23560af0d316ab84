"""Reading of DICOM files: one gray or color image, with its window. Only this file imports pydicom.

Nothing of the header but the window goes into what is returned: no name, no date, no identifier of a patient. Messages
have no value of the header either, since a damaged file may have a name where a number should be.
"""

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from nibt.data.window import Window, windowed
from nibt.errors import BadInput, Unsupported, import_optional
from nibt.torch_modes import without_warnings

_FLOATS = ("FloatPixelData", "DoubleFloatPixelData")
_GRAY = ("MONOCHROME1", "MONOCHROME2")
_MACROS = ("FrameVOILUTSequence", "PixelValueTransformationSequence")
"""Where files with many frames have the window and the scale of their values."""
_FAR = 100.0  # widths of a window beyond which its curve is flat
_CHOOSE = "choose another window with NAME#window=LEVEL,WIDTH"
_NEEDS = "DICOM files need the package pydicom"


def read_dicom(data: bytes, name: str, most_pixels: int, window: Window | None = None) -> tuple[Image.Image, list[str]]:
    """Read the image of a DICOM file, the first of several frames.

    Args:
        data: The bytes of the file.
        name: The name of the image, for messages.
        most_pixels: The largest number of pixels.
        window: The window in the units of the file, such as Hounsfield units; None means the first one of the file, or,
            without one, the range of the values.

    Returns:
        The image, and notes on its window and its frames.

    Raises:
        BadInput: The file has no image that can be read.
        Unsupported: pydicom, or a decoder that the file needs, is not installed.
    """
    pydicom = import_optional("pydicom", _NEEDS, "medical")
    with without_warnings():  # whose texts have values of the header
        try:
            dataset = pydicom.dcmread(BytesIO(data), force=True)  # also without the mark, which some files lack
            _check_image(dataset, name, most_pixels)
            return _read(dataset, name, window)
        except (BadInput, Unsupported):
            raise
        except MemoryError as error:
            raise BadInput(f"there is not enough memory for the image of {name!r:.300}") from error
        except Exception as error:  # of pydicom, which has no class for what a damaged file raises
            raise BadInput(
                f"{name!r:.300} is a DICOM file that is damaged, truncated or of an unusual kind "
                f"({type(error).__name__} while it was read)"
            ) from None


def _check_image(dataset: Any, name: str, most_pixels: int) -> None:
    """Check that a file has an image, of an allowed size, that can be decoded here."""
    if not any(key in dataset for key in ("PixelData", *_FLOATS)) or "Rows" not in dataset or "Columns" not in dataset:
        uid = dataset.get("SOPClassUID")
        kind = getattr(uid, "name", "")
        is_named = kind not in ("", str(uid))  # what is no known identifier may be anything
        raise BadInput(
            f"{name!r:.300} is {'a DICOM file' if dataset else 'no DICOM file, or one'} without an image"
            f"{f' (its kind is {kind})' if is_named else ''}: give a file with pixels"
        )

    rows, columns = int(dataset.Rows), int(dataset.Columns)
    if rows * columns == 0:
        raise BadInput(f"an image must have at least one pixel (got {columns} x {rows}, {name!r:.300})")
    if rows * columns > most_pixels:
        raise BadInput(
            f"an image must have at most {most_pixels:,} pixels ({name!r:.300} has more, {columns:,} x {rows:,}): "
            "scale it down"
        )

    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_compressed:
        return

    from pydicom.pixels import get_decoder

    try:
        is_available = get_decoder(syntax).is_available
    except NotImplementedError:
        is_available = False
    if not is_available:
        raise _no_decoder(name, syntax)


def _no_decoder(name: str, syntax: Any) -> Unsupported:
    return Unsupported(
        f"{name!r:.300} is compressed as {syntax.name}, and no decoder that is installed reads it: install another one "
        "(pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or python-gdcm), or decompress the file; a "
        "damaged file has this message, too"
    )


def _read(dataset: Any, name: str, window: Window | None) -> tuple[Image.Image, list[str]]:
    from pydicom.pixels import pixel_array

    notes = []
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        notes.append(f"the image has {frames} frames: the first is used")
        _lift_macros(dataset)
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _found_syntax(dataset)

    try:
        pixels = pixel_array(dataset, index=0)
    except RuntimeError:
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_compressed:
            raise _no_decoder(name, syntax) from None
        raise
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind not in _GRAY:
        if window is not None:
            raise BadInput(f"a window is for gray images (got one for {name!r:.300}, which has colors): leave it out")
        return _colors(pixels, dataset, kind), notes

    shades, note = _gray_shades(pixels, dataset, name, window)
    if kind == "MONOCHROME1":  # its lowest value is white
        shades = 1 - shades
    return Image.fromarray(np.round(shades * 255).astype(np.uint8)), [note, *notes]


def _found_syntax(dataset: Any) -> Any:
    """Return the transfer syntax in which a file without one is written."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    is_implicit, is_little = dataset.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian


def _lift_macros(dataset: Any) -> None:
    """Copy the window and the scale of the first frame to where files with one frame have them."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in (dataset.get(groups) or [])[:1]:
            for macro in _MACROS:
                for item in (group.get(macro) or [])[:1]:
                    dataset.update(item)


def _colors(pixels: np.ndarray, dataset: Any, kind: str) -> Image.Image:
    """Return a color image; its full range is scaled to 8 bits."""
    top = 2 ** int(dataset.BitsStored) - 1
    if kind == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        pixels = apply_color_lut(pixels, dataset)
        top = int(np.iinfo(pixels.dtype).max)
    return Image.fromarray(np.round(pixels[..., :3] / top * 255).astype(np.uint8))


def _gray_shades(pixels: np.ndarray, dataset: Any, name: str, window: Window | None) -> tuple[np.ndarray, str]:
    """Return the shades from 0, the darkest, to 1, before they are inverted, and the note on how they were mapped."""
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(pixels, dataset)
    if not np.isfinite(values).all():
        raise BadInput(f"the image {name!r:.300} holds NaN or infinite values")
    if window is not None:
        return windowed(values, window), f"the window {window} was chosen"

    table = (dataset.get("VOILUTSequence") or [None])[0]
    if table is not None:
        return _from_table(values, dataset, table), f"the table of the file was used as its window: {_CHOOSE}"
    if dataset.get("WindowCenter") is None or dataset.get("WindowWidth") is None:
        return _from_range(values, pixels, dataset)

    used = Window(_first(dataset.WindowCenter), _first(dataset.WindowWidth))
    if not (np.isfinite(used).all() and used.width >= 1):
        raise BadInput(f"the window of {name!r:.300} is not valid: choose one with {name}#window=LEVEL,WIDTH")
    return _from_window(values, dataset, used), f"the window of the file was used, {used}: {_CHOOSE}"


def _first(value: Any) -> float:
    """Return the first of one or several windows."""
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)


def _from_window(values: np.ndarray, dataset: Any, used: Window) -> np.ndarray:
    """Apply the first window of a file, whose function may be linear or a sigmoid."""
    from pydicom.pixels import apply_windowing

    # the ends of the range into which pydicom maps are what it makes of values far outside of the window
    far = [used.level - _FAR * used.width, used.level + _FAR * used.width]
    mapped = apply_windowing(np.append(values.astype(np.float64).ravel(), far), dataset)
    low, high = mapped[-2:]
    return ((mapped[:-2] - low) / (high - low)).clip(0, 1).reshape(values.shape)


def _from_table(values: np.ndarray, dataset: Any, table: Any) -> np.ndarray:
    """Apply the first table of a file."""
    from pydicom.pixels import apply_voi

    if values.dtype.kind == "f":  # a scale gives floats, and a table has an entry for each whole number
        values = np.rint(values).astype(np.int64)
    top = 2 ** int(table.LUTDescriptor[2]) - 1
    return (apply_voi(values, dataset).astype(np.float64) / top).clip(0, 1)


def _from_range(values: np.ndarray, pixels: np.ndarray, dataset: Any) -> tuple[np.ndarray, str]:
    """Map the lowest value to black and the highest to white, both without what only fills the frame."""
    shown = values
    if "PixelPaddingValue" in dataset and (pixels != dataset.PixelPaddingValue).any():
        shown = values[pixels != dataset.PixelPaddingValue]

    low = float(shown.min())
    high = float(shown.max())
    if values.dtype == np.uint8:  # as in other images, all of whose range is shown
        low = 0.0
        high = 2.0 ** int(dataset.BitsStored) - 1

    note = f"the file has no window, so its values were mapped linearly, {low:g} to black and {high:g} to white: "
    shades = (values.astype(np.float64) - low) / ((high - low) or 1.0)
    return shades.clip(0, 1), f"{note}choose a window with NAME#window=LEVEL,WIDTH"
