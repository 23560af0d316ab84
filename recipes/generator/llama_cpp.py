"""The embedded generator behind a real llama.cpp server: are its maps those of the model on this machine?

    python recipes/generator/llama_cpp.py serve --gguf GGUF              # writes GGUF; serves until a line is read
    python recipes/generator/llama_cpp.py measure --out RUN [--count 50] # resumes; an hour and a half
    python recipes/generator/llama_cpp.py report --out RUN               # docs/explanation/study/served.csv

It needs the packages ``xllamacpp``, which has llama.cpp, and ``gguf``. llama.cpp reads the patches of a CLIP tower in a
wrong order (``ClassTokenLast``), so that the stock server serves another model than the weights are. ``clip`` therefore
compares it with the local model under the same mistake, ``as it is`` with the model itself, and ``siglip`` compares a
model whose tower has no class token, and random weights, with itself.
"""

import argparse
import csv
import json
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from local_server import ClassTokenLast, LocalAnswers, serving
from transformers import (
    AutoProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

import nibt
from nibt.datasets.scenes import Scenes

ROOT = Path(__file__).parents[2]
EMBEDDED = ROOT / "src" / "nibt" / "models" / "embedded" / "scenes_generator"
CSV = ROOT / "docs" / "explanation" / "study" / "served.csv"
PROMPT = "describe the picture"
SIZE = 128
WORDS = 8
SEED = 6701  # of scenes on which nothing was chosen
METHODS = {
    "occlusion, 8 x 8": {"method": "occlusion"},
    "Banzhaf, 8 x 8": {"method": "banzhaf", "budget": 256, "ridge": 8.0},
    "Shapley, 3 x 3": {"method": "shapley", "cells": 3, "budget": 128},
}
LOCAL = {"clip": ("clip", "as it is"), "siglip": ("siglip",)}
"""The local models with which each served one is compared."""
LARGE = 0.5  # nats: maps whose largest score is smaller are not correlated


def generator(kind):
    """The model and its processor: ``clip`` under llama.cpp's mistake, ``as it is``, or ``siglip``."""
    if kind == "siglip":
        return without_class_token()
    model = LlavaForConditionalGeneration.from_pretrained(EMBEDDED, dtype=torch.float32, attn_implementation="eager")
    if kind == "clip":
        model.model.vision_tower.embeddings.__class__ = ClassTokenLast
    return model.eval(), AutoProcessor.from_pretrained(EMBEDDED)


def without_class_token():
    """The embedded decoder with a random SigLIP tower, scaled so that the image has an effect."""
    embedded, joint = generator("as it is")
    text = embedded.config.text_config
    tower = SiglipVisionConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=16,
        hidden_act="gelu_pytorch_tanh",
        vision_use_head=False,
    )
    config = LlavaConfig(
        text_config=text,
        vision_config=tower,
        image_token_index=embedded.config.image_token_index,
        image_seq_length=64,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config).float().eval()
        for parameter in model.model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=1.5 * parameter[0].numel() ** -0.5)
    # the decoder reads only what this layer can write
    trained = embedded.model.multi_modal_projector.linear_2
    model.model.multi_modal_projector.linear_2.load_state_dict(trained.state_dict())
    model.model.language_model.load_state_dict(embedded.model.language_model.state_dict())
    model.lm_head.load_state_dict(embedded.lm_head.state_dict())

    prepare = SiglipImageProcessor(size={"height": SIZE, "width": SIZE})
    processor = LlavaProcessor(
        prepare,
        joint.tokenizer,
        patch_size=16,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=0,
        chat_template=joint.chat_template,
    )
    return model, processor


