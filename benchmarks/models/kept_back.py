"""Small random models that imitate popular repositories without a file of facts, for ``benchmarks/kept_back.py``.

Each has the class, the kind of tokenizer, the processor and the structure of the prompt of its repository, and settings
that no other copy has: sizes of images, a number of tiles, layers of features, tied embeddings, weights in bfloat16 or
in several files, tokens that were added. Nothing here imports nibt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
import transformers as hf
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert, box_iou

from .released_tokenizers import save_tokenizer
from .tiny_families import randomized

CAPTION = "a photo of two red cats"
Score = Callable[..., float]
"""The score of an image, and perhaps of the image that it was before a part got the color that stands for 0."""
Mean = tuple[int, int, int]
GRAY, BLACK, OPENAI, IMAGENET = (128, 128, 128), (0, 0, 0), (123, 117, 104), (124, 116, 104)


@dataclass(frozen=True)
class KeptBack:
    """A model: what makes it, its own call, and how nibt is asked.

    Attributes:
        name: The name of the repository that it imitates.
        make: Returns the class with its configuration, and the processor (or several parts that are saved).
        own: Returns the score of an image as the model itself computes it, from its folder and an answer.
        prompt: The prompt of a generator; None for a model that is no generator.
        caption: The caption, or the name of a class.
        size: Width and height of the image.
        mean: The color that the processor turns into 0.
        dtype: The dtype of the saved weights.
        shard: The largest size of a file of weights.
        near: The number of cells beside a changed one whose state may change more, where patches overlap.
        options: Options of loading.
    """

    name: str
    make: Callable[[], tuple[Any, Any, list[Any]]]
    own: Callable[[Path, str], Score]
    prompt: str | None = None
    caption: str = CAPTION
    size: tuple[int, int] = (96, 96)
    mean: Mean = GRAY
    dtype: torch.dtype = torch.float32
    shard: str = "5GB"
    near: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answers(self) -> bool:
        return self.prompt is not None

    def save(self, folder: Path) -> str:
        """Write the folder, and return the name of the class."""
        kind, config, parts = self.make()
        module = randomized(lambda: kind(config)).to(self.dtype)
        module.save_pretrained(folder, max_shard_size=self.shard)
        for part in parts:
            part.save_pretrained(folder)
        return kind.__name__


# Own calls


class _Forced(hf.LogitsProcessor):
    """Makes ``generate`` write given tokens."""

    def __init__(self, ids: list[int]) -> None:
        self.ids, self.written = ids, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.ids[self.written]] = 0
        self.written += 1
        return forced


def exact(values: Mapping[str, Any], before: Mapping[str, Any] | None, images: Any) -> Mapping[str, Any]:
    """Return inputs whose painted pixels are exactly the mean: colors are whole numbers, and norms enlarge the rest."""
    if before is None:
        return values
    result = dict(values)
    mean = torch.finfo().tiny if images.do_normalize else 0.5  # some models take tiles of zeros for padding
    for name in {"pixel_values", "flattened_patches"} & values.keys():
        is_painted = (values[name] != before[name]) & ((values[name] - mean).abs() < 0.02)
        result[name] = values[name].masked_fill(is_painted, mean)
    return result


def log_probability(module: Any, values: Mapping[str, Any], ids: list[int]) -> float:
    """Return the log-probability of tokens, by the model's own ``generate``."""
    neutral = {"do_sample": False, "num_beams": 1, "output_logits": True, "return_dict_in_generate": True}
    with torch.no_grad():
        out = module.generate(
            **values,
            **neutral,
            min_new_tokens=0,
            max_new_tokens=len(ids),
            logits_processor=hf.LogitsProcessorList([_Forced(ids)]),
        )
    logs = [logits[0].float().log_softmax(-1) for logits in out.logits]
    return float(sum(log[token] for log, token in zip(logs, ids, strict=True)))


def opened(folder: Path, kind: Any) -> Any:
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


def writes(
    kind: Any, prompt: str = "", template: bool = True, blank: bool = False, **options: Any
) -> Callable[[Path, str], Score]:
    """Return the own call of a generator: its chat template, or a prompt as its processor takes it.

    ``blank`` is whether a blank is between the prompt and the answer.
    """

    def own(folder: Path, answer: str) -> Score:
        module, processor = opened(folder, kind), hf.AutoProcessor.from_pretrained(folder)
        answered = f" {answer}" if blank else answer
        chat: dict[str, Any] = {"add_generation_prompt": True}
        before = ""
        if template:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            before = processor.apply_chat_template([{"role": "user", "content": content}], **chat, tokenize=False)
        rows = [processor.tokenizer(text, add_special_tokens=False).input_ids for text in (before, before + answered)]
        ids = rows[1][len(rows[0]) :]

        def inputs(image: Image.Image) -> Mapping[str, Any]:
            if not template:
                return processor(images=image, text=prompt, return_tensors="pt", **options)
            content = [{"type": "image", "image": image}, {"type": "text", "text": prompt}]
            messages, tensors = [{"role": "user", "content": content}], {"return_dict": True, "return_tensors": "pt"}
            return processor.apply_chat_template(messages, **chat, tokenize=True, **tensors)

        def score(image: Image.Image, before: Image.Image | None = None) -> float:
            values = exact(inputs(image), before and inputs(before), processor.image_processor)
            unused = ("num_soft_tokens_per_image", "num_crops", "labels", "width", "height")
            return log_probability(module, {key: value for key, value in values.items() if key not in unused}, ids)

        return score

    return own


