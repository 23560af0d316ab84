"""NIB on the embedded model in plain torch: the map part of `measure.py`, to be replaced by nibt's own.

z(l) = r + l (h - r); a unit's score is (h - r) times the gradient of the cosine, averaged over Gauss-Legendre nodes.
"""

import json
import math
from pathlib import Path

import numpy as np
import open_clip
import torch
from safetensors.torch import load_file
from torch.nn import functional


def nodes(count):
    places, weights = np.polynomial.legendre.leggauss(count)
    return torch.tensor((places + 1) / 2).float(), torch.tensor(weights / 2).float()


class Lite:
    """The model folder as OpenCLIP loads it, cut at a layer on either side."""

    def __init__(self, folder):
        self.model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model.eval().requires_grad_(False)
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.settings = json.loads((Path(folder) / "nibt.json").read_text())
        self.reference = load_file(Path(folder) / "reference.safetensors")
        config = json.loads((Path(folder) / "open_clip_config.json").read_text())["preprocess_cfg"]
        self.mean, self.std = (torch.tensor(config[key])[:, None, None] for key in ("mean", "std"))

    def pixels(self, picture, size):
        """The whole picture, its shape kept, sides multiples of 32, an area of about size^2."""
        scale = size / math.sqrt(picture.width * picture.height)
        sides = [max(32, round(side * scale / 32) * 32) for side in picture.size]
        values = torch.from_numpy(np.array(picture.convert("RGB").resize(sides, 3))).permute(2, 0, 1) / 255
        return ((values - self.mean) / self.std)[None]

    def texts(self, captions):
        return self.model.encode_text(self.tokenizer(captions), normalize=True)

    def image(self, pixels):
        return self.model.encode_image(pixels, normalize=True)

    def state(self, pixels, layer):
        trunk = self.model.visual.trunk
        state = trunk.bn1(trunk.conv_stem(pixels))
        for stage in trunk.blocks[:layer]:
            state = stage(state)
        return state

    def image_tail(self, state, layer):
        trunk = self.model.visual.trunk
        for stage in trunk.blocks[layer:]:
            state = stage(state)
        features = trunk.forward_head(trunk.bn2(trunk.conv_head(state)))
        return functional.normalize(self.model.visual.head(features), dim=1)

    def image_reference(self, pixels, layer, kind):
        state = self.state(torch.zeros_like(pixels), layer)
        if kind == "blank":
            return state
        given = self.reference[f"image.mean.{layer}"][None, :, None, None] if kind == "mean" else torch.zeros(1)
        return given.expand_as(state)

    def image_maps(self, pixels, targets, layer, reference="mean", steps=4):
        """One signed map a target (unit embeddings), on the grid of the layer."""
        state = self.state(pixels, layer)
        start = self.image_reference(pixels, layer, reference)
        places, weights = nodes(steps)
        with torch.enable_grad():
            path = (start + places[:, None, None, None] * (state - start)).requires_grad_()
            embeddings = self.image_tail(path, layer)
            slopes = [torch.autograd.grad((embeddings @ y).sum(), path, retain_graph=True)[0] for y in targets]
        return [((state - start)[0] * (slope * weights[:, None, None, None]).sum(0)).sum(0) for slope in slopes]

    def text_tail(self, embedded, caption):
        text = self.model.text
        state = text.transformer(embedded + text.positional_embedding, attn_mask=text.attn_mask)
        state = text.ln_final(state)[:, int(caption.argmax())]
        return functional.normalize(state @ text.text_projection, dim=1)

    def word_scores(self, caption, target, steps=8):
        """(characters, score) of each word, narrowed toward the padding's embedding at text layer 0."""
        row = self.tokenizer([caption])[0]
        count = int(row.argmax()) - 1
        offsets = self.tokenizer.tokenizer(caption, return_offsets_mapping=True).offset_mapping
        table = self.model.text.token_embedding.weight
        state, start = table[row], table[row].clone()
        start[1 : count + 1] = table[0]
        places, weights = nodes(steps)
        with torch.enable_grad():
            path = (start + places[:, None, None] * (state - start)).requires_grad_()
            slope = torch.autograd.grad((self.text_tail(path, row) @ target).sum(), path)[0]
        scores = ((state - start) * (slope * weights[:, None, None]).sum(0)).sum(1)
        return list(zip(offsets[1 : count + 1], scores[1 : count + 1].tolist(), strict=True))
