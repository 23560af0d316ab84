"""AdaIB with a learned price of information: do its maps differ from those of the price that nibt uses?

OMP_NUM_THREADS=1 python recipes/adaib/learned.py [--model lite]

AdaIB (ICLR 2026 submission) weights the information by g, which is 1 / f of the pair's weight f, or a perceptron of f
that is trained with the bottleneck. ``m2ib:adaib`` has the first. This script explains the sample images with both. It
prints, for each side, the mean rank correlation of the two maps, and the mean of g before the first step and in the
last. With ``lite`` the correlations are 0.93 (images) and 1.00 (captions), and g falls from 0.107 to 0 for all six
pairs: since g weights a cost, the perceptron lowers the loss by leaving the cost out.
"""

import argparse

import numpy as np
import torch
from scipy.stats import spearmanr

import nibt
from nibt.core.perturbation import generator
from nibt.data.images import SAMPLE, read_image, sample_captions
from nibt.data.pair import Pair
from nibt.engine.batches import trace_sides
from nibt.engine.spec import Request, resolve
from nibt.methods._noise import draw, generators
from nibt.methods.m2ib import EPSILON, START, gradient_of_score, information_of, pair_weight
from nibt.registry import MethodSpec

HIDDEN = 32  # units of the perceptron, as published


class Perceptron:
    """g of each item: a perceptron 1 -> 32 -> 1 of f, with rectifiers.

    The second rectifier keeps g from becoming negative. All items start with the same weights, which are drawn as torch
    draws those of a linear layer.
    """

    def __init__(self, weight, seed):
        draws, bound = generator(seed, 0, 1), HIDDEN**-0.5
        shapes = ((HIDDEN, 1.0), (HIDDEN, 1.0), (HIDDEN, bound), (1, bound))
        drawn = [draws.uniform(-most, most, size).astype(np.float32) for size, most in shapes]
        self.weight = weight
        self.parameters = [
            torch.from_numpy(values).to(weight).repeat(len(weight), 1).requires_grad_() for values in drawn
        ]

    def __call__(self):
        first, first_bias, second, second_bias = self.parameters
        hidden = (self.weight[:, None] * first + first_bias).relu()
        return ((hidden * second).sum(-1) + second_bias[:, 0]).relu()


def clipped(gradients, most):
    """The gradients of all parameters, scaled so that their joint norm for an item is at most ``most``."""
    norm = torch.stack([gradient.flatten(1).square().sum(-1) for gradient in gradients]).sum(0).sqrt()
    factor = (most / (norm + EPSILON)).clamp_max(1.0)
    return [gradient * factor.reshape(-1, *(1,) * (gradient.ndim - 1)) for gradient in gradients]


def learned_map(method, side):
    """The map of one layer and seed, in nats, with the price of each step; the noise is standard normal."""
    cut = side.cut(method.layer[0])
    tokens, hidden = side.tower.valid_tokens(side.inputs, cut.hidden)[..., None], cut.hidden.float()
    weight = pair_weight(side, method.pair_weight, method.sharpness)
    price, draws = Perceptron(weight, method.seed), generators(method.seed, hidden.shape[1])
    parameters = [torch.full_like(hidden, START).requires_grad_(), *price.parameters]
    optimizer, prices = torch.optim.Adam(parameters, lr=method.rate), []
    for _ in range(method.steps):
        with torch.enable_grad():
            prices.append(price())
            bits = information_of(parameters[0], hidden)
            kept = (bits * tokens).sum((1, 2)) / (tokens.sum((1, 2)) * hidden.shape[2])
            gradient, *others = torch.autograd.grad((prices[-1] * kept).sum(), parameters)
        noise = draw(draws, method.samples, hidden)
        gain = gradient_of_score(lambda states: side.score(cut.rest(states)), parameters[0], hidden, noise, None)
        limited = clipped([gradient - weight[:, None, None] * gain, *others], method.clip)
        for parameter, limited_gradient in zip(parameters, limited, strict=True):
            parameter.grad = limited_gradient
        optimizer.step()
    return cut.units.keep((bits.detach() * tokens).sum(-1)), torch.stack(prices).detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    spec = resolve(nibt.load_model(parser.parse_args().model), Request(MethodSpec.parse("m2ib:adaib")))
    correlations, prices = {"image": [], "text": []}, {"image": [], "text": []}
    for name, caption in sample_captions().items():
        for side in trace_sides(spec, [Pair(read_image(SAMPLE + name), caption)]):
            modality = side.tower.modality
            method = spec.methods[modality]
            scores, steps = learned_map(method, side)
            correlations[modality].append(spearmanr(method(side).scores[0], scores[0]).statistic)
            prices[modality].append(steps[[0, -1], 0].tolist())
    print("| side | pairs | rank correlation | g before the first step | g in the last step |")
    print("|---|---|---|---|---|")
    for modality, values in correlations.items():
        first, last = np.mean(prices[modality], 0)
        defined = [value for value in values if np.isfinite(value)]
        print(f"| {modality} | {len(defined)} | {np.mean(defined):.2f} | {first:.3g} | {last:.3g} |")


if __name__ == "__main__":
    main()
