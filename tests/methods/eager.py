"""The eager CLIP of Transformers, from which methods of attention are computed in another way."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

import nibt
from tests import tiny
from tests.helpers import assert_close, make_side

close = partial(assert_close, share=1e-6, least=1e-8, rtol=1e-4)


class ByHand:
    """The attentions, streams and projections of one side, from the eager CLIP of Transformers."""

    def __init__(self, modality: str, blocks: int = 3) -> None:
        built = tiny.clip()
        config = built.module.config.to_dict()
        for part in ("vision_config", "text_config"):
            config[part]["num_hidden_layers"] = blocks
        self.module = tiny.randomized(lambda: CLIPModel(CLIPConfig(**config)))
        self.model = nibt.load_model(self.module, processor=built.processor)
        self.of = make_side(self.model, modality)
        self.seen: dict[str, list[Tensor]] = {name: [] for name in ("weights", "stream", "query", "key", "value", "o")}
        self.module.set_attn_implementation("eager")
        self._run(modality)

    def _run(self, modality: str) -> None:
        tower = self.of.tower
        handles = []

        def note(name: str, pick: Callable[[Any], Tensor]) -> Callable[..., None]:
            return lambda module, args, out: self.seen[name].append(pick(out))

        for block in tower.blocks:
            attention = block.self_attn
            parts = {"query": attention.q_proj, "key": attention.k_proj, "value": attention.v_proj}
            handles += [part.register_forward_hook(note(name, lambda out: out)) for name, part in parts.items()]
            handles.append(
                attention.out_proj.register_forward_pre_hook(lambda module, args: self.seen["o"].append(args[0]))
            )
            handles.append(attention.register_forward_hook(note("weights", lambda out: out[1])))
            handles.append(block.register_forward_hook(note("stream", lambda out: out)))
        self.embedding = tower.run(self.of.inputs)
        for handle in handles:
            handle.remove()
        self.module.set_attn_implementation("sdpa")
        end = self.of.inputs.values.eq(self.model.text.tokenizer.eos_token_id).int().argmax(1)
        self.row = torch.zeros(2, dtype=torch.long) if modality == "image" else end
        self.own = (
            torch.ones(self.seen["stream"][0].shape[:2])
            if modality == "image"
            else (torch.arange(self.of.inputs.values.shape[1]) <= end[:, None]).float()
        )

    def read(self, last: Tensor) -> Tensor:
        return last[torch.arange(2), self.row]

    def gradients(self, at: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.of.score(self.embedding).sum(), at, retain_graph=True)

    def kept(self, rows: Tensor) -> Tensor:
        return self.of.units.keep(rows.detach())