@contextmanager
def llama_cpp(folder):
    """Serve GGUF files with llama.cpp in a process of its own inside ``with``; gives the address."""
    command = [sys.executable, str(Path(__file__)), "serve", "--gguf", str(folder)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = next((line for line in process.stdout if line.startswith("http")), "")
        if not line:
            raise RuntimeError(f"llama.cpp did not start: run {' '.join(command)} to see why")
        yield line.strip()
    finally:
        process.stdin.close()
        process.wait(60)
        process.stdout.close()


def serve(folder):
    """Serve the GGUF files of a folder until a line is read."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(folder / "text.gguf")
    parameters.mmproj.path = str(folder / "mmproj.gguf")
    parameters.n_ctx = 256
    parameters.n_gpu_layers = 0
    parameters.mmproj_use_gpu = False
    parameters.cpuparams.n_threads = 1
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    sys.stdin.readline()


def write_gguf(kind, folder):
    """Write the GGUF files of a model, without llama.cpp's mistake."""
    from gguf_files import write

    write(*generator("as it is" if kind == "clip" else kind), folder)


def explained(
    address, image, method, answer=None, cells=8, name="scenes_generator", max_words=WORDS, sources="image", **options
):
    """The maps of an answer of the model behind an address, which it writes if none is given."""
    model = nibt.load_generator(address + "/v1", name=name, image_size=SIZE, cells=cells, sources=sources)
    words = max_words if answer is None else None
    return nibt.explain_answer(model, image, PROMPT, answer, method, max_words=words, **options)


def compared(served, local):
    """How the maps of a server and of a local model agree."""
    maps = served.table.flatten(1).numpy()
    others = local.table.flatten(1).numpy()
    large = np.abs(others).max(1) > LARGE
    values = [word.log_probability for word in served.words]
    other_values = [word.log_probability for word in local.words]
    return {
        "r": [float(np.corrcoef(own, other)[0, 1]) for own, other in zip(maps[large], others[large], strict=True)],
        "scores": float(np.abs(maps - others).max()),
        "log_probabilities": float(np.abs(np.subtract(values, other_values)).max()),
    }


def measure(options):
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "served.jsonl"
    done = {json.loads(line)["key"] for line in path.read_text().splitlines()} if path.exists() else set()
    scenes = Scenes(count=options.count, seed=SEED)
    for kind, others in LOCAL.items():
        folder = options.out / kind
        write_gguf(kind, folder)
        with llama_cpp(folder) as address:
            for number in range(options.count):
                image = scenes[number].image
                for name, settings in METHODS.items():
                    if f"{kind}|{number}|{name}" not in done:
                        record = measured(address, others, image, settings)
                        with path.open("a") as file:
                            file.write(json.dumps({"key": f"{kind}|{number}|{name}", **record}) + "\n")


def measured(address, others, image, settings):
    """What is kept of one image and one method."""
    started = time.perf_counter()
    own = explained(address, image, **settings)
    seconds = time.perf_counter() - started
    record = {"seconds": seconds, "requests": own.server["requests"], "noise": own.server["noise"]}
    for other in others:
        with serving(LocalAnswers(*generator(other))) as local:
            record[other] = compared(own, explained(local, image, answer=own.answer, **settings))
    return record


HEADINGS = ("served", "method", "compared with", "images", "words", "least r", "median r", "scores differ by at most")
HEADINGS += ("log-probabilities differ by at most", "requests", "seconds")


def rows(records):
    """The rows of the table."""
    for kind, others in LOCAL.items():
        for name in METHODS:
            own = [record for key, record in records.items() if key.startswith(f"{kind}|") and key.endswith(f"|{name}")]
            for other in others if own else ():
                correlations = [value for record in own for value in record[other]["r"]]
                yield (
                    f"{kind} tower",
                    name,
                    {"clip": "local, class token last", "as it is": "local", "siglip": "local"}[other],
                    str(len(own)),
                    str(len(correlations)),
                    f"{min(correlations):.6f}",
                    f"{np.median(correlations):.6f}",
                    f"{max(record[other]['scores'] for record in own):.4f}",
                    f"{max(record[other]['log_probabilities'] for record in own):.4f}",
                    f"{np.mean([record['requests'] for record in own]):.0f}",
                    f"{np.median([record['seconds'] for record in own]):.1f}",
                )


def report(options):
    lines = [json.loads(line) for line in (options.out / "served.jsonl").read_text().splitlines()]
    table = list(rows({record["key"]: record for record in lines}))
    packages = ", ".join(f"{name} {version(name)}" for name in ("nibt", "torch", "transformers", "xllamacpp"))
    print(f"{time.strftime('%-d %B %Y')}, {platform.machine()}, Python {platform.python_version()}, {packages}\n")
    for row in [HEADINGS, ["---"] * len(HEADINGS), *table]:
        print(f"| {' | '.join(row)} |")
    with CSV.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADINGS, *table])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["serve", "measure", "report"])
    parser.add_argument("--gguf", type=Path, help="folder of the GGUF files")
    parser.add_argument("--out", type=Path, help="folder of the run")
    parser.add_argument("--count", type=int, default=50, help="scenes")
    options = parser.parse_args()
    if options.what == "serve":
        if not (options.gguf / "text.gguf").exists():
            write_gguf("clip", options.gguf)
        serve(options.gguf)
    else:
        {"measure": measure, "report": report}[options.what](options)


if __name__ == "__main__":
    main()