def compares(kind: Any, part: str = "", **padding: Any) -> Callable[[Path, str], Score]:
    """Return the own call of a dual encoder: the cosine of its features."""

    def own(folder: Path, _: str) -> Score:
        module, processor = opened(folder, kind), hf.AutoProcessor.from_pretrained(folder)
        module = getattr(module, part) if part else module
        text = processor(text=[CAPTION], return_tensors="pt", **padding)

        def inputs(image: Image.Image) -> Mapping[str, Any]:
            return processor(images=image, return_tensors="pt")

        def score(image: Image.Image, before: Image.Image | None = None) -> float:
            pixels = exact(inputs(image), before and inputs(before), processor.image_processor)
            with torch.no_grad():
                pair = module.get_image_features(**pixels), module.get_text_features(**text)
            return float(F.cosine_similarity(*(out.pooler_output for out in pair)))

        return score

    return own


def detects(kind: Any) -> Callable[[Path, str], Score]:
    """Return the own call of a detector: the score of its best box, or of what is found there in a changed image."""

    def own(folder: Path, _: str) -> Score:
        module, processor = opened(folder, kind), hf.AutoProcessor.from_pretrained(folder)
        best: list[Tensor] = []

        def inputs(image: Image.Image) -> Mapping[str, Any]:
            return processor(images=image, text=[[CAPTION]], return_tensors="pt")

        def score(image: Image.Image, before: Image.Image | None = None) -> float:
            with torch.no_grad():
                out = module(**exact(inputs(image), before and inputs(before), processor.image_processor))
            chances = out.logits[0].sigmoid().amax(-1)
            boxes = box_convert(out.pred_boxes[0], "cxcywh", "xyxy")
            if before is None:
                best[:] = best or [boxes[[int(chances.argmax())]]]
                return float(chances.max())
            return float((box_iou(best[0], boxes)[0] * chances).max())

        return score

    return own


def classifies(number: int) -> Callable[[Path, str], Score]:
    """Return the own call of a classifier of Transformers: the logit of a class."""

    def own(folder: Path, _: str) -> Score:
        module, processor = opened(folder, hf.AutoModelForImageClassification), hf.AutoImageProcessor
        prepare = processor.from_pretrained(folder)

        def inputs(image: Image.Image) -> Mapping[str, Any]:
            return prepare(images=image, return_tensors="pt")

        def score(image: Image.Image, before: Image.Image | None = None) -> float:
            with torch.no_grad():
                return float(module(**exact(inputs(image), before and inputs(before), prepare)).logits[0, number])

        return score

    return own


# Tokenizers and templates

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}{% if c.type == 'image' %}IMAGE"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{% for c in m.content %}"
    "{% if c.type == 'image' %}IMAGE{% else %}{{ c.text }}{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% for c in m.content %}{% if c.type == 'image' %}IMAGE{% else %}{{ c.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
IDEFICS = (
    "{% for m in messages %}{{ m.role | capitalize }}:{% for c in m.content %}{% if c.type == 'image' %}<image>"
    "{% else %}{{ ' ' + c.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
CHATML_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def words(kind: str, *special: str, named: Mapping[str, str] | None = None, **settings: Any) -> Any:
    """Return a tokenizer of a kind with special tokens, some of which have names, such as ``image_token``."""
    more = {"extra_special_tokens": dict(named)} if named else {}
    known = {"type": kind, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096, **settings, **more}
    known["special"] = [*special, *(named or {}).values()]
    with TemporaryDirectory() as folder:
        save_tokenizer({"tokenizer": known}, Path(folder))
        return hf.AutoTokenizer.from_pretrained(folder)


def llama_words(*special: str, **settings: Any) -> Any:
    ends: dict[str, Any] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    return words("sentencepiece-bpe", *special, **{**ends, "adds_bos": True, **settings})


def gemma_words(*special: str, **settings: Any) -> Any:
    ends: dict[str, Any] = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return words("sentencepiece-bpe", "<start_of_turn>", "<end_of_turn>", *special, **{**ends, **settings})


def qwen_words(*special: str, **settings: Any) -> Any:
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer"}
    return words("byte-bpe", *CHATML_TOKENS, *special, **{**ends, **settings})


def ids_of(tokenizer: Any, **tokens: str) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def decoder(tokenizer: Any, model_type: str, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "max_position_embeddings": 4096, "vocab_size": len(tokenizer)}
    ends = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.bos_token_id}
    return {"model_type": model_type, **sizes, **heads, **ends, "eos_token_id": tokenizer.eos_token_id, **more}


