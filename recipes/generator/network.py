"""The network and its words: a LLaVA of 1.8 million parameters, whose patch encoder comes from the model ``scenes``."""

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from world import words

import nibt
from nibt.datasets.scenes import SIDE

PATCH, BLOCKS, WIDTH = 16, 6, 96
IMAGE, START, END, PAD, UNKNOWN = "<image>", "<s>", "</s>", "<pad>", "<unk>"
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}user : {% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image> {% else %}{{ content['text'] }} {% endif %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)


def processor(more: tuple[str, ...] = ()) -> LlavaProcessor:
    """Return the processor, whose tokens are words, and ``more`` of them at the end."""
    special = [PAD, UNKNOWN, START, END, IMAGE]
    vocabulary = {word: number for number, word in enumerate([*special, *words(), *more])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=START,
        eos_token=END,
        additional_special_tokens=[IMAGE],
    )
    size = {"height": SIDE, "width": SIDE}
    return LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size),
        fast,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=TEMPLATE,
        image_token=IMAGE,
        num_additional_image_tokens=1,
    )


def network(joint: LlavaProcessor) -> LlavaForConditionalGeneration:
    """Return the untrained generator; its patch encoder is the first half of the image tower of ``scenes``."""
    tokenizer = joint.tokenizer
    vision = CLIPVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=BLOCKS,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIDE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    trained = nibt.load_model("scenes").module.vision_model.state_dict()
    target = model.model.vision_tower
    inner = getattr(target, "vision_model", target)
    own = inner.state_dict()
    inner.load_state_dict({name: trained[name] for name in own})
    return model


MEAN, STD = OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
