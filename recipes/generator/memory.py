"""Peak memory of explaining one word of an answer, against one forward and backward pass of the decoder.

    python recipes/generator/memory.py

The model is like LLaVA, with about 0.3 billion random weights. Each number is the peak of a new process, which also
holds the weights; ``loaded`` only loads them and runs the model once without gradients. The plain pass computes the
gradient with respect to the states that enter the decoder, and of no weight. Large models take one state at a time.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from typing import Any

import torch
from PIL import Image
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

import nibt
from benchmarks.models.tiny_vision_language import tokenizer

MODES = ("loaded", "plain", "nib")
PROMPT, ANSWER = "Describe the image .", "cat"


def build() -> tuple[Any, Any]:
    """Return a model like LLaVA with its processor."""
    words = tokenizer(("<image>",))
    vision = {"model_type": "clip_vision_model", "hidden_size": 768, "intermediate_size": 3072, "image_size": 224}
    vision |= {"num_hidden_layers": 12, "num_attention_heads": 12, "patch_size": 14}
    text = {"model_type": "llama", "hidden_size": 1024, "intermediate_size": 2816, "num_hidden_layers": 14}
    text |= {"num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 32000}
    image_token = words.convert_tokens_to_ids("<image>")
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_id=image_token)
    images = CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})
    processor = LlavaProcessor(
        images, words, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).eval().requires_grad_(False), processor


def plain(model: Any, inputs: Any, backward: bool) -> None:
    """Run the decoder on the states that enter it, and differentiate the log-probability of a word."""
    states: list[torch.Tensor] = []
    handle = model.model.language_model.register_forward_pre_hook(
        lambda _, args, kwargs: states.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    with torch.no_grad():
        model(**inputs, use_cache=False, logits_to_keep=1)
    handle.remove()
    if not backward:
        return
    entered = states[0].detach().requires_grad_()
    last = model.model.language_model(inputs_embeds=entered, use_cache=False).last_hidden_state[:, -1]
    torch.autograd.grad(model.lm_head(last).log_softmax(-1)[0, 0], entered)


def measured(mode: str) -> None:
    """Do the work of a mode, and print the number of weights and the peak memory in MB."""
    torch.set_num_threads(2)
    model, processor = build()
    image = Image.effect_noise((320, 240), 80).convert("RGB")
    if mode == "nib":
        options: dict[str, Any] = {"other_images": [], "batch_size": 1, "processor": processor}
        nibt.explain_answer(model, image, PROMPT, ANSWER, **options)
    else:
        inputs = processor(text=[f"<image>{PROMPT}"], images=[image], return_tensors="pt")
        plain(model, inputs, backward=mode == "plain")
    print(sum(weight.numel() for weight in model.parameters()))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", nargs="?", choices=MODES)
    mode = parser.parse_args().mode
    if mode is not None:
        measured(mode)
        return
    peaks = {}
    for name in MODES:
        out = subprocess.run([sys.executable, __file__, name], capture_output=True, text=True, check=True).stdout
        weights, peak = out.split()[-2:]
        peaks[name] = float(peak)
        print(f"{name:6} {peaks[name]:6.0f} MB ({int(weights) / 1e9:.2f} billion weights)", flush=True)
    print("of the plain pass:", *(f"{name} {peaks[name] / peaks['plain']:.2f}" for name in MODES[2:]))


if __name__ == "__main__":
    main()
