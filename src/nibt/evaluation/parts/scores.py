"""The known parts in one image, and how much of the score of its map each carries."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nibt.data.images import Region
from nibt.errors import BadInput
from nibt.evaluation.explained import explained_image
from nibt.evaluation.parts.space import Space, located
from nibt.evaluation.parts.used import check_model
from nibt.models._loading import ModelSource, load_model
from nibt.results.explanation import Explanation
from nibt.results.part_scores import PartScore, PartScores
from nibt.results.parts import Parts, read_parts
from nibt.torch_modes import plain_torch


@plain_torch()
def part_scores(model: ModelSource, explanation: Explanation, parts: Parts | str | Path) -> Explanation:
    """Find known parts in an image, and add up the scores of their cells in its map.

    A cell of the image belongs to the part with the nearest center, or to none if 90 % of the part's own cells are
    nearer. The scores of the parts and of the rest add up to the sum of the map, for any method and target. If the map
    has other cells than the parts, such as those of views, each of its cells belongs to the part at its center.

    This needs one forward pass of the image.

    Args:
        model: The model of the explanation, or what ``load_model`` takes.
        explanation: An explanation of an image with a caption, by any method.
        parts: What ``nibt.parts`` returns, or the path of its JSON file.

    Returns:
        The explanation with ``parts``, which pictures, pages and the terminal show.

    Raises:
        BadInput: The parts or the explanation are of another model, the explanation compares two images or two
            captions, or its image is missing.
        BadOption: The model cuts the image to another grid than that of the parts.

    Examples:
        >>> import nibt
        >>> from nibt.datasets.scenes import Scenes
        >>> parts = nibt.parts("scenes", list(Scenes(count=8)), count=2, texts=[])
        >>> explanation = nibt.explain("scenes", "sample:scene", "a cat")
        >>> found = nibt.part_scores("scenes", explanation, parts).parts
        >>> abs(found.total - float(explanation.grid.sum())) < 1e-4
        True
    """
    parts = read_parts(parts, "part_scores")
    model = load_model(model).renewed()
    image = explained_image(explanation, model, "part_scores")
    check_model(parts, model, "give parts that were found with the model of the explanation")
    if not parts.parts:
        raise BadInput("the file of parts has no part: find parts with nibt.parts")

    ((_, places, region),) = located(model, [image], Space.of(parts), 1)
    cells = _in_map(places + 1, region, explanation)
    scores = explanation.grid.cpu().double().numpy()
    present = [parts.part(number) for number in np.unique(cells[cells > 0]).tolist()]
    of_parts = [
        PartScore(part.number, part.name, part.verdict, float(scores[cells == part.number].sum()), part.mark)
        for part in present
    ]
    found = PartScores(
        fingerprint=parts.fingerprint,
        cells=torch.from_numpy(cells.astype(np.float32)),
        parts=tuple(sorted(of_parts, key=lambda part: -part.score)),
        rest=float(scores[cells == 0].sum()),
    )
    return replace(explanation, parts=found)


def _in_map(numbers: np.ndarray, region: Region, explanation: Explanation) -> np.ndarray:
    """Return the number at the center of each cell of a map; 0 where there is none."""
    rows, columns = explanation.grid.shape
    covered = explanation.region
    downs = covered.top + covered.height * (np.arange(rows) + 0.5) / rows - region.top
    acrosses = covered.left + covered.width * (np.arange(columns) + 0.5) / columns - region.left
    row = np.floor(downs * numbers.shape[0] / region.height).astype(int)
    column = np.floor(acrosses * numbers.shape[1] / region.width).astype(int)

    framed = np.pad(numbers, 1)  # what is beside the grid has no part
    return framed[np.ix_(row.clip(-1, numbers.shape[0]) + 1, column.clip(-1, numbers.shape[1]) + 1)]