def encoder(model_type: str, image: int, patch: int, **more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
    return {"model_type": model_type, **sizes, "image_size": image, "patch_size": patch, **more}


OPENAI_SCALE: dict[str, Any] = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
IMAGENET_MEAN = [0.485, 0.456, 0.406]


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


# Generators


def llama_vision() -> Any:
    """Four tiles, three of which most images leave empty; gates; 8 rows of the embeddings beyond the vocabulary."""
    special = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>")
    ends = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "pad_token": "<|finetune_right_pad_id|>"}
    tokenizer = words("byte-bpe", *special, **ends, adds_bos=True)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_global_layers": 2}
    vision |= {"attention_heads": 2, "image_size": 56, "patch_size": 14, "max_num_tiles": 4, "norm_eps": 1e-5}
    vision |= {"intermediate_layers_indices": [0, 2], "vision_output_dim": 48}
    text = decoder(tokenizer, "mllama_text_model", cross_attention_layers=[1, 3], num_hidden_layers=5)
    config = hf.MllamaConfig(vision_config=vision, text_config=text, **ids_of(tokenizer, image_token_index="<|image|>"))
    images = hf.MllamaImageProcessor(size=square(56), max_image_tiles=4, **OPENAI_SCALE)
    processor = hf.MllamaProcessor(images, tokenizer, chat_template=LLAMA3.replace("IMAGE", "<|image|>"))
    return hf.MllamaForConditionalGeneration, config, [processor]


def gemma3n() -> Any:
    names = {"image": "<image_soft_token>", "boi": "<start_of_image>", "eoi": "<end_of_image>"}
    names |= {"audio": "<audio_soft_token>", "boa": "<start_of_audio>", "eoa": "<end_of_audio>"}
    tokenizer = gemma_words(adds_bos=True, named={f"{name}_token": token for name, token in names.items()})
    count = len(tokenizer)
    images = hf.SiglipImageProcessor(size=square(192), do_normalize=False)
    processor = hf.Gemma3nProcessor(
        hf.Gemma3nAudioFeatureExtractor(),
        images,
        tokenizer,
        image_seq_length=36,
        chat_template=GEMMA.replace("IMAGE", names["image"]),
    )
    text = decoder(tokenizer, "gemma3n_text", num_hidden_layers=5, head_dim=8, laurel_rank=4)
    text |= {"vocab_size_per_layer_input": count - 6, "hidden_size_per_layer_input": 12, "num_kv_shared_layers": 2}
    text |= {"layer_types": [*["sliding_attention"] * 2, "full_attention", "sliding_attention", "full_attention"]}
    text |= {
        "sliding_window": 64,
        "intermediate_size": [40] * 5,
        "activation_sparsity_pattern": [0.9, 0.9, 0.0, 0.0, 0.0],
    }
    vision = {"model_type": "gemma3n_vision", "architecture": "test_convnext", "hidden_size": 64, "vocab_size": 3}
    audio = {"hidden_size": 16, "vocab_size": 3, "vocab_offset": count - 3, "conf_num_hidden_layers": 1}
    audio |= {"conf_num_attention_heads": 2, "sscp_conv_channel_size": [8, 4]}
    ids = ids_of(tokenizer, **{f"{name}_token_id": token for name, token in names.items()})
    vision |= {"vocab_offset": count - 6}
    parts = {"text_config": text, "vision_config": vision, "audio_config": audio}
    config = hf.Gemma3nConfig(**parts, vision_soft_tokens_per_image=36, **ids)
    return hf.Gemma3nForConditionalGeneration, config, [processor]


def gemma4() -> Any:
    """Layers that share keys and values, global heads that are wider, and a budget of soft tokens for each image."""
    names = {"image": "<|image|>", "boi": "<|image>", "eoi": "<image|>", "audio": "<|audio|>", "video": "<|video|>"}
    names |= {"boa": "<|audio>", "eoa": "<audio|>"}
    tokenizer = gemma_words(adds_bos=True, named={f"{name}_token": token for name, token in names.items()})
    images = hf.Gemma4ImageProcessor(patch_size=8, max_soft_tokens=70, pooling_kernel_size=2)
    processor = hf.Gemma4Processor(
        hf.Gemma4AudioFeatureExtractor(),
        images,
        tokenizer,
        hf.Gemma4VideoProcessor(patch_size=8, pooling_kernel_size=2),
        image_seq_length=70,
        chat_template=GEMMA.replace("IMAGE", names["image"]),
    )
    text = decoder(tokenizer, "gemma4_text", num_hidden_layers=4, head_dim=8, global_head_dim=16, sliding_window=64)
    text |= {"layer_types": ["sliding_attention", "full_attention"] * 2, "hidden_size_per_layer_input": 12}
    text |= {"num_kv_shared_layers": 2, "vocab_size_per_layer_input": len(tokenizer), "tie_word_embeddings": True}
    vision = encoder("gemma4_vision", 96, 8, num_attention_heads=2, num_key_value_heads=2, head_dim=12)
    vision |= {"global_head_dim": 12, "pooling_kernel_size": 2, "position_embedding_size": 64}
    ids = ids_of(tokenizer, **{f"{name}_token_id": token for name, token in names.items()})
    config = hf.Gemma4Config(text_config=text, vision_config=vision, audio_config=None, **ids)
    return hf.Gemma4ForConditionalGeneration, config, [processor]


