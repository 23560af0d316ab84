"""Tests of ``nibt.data.dicom`` and ``nibt.data.window`` with the files and the functions of pydicom."""

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import nibt
from nibt.data.images import ImageInput, is_image_name, names_image, path_digest, read_image
from nibt.data.window import split_window
from nibt.datasets.folder import Folder, Table
from nibt.errors import BadInput, NibtError, Unsupported
from tests import tiny
from tests.helpers import Run

PATIENT = "Doe^Jane"
OPTIONS: dict[str, Any] = {"steps": 1, "views": 1}


@pytest.fixture
def pydicom() -> Any:
    return pytest.importorskip("pydicom", reason="needs the package pydicom: pip install '.[medical]'")


@pytest.fixture
def file(pydicom: Any) -> Callable[[str], Path]:
    """Return the path of a file that ships with pydicom."""
    return lambda name: Path(pydicom.__file__).parent / "data" / "test_files" / name


@pytest.fixture
def write(pydicom: Any, tmp_path: Path) -> Callable[..., Path]:
    """Write a file with pixels and other elements; None removes an element."""

    def written(pixels: np.ndarray, name: str = "x.dcm", **elements: Any) -> Path:
        from pydicom.dataset import Dataset, FileMetaDataset
        from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        data.PatientName = PATIENT
        data.PatientID = "123456"
        data.PatientBirthDate = "19700101"
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        if pixels.dtype == np.float32:
            data.FloatPixelData = pixels.tobytes()
            data.BitsAllocated = 32
        else:
            data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
            data.HighBit = data.BitsStored - 1
            data.PixelRepresentation = int(pixels.dtype.kind == "i")
            data.PixelData = pixels.tobytes()
        for key, value in elements.items():
            if value is None:
                delattr(data, key)
            else:
                setattr(data, key, value)
        data.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return written


def shades(image: ImageInput) -> np.ndarray:
    return np.asarray(image.pil_image.convert("L")).astype(int)


RAMP = np.linspace(-1000, 1000, 64 * 64).reshape(64, 64).astype(np.int16)


# The window


