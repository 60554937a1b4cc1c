"""Train the tiny language models that the demo ships, and write their model cards.

    python tools/train_demo_models.py [--only NAME] [--out FOLDER] [--steps N] [--threads N]

Text, tokenizers, initial weights and the order of training are all fixed, so that the same Python
library, torch, processor and number of threads give the same files. Each of the three took ten
minutes of one core of an AMD EPYC server; no accelerator is used. Needs torch 2.9 or later (Muon).
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # before the import; merges are counted in order
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from atlas.demo import models_folder
from atlas.demo.text import documents

END, PADDING, UNKNOWN = "<|endoftext|>", "<|padding|>", "<unk>"
END_ID, PADDING_ID = 0, 1
CONTEXT = 256  # tokens, the first of which is END
BATCH = 4  # contexts; at this size more steps gain more than smoother ones
HIDDEN_RATE = 0.01  # Muon, on the matrices of the blocks
EMBEDDING_RATE = 0.02  # AdamW, on embeddings, norms and biases
WEIGHT_DECAY = 0.1
WARM_UP = 100  # steps; then linear decay to zero
CLIP = 1.0

Log = Callable[[str], None]


@dataclass(frozen=True)
class Recipe:
    """What makes one model."""

    name: str
    seed: int
    tokenizer: Callable[[Sequence[str]], Tokenizer]
    model: Callable[[int], PreTrainedModel]  # from the vocabulary's size
    about: str  # the architecture in words, for its card
    about_tokenizer: str


def byte_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Byte-level BPE with 2,048 tokens, split into words as GPT-2's is."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=[END, PADDING],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, texts)


def character_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """BPE over characters with 1,024 tokens: single digits, line breaks with their indentation."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    pieces = Regex(r"\n *| ?[^\W\d_]+|\d|_| ?[^\w\s]+| +|\s")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=[END, PADDING, UNKNOWN], show_progress=False
    )
    return _trained(tokenizer, trainer, texts)


def _trained(tokenizer: Tokenizer, trainer: trainers.Trainer, texts: Sequence[str]) -> Tokenizer:
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, END_ID)]
    )
    return tokenizer


def llama(vocabulary: int) -> PreTrainedModel:
    """Rotary positions, RMS norms, gated SiLU; input and output embeddings tied."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=END_ID,
            eos_token_id=END_ID,
            pad_token_id=PADDING_ID,
        )
    )


def gpt2(vocabulary: int) -> PreTrainedModel:
    """Learned positions, layer norms, GELU; input and output embeddings tied."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_embd=128,
            n_layer=4,
            n_head=4,
            n_positions=CONTEXT,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=END_ID,
            eos_token_id=END_ID,
            pad_token_id=PADDING_ID,
        )
    )


_LLAMA = "Llama: 4 layers, d_model 128, 4 heads, gated MLP of width 352, tied embeddings"
_GPT2 = (
    "GPT-2: 4 layers, d_model 128, 4 heads, MLP of width 512, learned positions, tied embeddings"
)
_BYTES = "byte-level BPE, 2,048 tokens"
_CHARACTERS = "BPE over characters, 1,024 tokens"
RECIPES = (
    Recipe("stdlib-a", 0, byte_tokenizer, llama, _LLAMA, _BYTES),
    Recipe("stdlib-b", 1, byte_tokenizer, llama, _LLAMA, _BYTES),
    Recipe("stdlib-gpt2", 0, character_tokenizer, gpt2, _GPT2, _CHARACTERS),
)


