"""What explanations cost on an accelerator: pairs a second, plain forwards and memory, from prepared inputs and files.

It feeds no page yet, since no accelerator was available; tests/test_benchmarks.py runs it.

    python benchmarks/gpu.py [--device cuda] [--sizes b32 l14 so400m] [--precisions fp32 tf32 fp16 bf16]
        [--batches 1 8 32 128 512] [--method nib] [--workers 4] [--seconds 3] [--quick]

Models with random weights of the sizes of CLIP ViT-B/32 and ViT-L/14 and of SigLIP SO400M (patches of 14, 384 pixels);
speed does not depend on the weights. Both sides of each pair are explained. `forward` is nibt's forward pass of both
towers, in pairs a second, and `ratio` the time of an explanation in these forward passes. `files` reads and prepares
JPEG files of 640 x 480 pixels in threads while the device computes. `memory` is the peak in GB: of the device where it
reports one, else of the process so far. In fp16 and bf16 only the weights are in half precision. `tf32` allows TF32 for
matrix products, the others forbid it. A batch that does not fit has no numbers.

On the CPU, for a test of this file: python benchmarks/gpu.py --device cpu --sizes tiny --quick
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from limit import CAPTION, NOUNS, machine, most_memory
from models import random_models
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
)

import nibt
from nibt.data.images import read_image
from nibt.data.pair import Pair
from nibt.engine.batches import PreparedBatch, clock, explain_batch
from nibt.engine.encode import free_memory, is_out_of_memory
from nibt.engine.spec import Request, resolve
from nibt.registry import MethodSpec

CAPTIONS = [CAPTION.format(noun) for noun in NOUNS]
PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
FILES = 64  # that are read in turn


def clip(vision, text, dim):
    words = random_models.word_tokenizer(CAPTIONS)
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    config = CLIPConfig(vision_config=vision, text_config={"vocab_size": 49408, **text, **ends}, projection_dim=dim)
    return CLIPModel(config), {"processor": CLIPProcessor(CLIPImageProcessor(), words)}


def b32():
    return clip({}, {}, 512)


def l14():
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    return clip({**vision, "patch_size": 14}, text, 768)


def so400m():
    width = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    config = SiglipConfig(
        vision_config={**width, "image_size": 384, "patch_size": 14},
        text_config={**width, **ends, "vocab_size": 32000, "max_position_embeddings": 64, "projection_size": 1152},
    )
    pieces = random_models.piece_tokenizer(CAPTIONS)
    pieces.model_max_length = 64
    pictures = SiglipImageProcessor(size={"height": 384, "width": 384})
    return SiglipModel(config), {"processor": pictures, "tokenizer": pieces}


def tiny():
    return random_models.clip(CAPTIONS)


SIZES = {"tiny": tiny, "b32": b32, "l14": l14, "so400m": so400m}


def pictures(folder):
    """Write JPEG files of noise, smooth enough to have the size of photographs."""
    for number in range(FILES):
        draws = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        Image.fromarray(draws).resize((640, 480)).save(folder / f"{number}.jpg")
    return [folder / f"{number}.jpg" for number in range(FILES)]


class Run:
    """A model in a precision on a device, and what is measured with it."""

    def __init__(self, size, precision, options):
        torch.manual_seed(0)
        module, parts = SIZES[size]()
        self.model = nibt.load_model(module.eval().to(options.device, PRECISIONS[precision]), **parts)
        self.spec = resolve(self.model, Request(MethodSpec(options.method)))
        self.device, self.options = torch.device(options.device), options

    def pairs(self, files, first, size):
        """Read files, in turn."""
        numbers = range(first, first + size)
        return [Pair(read_image(files[one % FILES]), CAPTIONS[one % len(CAPTIONS)]) for one in numbers]

    def rate(self, work, size):
        """Pairs a second: the best of the repetitions that fit into the time, after one to warm up."""
        work()
        clock([self.device])
        best, began = float("inf"), time.perf_counter()
        while True:
            start = time.perf_counter()
            work()
            clock([self.device])
            best = min(best, time.perf_counter() - start)
            if time.perf_counter() - began > self.options.seconds:
                return size / best

    def of_files(self, files, size):
        """Pairs a second with reading and preparing in threads, which are at most two batches each ahead."""

        def prepared(number):
            return PreparedBatch.of(self.spec, self.pairs(files, number * size, size))

        def batches(pool) -> Iterator[PreparedBatch]:
            number, waiting = 0, []
            while True:
                while len(waiting) < 2 * self.options.workers:
                    waiting.append(pool.submit(prepared, number))
                    number += 1
                yield waiting.pop(0).result()

        with ThreadPoolExecutor(self.options.workers) as pool:
            stream = batches(pool)
            explain_batch(self.spec, next(stream))
            done, began = 0, time.perf_counter()
            while done == 0 or time.perf_counter() - began < self.options.seconds:
                explain_batch(self.spec, next(stream))
                done += size
            taken = time.perf_counter() - began
            pool.shutdown(cancel_futures=True)
        return done / taken

    def row(self, files, size):
        """The numbers of one batch size, or None if it does not fit."""
        try:
            batch = PreparedBatch.of(self.spec, self.pairs(files, 0, size))
            image, text = batch.inputs
            reset_memory(self.device)
            forward = self.rate(lambda: (self.model.image.encode(image), self.model.text.encode(text)), size)
            maps = self.rate(lambda: explain_batch(self.spec, batch), size)
            return forward, maps, forward / maps, self.of_files(files, size), memory(self.device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        free_memory()
        return None


def reset_memory(device):
    if device.type in ("cuda", "xpu"):
        getattr(torch, device.type).reset_peak_memory_stats(device)


def memory(device):
    """The peak in GB."""
    if device.type in ("cuda", "xpu"):
        return getattr(torch, device.type).max_memory_allocated(device) / 1e9
    return torch.mps.driver_allocated_memory() / 1e9 if device.type == "mps" else most_memory()


def name_of(device):
    named = getattr(getattr(torch, device.type), "get_device_name", None)
    return named(device) if named else device.type


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["b32", "l14", "so400m"])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128, 512])
    parser.add_argument("--method", default="nib")
    parser.add_argument("--workers", type=int, default=4, help="threads that read and prepare")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--quick", action="store_true", help="batches of 1 and 4, and one repetition of each")
    options = parser.parse_args()
    if options.quick:
        options.batches, options.seconds = [1, 4], 0
    print(f"{machine()}{name_of(torch.device(options.device))}, {options.workers} threads read, {options.method}\n")
    print("| size | precision | batch | forward, pairs/s | maps, pairs/s | ratio | files, pairs/s | memory |")
    print("|---|---|---|---|---|---|---|---|")
    before = torch.get_float32_matmul_precision()
    with tempfile.TemporaryDirectory() as folder:
        files = pictures(Path(folder))
        for size in options.sizes:
            for precision in options.precisions:
                torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
                run = Run(size, precision, options)
                for batch in options.batches:
                    row = run.row(files, batch)
                    numbers = "does not fit | | | |" if row is None else " | ".join(f"{one:.3g}" for one in row)
                    print(f"| {size} | {precision} | {batch} | {numbers} |", flush=True)
                del run
                free_memory()
    torch.set_float32_matmul_precision(before)


if __name__ == "__main__":
    main()
