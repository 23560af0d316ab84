"""Write a small LLaVA of Transformers as the two GGUF files that llama.cpp serves.

The decoder must be a Llama, the tower one of CLIP or SigLIP, and a token a word. Everything is written in float32.
"""

import json

import gguf
import numpy as np

TEMPLATE = (  # the server hands images over as parts of the type media_marker, or as text inside of a string
    "{% for message in messages %}{% if message['role'] == 'user' %}user : {% if message['content'] is string %}"
    "{{ message['content'] }} {% else %}{% for content in message['content'] %}{{ content['text'] }} {% endfor %}"
    "{% endif %}{% elif message['role'] == 'assistant' %}assistant : {{ message['content'] }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
DECODER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOWER = {
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
"""The names of GGUF and of Transformers for the tensors of a block."""


def write(model, processor, folder):
    """Write ``text.gguf`` and ``mmproj.gguf`` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: array(tensor) for name, tensor in model.state_dict().items()}
    write_decoder(model.config, processor, weights, folder / "text.gguf")
    write_tower(model.config, processor, weights, folder / "mmproj.gguf")


def array(tensor):
    return np.ascontiguousarray(tensor.detach().float().numpy())


def write_decoder(config, processor, weights, path):
    text = config.text_config
    heads = text.num_attention_heads
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("llava")
    writer.add_context_length(text.max_position_embeddings)
    writer.add_vocab_size(text.vocab_size)
    writer.add_embedding_length(text.hidden_size)
    writer.add_block_count(text.num_hidden_layers)
    writer.add_feed_forward_length(text.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(text.num_key_value_heads)
    writer.add_layer_norm_rms_eps(text.rms_norm_eps)
    writer.add_rope_dimension_count(text.head_dim)
    writer.add_key_length(text.head_dim)
    writer.add_value_length(text.head_dim)
    writer.add_rope_freq_base(text.rope_parameters["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    write_tokenizer(writer, config, processor.tokenizer)

    writer.add_tensor("token_embd.weight", weights["model.language_model.embed_tokens.weight"])
    writer.add_tensor("output_norm.weight", weights["model.language_model.norm.weight"])
    writer.add_tensor("output.weight", weights["lm_head.weight"])
    for layer in range(text.num_hidden_layers):
        for name, own in DECODER.items():
            weight = weights[f"model.language_model.layers.{layer}.{own}.weight"]
            if name in ("attn_q", "attn_k"):
                weight = in_pairs(weight, heads if name == "attn_q" else text.num_key_value_heads)
            writer.add_tensor(f"blk.{layer}.{name}.weight", weight)
    finish(writer)


def in_pairs(weight, heads):
    """Return rows in the order of llama.cpp's rotary embedding, which turns neighbors; Transformers turns halves."""
    halves = weight.reshape(heads, 2, len(weight) // heads // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def write_tokenizer(writer, config, tokenizer):
    """Write a tokenizer of whole words as a WordPiece tokenizer that has no pieces inside of words."""
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    assert facts["model"]["type"] == "WordLevel"
    special = {token["content"]: token["id"] for token in facts["added_tokens"]}
    vocabulary = facts["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    unknown = facts["model"]["unk_token"]

    writer.add_tokenizer_model("bert")
    writer.add_token_list([word if word in special else "\u2581" + word for word in words])
    writer.add_token_types([token_type(word, unknown, special) for word in words])
    text = config.text_config
    writer.add_bos_token_id(text.bos_token_id)
    writer.add_eos_token_id(text.eos_token_id)
    writer.add_pad_token_id(text.pad_token_id)
    writer.add_unk_token_id(special[unknown])
    writer.add_sep_token_id(text.eos_token_id)  # llama.cpp takes those of BERT where these are left out
    writer.add_mask_token_id(config.image_token_index)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_add_sep_token(False)
    writer.add_chat_template(TEMPLATE)


def token_type(word, unknown, special):
    if word == unknown:
        return gguf.TokenType.UNKNOWN
    return gguf.TokenType.CONTROL if word in special else gguf.TokenType.NORMAL


def write_tower(config, processor, weights, path):
    tower = config.vision_config
    prepare = processor.image_processor
    layers = tower.num_hidden_layers
    chosen = config.vision_feature_layer
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_string("general.type", "mmproj")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", True)
    writer.add_uint32("clip.vision.image_size", tower.image_size)
    writer.add_uint32("clip.vision.patch_size", tower.patch_size)
    writer.add_uint32("clip.vision.embedding_length", tower.hidden_size)
    writer.add_uint32("clip.vision.feed_forward_length", tower.intermediate_size)
    writer.add_uint32("clip.vision.projection_dim", config.text_config.hidden_size)
    writer.add_uint32("clip.vision.block_count", layers)
    writer.add_uint32("clip.vision.attention.head_count", tower.num_attention_heads)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", tower.layer_norm_eps)
    writer.add_array("clip.vision.image_mean", list(prepare.image_mean))
    writer.add_array("clip.vision.image_std", list(prepare.image_std))
    # without this entry, llama.cpp leaves the last block out
    writer.add_array("clip.vision.feature_layer", [chosen if chosen >= 0 else layers + 1 + chosen])

    for name, weight in tower_tensors(weights, layers):
        writer.add_tensor(name, weight)
    finish(writer)


def tower_tensors(weights, layers):
    """The tensors of the tower and of the projector by their names in GGUF.

    The norm after the last block is left out, since Transformers does not apply it to the states that LLaVA takes.
    """
    tower = "model.vision_tower."
    embeddings = tower + "embeddings."
    names = {
        "v.class_embd": embeddings + "class_embedding",
        "v.patch_embd.weight": embeddings + "patch_embedding.weight",
        "v.patch_embd.bias": embeddings + "patch_embedding.bias",
        "v.position_embd.weight": embeddings + "position_embedding.weight",
    }
    blocks = {"v.pre_ln": tower + "pre_layrnorm"}
    for layer in range(layers):
        blocks |= {f"v.blk.{layer}.{name}": f"{tower}encoder.layers.{layer}.{own}" for name, own in TOWER.items()}
    blocks |= {f"mm.{place}": f"model.multi_modal_projector.linear_{place // 2 + 1}" for place in (0, 2)}
    for name, own in blocks.items():
        names |= {f"{name}.{part}": f"{own}.{part}" for part in ("weight", "bias")}
    # a tower of SigLIP has no class token and no norm before its blocks, and one of CLIP no bias of patches
    return [(name, weights[own]) for name, own in names.items() if own in weights]


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
