"""Muon (Jordan et al., 2024): momentum whose matrices are made orthogonal before they are applied.

`torch.optim.Muon` does the same, but in bfloat16, which a CPU without units for it multiplies thirty times slower
than float32, and one matrix at a time; here the matrices of one shape go through together.
"""

import torch

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of the Newton-Schulz iteration in the original


def orthogonal(matrices, steps=5):
    """The nearest orthogonal matrices, roughly (singular values near 1), of a stack of wide matrices."""
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = _A * x + (_B * gram + _C * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    """For matrices only. The step is scaled to the size that AdamW's would have (Liu et al., 2025)."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            shapes = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in shapes.items():
                self._step(group, shape, parameters)

    def _step(self, group, shape, parameters):
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
            updates.append(parameter.grad.lerp(state["momentum"], group["momentum"]))
        stacked = torch.stack(updates)
        tall = shape[0] > shape[1]
        turned = orthogonal(stacked.mT if tall else stacked)
        turned = turned.mT if tall else turned
        size = 0.2 * max(shape) ** 0.5
        for parameter, update in zip(parameters, turned, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * size)
