"""Tiny random models of many transformers families, saved as folders with a word tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

WORDS = [*"abcdefghij", "the", "cat", "dog", "sat", "on", "mat", ".", ",", "and", "then"]


@dataclass(frozen=True)
class Family:
    architecture: str
    block_path: str
    final_norm: str | None  # path from the model that LanguageModel holds; None: no such norm
    attn: str  # paths within a block
    mlp: str
    post_norm: tuple[str, str] | None = None  # the norms after attention and after the MLP
    options: tuple[tuple[str, Any], ...] = ()


LLAMA = Family("Llama", "model.layers", "model.norm", "self_attn", "mlp")
BERT_PARTS = ("attention.output.dense", "output.dense")
BERT_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
KEY_VALUES = (("num_key_value_heads", 2),)
WITH_HEADS = (*KEY_VALUES, ("head_dim", 8))

FAMILIES = {
    "gpt2": Family("GPT2", "transformer.h", "transformer.ln_f", "attn", "mlp"),
    "gpt_neox": Family(
        "GPTNeoX", "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "mlp"
    ),
    "gpt_neox serial": Family(
        "GPTNeoX",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "attention",
        "mlp",
        options=(("use_parallel_residual", False),),
    ),
    "llama": LLAMA,
    "mistral": Family(
        "Mistral", "model.layers", "model.norm", "self_attn", "mlp", options=KEY_VALUES
    ),
    "qwen2": Family("Qwen2", "model.layers", "model.norm", "self_attn", "mlp", options=KEY_VALUES),
    "qwen3": Family("Qwen3", "model.layers", "model.norm", "self_attn", "mlp", options=WITH_HEADS),
    "gemma": Family("Gemma", "model.layers", "model.norm", "self_attn", "mlp", options=WITH_HEADS),
    "gemma2": Family(
        "Gemma2",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        options=WITH_HEADS,
    ),
    "gemma3_text": Family(
        "Gemma3",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        options=WITH_HEADS,
    ),
    "opt": Family(
        "OPT", "model.decoder.layers", "model.decoder.final_layer_norm", "self_attn", "fc2"
    ),
    "opt post-norm": Family(
        "OPT",
        "model.decoder.layers",
        None,
        "self_attn",
        "fc2",
        post_norm=("self_attn_layer_norm", "final_layer_norm"),
        options=(("do_layer_norm_before", False),),
    ),
    "openai-gpt": Family(
        "OpenAIGPT", "transformer.h", None, "attn", "mlp", post_norm=("ln_1", "ln_2")
    ),
    "bert": Family("Bert", "encoder.layer", None, *BERT_PARTS, post_norm=BERT_NORMS),
    "roberta": Family("Roberta", "encoder.layer", None, *BERT_PARTS, post_norm=BERT_NORMS),
    "distilbert": Family(
        "DistilBert",
        "transformer.layer",
        None,
        "attention",
        "ffn",
        post_norm=("sa_layer_norm", "output_layer_norm"),
    ),
    # Families that the package says nothing about by name.
    "falcon": Family("Falcon", "transformer.h", "transformer.ln_f", "self_attention", "mlp"),
    "gptj": Family("GPTJ", "transformer.h", "transformer.ln_f", "attn", "mlp"),
    "mixtral": Family(
        "Mixtral", "model.layers", "model.norm", "self_attn", "mlp", options=KEY_VALUES
    ),
    "olmo2": Family(
        "Olmo2",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
    ),
    "modernbert": Family("ModernBert", "layers", "final_norm", "attn", "mlp"),
}
CAUSAL = [name for name in FAMILIES if "bert" not in name]
N_LAYERS, D_MODEL = 3, 16


@cache
def _tokenizer_core(bos: str | None) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    if bos is not None:
        core.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A </s>", special_tokens=[(bos, vocabulary[bos]), ("</s>", 2)]
        )
    return core


def save_tokenizer(folder: Path, *, prepends: str | None = "<s>", declares: bool = True) -> None:
    """prepends: what the tokenizer puts first by itself; declares: whether it names a BOS."""
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    if declares:
        names["bos_token"] = "<s>"
    PreTrainedTokenizerFast(tokenizer_object=_tokenizer_core(prepends), **names).save_pretrained(
        folder
    )


def build(name: str, n_layers: int = N_LAYERS, seed: int = 0, **options: Any) -> Any:
    """A random model of the family, in eval mode, far enough from its initial state to compare."""
    import torch
    import transformers

    family = FAMILIES[name]
    causal = name in CAUSAL
    config_class = getattr(
        transformers, family.architecture + ("TextConfig" if name == "gemma3_text" else "Config")
    )
    settings: dict[str, Any] = {
        "vocab_size": 4 + len(WORDS),
        "hidden_size": D_MODEL,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "rotary_dim": 4,  # GPT-J
        "word_embed_proj_dim": D_MODEL,  # OPT
    } | dict(family.options)
    wide = {"distilbert": "hidden_dim", "opt": "ffn_dim", "opt post-norm": "ffn_dim"}
    if name not in ("gpt2", "openai-gpt", "gptj", "falcon"):
        settings[wide.get(name, "intermediate_size")] = 24
    if name == "roberta":
        settings["pad_token_id"] = 0
        settings["max_position_embeddings"] = 33
    config = config_class(**settings, **options)
    suffix = (
        ("LMHeadModel" if name in ("gpt2", "openai-gpt") else "ForCausalLM")
        if causal
        else ("ForMaskedLM")
    )
    torch.manual_seed(seed)
    model = getattr(transformers, family.architecture + suffix)(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return model


def save(name: str, folder: Path, **options: Any) -> Path:
    """A folder as `save_pretrained` leaves it."""
    build(name, **options).save_pretrained(folder)
    save_tokenizer(folder)
    return folder
