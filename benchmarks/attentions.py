"""What the attention weights of an answer cost: peak memory and time, beside a plain pass and ``output_attentions``.

    OMP_NUM_THREADS=1 python benchmarks/attentions.py

The model is a LLaVA with 0.3 billion random weights and 1,156 patches (cost does not depend on the weights), the prompt
that of ``scenes_generator``, and the answer has five words. Each row has a process of its own, whose peak memory counts
the model and the libraries.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

import nibt
from nibt.generators.answers import ForcedWord
from nibt.generators.forced import AnswerRequest

SIDE, PATCH, WORDS = 34, 14, "a cat and a house"
ROWS = ("plain", "nibt.attentions", "output_attentions")
QUESTION = ("sample:scene", "what is left of the house ?", WORDS)


def generator():
    """A LLaVA of the size of a small one, with the tokenizer of ``scenes_generator``."""
    tokenizer = nibt.load_generator("scenes_generator").answers.processor.tokenizer
    edge = SIDE * PATCH
    vision = CLIPVisionConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8)
    vision.image_size, vision.patch_size = edge, PATCH
    text = LlamaConfig(hidden_size=1024, intermediate_size=3584, num_hidden_layers=18, num_attention_heads=16)
    text.vocab_size, text.pad_token_id, text.bos_token_id, text.eos_token_id = len(tokenizer), 0, 2, 3
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>")
    )
    config.image_seq_length = SIDE**2
    torch.manual_seed(0)
    module = LlavaForConditionalGeneration(config).eval()
    images = CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
    return nibt.load_generator(
        module, processor=LlavaProcessor(images, tokenizer, PATCH, "default", num_additional_image_tokens=1)
    )


def row(name):
    """Peak memory in GB and seconds of one row."""
    model = generator()
    before = peak()
    start = time.process_time()
    if name == "nibt.attentions":
        nibt.attentions(model, *QUESTION)
    else:
        forced = AnswerRequest.of(*QUESTION, None).forced(model)
        tower, eager = model.answers, name == "output_attentions"
        if eager:
            model.module.set_attn_implementation("eager")
        inputs = tower.prepare([ForcedWord(forced.prompted, forced.answer)])
        start = time.process_time()
        with torch.no_grad():
            model.module(**tower.arguments(inputs), output_attentions=eager)
    count = sum(weights.numel() for weights in model.module.parameters())
    print(f"| {name} | {peak():.2f} | {peak() - before:.2f} | {time.process_time() - start:.1f} | {count / 1e9:.2f} |")


def peak():
    """The peak memory of this process in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS)
    options = parser.parse_args()
    if options.row:
        row(options.row)
        return
    print("| | peak, GB | above the loaded model | processor s | billion weights |\n|---|---|---|---|---|", flush=True)
    for name in ROWS:
        subprocess.run([sys.executable, __file__, "--row", name], check=True)
    print(f"\n{platform.machine()}, torch {version('torch')}, transformers {version('transformers')}")


if __name__ == "__main__":
    main()