def idefics2(split: bool) -> Any:
    special = ("<fake_token_around_image>", "<image>", "<end_of_utterance>")
    tokenizer = llama_words(*special, tokenizer_class="LlamaTokenizer")
    images = hf.Idefics2ImageProcessor(size={"shortest_edge": 56, "longest_edge": 112}, do_image_splitting=split)
    processor = hf.Idefics2Processor(images, tokenizer, image_seq_len=8, chat_template=IDEFICS)
    queries = {"hidden_size": 32, "resampler_n_latents": 8, "resampler_depth": 2, "resampler_n_heads": 2}
    queries |= {"resampler_head_dim": 8, "num_key_value_heads": 1}
    config = hf.Idefics2Config(
        vision_config=encoder("idefics2_vision", 112, 14),
        perceiver_config=queries,
        text_config=decoder(tokenizer, "mistral", sliding_window=4096),
        **ids_of(tokenizer, image_token_id="<image>"),
    )
    return hf.Idefics2ForConditionalGeneration, config, [processor]


def idefics3(split: bool) -> Any:
    """Images that are not split, or up to 3 x 3 of them: the tokenizer of Llama 3 writes its start token."""
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    special = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *rows)
    ends = {"bos_token": "<|begin_of_text|>", "eos_token": "<end_of_utterance>", "pad_token": "<|end_of_text|>"}
    tokenizer = words("byte-bpe", *special, **ends, adds_bos=True)
    images = hf.Idefics3ImageProcessor(
        size={"longest_edge": 168}, max_image_size={"longest_edge": 56}, do_image_splitting=split
    )
    processor = hf.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=IDEFICS)
    config = hf.Idefics3Config(
        vision_config=encoder("idefics3_vision", 56, 14),
        text_config=decoder(tokenizer, "llama", vocab_size=len(tokenizer) + 5),
        scale_factor=2,
        **ids_of(tokenizer, image_token_id="<image>"),
    )
    return hf.Idefics3ForConditionalGeneration, config, [processor]


def smolvlm() -> Any:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>", "video_token": "<video>"}
    named |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    ends = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"}
    tokenizer = words("byte-bpe", *rows, named=named, **ends)
    images = hf.SmolVLMImageProcessor(size={"longest_edge": 112}, max_image_size={"longest_edge": 56})
    chat = "<|im_start|>" + IDEFICS
    processor = hf.SmolVLMProcessor(images, tokenizer, hf.SmolVLMVideoProcessor(), image_seq_len=4, chat_template=chat)
    config = hf.SmolVLMConfig(
        vision_config=encoder("smolvlm_vision", 56, 14),
        text_config=decoder(tokenizer, "llama", tie_word_embeddings=True),
        scale_factor=2,
        tie_word_embeddings=True,
        **ids_of(tokenizer, image_token_id="<image>"),
    )
    return hf.SmolVLMForConditionalGeneration, config, [processor]


def kosmos2() -> Any:
    marks = ("</doc>", "<image>", "</image>", "<grounding>", "<phrase>", "</phrase>", "<object>", "</object>")
    ends = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = words("unigram", *marks, *(f"<patch_index_{n:04d}>" for n in range(16)), **ends, adds_bos=True)
    images = hf.CLIPImageProcessor(size={"shortest_edge": 70}, crop_size=square(70), do_center_crop=True)
    processor = hf.Kosmos2Processor(images, tokenizer, num_patch_index_tokens=16)
    text = {"embed_dim": 32, "layers": 3, "ffn_dim": 40, "attention_heads": 4, "vocab_size": len(tokenizer)}
    text |= {"max_position_embeddings": 256, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = hf.Kosmos2Config(
        text_config=text, vision_config=encoder("kosmos_2_vision_model", 70, 14), latent_query_num=64
    )
    return hf.Kosmos2ForConditionalGeneration, config, [processor]


def molmo2() -> Any:
    """Overlapping crops, of which 4 x 4 patches at the edges are dropped, and pooling of 2 x 2."""
    marks = ("<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>", "<im_end>", "<frame_end>")
    tokenizer = qwen_words(*marks, "<im_low>", "<|image|>", "<|video|>", adds_bos=False)
    sizes: dict[str, Any] = {"size": square(112), "patch_size": 14}
    images = hf.Molmo2ImageProcessor(**sizes, max_crops=6, overlap_margins=[2, 2], pooling_size=[2, 2])
    chat = CHATML.replace("IMAGE", "<|image|>")
    processor = hf.Molmo2Processor(images, hf.Molmo2VideoProcessor(**sizes), tokenizer, chat_template=chat)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4, "image_size": [112, 112], **heads}
    vision |= {"patch_size": 14, "num_position_embeddings": 64}
    adapter = {"vision_feature_layer": [-1, -3], "hidden_size": 16, "intermediate_size": 24, "text_hidden_size": 32}
    text = decoder(tokenizer, "molmo2_text", additional_vocab_size=8, head_dim=8)
    ids = ids_of(tokenizer, image_patch_id="<im_patch>")
    config = hf.Molmo2Config(vision_config=vision, adapter_config={**adapter, **heads}, text_config=text, **ids)
    return hf.Molmo2ForConditionalGeneration, config, [processor]


QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_IMAGE = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
QWEN_IDS = {"image_token_id": QWEN[2], "video_token_id": QWEN[3]}
ROPE = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}