def stream(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """All texts as one row of token ids (int64), each after an END."""
    return torch.tensor([i for encoding in tokenizer.encode_batch(texts) for i in encoding.ids])


def batches(tokens: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches (BATCH, CONTEXT) of int64; each epoch cuts the stream at other places.

    Every context starts with END, wherever it was cut: the atlas shows models contexts like that.
    """
    width = CONTEXT - 1
    while True:
        offset = int(torch.randint(width, (), generator=generator))
        count = (len(tokens) - offset) // width
        rows = tokens[offset : offset + count * width].view(count, width)
        rows = nn.functional.pad(rows, (1, 0), value=END_ID)
        order = torch.randperm(count, generator=generator)
        for chosen in order[: count // BATCH * BATCH].split(BATCH):
            yield rows[chosen]


def optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices, rest = [], []
    for parameter in model.parameters():
        is_matrix = parameter.ndim == 2 and id(parameter) not in embeddings
        (matrices if is_matrix else rest).append(parameter)
    return [
        torch.optim.Muon(
            matrices,
            lr=HIDDEN_RATE,
            weight_decay=WEIGHT_DECAY,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(rest, lr=EMBEDDING_RATE, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def train(recipe: Recipe, tokens: Tensor, vocabulary: int, steps: int, log: Log) -> PreTrainedModel:
    """A model of `recipe` after `steps` steps on the stream `tokens`."""
    torch.manual_seed(recipe.seed)
    model = recipe.model(vocabulary).train()
    source = batches(tokens, torch.Generator().manual_seed(recipe.seed))
    chosen = optimizers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / WARM_UP, (steps - step) / (steps - WARM_UP), 1)
        )
        for optimizer in chosen
    ]
    start, smooth = time.monotonic(), math.nan
    for step in range(1, steps + 1):
        rows = next(source)
        logits = model(rows[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for optimizer, schedule in zip(chosen, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        smooth = loss.item() if step == 1 else 0.98 * smooth + 0.02 * loss.item()
        if step % 100 == 0:
            left = (time.monotonic() - start) / step * (steps - step)
            log(f"{recipe.name}: step {step} of {steps}, loss {smooth:.3f}, {left:.0f} s left")
    return model.eval()


@dataclass(frozen=True)
class Score:
    """Held-out prediction, of the same tokens by three models."""

    perplexity: float
    unigram: float
    bigram: float
    bits_per_character: float
    unigram_bits_per_character: float


def evaluate(model: PreTrainedModel, tokenizer: Tokenizer, seen: Tensor) -> Score:
    """Score `model` on the held-out documents.

    Contexts do not cross documents; each starts with END, which is not predicted. The unigram model
    is the smoothed frequency of each token in training (one added to each), the bigram model
    interpolates with it (Witten and Bell, 1991).

    seen: the stream trained on, for these two.
    """
    size = model.config.vocab_size
    texts = [text for _, text in documents(held_out=True)]
    counts = torch.bincount(seen, minlength=size).double() + 1
    unigram = counts / counts.sum()
    pairs = torch.bincount(seen[:-1] * size + seen[1:], minlength=size * size).double()
    pairs = pairs.view(size, size)  # first token, second token
    distinct = (pairs > 0).sum(1).double()
    distinct[distinct == 0] = 1  # never seen: the unigram model alone

    nll = unigram_nll = bigram_nll = 0.0
    tokens = 0
    with torch.inference_mode():
        for encoding in tokenizer.encode_batch(texts):
            ids = torch.tensor(encoding.ids[1:])
            before = torch.tensor(encoding.ids[:-1])
            tokens += len(ids)
            unigram_nll -= float(unigram[ids].log().sum())
            joint = (pairs[before, ids] + distinct[before] * unigram[ids]) / (
                pairs[before].sum(1) + distinct[before]
            )
            bigram_nll -= float(joint.log().sum())
            for window in ids.split(CONTEXT - 1):
                row = nn.functional.pad(window, (1, 0), value=END_ID)[None]
                logits = model(row[:, :-1]).logits[0].double()
                nll += float(nn.functional.cross_entropy(logits, row[0, 1:], reduction="sum"))
    characters = sum(map(len, texts))
    return Score(
        perplexity=math.exp(nll / tokens),
        unigram=math.exp(unigram_nll / tokens),
        bigram=math.exp(bigram_nll / tokens),
        bits_per_character=nll / math.log(2) / characters,
        unigram_bits_per_character=unigram_nll / math.log(2) / characters,
    )


def save(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write model (float16) and tokenizer as transformers' `from_pretrained` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    names = {"unk_token": UNKNOWN} if tokenizer.token_to_id(UNKNOWN) is not None else {}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        **names,
    ).save_pretrained(folder)


HEADER = """\
| model | parameters | tokenizer | held-out perplexity | unigram's | bigram's | bits a character |
|---|---|---|---|---|---|---|"""

CARD = """---
license: apache-2.0
language: en
library_name: transformers
---
# {name}

A tiny language model of Python's documentation, trained from scratch for this package's demo.

{header}
| {row} |

- **Architecture**: {about};
  contexts of {context} tokens; weights in float16.
- **Tokenizer**: {about_tokenizer}, trained on the same text. `<|endoftext|>` begins every
  document and every context; the tokenizer puts it there.
- **Text**: the help topics (`pydoc_data.topics`) and docstrings of Python {python}'s standard
  library, {characters:,} characters in {count:,} documents (`atlas/demo/text.py`; SHA-256 of the
  text {digest}…). Perplexity per token and bits per character are measured on
  {held_count} documents (a tenth, by a hash of their names) that were held out.
- **Training**: {steps:,} steps of {batch_tokens:,} tokens, {epochs:.1f} epochs; Muon for the
  blocks' matrices, AdamW for the rest; seed {seed}; {minutes:.0f} minutes of one core of a server's
  processor.
- **Made by**: `python tools/train_demo_models.py --only {name}`, torch {torch},
  transformers {transformers}.

It knows the phrases of reference manuals and no facts: it is there to have features looked at.
"""


def table_row(recipe: Recipe, parameters: int, score: Score) -> str:
    """One line of the table in the cards, without the outer bars."""
    return " | ".join(
        (
            recipe.name,
            f"{parameters / 1e6:.2f} M",
            recipe.about_tokenizer,
            f"{score.perplexity:.1f}",
            f"{score.unigram:.0f}",
            f"{score.bigram:.0f}",
            f"{score.bits_per_character:.2f} (unigram {score.unigram_bits_per_character:.2f})",
        )
    )


def sample(folder: Path, prompt: str, tokens: int = 60) -> str:
    """The most likely continuation of `prompt`, for looking at."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    given = tokenizer(prompt, return_tensors="pt")
    out = model.generate(
        input_ids=given.input_ids,
        attention_mask=given.attention_mask,
        max_new_tokens=tokens,
        do_sample=False,
        repetition_penalty=1.1,
    )
    return str(tokenizer.decode(out[0], skip_special_tokens=True))


def describe(recipe: Recipe, out: Path, tokens: Tensor, steps: int, minutes: float) -> str:
    """Score the saved model and write its card; its row of the table."""
    folder = out / recipe.name
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    score = evaluate(model, Tokenizer.from_file(str(folder / "tokenizer.json")), tokens)
    row = table_row(recipe, sum(p.numel() for p in model.parameters()), score)
    everything = [text for _, text in documents()]
    card = CARD.format(
        name=recipe.name,
        header=HEADER,
        row=row,
        about=recipe.about,
        about_tokenizer=recipe.about_tokenizer,
        context=CONTEXT,
        python=platform.python_version(),
        characters=sum(map(len, everything)),
        count=len(everything),
        digest=hashlib.sha256("\0".join(everything).encode()).hexdigest()[:12],
        held_count=sum(1 for _ in documents(held_out=True)),
        steps=steps,
        batch_tokens=BATCH * CONTEXT,
        epochs=steps * BATCH * CONTEXT / len(tokens),
        seed=recipe.seed,
        minutes=minutes,
        torch=torch.__version__,
        transformers=transformers.__version__,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    return row


def make(recipe: Recipe, out: Path, steps: int, log: Log) -> str:
    """Train, save and describe one model; its row of the table."""
    texts = [text for _, text in documents(held_out=False)]
    tokenizer = recipe.tokenizer(texts)
    tokens = stream(tokenizer, texts)
    log(f"{recipe.name}: {len(tokens):,} tokens to train on")
    start = time.process_time()
    model = train(recipe, tokens, tokenizer.get_vocab_size(), steps, log)
    minutes = (time.process_time() - start) / 60
    save(model, tokenizer, out / recipe.name)
    return describe(recipe, out, tokens, steps, minutes)


def main() -> None:
    """Train the chosen models, print their table and samples of what they write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=[r.name for r in RECIPES], help="train this one alone")
    parser.add_argument("--out", type=Path, default=models_folder(), help="folder of the models")
    parser.add_argument("--steps", type=int, default=3000, help=f"of {BATCH * CONTEXT} tokens")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.steps <= WARM_UP:
        parser.error(f"--steps must be more than the {WARM_UP} of the warm-up")
    torch.set_num_threads(chosen.threads)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for recipe in RECIPES:
        if chosen.only in (None, recipe.name):
            row = make(recipe, chosen.out, chosen.steps, log)
            print(f"{HEADER}\n| {row} |", flush=True)
            for prompt in ("Return a", "Raise", "The module", "    >>> "):
                log(repr(sample(chosen.out / recipe.name, prompt)))


if __name__ == "__main__":
    main()
