"""Tests of ``nibt.slides`` with slides that tifffile writes and OpenSlide reads."""

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nibt
from nibt.data.images import read_image
from nibt.engine.batches import explain_batches
from nibt.engine.spec import Request
from nibt.errors import BadInput, BadOption, NibtError, OtherRequest, Unsupported
from nibt.progress import Progress, no_progress
from nibt.registry import MethodSpec
from nibt.report.colors import DEFAULT
from nibt.slides.explain import cut_slide, explain_tiles
from nibt.slides.explanation import SlideExplanation, SlideTile
from nibt.slides.reading import Slide, open_slide
from nibt.slides.tiles import Tiling, content_shares, overview
from nibt.slides.views.slide import slide_facts, slide_panels
from tests.helpers import Run

ABOUT = "Aperio Image Library v11.2.1\r\n600x400 [0,0 600x400] (128x128) |AppMag = 20|MPP = 0.5"
OPTIONS: dict[str, Any] = {"steps": 2, "views": 1}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def model() -> nibt.Model:
    return nibt.load_model("scenes")


def tissue() -> np.ndarray:
    """Return 400 x 600 pixels of bright glass with three samples on it."""
    page = Image.new("RGB", (600, 400), (243, 241, 244))
    for name, place in (("scene", (140, 10)), ("cat", (300, 140)), ("scene", (410, 200))):
        picture = read_image(f"sample:{'scene' if name == 'scene' else 'chelsea'}").pil_image.resize((128, 128))
        page.paste(picture, place)
    return np.asarray(page)


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a pyramid, by default that of a scanner of Aperio."""
    tifffile = pytest.importorskip("tifffile", reason="needs the package tifffile: pip install '.[test]'")
    pytest.importorskip("openslide", reason="needs the package openslide: pip install '.[slides]'")
    folder = tmp_path_factory.mktemp("slides")

    def written(name: str = "slide.svs", pixels: np.ndarray | None = None, levels: int = 3, about: str = ABOUT) -> Path:
        pixels = tissue() if pixels is None else pixels
        kind = "rgb" if pixels.ndim == 3 else "minisblack"
        with tifffile.TiffWriter(folder / name) as file:
            for level in range(levels):
                small = pixels if not level else np.asarray(Image.fromarray(pixels).reduce(2**level))
                options = {"tile": (128, 128), "compression": "deflate", "photometric": kind, "metadata": None}
                file.write(small, description=about, subfiletype=int(level > 0), **options)
        return folder / name

    return written


@pytest.fixture(scope="module")
def slide(write: Write) -> Path:
    return write()


@pytest.fixture(scope="module")
def explained(model: nibt.Model, slide: Path) -> SlideExplanation:
    return nibt.explain_slide(model, slide, "a cat", tile=64, magnification=10, batch_size=1, **OPTIONS)


def test_map_of_a_tile_is_that_of_its_image(model: nibt.Model, explained: SlideExplanation) -> None:
    assert len(explained.tiles) >= 4
    for tile, scores in zip(explained.tiles, explained.maps, strict=True):
        alone = nibt.explain(model, explained.crop(tile.row, tile.column), "a cat", **OPTIONS)
        assert torch.equal(alone.grid, scores)
        assert alone.similarity == tile.similarity == tile.value
        assert alone.image.path is not None
        assert tile.baseline is not None
        assert tile.gap is not None
        assert tile.gap == float(alone.image.path.gap)
        assert abs(tile.baseline + tile.sum + tile.gap - tile.value) < 1e-5


def test_map_of_the_slide_has_the_maps_of_its_tiles_and_nothing_else(explained: SlideExplanation) -> None:
    rows, columns = explained.maps.shape[1:]
    assert explained.grid.shape == (explained.content.shape[0] * rows, explained.content.shape[1] * columns)
    left_out = torch.ones(explained.content.shape, dtype=torch.bool)
    for tile, scores in zip(explained.tiles, explained.maps, strict=True):
        part = explained.grid[tile.row * rows :][:rows, tile.column * columns :][:, :columns]
        assert torch.equal(part, scores)
        assert explained.values[tile.row, tile.column] == torch.tensor(tile.value)
        left_out[tile.row, tile.column] = False
    assert left_out.any()
    assert torch.equal(explained.grid.isnan(), left_out.repeat_interleave(rows, 0).repeat_interleave(columns, 1))
    assert torch.equal(explained.similarities.isnan(), left_out)
    assert torch.equal(explained.content < explained.least_content, left_out)


def test_order_and_number_of_tiles_together_do_not_matter(model: nibt.Model, explained: SlideExplanation) -> None:
    request = Request(MethodSpec.of("nib", options=OPTIONS), batch_size=1)
    with cut_slide(explained.source, 10, None, 64, 0.1, 100) as cut:
        backwards = explain_tiles(model, replace(cut, places=cut.places[::-1]), "a cat", request, None, no_progress)
    assert backwards == explained
    together = nibt.explain_slide(model, explained.source, "a cat", tile=64, magnification=10, batch_size=5, **OPTIONS)
    torch.testing.assert_close(together.maps, explained.maps, atol=1e-6, rtol=1e-4)


def test_tiles_are_the_pixels_of_the_slide(slide: Path) -> None:
    pixels = tissue()
    with open_slide(slide) as opened:
        assert (opened.size, opened.magnification, opened.microns) == ((600, 400), 20.0, 0.5)
        tiling = Tiling(opened.size, 128, 1.0)
        assert (tiling.rows, tiling.columns) == (4, 5)
        inside = np.asarray(tiling.read(opened, 1, 2))
        np.testing.assert_array_equal(inside, pixels[128:256, 256:384])
        at_the_edge = np.asarray(tiling.read(opened, 3, 4))
        np.testing.assert_array_equal(at_the_edge[:16, :88], pixels[384:, 512:])
        assert (at_the_edge[16:] == 255).all()
        assert (at_the_edge[:, 88:] == 255).all()
        half = np.asarray(Tiling(opened.size, 64, 2.0).read(opened, 1, 2))
        np.testing.assert_array_equal(half, np.asarray(Image.fromarray(pixels).reduce(2))[64:128, 128:192])


@pytest.mark.parametrize("downsample", [1.0, 3.0, 8.0])
def test_pyramid_and_single_level_give_the_same_tiles(write: Write, downsample: float) -> None:
    """A level is a reduced image, so reading it and reducing the first one differ by rounding."""
    with open_slide(write()) as pyramid, open_slide(write("flat.tif", levels=1, about="")) as flat:
        assert len(flat.downsamples) == 1
        tiling = Tiling(flat.size, 32, downsample)
        first, second = (np.asarray(overview(each, tiling), float) for each in (pyramid, flat))
        assert np.abs(first - second).mean() < 2
        first, second = (np.asarray(tiling.read(each, 0, 1), float) for each in (pyramid, flat))
        assert np.abs(first - second).mean() < 2


@pytest.mark.slow
def test_little_is_decoded_at_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("large.tif", np.full((3000, 5000), 90, np.uint8), levels=1, about="")
    largest = []

    class Watched(Slide):
        def read(self, *arguments: Any) -> Image.Image:
            region = self.read_region

            def watched(corner: Any, level: int, size: tuple[int, int]) -> Image.Image:
                largest.append(max(size))
                return region(corner, level, size)

            return Slide.read(replace(Slide(**vars(self)), read_region=watched), *arguments)

    with open_slide(path) as slide:
        tiling = Tiling(slide.size, 64, 50.0)
        small = overview(Watched(**vars(slide)), tiling)
        tile = tiling.read(Watched(**vars(slide)), 0, 0)
    assert max(largest) <= 2048
    assert set(np.unique(np.asarray(tile)[:60])) == {90}
    assert np.asarray(small)[10, 10].tolist() == [90, 90, 90]


def test_blank_tiles_are_bright_or_black_without_color() -> None:
    colors = [(255, 255, 255), (200, 214, 207), (15, 0, 3), (199, 205, 205), (230, 210, 230), (16, 16, 16)]
    small = Image.fromarray(np.array([colors], np.uint8).repeat(2, 0).repeat(2, 1))
    shares = content_shares(small, Tiling((12, 2), 2, 1.0))
    np.testing.assert_array_equal(shares, [[0, 0, 0, 1, 1, 1]])
    half = Image.new("RGB", (4, 4), "white")
    half.paste((200, 30, 30), (0, 0, 4, 1))
    assert content_shares(half, Tiling((4, 4), 4, 1.0)).tolist() == [[0.25]]


def test_least_content_decides_which_tiles_are_explained(write: Write) -> None:
    with cut_slide(write(), None, None, 64, 0.0, 100) as cut:
        assert len(cut.places) == cut.content.size
    with cut_slide(write(), None, None, 64, 0.5, 100) as cut:
        assert {(row, column) for row, column in cut.places} == {*zip(*np.nonzero(cut.content >= 0.5), strict=True)}


def test_image_in_memory_and_slide_of_one_tile(model: nibt.Model) -> None:
    image = read_image("sample:scene").pil_image
    result = nibt.explain_slide(model, image, "a cat", tile=128, **OPTIONS)
    assert torch.equal(result.grid, nibt.explain(model, image, "a cat", **OPTIONS).grid)
    assert (len(result.tiles), result.magnification, result.microns) == (1, None, None)
    assert result.strongest(9) == [*result.tiles]


def test_nothing_is_drawn_outside_of_the_slide(model: nibt.Model) -> None:
    image = read_image("sample:scene").pil_image.resize((160, 130))
    result = nibt.explain_slide(model, image, "a cat", tile=128, least_content=0, **OPTIONS)
    assert result.content.shape == (2, 2)
    assert not [fact for fact in slide_facts(result) if "striped" in fact]
    _, *maps = (np.asarray(picture) for _, _, picture in slide_panels(result, DEFAULT, 512))
    assert len(maps) == 2
    for pixels in maps:
        assert (pixels[:, 321:] == 255).all(), "right of 160 of 256 pixels"
        assert (pixels[261:] == 255).all(), "below 130 of 256 pixels"
        assert (pixels[:259, 317:319] != 255).any(), "left of it"
        assert (pixels[257:259, :319] != 255).any(), "above it"


def test_gray_slides_are_read(write: Write) -> None:
    gray = np.asarray(Image.fromarray(tissue()).convert("L"))
    with open_slide(write("gray.tif", gray, about="")) as slide:
        read = np.asarray(Tiling(slide.size, 128, 1.0).read(slide, 1, 2))
    np.testing.assert_array_equal(read, np.repeat(gray[128:256, 256:384, None], 3, 2))


def test_results_are_saved_and_loaded(explained: SlideExplanation, tmp_path: Path) -> None:
    explained.save(tmp_path / "x.json")
    loaded = SlideExplanation.load(tmp_path / "x.json")
    assert loaded == explained
    assert loaded.input is None
    np.testing.assert_array_equal(np.asarray(loaded.thumbnail()), np.asarray(explained.thumbnail()))
    explained.save(tmp_path / "x.png")
    loaded.save(tmp_path / "y.png")
    assert Image.open(tmp_path / "x.png").tobytes() == Image.open(tmp_path / "y.png").tobytes()
    explained.save(tmp_path / "x.html")
    text = (tmp_path / "x.html").read_text()
    assert text.count("<img") == 3
    assert "no number is computed for the whole slide" in text.lower()
    assert "<script>alert" not in text
    assert f"{explained.strongest(1)[0].value:.4f}" in text


def test_files_of_viewers_have_the_tiles_in_pixels_of_the_slide(explained: SlideExplanation, tmp_path: Path) -> None:
    explained.save(tmp_path / "x.geojson")
    data = json.loads((tmp_path / "x.geojson").read_text())
    assert data["type"] == "FeatureCollection"
    assert len(data["features"]) == len(explained.tiles)
    for feature, tile, scores in zip(data["features"], explained.tiles, explained.maps, strict=True):
        (ring,) = feature["geometry"]["coordinates"]
        left, top, across, down = explained.box(tile.row, tile.column)
        assert ring[0] == ring[-1] == [left, top]
        assert ring[2] == [min(left + across, 600), min(top + down, 400)]
        measured = feature["properties"]["measurements"]
        assert measured["value"] == tile.value
        assert measured["highest score"] == float(scores.max())


@pytest.mark.usefixtures("unchecked")
def test_the_place_of_a_tile_is_in_whole_numbers(explained: SlideExplanation) -> None:
    with pytest.raises(BadOption, match="row must be a whole number"):
        explained.box(1.5, 0)  # type: ignore[arg-type]


def test_frames_have_a_row_per_tile(explained: SlideExplanation) -> None:
    pytest.importorskip("pandas", reason="needs the package pandas: pip install '.[data]'")
    frame = explained.to_frame()
    assert frame["value"].tolist() == [tile.value for tile in explained.tiles]
    assert frame["left"].tolist() == [128 * tile.column for tile in explained.tiles]


def test_changed_slides_are_an_error(explained: SlideExplanation, write: Write, tmp_path: Path) -> None:
    path = tmp_path / "moved.svs"
    path.write_bytes(Path(explained.source).read_bytes())
    moved = replace(explained, source=str(path), input=None)
    assert moved.crop(0, 0).size == (64, 64)
    path.write_bytes(write("other.svs", tissue()[::-1].copy()).read_bytes())
    with pytest.raises(BadInput, match="was changed since it was explained"):
        moved.save(tmp_path / "x.png")
    path.unlink()
    with pytest.raises(BadInput, match="there is no slide"):
        moved.crop(0, 0)
    assert not (tmp_path / "x.png").exists()


class Stopped(Exception):
    """Stops a computation."""


def test_a_folder_goes_on_after_a_stop(
    model: nibt.Model, slide: Path, explained: SlideExplanation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nibt.slides.explain._TOGETHER", 2)
    options: dict[str, Any] = {"tile": 64, "magnification": 10, "batch_size": 1, "folder": tmp_path / "work", **OPTIONS}

    def stop(progress: Progress) -> None:
        if progress.done >= 4:
            raise Stopped

    with pytest.raises(Stopped):
        nibt.explain_slide(model, slide, "a cat", **options, on_progress=stop)
    parts = {path.name for path in (tmp_path / "work" / "parts").iterdir()}
    assert len(parts) == 2

    with monkeypatch.context() as patch:
        patch.setattr("nibt.slides.explain.explain_batches", _without(explained.tiles[:4]))
        assert nibt.explain_slide(model, slide, "a cat", **options) == explained
    assert parts < {path.name for path in (tmp_path / "work" / "parts").iterdir()}
    with pytest.raises(OtherRequest, match="caption"):
        nibt.explain_slide(model, slide, "a dog", **options)


def _without(tiles: Sequence[SlideTile]) -> Callable[..., Any]:
    """Return ``explain_batches``, which fails for some tiles of the slide."""
    done = {f"tile {tile.row}.{tile.column} of" for tile in tiles}

    def explain(spec: Any, pairs: Any, size: int) -> Iterator[Any]:
        assert not any(pair.image.source.startswith(tuple(done)) for pair in pairs), "a tile is explained again"
        return explain_batches(spec, pairs, size)

    return explain


@pytest.mark.slow
def test_targets_that_compare(model: nibt.Model, slide: Path, tmp_path: Path) -> None:
    result = nibt.explain_slide(model, slide, "a cat", against="a dog", tile=128, downsample=2, **OPTIONS)
    for tile in result.tiles:
        image = result.crop(tile.row, tile.column)
        alone = nibt.explain(model, image, "a cat", against="a dog", **OPTIONS)
        assert tile.value == pytest.approx(alone.target["image"]["value"], abs=1e-6)
    result.save(tmp_path / "x.png")
    assert "rather than" in (result.save(tmp_path / "x.html") or (tmp_path / "x.html").read_text())


def test_notes_say_on_how_many_tiles(explained: SlideExplanation) -> None:
    assert explained.warnings
    for note in explained.notes:
        on = re.match(r"on (\d+) of (\d+) tiles, as in row", note.text)
        if note.code == "no_match_of_tiles":
            assert on
            assert int(on[1]) == sum("no_match" in tile.codes for tile in explained.tiles)
            assert int(on[2]) == len(explained.tiles)
    assert explained.gravest is None or all(explained.gravest.code in tile.codes for tile in explained.tiles)


def test_notes_on_scores_of_words_are_no_notes_on_tiles(slide: Path) -> None:
    """Which side a note is about is said by its code."""
    options: dict[str, Any] = {"steps": 1, "views": 1, "distribute": False}
    alone = nibt.explain("scenes", "sample:scene", "a cat", "nib", **options)
    assert "scores:text" in alone.codes
    result = nibt.explain_slide("scenes", slide, "a cat", "nib", tile=128, downsample=2, **options)
    assert any(code.startswith("scores") for code in result.codes)
    assert all(note.side in ("", "image") for note in result.notes)
    assert not any("text side" in text for text in result.warnings)


HOSTILE: dict[str, tuple[dict[str, Any], type[NibtError], str]] = {
    "magnification above that of the slide": ({"magnification": 40}, BadOption, "at most that of the slide, 20"),
    "both scales": ({"magnification": 10, "downsample": 2}, BadOption, "set magnification or downsample, not both"),
    "downsample below 1": ({"downsample": 0.5}, BadOption, "downsample must be between 1 and"),
    "tile much larger than the slide": (
        {"downsample": 50},
        BadOption,
        "smaller than twice the slide, .* choose a smaller tile",
    ),
    "tile of no size": ({"tile": 0}, BadOption, "tile must be between 16"),
    "magnification of no number": ({"magnification": "much"}, BadOption, "magnification must be a number"),
    "too many tiles": (
        {"tile": 16, "most_tiles": 10},
        BadOption,
        r"most_tiles is 10, and \d+ tiles are not blank at .*: choose magnification",
    ),
    "share above 1": ({"least_content": 2}, BadOption, "least_content must be between 0 and 1"),
    "everything blank": (
        {"least_content": 1.0, "tile": 256},
        BadInput,
        "least_content is 1, .* Lower least_content",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("unchecked")
def test_wrong_options_are_found_before_a_model_is_loaded(slide: Path, name: str) -> None:
    options, error, message = HOSTILE[name]
    with pytest.raises(error, match=message):
        nibt.explain_slide("no model of this name", slide, "a cat", **options)


def test_files_that_are_no_slides(write: Write, tmp_path: Path) -> None:
    whole = write().read_bytes()
    cases: dict[str, bytes] = {"empty.svs": b"", "text.svs": b"hello", "cut.svs": whole[: len(whole) // 3]}
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadInput, match=r"is no slide that OpenSlide reads .*vips tiffsave"):
            nibt.explain_slide("scenes", tmp_path / name, "a cat")
    (tmp_path / "folder.svs").mkdir()
    for name, message in (("none.svs", "there is no slide"), ("folder.svs", "is no slide")):
        with pytest.raises(BadInput, match=message):
            nibt.explain_slide("scenes", str(tmp_path / name), "a cat")
    with pytest.raises(BadInput, match="got the URL"):
        nibt.explain_slide("scenes", "https://example.org/slide.svs", "a cat")


def test_damaged_slides_and_unusual_pixels(write: Write, tmp_path: Path) -> None:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "float.tif", np.ones((300, 300), np.float32), tile=(128, 128))
    with pytest.raises(BadInput, match=r"damaged, truncated or of an unusual kind"):
        nibt.explain_slide("scenes", tmp_path / "float.tif", "a cat")


def test_magnification_that_is_not_stated(write: Write) -> None:
    path = write("plain.tif", about="")
    with pytest.raises(BadOption, match="does not state the magnification of its objective: set downsample"):
        nibt.explain_slide("scenes", path, "a cat", magnification=10)
    with pytest.raises(BadOption, match=r"choose a downsample of"):
        nibt.explain_slide("scenes", path, "a cat", tile=16, most_tiles=10)


def test_without_the_package(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(Unsupported, match=r"openslide-python and openslide-bin: .*pip install '\.\[slides\]'"):
        nibt.explain_slide("scenes", slide, "a cat")


def test_wrong_data_of_a_file(explained: SlideExplanation) -> None:
    data = explained.to_json()
    for change in ({"maps": data["maps"][1:]}, {"tiles": data["tiles"][::-1]}, {"content": [[1.0]]}):
        with pytest.raises(BadInput):
            SlideExplanation.from_json({**data, **change})


@pytest.mark.slow
def test_command_writes_a_map_and_its_numbers(run: Run, slide: Path) -> None:
    arguments = [str(slide), "a cat", "-m", "scenes", "--method", "nib steps=2 views=1", "--tile", "64"]
    code, out, err = run("slide", *arguments, "--magnification", "10", "-o", "a.json", "-o", "a.geojson", "-o", "a.png")
    assert code == 0, err
    result = SlideExplanation.load("a.json")
    best = result.strongest(1)[0]
    assert f"{best.row}.{best.column}" in out
    assert f"{best.value:.4f}" in out
    assert "wrote a.json, a.geojson, a.png" in out
    code, out, err = run("slide", *arguments, "--downsample", "2", "--estimate")
    assert code == 0, err
    assert re.search(rf"{len(result.tiles)} of {result.content.numel()} tiles are not blank; .* s per tile", out)
    for option in (["-o", "b.json"], ["--work", "kept"]):
        code, _, err = run("slide", *arguments, "--estimate", *option)
        assert (code, "--estimate writes nothing: leave -o and --work out" in err) == (2, True)
    code, _, err = run("slide", *arguments, "--magnification", "40")
    assert (code, "at most that of the slide" in err) == (2, True)
    code, _, err = run("slide", str(slide), str(slide))
    assert (code, "the caption is missing" in err) == (2, True)