def qwen3_5_moe() -> Any:
    tokenizer = qwen_words(*QWEN, tokenizer_class="Qwen3_5Tokenizer")
    pixels: dict[str, Any] = {"patch_size": 14, "size": {"shortest_edge": 784, "longest_edge": 80 * 784}}
    processor = hf.Qwen3VLProcessor(
        hf.Qwen2VLImageProcessor(**pixels), tokenizer, hf.Qwen3VLVideoProcessor(**pixels), chat_template=QWEN_IMAGE
    )
    vision = {"depth": 3, "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 14}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 36}
    text = decoder(tokenizer, "qwen3_5_moe_text", num_hidden_layers=4, head_dim=16)
    text |= {"rope_parameters": {**ROPE, "mrope_interleaved": True, "partial_rotary_factor": 0.5}}
    text |= {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
    text |= {"linear_num_value_heads": 4, "layer_types": [*["linear_attention"] * 3, "full_attention"]}
    text |= {"num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 16}
    config = hf.Qwen3_5MoeConfig(
        text_config=text | {"shared_expert_intermediate_size": 16},
        vision_config=vision,
        **ids_of(tokenizer, **QWEN_IDS),
    )
    return hf.Qwen3_5MoeForConditionalGeneration, config, [processor]


def qwen3_omni() -> Any:
    names = {"image": QWEN[2], "video": QWEN[3], "audio": "<|audio_pad|>", "audio_bos": "<|audio_start|>"}
    names |= {"audio_eos": "<|audio_end|>", "vision_bos": QWEN[0], "vision_eos": QWEN[1]}
    tokenizer = qwen_words(named={f"{name}_token": token for name, token in names.items()})
    pixels: dict[str, Any] = {"patch_size": 14, "size": {"shortest_edge": 784, "longest_edge": 80 * 784}}
    processor = hf.Qwen3OmniMoeProcessor(
        hf.Qwen2VLImageProcessor(**pixels),
        hf.Qwen2VLVideoProcessor(**pixels),
        hf.WhisperFeatureExtractor(feature_size=32),
        tokenizer,
        chat_template=QWEN_IMAGE,
    )
    vision = {"depth": 4, "hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "patch_size": 14}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 36, "deepstack_visual_indexes": [0, 2]}
    text = decoder(tokenizer, "qwen3_omni_moe_text", head_dim=8, num_experts=6, num_experts_per_tok=3)
    text |= {"rope_parameters": {**ROPE, "mrope_interleaved": True}, "moe_intermediate_size": 16}
    audio = {"num_mel_bins": 32, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    audio |= {"d_model": 16, "output_dim": 32, "downsample_hidden_size": 8}
    ids = ids_of(tokenizer, **{f"{name}_token_id": names[name] for name in ("image", "video", "audio")})
    ids |= ids_of(tokenizer, audio_start_token_id="<|audio_start|>", vision_start_token_id=QWEN[0])
    config = hf.Qwen3OmniMoeThinkerConfig(text_config=text, vision_config=vision, audio_config=audio, **ids)
    return hf.Qwen3OmniMoeThinkerForConditionalGeneration, config, [processor]


def qwen2_vl() -> Any:
    """A fine-tuned model: its own limits of pixels, an added token, embeddings that are not tied."""
    tokenizer = qwen_words(*QWEN, "<point>")
    pixels: dict[str, Any] = {"patch_size": 14, "size": {"shortest_edge": 784, "longest_edge": 40 * 784}}
    processor = hf.Qwen2VLProcessor(
        hf.Qwen2VLImageProcessor(**pixels), tokenizer, hf.Qwen2VLVideoProcessor(**pixels), chat_template=QWEN_IMAGE
    )
    vision = {"depth": 3, "embed_dim": 24, "hidden_size": 32, "mlp_ratio": 2, "num_heads": 2, "patch_size": 14}
    text = decoder(tokenizer, "qwen2_vl_text", rope_parameters=ROPE, vocab_size=len(tokenizer) + 11)
    ids = ids_of(tokenizer, **QWEN_IDS, vision_start_token_id=QWEN[0], vision_end_token_id=QWEN[1])
    config = hf.Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **ids)
    return hf.Qwen2VLForConditionalGeneration, config, [processor]


def fast_vlm() -> Any:
    tokenizer = qwen_words("<image>")
    images = hf.CLIPImageProcessor(
        size={"shortest_edge": 160}, crop_size=square(160), image_mean=[0.0] * 3, image_std=[1.0] * 3
    )
    chat = CHATML.replace("IMAGE", "<image>\n")
    processor = hf.LlavaProcessor(
        images, tokenizer, patch_size=32, vision_feature_select_strategy="full", chat_template=chat
    )
    vision = {"model_type": "timm_wrapper", "architecture": "test_convnext", "num_classes": 0, "do_pooling": True}
    config = hf.FastVlmConfig(
        vision_config={**vision, "hidden_size": 64},
        text_config=decoder(tokenizer, "qwen2", tie_word_embeddings=True),
        image_seq_length=25,
        **ids_of(tokenizer, image_token_id="<image>"),
    )
    return hf.FastVlmForConditionalGeneration, config, [processor]


def llava(select: str, layer: int | list[int], vision: dict[str, Any], side: int) -> Any:
    """LLaVA with features of other layers, with or without the class token."""
    tokenizer = qwen_words("<image>")
    images = hf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=square(side))
    if vision["model_type"] == "siglip_vision_model":
        images = hf.SiglipImageProcessor(size=square(side))
    processor = hf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy=select,
        num_additional_image_tokens=int(vision["model_type"] == "clip_vision_model"),
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )
    config = hf.LlavaConfig(
        vision_config=vision,
        text_config=decoder(tokenizer, "qwen2"),
        vision_feature_select_strategy=select,
        vision_feature_layer=layer,
        **ids_of(tokenizer, image_token_index="<image>"),
    )
    return hf.LlavaForConditionalGeneration, config, [processor]


def llava_next() -> Any:
    """Tiles in grids that are not square, and a vocabulary that was padded to a multiple of 64."""
    tokenizer = llama_words("<image>", "<|im_start|>", "<|im_end|>", tokenizer_class="LlamaTokenizer")
    grid = [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]]
    images = hf.LlavaNextImageProcessor(
        size={"shortest_edge": 56}, crop_size=square(56), image_grid_pinpoints=grid, do_pad=True
    )
    processor = hf.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHATML.replace("IMAGE", "<image>\n"),
    )
    config = hf.LlavaNextConfig(
        vision_config=encoder("clip_vision_model", 56, 14),
        text_config=decoder(tokenizer, "llama", vocab_size=(len(tokenizer) + 63) // 64 * 64),
        image_grid_pinpoints=grid,
        **ids_of(tokenizer, image_token_index="<image>"),
    )
    return hf.LlavaNextForConditionalGeneration, config, [processor]


def internvl() -> Any:
    """Up to six tiles and a thumbnail, and the vision model of a size with its own norm."""
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokenizer = qwen_words("<video>", named=named | {"video_token": "<video>"})
    images = hf.GotOcr2ImageProcessor(size=square(56), crop_to_patches=True, max_patches=6, image_mean=IMAGENET_MEAN)
    processor = hf.InternVLProcessor(
        images,
        tokenizer,
        hf.InternVLVideoProcessor(size=square(56)),
        image_seq_length=4,
        chat_template=CHATML.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    vision = encoder("internvl_vision", [56, 56], [14, 14], use_qk_norm=True, norm_type="rms_norm")
    config = hf.InternVLConfig(
        vision_config=vision,
        text_config=decoder(tokenizer, "qwen3", head_dim=8),
        image_seq_length=4,
        **ids_of(tokenizer, image_token_id="<IMG_CONTEXT>"),
    )
    return hf.InternVLForConditionalGeneration, config, [processor]


def paligemma2() -> Any:
    tokenizer = gemma_words("<image>", *(f"<loc{n:04d}>" for n in range(8)))
    images = hf.SiglipImageProcessor(size=square(112))
    images.image_seq_length = 64
    processor = hf.PaliGemmaProcessor(images, tokenizer)
    config = hf.PaliGemmaConfig(
        vision_config=encoder("siglip_vision_model", 112, 14, vision_use_head=False, projection_dim=32),
        text_config=decoder(tokenizer, "gemma2", head_dim=8, sliding_window=512, num_image_tokens=64),
        projection_dim=32,
        **ids_of(tokenizer, image_token_index="<image>"),
    )
    return hf.PaliGemmaForConditionalGeneration, config, [processor]


def gemma3() -> Any:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = gemma_words(adds_bos=True, named=named)
    images = hf.Gemma3ImageProcessor(size=square(112))
    chat = GEMMA.replace("IMAGE", "<start_of_image>")
    processor = hf.Gemma3Processor(images, tokenizer, chat_template=chat, image_seq_length=16)
    config = hf.Gemma3Config(
        vision_config=encoder("siglip_vision_model", 112, 14, vision_use_head=False),
        text_config=decoder(tokenizer, "gemma3_text", head_dim=8, sliding_window=32, query_pre_attn_scalar=8),
        mm_tokens_per_image=16,
        **ids_of(tokenizer, image_token_index=named["image_token"], boi_token_index=named["boi_token"]),
        **ids_of(tokenizer, eoi_token_index=named["eoi_token"]),
    )
    return hf.Gemma3ForConditionalGeneration, config, [processor]


def blip_vqa() -> Any:
    tokenizer = words("wordpiece", "[DEC]", "[ENC]", tokenizer_class="BertTokenizer", model_max_length=512)
    text = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 3}
    text |= {"vocab_size": len(tokenizer), "encoder_hidden_size": 24, "projection_dim": 24}
    text |= ids_of(tokenizer, bos_token_id="[DEC]", pad_token_id="[PAD]", sep_token_id="[SEP]", eos_token_id="[SEP]")
    config = hf.BlipConfig(text_config=text, vision_config=encoder("blip_vision_model", 112, 16))
    processor = hf.BlipProcessor(hf.BlipImageProcessor(size=square(112)), tokenizer)
    return hf.BlipForQuestionAnswering, config, [processor]


# Models that compare


def siglip2() -> Any:
    """Fixed sizes: the class of SigLIP with the tokenizer of Gemma, whose captions are padded to 64."""
    tokenizer = gemma_words(adds_eos=True, model_max_length=64, padding_side="right", tokenizer_class="GemmaTokenizer")
    text = encoder("siglip_text_model", 0, 0, vocab_size=len(tokenizer), max_position_embeddings=64, projection_size=24)
    config = hf.SiglipConfig(text_config=text, vision_config=encoder("siglip_vision_model", 128, 16))
    images = hf.SiglipImageProcessor(size=square(128), resample=2)
    return hf.SiglipModel, config, [hf.SiglipProcessor(images, tokenizer)]


def clip(side: int, patch: int, **text_config: Any) -> Any:
    """CLIP, fine-tuned at another size: with the end token that old configurations name wrongly."""
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = words("clip-bpe", **ends, pad_token="<|endoftext|>", tokenizer_class="CLIPTokenizer", adds_bos=True)
    tokenizer.model_max_length = 77
    text = encoder("clip_text_model", 0, 0, vocab_size=len(tokenizer), max_position_embeddings=77, hidden_act="gelu")
    text |= ids_of(tokenizer, bos_token_id="<|startoftext|>", eos_token_id="<|endoftext|>")
    vision = encoder("clip_vision_model", side, patch, hidden_act="gelu", num_hidden_layers=4)
    config = hf.CLIPConfig(text_config=text | text_config, vision_config=vision, projection_dim=20)
    images = hf.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=square(side))
    return hf.CLIPModel, config, [hf.CLIPProcessor(images, tokenizer)]


