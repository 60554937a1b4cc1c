"""Tiny random models of many transformers families, saved as folders with a word tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from atlas.names import HOOKS

WORDS = [*"abcdefghij", "the", "cat", "dog", "sat", "on", "mat", ".", ",", "and", "then"]


@dataclass(frozen=True)
class Family:
    architecture: str
    block_path: str
    final_norm: str | None  # path from the model that LanguageModel holds; None: no such norm
    attn: str  # paths within a block
    mlp: str
    inside: Inside
    post_norm: tuple[str, str] | None = None  # the norms after attention and after the MLP
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def hooks(self) -> tuple[str, ...]:
        """Those that its blocks have."""
        absent = {
            "mlp_norm": self.inside.norm is None,
            "mlp_act": self.inside.act is None,
            "resid_mid": self.inside.parallel,
        }
        return tuple(hook for hook in HOOKS if not absent.get(hook))


@dataclass(frozen=True)
class Inside:
    """Paths within a block; a parallel one has its MLP beside attention."""

    reads: str  # the module whose input the MLP reads
    norm: str | None  # whose output that is
    z: str  # attention's and the MLP's last linear maps
    act: str | None
    parallel: bool = False


def gated(norm: str | None) -> Inside:
    return Inside("mlp", norm, "self_attn.o_proj", "mlp.down_proj")


AFTER_ATTENTION = gated("post_attention_layernorm")
BEFORE_FEEDFORWARD = gated("pre_feedforward_layernorm")
LLAMA = Family("Llama", "model.layers", "model.norm", "self_attn", "mlp", AFTER_ATTENTION)
NEOX = Inside(
    "mlp", "post_attention_layernorm", "attention.dense", "mlp.dense_4h_to_h", parallel=True
)
OPT = Inside("fc1", "final_layer_norm", "self_attn.out_proj", "fc2")
GPT2 = Inside("mlp", "ln_2", "attn.c_proj", "mlp.c_proj")
BERT = Inside(
    "intermediate", "attention.output.LayerNorm", "attention.output.dense", "output.dense"
)
BERT_PARTS = ("attention.output.dense", "output.dense")
BERT_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
KEY_VALUES = (("num_key_value_heads", 2),)
WITH_HEADS = (*KEY_VALUES, ("head_dim", 10))

FAMILIES = {
    "gpt2": Family("GPT2", "transformer.h", "transformer.ln_f", "attn", "mlp", GPT2),
    "gpt_neox": Family(
        "GPTNeoX", "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "mlp", NEOX
    ),
    "gpt_neox serial": Family(
        "GPTNeoX",
        "gpt_neox.layers",
        "gpt_neox.final_layer_norm",
        "attention",
        "mlp",
        replace(NEOX, parallel=False),
        options=(("use_parallel_residual", False),),
    ),
    "llama": LLAMA,
    "mistral": replace(LLAMA, architecture="Mistral", options=KEY_VALUES),
    "qwen2": replace(LLAMA, architecture="Qwen2", options=KEY_VALUES),
    "qwen3": replace(LLAMA, architecture="Qwen3", options=WITH_HEADS),
    "gemma": replace(LLAMA, architecture="Gemma", options=WITH_HEADS),
    "gemma2": Family(
        "Gemma2",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        BEFORE_FEEDFORWARD,
        options=WITH_HEADS,
    ),
    "gemma3_text": Family(
        "Gemma3",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        BEFORE_FEEDFORWARD,
        options=WITH_HEADS,
    ),
    "opt": Family(
        "OPT", "model.decoder.layers", "model.decoder.final_layer_norm", "self_attn", "fc2", OPT
    ),
    "opt post-norm": Family(
        "OPT",
        "model.decoder.layers",
        None,
        "self_attn",
        "fc2",
        replace(OPT, norm="self_attn_layer_norm"),
        post_norm=("self_attn_layer_norm", "final_layer_norm"),
        options=(("do_layer_norm_before", False),),
    ),
    "openai-gpt": Family(
        "OpenAIGPT",
        "transformer.h",
        None,
        "attn",
        "mlp",
        replace(GPT2, norm="ln_1"),
        post_norm=("ln_1", "ln_2"),
    ),
    "bert": Family("Bert", "encoder.layer", None, *BERT_PARTS, BERT, post_norm=BERT_NORMS),
    "roberta": Family("Roberta", "encoder.layer", None, *BERT_PARTS, BERT, post_norm=BERT_NORMS),
    "distilbert": Family(
        "DistilBert",
        "transformer.layer",
        None,
        "attention",
        "ffn",
        Inside("ffn", "sa_layer_norm", "attention.out_lin", "ffn.lin2"),
        post_norm=("sa_layer_norm", "output_layer_norm"),
    ),
    # Families that the package says nothing about by name.
    "falcon": Family(
        "Falcon",
        "transformer.h",
        "transformer.ln_f",
        "self_attention",
        "mlp",
        Inside(
            "mlp", "input_layernorm", "self_attention.dense", "mlp.dense_4h_to_h", parallel=True
        ),
    ),
    "gptj": Family(
        "GPTJ",
        "transformer.h",
        "transformer.ln_f",
        "attn",
        "mlp",
        Inside("mlp", "ln_1", "attn.out_proj", "mlp.fc_out", parallel=True),
    ),
    "mixtral": replace(
        LLAMA, architecture="Mixtral", inside=replace(AFTER_ATTENTION, act=None), options=KEY_VALUES
    ),
    "olmo2": Family(
        "Olmo2",
        "model.layers",
        "model.norm",
        "post_attention_layernorm",
        "post_feedforward_layernorm",
        gated(None),
    ),
    "modernbert": Family(
        "ModernBert",
        "layers",
        "final_norm",
        "attn",
        "mlp",
        Inside("mlp", "mlp_norm", "attn.Wo", "mlp.Wo"),
    ),
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