@pytest.mark.parametrize("name", ["MR_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm", "MR_small_RLE.dcm"])
def test_the_window_of_a_file_is_that_of_pydicom(name: str, pydicom: Any, file: Callable[[str], Path]) -> None:
    """The oracle is pydicom, whose range is that of the bits of the file after its rescale."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    data = pydicom.dcmread(file(name))
    values = apply_voi_lut(apply_modality_lut(data.pixel_array, data), data).astype(float)
    signed = data.PixelRepresentation
    ends = np.array([-(2 ** (data.BitsStored - 1)) * signed, 2 ** (data.BitsStored - signed) - 1], float)
    low, high = ends * float(data.get("RescaleSlope", 1)) + float(data.get("RescaleIntercept", 0))
    image = read_image(file(name))
    np.testing.assert_allclose(shades(image), (values - low) / (high - low) * 255, atol=0.5 + 1e-6)
    level, width = (float(np.atleast_1d(data[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
    assert image.notes[0].startswith(f"the window of the file was used, level {level:g} and width {width:g}: choose")


def test_the_first_of_several_windows_is_used(write: Callable[..., Path]) -> None:
    several = read_image(write(RAMP, WindowCenter=[40, -600], WindowWidth=[400, 1500]))
    one = read_image(write(RAMP, "one.dcm", WindowCenter=40, WindowWidth=400))
    assert (shades(several) == shades(one)).all()
    assert several.notes == one.notes


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_functions_of_windows_are_those_of_the_standard(function: str, write: Callable[..., Path]) -> None:
    """PS3.3, C.11.2.1.3: for SIGMOID 1 / (1 + exp(-4 (x - c) / w)), for LINEAR_EXACT (x - c) / w + 1/2."""
    image = read_image(write(RAMP, WindowCenter=40, WindowWidth=400, VOILUTFunction=function))
    place = (RAMP.astype(float) - 40) / 400
    expected = 1 / (1 + np.exp(-4 * place)) if function == "SIGMOID" else (place + 0.5).clip(0, 1)
    np.testing.assert_allclose(shades(image), expected * 255, atol=0.51)


def test_a_chosen_window_is_in_the_units_of_the_file(write: Callable[..., Path]) -> None:
    path = write(
        (RAMP + 1024).astype(np.uint16), RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=0, WindowWidth=2000
    )
    image = read_image(f"{path}#window=40,400")
    np.testing.assert_allclose(shades(image), ((RAMP - 40.0) / 400 + 0.5).clip(0, 1) * 255, atol=0.5)
    assert image.notes == ("the window level 40 and width 400 was chosen",)
    assert image.source == f"{path}#window=40,400"
    assert image.digest != read_image(path).digest
    assert image.digest == path_digest(image.source)
    assert read_image(path).digest == path_digest(str(path))


@pytest.mark.parametrize(
    "scale",
    [
        {},
        {"RescaleSlope": 1, "RescaleIntercept": 0},
        {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 40, "WindowWidth": 9},
    ],
)
def test_a_table_of_a_file_is_its_window(write: Callable[..., Path], pydicom: Any, scale: dict[str, int]) -> None:
    from pydicom.dataset import Dataset

    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    entries = (np.arange(256, dtype=np.uint16)[::-1] * 257).astype("<u2")
    table.add_new("LUTData", "OW", entries.tobytes())
    pixels = np.arange(64 * 64).reshape(64, 64).astype(np.uint16) % 256
    image = read_image(write(pixels, VOILUTSequence=[table], **scale))
    assert (shades(image) == 255 - pixels).all()
    assert image.notes[0].startswith("the table of the file was used")


def test_the_lowest_value_of_monochrome1_is_white(write: Callable[..., Path]) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400}
    usual = shades(read_image(write(RAMP, **window)))
    inverted = write(RAMP, "inverted.dcm", PhotometricInterpretation="MONOCHROME1", **window)
    np.testing.assert_allclose(shades(read_image(inverted)), 255 - usual, atol=1)
    chosen = shades(read_image(f"{inverted}#window=40,400"))
    np.testing.assert_allclose(chosen, 255 - usual, atol=1)


def test_a_file_without_a_window_shows_the_range_of_its_values(write: Callable[..., Path]) -> None:
    padded = RAMP.copy()
    padded[0] = -2000
    image = read_image(write(padded, PixelPaddingValue=-2000))
    low = RAMP[1:].min()
    np.testing.assert_allclose(shades(image)[1:], (RAMP[1:] - low) / (1000.0 - low) * 255, atol=0.5)
    assert image.notes[0].startswith(
        f"the file has no window, so its values were mapped linearly, {low} to black and 1000 to white: choose a window"
    )
    eight = np.full((8, 8), 100, np.uint8)
    assert (shades(read_image(write(eight, "eight.dcm"))) == 100).all()


def test_the_window_of_a_file_with_frames_is_in_its_groups(write: Callable[..., Path], pydicom: Any) -> None:
    """As in enhanced CT: the scale is shared, each frame has a window of its own."""
    from pydicom.dataset import Dataset

    def group(macro: str, **elements: Any) -> Dataset:
        item, outer = Dataset(), Dataset()
        for key, value in elements.items():
            setattr(item, key, value)
        setattr(outer, macro, [item])
        return outer

    frames = np.stack([RAMP, RAMP[::-1]])
    path = write(
        RAMP,
        NumberOfFrames=2,
        PixelData=frames.tobytes(),
        SharedFunctionalGroupsSequence=[group("PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=10)],
        PerFrameFunctionalGroupsSequence=[
            group("FrameVOILUTSequence", WindowCenter=level, WindowWidth=400) for level in (40, 900)
        ],
    )
    image = read_image(path)
    np.testing.assert_allclose(shades(image), ((RAMP * 2 + 10 - 39.5) / 399 + 0.5).clip(0, 1) * 255, atol=0.5)
    assert image.notes[1] == "the image has 2 frames: the first is used"
    assert "level 40 and width 400" in image.notes[0]


# Kinds of files


def test_colors_and_palettes_are_those_of_pydicom(pydicom: Any, file: Callable[[str], Path]) -> None:
    from pydicom.pixels import apply_color_lut, pixel_array

    for name in ("examples_rgb_color.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        image = read_image(file(name))
        assert (np.asarray(image.pil_image) == pixel_array(file(name), index=0)).all()
        assert image.notes == ()
    data = pydicom.dcmread(file("examples_palette.dcm"))
    expected = apply_color_lut(data.pixel_array, data)
    actual = np.asarray(read_image(file("examples_palette.dcm")).pil_image)
    np.testing.assert_allclose(actual, expected[..., :3] / np.iinfo(expected.dtype).max * 255, atol=0.5)
    deep = np.asarray(read_image(file("SC_rgb_rle_16bit.dcm")).pil_image)
    assert (deep == np.asarray(read_image(file("SC_rgb_rle.dcm")).pil_image)).all()


def test_floats_are_mapped_from_their_lowest_to_their_highest(write: Callable[..., Path]) -> None:
    values = np.linspace(-1, 3, 256, dtype=np.float32).reshape(16, 16)
    np.testing.assert_allclose(shades(read_image(write(values))), (values + 1) / 4 * 255, atol=0.51)
    values[0, 0] = np.nan
    with pytest.raises(BadInput, match="holds NaN or infinite values"):
        read_image(write(values))


def test_a_file_is_known_by_its_bytes(file: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(file("MR_small.dcm"), tmp_path / "scan.png")
    shutil.copy(file("MR_small.dcm"), tmp_path / "IM0001")
    tiny.image(16, 16).pil_image.save(tmp_path / "x.png")
    shutil.copy(tmp_path / "x.png", tmp_path / "photo.dcm")
    expected = shades(read_image(file("MR_small.dcm")))
    for source in (tmp_path / "scan.png", tmp_path / "IM0001", file("MR_small.dcm").read_bytes()):
        assert (shades(read_image(source)) == expected).all()
    assert read_image(tmp_path / "photo.dcm").pil_image == read_image(tmp_path / "x.png").pil_image


def test_a_file_without_its_heading_is_read_by_its_ending(file: Callable[[str], Path], tmp_path: Path) -> None:
    data = file("MR_small_implicit.dcm").read_bytes()
    start = data.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in data else data.index(b"\x08\x00\x08\x00")
    (tmp_path / "old.dcm").write_bytes(data[start:])
    assert (shades(read_image(tmp_path / "old.dcm")) == shades(read_image(file("MR_small_implicit.dcm")))).all()


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        (
            "test-SR.dcm",
            BadInput,
            r"without an image \(its kind is Comprehensive SR Storage\): give a file with pixels",
        ),
        ("rtplan.dcm", BadInput, r"without an image \(its kind is RT Plan Storage\)"),
        ("meta_missing_tsyntax.dcm", BadInput, "without an image"),
        ("MR_truncated.dcm", BadInput, r"damaged, truncated or of an unusual kind \(ValueError"),
        ("MR_small_jpeg_ls_lossless.dcm", Unsupported, "compressed as JPEG-LS Lossless.*: install another one"),
        ("badVR.dcm", BadInput, "damaged, truncated or of an unusual kind"),
    ],
)
def test_files_without_an_image_that_can_be_read(
    name: str, kind: type[NibtError], message: str, file: Callable[[str], Path], pydicom: Any
) -> None:
    if kind is Unsupported:
        from pydicom.pixels import get_decoder
        from pydicom.uid import JPEGLSLossless

        if get_decoder(JPEGLSLossless).is_available:
            pytest.skip("a decoder is installed")
    with pytest.raises(kind, match=message):
        read_image(file(name))


def test_all_files_of_pydicom_give_an_image_or_a_clear_error(pydicom: Any, file: Callable[[str], Path]) -> None:
    read = []
    refused = []
    for path in sorted(file("x").parent.glob("*.dcm")):
        try:
            read.append(read_image(path))
        except (BadInput, Unsupported) as error:
            refused.append((path.name, str(error)))

    assert len(read) >= 45
    assert all(image.pil_image.mode == "RGB" for image in read)
    assert all(name in message for name, message in refused)


def test_text_with_the_ending_of_dicom_is_refused(tmp_path: Path, pydicom: Any) -> None:
    for number, data in enumerate(
        (b"no image", b"\0" * 400, b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 99)
    ):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(data)
        with pytest.raises(BadInput, match="DICOM file"):
            read_image(path)


@pytest.mark.parametrize(
    ("elements", "window", "message"),
    [
        ({"WindowCenter": 40, "WindowWidth": 0}, "", "the window of .* is not valid: choose one with .*#window="),
        ({"Rows": 0}, "", "an image must have at least one pixel"),
        ({"Rows": 65535, "Columns": 65535}, "", "an image must have at most 89,478,485 pixels"),
        ({}, "#window=40", r"a window must be LEVEL,WIDTH with a width above 0, .*\(got '40'\)"),
        ({}, "#window=40,0", "a window must be"),
        ({}, "#window=a,b", "a window must be"),
        ({}, "#window=nan,1", "a window must be"),
        ({}, "#window=1,2,3", "a window must be"),
    ],
)
def test_bad_windows_and_sizes_are_refused(
    elements: dict[str, Any], window: str, message: str, write: Callable[..., Path]
) -> None:
    with pytest.raises(BadInput, match=message):
        read_image(f"{write(RAMP, **elements)}{window}")


def test_a_window_is_for_gray_images(file: Callable[[str], Path], tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    for path in (file("examples_rgb_color.dcm"), tmp_path / "x.png"):
        with pytest.raises(BadInput, match="a window is for gray images"):
            read_image(f"{path}#window=40,400")


def test_without_pydicom_the_error_says_what_to_install(
    file: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file("MR_small.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(Unsupported, match=r"DICOM files need the package pydicom: .*\[medical\]"):
        read_image(path)


# Other images


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_sixteen_bits_are_not_clipped(ending: str, tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)
    path = tmp_path / f"x{ending}"
    Image.fromarray(values).save(path)
    image = read_image(path)
    np.testing.assert_allclose(shades(image), values / 65535 * 255, atol=0.5)
    assert image.notes == (
        "the image has 16 bits, so 0 was mapped to black and 65535 to white (its values are from 0 to 4095): choose "
        "another range with NAME#window=LEVEL,WIDTH",
    )
    chosen = read_image(f"{path}#window=2047.5,4095")
    np.testing.assert_allclose(shades(chosen), values / 4095 * 255, atol=0.5)
    assert chosen.notes == ("the window level 2047.5 and width 4095 was chosen",)


def test_the_zero_of_a_tiff_file_may_be_white(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    path = tmp_path / "x.tif"
    Image.fromarray(values).save(path)
    black = shades(read_image(path))
    entry = (262).to_bytes(2, "little") + (3).to_bytes(2, "little") + (1).to_bytes(4, "little")
    data = path.read_bytes()
    assert data.count(entry + b"\1") == 1
    path.write_bytes(data.replace(entry + b"\1", entry + b"\0"))
    assert (shades(read_image(path)) == 255 - black).all()
    np.testing.assert_allclose(shades(read_image(f"{path}#window=32767.5,65535")), 255 - black, atol=1)


def test_names_with_a_window_are_images(tmp_path: Path) -> None:
    (tmp_path / "IM0001").touch()
    assert is_image_name(f"{tmp_path}/IM0001#window=40,400")
    assert names_image("scan.dcm#window=40,400")
    assert not is_image_name("a scan #window=40,400")
    assert split_window("a.png") == ("a.png", None)
    odd = tmp_path / "x#window=1,2"
    odd.touch()
    assert split_window(str(odd)) == (str(odd), None), "a file of that name comes first"


# Results


def test_results_have_the_window_and_nothing_else_of_the_header(
    write: Callable[..., Path], tmp_path: Path, pydicom: Any
) -> None:
    path = write(RAMP, WindowCenter=40, WindowWidth=400)
    source = f"{path}#window=-600,1500"
    explanation = nibt.explain(tiny.model("clip"), source, "a cat", **OPTIONS)
    assert explanation.source == source
    assert "the window level -600 and width 1500 was chosen" in explanation.warnings
    for name in ("x.json", "x.html", "x.png"):
        explanation.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        for secret in (PATIENT, "Doe", "Jane", "123456", "19700101"):
            assert secret.encode() not in data, name
    loaded = nibt.Explanation.load(tmp_path / "x.json")
    assert loaded.image.input is not None
    assert (shades(loaded.image.input) == shades(read_image(source))).all()


def test_rows_of_jobs_have_windows(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(RAMP, WindowCenter=40, WindowWidth=400)
    rows = [{"image": name, "caption": "a cat"} for name in (path.name, f"{path.name}#window=0,50")]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    job = nibt.batch(tiny.model("clip"), tmp_path / "pairs.jsonl", tmp_path / "job", **OPTIONS)
    first, second = job.rows()
    assert (first["error"], second["error"]) == (None, None)
    assert first["image_hash"] != second["image_hash"]
    assert first["grid"] != second["grid"]
    explanation = job.explanation(1)
    assert isinstance(explanation, nibt.Explanation)
    assert explanation.image.input is not None
    assert (shades(explanation.image.input) == shades(read_image(f"{path}#window=0,50"))).all()
    again = nibt.batch(tiny.model("clip"), tmp_path / "pairs.jsonl", tmp_path / "job", **OPTIONS)
    assert again.chunks() == job.chunks()


def test_bytes_that_are_sent_keep_the_window(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(RAMP, WindowCenter=40, WindowWidth=400)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"image": f"{path.name}#window=0,50", "caption": "a cat"}))
    data = Table(tmp_path / "pairs.jsonl")
    (record,) = data.entries
    for shown in (record, replace(record, name="")):
        sent = shown.with_bytes()
        assert isinstance(sent.image, bytes)
        assert sent.digest() == shown.digest() == data.load_image(sent).digest
        assert (shades(data.load_image(sent)) == shades(read_image(f"{path}#window=0,50"))).all()


def test_boxes_of_dicom_images_are_read(write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(RAMP, WindowCenter=40, WindowWidth=400)
    row = {"image": path.name, "caption": "a cat", "boxes": [{"name": "cat", "box": [1, 2, 3, 4]}]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row))
    (pair,) = Folder(tmp_path)
    assert [item.box for item in pair.objects] == [(1, 2, 3, 4)]


def test_the_command_takes_dicom(run: Run, write: Callable[..., Path], tmp_path: Path) -> None:
    path = write(RAMP, WindowCenter=40, WindowWidth=400)
    out = tmp_path / "map.json"
    code, text, error = run("explain", f"{path}#window=-600,1500", "a cat", "-m", "lite", "-o", str(out))
    assert code == 0, error
    assert "the window level -600 and width 1500 was chosen" in " ".join(text.split())
    assert "the window level -600 and width 1500 was chosen" in json.loads(out.read_text())["warnings"]
    code, _, error = run("explain", f"{path}#window=1", "a cat", "-m", "lite", "-o", str(out))
    assert (code, "a window must be LEVEL,WIDTH" in error) == (1, True)
