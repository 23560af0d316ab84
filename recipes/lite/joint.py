"""The joint space of images and concepts, from the classifier's rows and the batch norms alone.

An image embedding has four parts:

- content: a projection of the pooled features on the directions in which the classes differ. Directions in which the mean
  feature and the features of blank pictures differ from 0 are projected out, so a blank picture has no content.
- presence: a linear function of the pooled features that is 0 for blank pictures and about the same for photographs.
- a constant, so that an embedding without content has a direction, which no caption has.
- 0, where a caption that names nothing known goes.

A concept is a unit vector of content, and a negative number at presence: its score is positive where an image has more of
the content than the number asks for. A caption that names nothing known has a score of 0 with every image.
"""

import itertools

import torch
from torch.nn import functional

POWER = 0.5
"""How strongly the content of concepts weighs directions by their size among the classes; 0 treats all alike."""
THRESHOLD = 0.45
"""Presence that a concept must exceed, in units of its content."""
CONSTANT = 0.5
"""The constant of image embeddings; content has a length of about 3."""
EXTRA = 3
"""Dimensions beside content."""
BLANK_SIZES = (256, 768)
"""Two sizes, since borders have other features than the inside, and another share."""
BLANK_COLORS = (0.0, 0.5, 1.0)


def clipped_normal(mean, deviation, top=6.0):
    """Return mean and variance of a normal variable clipped to [0, top]: ReLU6 after a batch norm."""
    points = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = functional.softmax(-points.square() / 2, 0)
    values = (mean[:, None] + deviation.abs()[:, None] * points).clamp(0, top)
    first = values @ weights
    return first, values.square() @ weights - first.square()


def feature_moments(trunk):
    """Return mean and variance of each feature over ImageNet, by the last batch norm."""
    return clipped_normal(trunk.bn2.bias.double(), trunk.bn2.weight.double())


def mean_state(trunk, layer):
    """Return the mean of each channel of what enters stage ``layer``: the sum of biases along its chain of blocks."""
    if layer == 0:
        return clipped_normal(trunk.bn1.bias.double(), trunk.bn1.weight.double())[0].float()
    total = 0
    for block in trunk.blocks[layer - 1]:
        last = block.bn3 if hasattr(block, "bn3") else block.bn2
        total = last.bias + (total if block.has_skip else 0)
    return total


@torch.no_grad()
def blank_features(trunk, mean, std):
    """Return the pooled features of pictures of one gray: black, middle gray and white, in two sizes."""
    pictures = [
        torch.full((1, 3, size, size), (color - mean) / std)
        for size, color in itertools.product(BLANK_SIZES, BLANK_COLORS)
    ]
    return torch.cat([trunk.forward_features(picture).mean((2, 3)) for picture in pictures]).double()


def presence(moments, blanks):
    """Return the weights of minimal variance whose value is 1 for mean features and 0 for blank pictures."""
    mean, variance = moments
    fixed = torch.stack([mean, *blanks])
    scaled = fixed / (variance + 1e-3 * variance.mean())
    wanted = torch.zeros(len(fixed), dtype=torch.float64)
    wanted[0] = 1
    return scaled.T @ torch.linalg.solve(scaled @ fixed.T, wanted)


def joint_space(trunk, width, blanks):
    """Return projection (width x features), bias, the concepts of the 1,000 classes, and the neutral direction."""
    moments, content = feature_moments(trunk), width - EXTRA
    removed = torch.linalg.svd(torch.stack([moments[0], *blanks]), full_matrices=False).Vh
    rows = trunk.classifier.weight.double()
    rows = rows - rows.mean(0)
    left, sizes, right = torch.linalg.svd(rows - rows @ removed.T @ removed, full_matrices=False)
    rest = torch.zeros(EXTRA, rows.shape[1], dtype=torch.float64)
    rest[0] = presence(moments, blanks)
    bias = torch.zeros(width)
    bias[content + 1] = CONSTANT
    concepts = functional.normalize(left[:, :content] * sizes[:content] ** POWER, dim=1)
    neutral = torch.zeros(width)
    neutral[-1] = 1
    return torch.cat([right[:content], rest]).float(), bias, concepts.float(), neutral


def named(concepts, width):
    """Return the unit vector of a name: the mean of its classes' concepts, and the threshold."""
    content = functional.normalize(concepts.mean(0), dim=0)
    vector = torch.zeros(width)
    vector[: len(content)] = content
    vector[len(content)] = -THRESHOLD
    return functional.normalize(vector, dim=0)