def owlv2() -> Any:
    _, config, (processor,) = clip(112, 14)
    text = config.text_config.to_dict() | {"max_position_embeddings": 16, "model_type": "owlv2_text_model"}
    vision = encoder("owlv2_vision_model", 112, 14)
    images = hf.Owlv2ImageProcessor(size=square(112))
    config = hf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=24)
    tokenizer = processor.tokenizer
    tokenizer.model_max_length, tokenizer.pad_token = 16, "!"
    return hf.Owlv2ForObjectDetection, config, [hf.Owlv2Processor(images, tokenizer)]


def clipseg() -> Any:
    _, plain, (processor,) = clip(112, 16)
    images = hf.ViTImageProcessor(size=square(112), image_mean=IMAGENET_MEAN, image_std=[0.229, 0.224, 0.225])
    text, vision = (config.to_dict() for config in (plain.text_config, plain.vision_config))
    text["model_type"], vision["model_type"] = "clipseg_text_model", "clipseg_vision_model"
    sizes: dict[str, Any] = {"projection_dim": 20, "reduce_dim": 8, "extract_layers": [0, 1, 3]}
    config = hf.CLIPSegConfig(text_config=text, vision_config=vision, **sizes)
    config.use_complex_transposed_convolution = False
    return hf.CLIPSegForImageSegmentation, config, [hf.CLIPSegProcessor(images, processor.tokenizer)]


