"""The joint space of images and concepts, from the classifier's rows and the batch norms alone.

An image embedding has four parts:

- content: a projection of the pooled features on the directions in which the classes differ. Directions in which the
  mean feature and the features of blank pictures differ from 0 are projected out, so a blank picture has no content.
- presence: a linear function of the pooled features that is 0 for blank pictures and about the same for photographs.
- a constant, so that an embedding without content has a direction, which no caption has.
- 0, where a caption that names nothing known goes.

A concept is a unit vector of content, and a negative number at presence, its threshold: its score is positive where an
image has more of the content than the threshold asks for. A part of the threshold is what scenes of many things have of
this content on average, whatever they show.

A caption is the sum of the concepts that it names and of NEUTRAL in the last direction, in which images are 0. So a
caption that names nothing known has a score of 0 with every image, and the length of a caption, by which its cosine is
divided, changes little with a further name: each name adds its own score.
"""

import itertools

import torch
from torch.nn import functional

POWER = 0.5
"""How strongly the content of concepts weighs directions by their size among the classes; 0 treats all alike."""
THRESHOLD = 0.4
"""What every concept must exceed, in units of content by presence."""
SCENE_SHARE = 0.75
"""How much of the content that scenes have on average is added to the threshold of a concept."""
PRESENCE = 1.06
"""The presence of mean features: all thresholds are multiplied by it."""
NEUTRAL = 2.0
"""The length of captions in the neutral direction; a concept has a length of about 1."""
CONSTANT = 1.0
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


class JointSpace:
    """The joint space of a classifier's trunk.

    Args:
        trunk: timm's EfficientNet with its classifier.
        width: The number of dimensions.
        blanks: Pooled features of blank pictures (pictures x features).
        scene: Mean pooled features of photographs of scenes (features).

    Attributes:
        projection: From pooled features to the space (width x features).
        bias: What is added to the projection (width).
        concepts: Content of the classifier's classes, of length 1 (classes x content).
        scene: Content of scenes by their presence (content).
    """

    def __init__(self, trunk, width, blanks, scene):
        moments, content = feature_moments(trunk), width - EXTRA
        removed = torch.linalg.svd(torch.stack([moments[0], *blanks]), full_matrices=False).Vh
        rows = trunk.classifier.weight.double()
        rows = rows - rows.mean(0)
        left, sizes, right = torch.linalg.svd(rows - rows @ removed.T @ removed, full_matrices=False)
        rest = torch.zeros(EXTRA, rows.shape[1], dtype=torch.float64)
        seen = presence(moments, blanks)
        rest[0] = PRESENCE * seen
        self.projection = torch.cat([right[:content], rest]).float()
        self.bias = torch.zeros(width)
        self.bias[content + 1] = CONSTANT
        self.concepts = functional.normalize(left[:, :content] * sizes[:content] ** POWER, dim=1).float()
        self.scene = (right[:content] @ scene.double() / (seen @ scene.double())).float()

    def name(self, indices):
        """Return the vector of a name of the classes ``indices``: the mean of their concepts, and its threshold."""
        content = functional.normalize(self.concepts[indices].mean(0), dim=0)
        vector = torch.zeros(len(self.bias))
        vector[: len(content)] = content
        vector[len(content)] = -(THRESHOLD + SCENE_SHARE * content @ self.scene)
        return vector

    def caption(self, names):
        """Return the vector of a caption that has the vectors ``names`` (names x width)."""
        vector = names.sum(0)
        vector[-1] = NEUTRAL
        return vector
