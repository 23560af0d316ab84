"""Exchange of cells of parts in training: what changes, what stays, and what is refused."""

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import nibt
from nibt.bridges.repair import Exchange, PartCells, part_cells
from nibt.data.objects import Object
from nibt.data.pair import Pair
from nibt.errors import BadInput, BadOption, Unsupported
from nibt.results.parts import Effect, Parts
from tests import tiny
from tests.helpers import noise_pairs
from tests.shared_models import module_state
from tests.suites import few

pytestmark = pytest.mark.usefixtures("unchecked")  # callers give whole numbers for shares, and arrays for lists

SIDE, ROWS = 12, 4
KINDS = few(("clip", "convnext"), ("clip",))


def images(count: int = 8) -> Tensor:
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def masks(count: int = 8, seed: int = 0) -> Tensor:
    """Return masks of which the first has no cell, and of which all others have some."""
    drawn = torch.rand(count, ROWS, ROWS, generator=torch.Generator().manual_seed(seed)) < 0.2
    drawn[:, 1, 2] = True
    drawn[0] = False
    return drawn


def cells(count: int = 8) -> PartCells:
    return PartCells(masks(count), (SIDE, SIDE))


def of_pixels(mask: Tensor) -> Tensor:
    """Return the masks of cells as those of pixels."""
    return mask.repeat_interleave(SIDE // ROWS, -2).repeat_interleave(SIDE // ROWS, -1)


@cache
def parts(kind: str = "clip") -> Parts:
    """Return the parts of a small random model, which has no masks and so no verdicts."""
    return nibt.parts(tiny.model(kind), noise_pairs(8), "nib:fast", count=3, texts=[])


# Exchange


def test_the_fraction_0_changes_nothing() -> None:
    assert torch.equal(Exchange(cells(), fraction=0)(images(), masks()), images())


def test_cells_are_those_of_one_other_image_and_all_other_pixels_stay() -> None:
    before, places = images(), masks()
    after = Exchange(cells(), fraction=1)(before, places)
    assert torch.equal(after[0], before[0]), "an image without the parts stays as it is"
    for item in range(1, len(before)):
        donors = [
            donor
            for donor in range(len(before))
            if donor != item
            and torch.equal(
                after[item], torch.where(of_pixels(places[item] | places[donor]), before[donor], before[item])
            )
        ]
        assert len(donors) == 1, "its cells and those of the other image are the pixels of the other image"


def test_about_the_fraction_of_images_is_exchanged() -> None:
    places = masks(400)
    after = Exchange(cells(400), fraction=0.8)(images(400), places)
    changed = (after != images(400)).flatten(1).any(1).float().mean()
    assert 0.7 < float(changed) < 0.9


def test_what_the_caller_gave_stays() -> None:
    before, places = images(), masks()
    after = Exchange(cells(), fraction=1)(before, places)
    assert torch.equal(before, images())
    assert torch.equal(places, masks())
    assert after.data_ptr() != before.data_ptr()


def test_equal_seeds_repeat_and_others_do_not() -> None:
    def run(seed: int) -> list[Tensor]:
        exchange = Exchange(cells(), seed=seed)
        return [exchange(images(), masks()) for _ in range(3)]

    first, again, other = run(4), run(4), run(5)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
    assert not torch.equal(first[0], first[1]), "each call draws anew"


def test_the_global_random_state_is_neither_read_nor_changed() -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    first = Exchange(cells())(images(), masks())
    assert torch.equal(torch.get_rng_state(), state)
    assert pickle.dumps(np.random.get_state()) == numpy_state
    torch.manual_seed(9)
    assert torch.equal(Exchange(cells())(images(), masks()), first)


def test_masks_of_pixels_do_as_masks_of_cells() -> None:
    of_cells = Exchange(cells(), fraction=1)(images(), masks())
    assert torch.equal(Exchange(cells(), fraction=1)(images(), of_pixels(masks())), of_cells)


def test_an_image_never_becomes_another_one() -> None:
    places = masks()
    places[3] = True
    after = Exchange(PartCells(places, (SIDE, SIDE)), fraction=1)(images(), places)
    for item in range(8):
        for donor in set(range(8)) - {item}:
            assert not torch.equal(after[item], images()[donor])


def test_pixels_of_a_remainder_belong_to_the_last_cell() -> None:
    pixels = torch.randn(2, 3, 13, 14)
    places = torch.zeros(2, 4, 4, dtype=torch.bool)
    places[:, 3, 3] = True
    after = Exchange(PartCells(places, (13, 14)), fraction=1)(pixels, places)
    changed = (after != pixels).any(1)[0]
    assert changed[9:, 9:].all()
    assert changed.sum() == 4 * 5


class Images(torch.utils.data.Dataset):
    """A data set of a user, which returns the mask of an image with it."""

    def __init__(self, places: PartCells) -> None:
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return images(len(self))[index], self.places[index]


class Collate:
    """The collator of a user, with an exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    def __call__(self, items: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        pixels, places = map(torch.stack, zip(*items, strict=True))
        return pixels, self.exchange(pixels, places)


def batches(workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    places = cells(32)
    loader = DataLoader(
        Images(places),
        8,
        collate_fn=Collate(Exchange(places)),
        num_workers=workers,
        generator=torch.Generator().manual_seed(0),
        multiprocessing_context="fork" if workers else None,
    )
    return iter(list(loader))


@pytest.mark.slow
def test_workers_of_a_loader_draw_differently_and_repeat() -> None:
    first, again = list(batches(2)), list(batches(2))
    for (pixels, after), (_, repeated) in zip(first, again, strict=True):
        assert torch.equal(after, repeated)
        assert not torch.equal(after, pixels)
    which = [(after != pixels).flatten(1).any(1).tolist() for pixels, after in first]
    assert which[0] != which[1], "two workers with the same draws exchange the same positions"


@pytest.mark.parametrize(
    ("pixels", "places", "message"),
    [
        (images(1), masks(1), r"at least two images in a batch \(got 1\).*drop_last=True"),
        (images(4), masks(3), r"a mask for each of the 4 images.*got bool of \(3, 4, 4\)"),
        (images(4), masks(4).float(), r"must be a bool tensor.*got float32 of \(4, 4, 4\)"),
        (images(4), masks(4)[:, :2], r"masks of 4 x 4 cells.*got masks of 2 x 4 and images of 12 x 12"),
        (images(4)[..., :8], masks(4), r"images of 12 x 12 pixels \(got masks of 4 x 4 and images of 12 x 8\)"),
        (images(4)[0], masks(4), r"floating-point tensor of \(batch.*got float32 of \(3, 12, 12\)"),
        ((images(4) * 99).to(torch.uint8), masks(4), r"got uint8 of \(4, 3, 12, 12\)"),
        (images(4).numpy(), masks(4), r"got ndarray"),
    ],
)
def test_batches_that_do_not_fit_are_refused(pixels: Any, places: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Exchange(cells())(pixels, places)


@pytest.mark.parametrize("fraction", [-0.1, 1.01, float("nan")])
def test_fractions_are_between_0_and_1(fraction: float) -> None:
    with pytest.raises(BadOption, match="fraction must be"):
        Exchange(cells(), fraction)


def test_cells_must_come_from_part_cells() -> None:
    with pytest.raises(BadInput, match=r"what part_cells returns \(got Tensor\)"):
        Exchange(masks())  # pyright: ignore


@pytest.mark.parametrize("wrong", ["x", [[True]], masks()[0], masks().float(), masks().numpy(), masks()[:0]])
def test_masks_of_cells_are_checked(wrong: Any) -> None:
    with pytest.raises(BadInput, match=r"masks must be a bool tensor of \(image, row, column\), with one image"):
        PartCells(wrong, (SIDE, SIDE))


@pytest.mark.parametrize("size", [4, None, (4,), (0, 4), ("4", 4), (2, 2)])
def test_sizes_of_cells_are_checked(size: Any) -> None:
    with pytest.raises(BadInput, match="size must be the height and the width of the images"):
        PartCells(masks(), size)


def test_a_part_that_is_the_same_in_all_images_is_refused() -> None:
    places = torch.zeros(8, ROWS, ROWS, dtype=torch.bool)
    places[:, 0, 0] = True
    same = images()
    same[:, :, : SIDE // ROWS, : SIDE // ROWS] = 1
    with pytest.raises(BadInput, match=r"look the same in all \(got 8 exchanges"):
        Exchange(PartCells(places, (SIDE, SIDE)), fraction=1)(same, places)


# Cells of parts


@pytest.mark.parametrize("kind", KINDS)
def test_cells_are_those_that_used_share_exchanges(kind: str) -> None:
    pairs = noise_pairs(8)
    found = part_cells(tiny.model(kind), pairs, parts(kind), 1, reach=1)
    alone = part_cells(tiny.model(kind), [pair.image for pair in pairs], parts(kind), 1, reach=1)
    assert torch.equal(found.masks, alone.masks)
    used = nibt.used_share(tiny.model(kind), pairs, parts(kind), 1)
    having = found.masks.flatten(1).any(1)
    assert used.count == int(having.sum())
    assert used.cells == pytest.approx(float(found.masks[having].float().mean()))
    assert f"{used.count} of 8 images" in repr(found)


def test_numbers_add_up_and_the_file_does_as_the_result(tmp_path: Path) -> None:
    pairs = noise_pairs(8)
    parts().save(tmp_path / "parts.json")
    one, two = (part_cells(tiny.model("clip"), pairs, tmp_path / "parts.json", number) for number in (1, 2))
    both = part_cells(tiny.model("clip"), pairs, parts(), [1, 2], batch_size=3)
    assert torch.equal(both.masks, one.masks | two.masks)
    assert not (one.masks & two.masks).any()


def test_a_larger_reach_adds_cells() -> None:
    near, far = (part_cells(tiny.model("clip"), noise_pairs(8), parts(), 1, reach=reach).masks for reach in (0.9, 2))
    assert not (near & ~far).any()
    assert near.sum() < far.sum()
    with pytest.raises(BadOption, match=r"reach must be above 0 \(got 0\.0\)"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts(), 1, reach=0)


def test_without_numbers_all_parts_beside_the_objects_are_exchanged() -> None:
    needed = Effect(0.5, 0.4, 0.6, 0.5, 0.4, 0.6, 8)
    first, second, *others = parts().parts
    shortcut = replace(first, on_objects=0.0, needed=needed, images=8)
    mixed = (shortcut, replace(second, on_objects=0.1), *(replace(part, on_objects=0.9) for part in others))
    assert [part.verdict for part in mixed] == ["shortcut", "no verdict", "no verdict"]
    every = part_cells(tiny.model("clip"), noise_pairs(8), replace(parts(), parts=mixed))
    assert torch.equal(every.masks, part_cells(tiny.model("clip"), noise_pairs(8), parts(), [1, 2]).masks)


def test_pixels_of_the_processor_are_exchanged_and_the_model_stays() -> None:
    model, pairs = tiny.model("clip"), noise_pairs(8)
    state = module_state(model.module)
    found = part_cells(model, pairs, parts(), 1)
    pixels = model.image.prepare([pair.image for pair in pairs]).values
    assert found.size == tuple(pixels.shape[-2:])
    after = Exchange(found, fraction=1)(pixels, found.masks)
    assert not torch.equal(after, pixels)
    assert module_state(model.module) == state


def test_cells_on_named_objects_stay() -> None:
    pairs = noise_pairs(8)
    every = part_cells(tiny.model("clip"), pairs, parts(), 1).masks
    upper = [replace(pair, objects=(half(pair),)) for pair in pairs]
    beside = replace(parts(), parts=tuple(replace(part, on_objects=0.0, needed=None) for part in parts().parts))
    kept = part_cells(tiny.model("clip"), upper, beside, 1).masks
    assert not (kept & ~every).any()
    assert kept.sum() < every.sum()


def half(pair: Pair) -> Object:
    """Return the upper half of an image as the object that its caption names."""
    mask = np.zeros(pair.image.size[::-1], bool)
    mask[: len(mask) // 2] = True
    return Object("thing", None, mask, ((0, len(pair.caption)),))


def whole(pair: Pair) -> Object:
    return replace(half(pair), mask=np.ones(pair.image.size[::-1], bool))


def test_progress_counts_images() -> None:
    calls = []
    part_cells(tiny.model("clip"), noise_pairs(8), parts(), 1, on_progress=calls.append)
    assert (calls[-1].done, calls[-1].total) == (8, 8)


def test_parts_of_another_model_or_layer_are_refused() -> None:
    with pytest.raises(BadInput, match=r"weights \w{16}, layer \d.*as it was before the training"):
        part_cells(tiny.model("siglip"), noise_pairs(8), parts(), 1)


def test_no_part_and_unknown_parts_are_refused() -> None:
    with pytest.raises(BadOption, match="no part is a shortcut or has the mark"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts())
    with pytest.raises(BadOption, match=r"a part must be a number from 1 to \d \(got 9\)"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts(), 9)
    with pytest.raises(BadOption, match="at least one part"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts(), [])


@pytest.mark.parametrize("numbers", [np.array([1, 2]), torch.tensor([1, 2]), range(1, 3), {1, 2}, [np.int64(1), 2]])
def test_numbers_may_be_of_numpy_and_torch(numbers: Any) -> None:
    found = part_cells(tiny.model("clip"), noise_pairs(8), parts(), numbers)
    assert torch.equal(found.masks, part_cells(tiny.model("clip"), noise_pairs(8), parts(), [1, 2]).masks)


@pytest.mark.parametrize("number", [True, np.bool_(True), np.array([[1]]), [[1]], 1.0, "1"])
def test_other_values_are_no_numbers_of_parts(number: Any) -> None:
    with pytest.raises(BadOption, match="a part must be a number from 1 to 3"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts(), number)


def test_a_reach_that_is_too_small_is_named() -> None:
    with pytest.raises(BadInput, match="none of the 8 images has part 1 within the reach 1e-09: give a larger reach"):
        part_cells(tiny.model("clip"), noise_pairs(8), parts(), 1, reach=1e-9)


def test_a_model_that_cuts_images_to_another_grid_is_named() -> None:
    small = replace(parts(), grid=(1, 1), parts=tuple(replace(part, place=torch.ones(1, 1)) for part in parts().parts))
    with pytest.raises(BadOption, match=r"the parts have 1 x 1 cells, and layer .*: load the model as it was"):
        part_cells(tiny.model("clip"), noise_pairs(8), small, 1)


def test_a_part_that_is_an_object_is_refused() -> None:
    objects = replace(parts(), parts=tuple(replace(part, on_objects=0.9) for part in parts().parts))
    assert {part.verdict for part in objects.parts} == {"no verdict"}, "the images are too few"
    with pytest.raises(BadInput, match=r"part 1 is a named object \(90%.*would learn to ignore"):
        part_cells(tiny.model("clip"), noise_pairs(8), objects, 1)


def test_masks_of_the_training_set_show_that_a_part_is_an_object() -> None:
    pairs = [replace(pair, objects=(whole(pair),)) for pair in noise_pairs(8)]
    with pytest.raises(BadInput, match=r"part 1 is a named object \(100% of its cells.*teach the model to ignore"):
        part_cells(tiny.model("clip"), pairs, parts(), 1)


def test_parts_that_are_in_no_image_or_are_all_of_it_are_refused() -> None:
    far = replace(parts(), parts=tuple(replace(part, reach=0.0) for part in parts().parts))
    with pytest.raises(BadInput, match="none of the 8 images has part 1"):
        part_cells(tiny.model("clip"), noise_pairs(8), far, 1)
    near = replace(parts(), parts=tuple(replace(part, reach=1e9) for part in parts().parts))
    with pytest.raises(BadInput, match="all cells of all 8 images are in the parts 1, 2, 3"):
        part_cells(tiny.model("clip"), noise_pairs(8), near, [1, 2, 3])


@pytest.mark.parametrize(
    "wrong", [[], "sample:scene", None, iter([]), np.array(3), np.zeros((20, 30, 3)), {"sample:scene"}, {"a": 1}]
)
def test_images_must_be_a_list(wrong: Any) -> None:
    with pytest.raises(BadInput, match="images must be a list of images"):
        part_cells(tiny.model("clip"), wrong, parts(), 1)


@pytest.mark.slow
def test_towers_without_pixels_are_refused() -> None:
    with pytest.raises(Unsupported, match="takes patches instead of pixels"):
        part_cells(tiny.model("siglip naflex"), noise_pairs(8), parts("siglip naflex"), 1)