# Classifiers


def vit() -> Any:
    """Fine-tuned on three classes of its own, at another size."""
    labels = {0: "benign nevus", 1: "melanoma", 2: "other"}
    config = hf.ViTConfig(**encoder("vit", 96, 16), id2label=labels, label2id={v: k for k, v in labels.items()})
    return hf.ViTForImageClassification, config, [hf.ViTImageProcessor(size=square(96))]


def timm_vit() -> Any:
    """A folder of timm, as Transformers reads and writes it."""
    sizes = {"img_size": 96, "embed_dim": 24, "depth": 3, "num_heads": 3, "reg_tokens": 2}
    names = [f"kind {number}" for number in range(5)]
    data = {"input_size": [3, 96, 96], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "num_classes": 5}
    config = hf.TimmWrapperConfig(
        architecture="vit_tiny_patch16_224", model_args=sizes, label_names=names, pretrained_cfg=data, num_labels=5
    )
    config.id2label = dict(enumerate(names))
    return hf.TimmWrapperForImageClassification, config, []


CLIP_L, SIGLIP = "clip_vision_model", "siglip_vision_model"
BF16 = torch.bfloat16
ASK = "What is in the image?"
MODELS = [
    KeptBack(
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        llama_vision,
        writes(hf.MllamaForConditionalGeneration, ASK),
        ASK,
        size=(112, 112),
        mean=OPENAI,
        dtype=BF16,
        shard="40KB",
    ),
    KeptBack(
        "google/gemma-3n-E2B-it",
        gemma3n,
        writes(hf.Gemma3nForConditionalGeneration, ASK),
        ASK,
        size=(192, 192),
        mean=GRAY,
        near=2,
    ),
    KeptBack(
        "google/gemma-4-E2B-it",
        gemma4,
        writes(hf.Gemma4ForConditionalGeneration, ASK),
        ASK,
        size=(128, 128),
        mean=GRAY,
    ),
    KeptBack(
        "HuggingFaceM4/idefics2-8b-chatty",
        partial(idefics2, True),
        writes(hf.Idefics2ForConditionalGeneration, ASK, blank=True),
        ASK,
        size=(112, 84),
    ),
    KeptBack(
        "HuggingFaceM4/idefics2-8b",
        partial(idefics2, False),
        writes(hf.Idefics2ForConditionalGeneration, ASK, blank=True),
        ASK,
        size=(112, 84),
        dtype=BF16,
    ),
    KeptBack(
        "a fine-tuned Idefics3-8B-Llama3",
        partial(idefics3, True),
        writes(hf.Idefics3ForConditionalGeneration, ASK, blank=True),
        ASK,
        size=(168, 112),
        shard="40KB",
    ),
    KeptBack(
        "an Idefics3-8B-Llama3 without tiles",
        partial(idefics3, False),
        writes(hf.Idefics3ForConditionalGeneration, ASK, blank=True),
        ASK,
        size=(56, 56),
    ),
    KeptBack(
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        smolvlm,
        writes(hf.SmolVLMForConditionalGeneration, ASK, blank=True),
        ASK,
        size=(112, 112),
        dtype=BF16,
    ),
    KeptBack(
        "microsoft/kosmos-2-patch14-224",
        kosmos2,
        writes(hf.Kosmos2ForConditionalGeneration, "<grounding>An image of", template=False),
        "<grounding>An image of",
        size=(70, 70),
        mean=OPENAI,
    ),
    KeptBack(
        "allenai/Molmo2-4B",
        molmo2,
        writes(hf.Molmo2ForConditionalGeneration, ASK),
        ASK,
        size=(168, 112),
    ),
    KeptBack(
        "Qwen/Qwen3.5-35B-A3B",
        qwen3_5_moe,
        writes(hf.Qwen3_5MoeForConditionalGeneration, ASK),
        ASK,
        size=(168, 112),
        mean=OPENAI,
        shard="40KB",
    ),
    KeptBack(
        "Qwen/Qwen3-Omni-30B-A3B-Instruct (thinker)",
        qwen3_omni,
        writes(hf.Qwen3OmniMoeThinkerForConditionalGeneration, ASK),
        ASK,
        size=(168, 112),
        mean=OPENAI,
    ),
    KeptBack(
        "a fine-tuned Qwen2-VL-7B-Instruct",
        qwen2_vl,
        writes(hf.Qwen2VLForConditionalGeneration, ASK),
        ASK,
        size=(140, 112),
        mean=OPENAI,
        dtype=BF16,
        shard="40KB",
    ),
    KeptBack(
        "KamilaMila/FastVLM-0.5B",
        fast_vlm,
        writes(hf.FastVlmForConditionalGeneration, ASK),
        ASK,
        size=(160, 160),
        mean=BLACK,
        near=2,
    ),
    KeptBack(
        "llava-hf/llava-interleave-qwen-0.5b-hf",
        partial(llava, "full", -1, encoder(SIGLIP, 84, 14, vision_use_head=False), 84),
        writes(hf.LlavaForConditionalGeneration, ASK),
        ASK,
        size=(84, 84),
    ),
    KeptBack(
        "a LLaVA with several layers of features and the class token",
        partial(llava, "full", [-2, 1], encoder(CLIP_L, 70, 14), 70),
        writes(hf.LlavaForConditionalGeneration, ASK),
        ASK,
        size=(70, 70),
        mean=OPENAI,
    ),
    KeptBack(
        "llava-hf/llava-v1.6-34b-hf",
        llava_next,
        writes(hf.LlavaNextForConditionalGeneration, ASK),
        ASK,
        size=(168, 56),
        mean=OPENAI,
        dtype=BF16,
    ),
    KeptBack(
        "OpenGVLab/InternVL3_5-2B-HF",
        internvl,
        writes(hf.InternVLForConditionalGeneration, ASK),
        ASK,
        size=(168, 112),
        mean=IMAGENET,
    ),
    KeptBack(
        "google/paligemma2-3b-mix-448",
        paligemma2,
        writes(hf.PaliGemmaForConditionalGeneration, "<image>answer en What is it?", template=False),
        "answer en What is it?",
        size=(112, 112),
    ),
    KeptBack("google/gemma-3-12b-it", gemma3, writes(hf.Gemma3ForConditionalGeneration, ASK), ASK, size=(112, 112)),
    KeptBack(
        "Salesforce/blip-vqa-capfilt-large",
        blip_vqa,
        writes(hf.BlipForQuestionAnswering, ASK, template=False),
        ASK,
        size=(112, 112),
        mean=OPENAI,
    ),
    KeptBack(
        "google/siglip2-so400m-patch16-512",
        siglip2,
        compares(hf.SiglipModel, padding="max_length", max_length=64),
        size=(128, 128),
        shard="40KB",
    ),
    KeptBack(
        "a fine-tuned clip-vit-large-patch14",
        partial(clip, 98, 14),
        compares(hf.CLIPModel, padding=True),
        size=(98, 98),
        mean=OPENAI,
        dtype=BF16,
    ),
    KeptBack(
        "a clip-vit-base-patch16 with an old end token",
        partial(clip, 80, 16, eos_token_id=2),
        compares(hf.CLIPModel, padding=True),
        size=(120, 80),
        mean=OPENAI,
    ),
    KeptBack(
        "google/owlv2-large-patch14-ensemble",
        owlv2,
        detects(hf.Owlv2ForObjectDetection),
        size=(112, 112),
        mean=OPENAI,
        options={"score": "box"},
    ),
    KeptBack(
        "CIDAS/clipseg-rd16",
        clipseg,
        compares(hf.CLIPSegForImageSegmentation, "clip", padding=True),
        size=(112, 112),
        mean=IMAGENET,
    ),
    KeptBack("a ViT of skin lesions", vit, classifies(1), caption="melanoma", size=(96, 96)),
    KeptBack("timm/vit_tiny_patch16_reg2", timm_vit, classifies(3), caption="kind 3", size=(96, 96)),
]
