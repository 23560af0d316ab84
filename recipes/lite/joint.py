"""The joint space of images and concepts, and what is known of ImageNet's mean from batch-norm statistics.

A class is known by its row of the classifier; centred, these rows have the directions V and the sizes S (W = U S V').
An image embedding is V'(features - mean features): a rotation, nothing stretched. A concept is the unit vector of
U S^(1/2): directions that all classes share (animal against thing) count less than in the rows themselves, which
frees a concept of its relatives; the power was chosen on the photographs (README.md).
The last dimension is where a caption goes that names nothing known. No image is such a caption, so every image's
embedding has the same negative number there: whatever a caption names, it is nearer to images than saying nothing.
"""

import torch
from torch.nn import functional

POWER = 0.5
CONSTANT = 1.2  # beside a length of 3 to 4 of the other dimensions together, at the shipped size


def clipped_normal_mean(mean, deviation, top=6.0):
    """The mean of a normal variable cut to [0, top]: ReLU6 after a batch norm."""
    normal = torch.distributions.Normal(0.0, 1.0)
    deviation = deviation.abs().clamp_min(1e-9)
    low, high = -mean / deviation, (top - mean) / deviation
    density = normal.log_prob(low).exp() - normal.log_prob(high).exp()
    return mean * (normal.cdf(high) - normal.cdf(low)) + deviation * density + top * (1 - normal.cdf(high))


def mean_features(trunk):
    """The mean pooled feature over ImageNet, from the last batch norm's bias and scale."""
    return clipped_normal_mean(trunk.bn2.bias.double(), trunk.bn2.weight.double()).float()


def mean_state(trunk, layer):
    """The channels' mean of what enters stage `layer` of the trunk: the batch norms' biases summed along its chain."""
    if layer == 0:
        return clipped_normal_mean(trunk.bn1.bias.double(), trunk.bn1.weight.double()).float()
    total = 0
    for block in trunk.blocks[layer - 1]:
        last = block.bn3 if hasattr(block, "bn3") else block.bn2
        total = last.bias + (total if block.has_skip else 0)
    return total


def joint_space(trunk, width):
    """projection (width x features), bias, and the 1,000 unit concept vectors; the last dimension is neutral."""
    rows = trunk.classifier.weight.double()
    left, sizes, right = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    projection = functional.pad(right[: width - 1], (0, 0, 0, 1)).float()
    concepts = functional.normalize(left[:, : width - 1] * sizes[: width - 1] ** POWER, dim=1)
    bias = -projection @ mean_features(trunk)
    bias[-1] = -CONSTANT
    return projection, bias, functional.pad(concepts, (0, 1)).float()
