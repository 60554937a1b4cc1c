"""Language models as the atlas sees them: activations at hook points, losses, an unembedding.

    resid_pre(L)    what enters block L: Hugging Face's hidden_states[L]
    resid_post(L)   what leaves block L: hidden_states[L + 1] *before* the final norm, which
                    Hugging Face has already applied in the last entry of most models
    attn_out(L)     what attention adds to the residual stream in block L, biases and output
                    norms (Gemma 2 and 3) included
    mlp_out(L)      what the MLP adds, likewise
    resid_mid(L)    resid_pre + attn_out; no such place where the MLP reads beside attention
    mlp_in(L)       what the MLP reads: behind its norm, gain and bias included
    mlp_norm(L)     the same before gain and bias: (mlp_in - bias) / gain
    mlp_act(L)      what the MLP's last linear map reads: the neurons after the activation
                    function, in a gated MLP (Llama) times the other branch; (d_mlp,)
    attn_z(L)       what attention's output map reads: the heads' results side by side;
                    (n_heads * d_head,), which in Gemma and Qwen 3 is not d_model

so that resid_post = resid_pre + attn_out + mlp_out in every pre-norm model, parallel residuals
(GPT-NeoX) included. Post-norm models (GPT-1, BERT and its kin, OPT-350m) normalise each sum:
resid_post = LN(LN(resid_pre + attn_out) + mlp_out), where attn_out and mlp_out are still the
sublayers' outputs as they enter the sums, and resid_mid = mlp_in is the inner LN's result.

`atlas.names` says what these are called elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from atlas.errors import BadInput
from atlas.ingest.models.blocks import Parts, find_blocks, find_parts
from atlas.ingest.models.checkpoint import hash_weights, input_embeddings, load_checkpoint, quiet
from atlas.ingest.models.hooks import Site, Tap, capture, repeated, spliced
from atlas.ingest.models.randomize import Randomization
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.models.sublayers import ABSENT, affine, find_taps
from atlas.ingest.text.contexts import Batch
from atlas.names import check_model_name

_LOGITS_AT_ONCE = 1 << 25
"""Logits of one pass at a time while measuring losses: 128 MiB in float32, some four times held."""

_PROBED = 8
"""Tokens of a pass that finds out how a model is made."""

_FINAL_NORMS = ("ln_f", "final_layer_norm", "final_layernorm", "final_norm", "norm_f", "norm")
"""What the norm after the last block is called, beside the blocks."""


_ALWAYS = ("resid_pre", "resid_post", "attn_out", "mlp_out")
"""Hooks that a layer has if it has any of `atlas.ingest.models.sublayers`."""

_NO_MATTER = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Entries of a configuration that say where it came from, or how the weights are stored."""


class LanguageModel:
    """A transformers decoder or encoder, its tokenizer, and where its blocks are.

    Attributes:
        name: what the atlas calls it.
        source, revision: the hub id or folder it came from, and the hub's commit.
        randomized: how its weights were made random since; None where they are as they came.
        sha256: of its weight files, or of its weights if randomised.
        model: the transformers module, on `device`, in eval mode, without gradients.
        tokenizer: a fast tokenizer (it knows offsets).
        model_type: the family, as transformers names it ('llama').
        block_path: the module path of its blocks ('model.layers').
        n_layers, d_model, n_parameters: its size.
        is_causal: whether it predicts the next token, so that `loss` and `unembedding` make
            sense.
        bos_id: the id that begins every context, None if contexts begin bare. It is what the
            tokenizer itself prepends ([CLS] for BERT); failing that, the beginning-of-sequence
            token that the tokenizer of a causal model declares. GPT-2 and Pythia are of this
            second kind: their first position is an attention sink whose activations are tens
            of times longer than all others, and BOS puts that on a position which is not
            counted.
        pad_id: an id to fill padding with; never attended to.
        max_context: the most tokens of text in one context (BOS not among them), None if
            unlimited.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        source: str,
        is_causal: bool,
        revision: str | None = None,
        randomized: Randomization | None = None,
        sha256: str | None = None,
        block_path: str | None = None,
    ) -> None:
        self.name = check_model_name(name)
        self.source = source
        self.revision = revision
        self.randomized = randomized
        self.sha256 = sha256 or hash_weights(model)
        self.model = model
        self.tokenizer = tokenizer
        self.is_causal = is_causal
        self._config: Any = model.config.get_text_config()
        self._config.use_cache = False  # keys and values are of no use after the pass
        self.model_type: str = model.config.model_type
        depth = getattr(self._config, "num_hidden_layers", None)
        self.block_path, self._blocks = find_blocks(model, depth, block_path)
        self.n_layers = len(self._blocks)
        self.d_model: int = self._config.hidden_size
        self.n_parameters = sum(weight.numel() for weight in model.parameters())
        self.device = next(model.parameters()).device
        self._n_embeddings = len(input_embeddings(model))
        self.bos_id = _bos_id(tokenizer, is_causal, self._n_embeddings)
        self.pad_id = self._pick_pad_id()
        self._positions = _positions(model, self._config)
        self.max_context = self._positions and self._positions - (self.bos_id is not None)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        name: str | None = None,
        revision: str | None = None,
        randomized: Randomization | None = None,
        device: str = "auto",
        block_path: str | None = None,
    ) -> LanguageModel:
        """Load a hub id or a local folder; float32 on the CPU, bfloat16 on CUDA.

        name: what the atlas shall call it; by default the last part of `source`.
        randomized: makes the weights random once they are read.
        device: 'auto' takes CUDA where there is one; or 'cpu', 'cuda', 'cuda:1'.
        block_path: where the blocks are, if they are not found.

        Raises BadInput for whatever cannot be read exactly as it was trained: files missing or
        corrupt, weights absent, left over, NaN or infinite, no fast tokenizer, a tokenizer with
        more ids than embeddings, blocks that cannot be found.
        """
        source = str(source)
        checkpoint = load_checkpoint(source, revision, pick_device(device), randomized)
        model = cls(
            checkpoint.model,
            checkpoint.tokenizer,
            name=name or Path(source).expanduser().resolve().name,
            source=source,
            is_causal=checkpoint.is_causal,
            revision=checkpoint.revision,
            randomized=randomized,
            sha256=checkpoint.sha256,
            block_path=block_path,
        )
        model._refuse_leftovers(checkpoint.unexpected)
        return model

    def config_sha256(self) -> str:
        """Hash of the configuration: of what differs from its family's defaults."""
        config = self.model.config.to_diff_dict()
        told = {key: value for key, value in config.items() if key not in _NO_MATTER}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def width(self, point: HookPoint) -> int:
        """The length of the activations at `point`; BadInput if the model has no such point."""
        return self._tap(point).width

    def check_context(self, context: int) -> None:
        """Raise BadInput unless contexts of `context` tokens of text fit the model."""
        if context < 1:
            raise BadInput(f"--context {context} holds no token; give 1 or more.")
        if self.max_context is not None and context > self.max_context:
            bos = " after its first token" if self.bos_id is not None else ""
            raise BadInput(
                f"--context {context} is more than {self.name} can read{bos}; "
                f"give {self.max_context} or less."
            )

    def run(
        self,
        batch: Batch,
        points: Sequence[HookPoint],
        splice: Mapping[HookPoint, Callable[[Tensor], Tensor]] | None = None,
    ) -> list[Tensor]:
        """Activations at each point: float32 (n_keep, width), kept positions in row-major order.

        One forward pass serves all points and ends at the last of them. The tensors are on
        `device`, own their memory and need no gradient. splice: as in `log_probs`; what is read at
        such a point is what took the activations' place.
        """
        if not points:
            return []
        taps = {point: self._tap(point) for point in points}
        replaced = {self._tap(point): function for point, function in (splice or {}).items()}
        kept = self._kept(batch.keep)
        with spliced(replaced, kept):
            found = capture(
                lambda: self._forward(batch.input_ids, batch.attention_mask), taps, kept
            )
        return [found[point] for point in points]

    @contextmanager
    def repeating(self, at: HookPoint, points: Sequence[HookPoint]) -> Iterator[None]:
        """Within the context, passes over one batch after the first begin shortly before `at`.

        For passes that differ in what is spliced at `at` and are read at `points`, which is all
        that they give. The blocks before are computed once, if the model is one whose later blocks
        see nothing of earlier ones but the residual stream; else in every pass, as without this.
        """
        end = min([at.layer + (at.hook == "resid_post"), *(point.layer for point in points)])
        with ExitStack() as stack:
            if end > 0 and self._goes_by_blocks:
                stack.enter_context(repeated(self._blocks[:end]))
            yield

    def loss(
        self,
        batch: Batch,
        splice: Mapping[HookPoint, Callable[[Tensor], Tensor]] | None = None,
    ) -> tuple[Tensor, int]:
        """Sum of the next-token losses in nats (float64 scalar), and over how many tokens.

        splice and errors: as in `log_probs`. The rows of a batch may come in several calls.
        """
        total, count = torch.zeros((), dtype=torch.float64, device=self.device), 0
        for part in self.divide(batch):
            log_probs, targets = self.log_probs(part, splice)
            total -= log_probs.gather(1, targets[:, None]).sum(dtype=torch.float64)
            count += len(targets)
        return total, count

    def log_probs(
        self,
        batch: Batch,
        splice: Mapping[HookPoint, Callable[[Tensor], Tensor]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of next tokens, float32 (n, n_vocab), and which came, int64 (n,).

        Every kept token but the first of a context without BOS is predicted from those before
        it. splice: replaces the activations at a point by a function of them, float32
        (n, width) to the same shape, at kept positions only: BOS stays as the model made it.
        The batch is held as a whole; see `divide`. The result is differentiable by what the
        functions of `splice` return.

        Raises BadInput for a model that does not predict the next token.
        """
        if not self.is_causal:
            raise BadInput(f"{self.name} ({self.model_type}) does not predict the next token.")
        taps = {self._tap(point): function for point, function in (splice or {}).items()}
        with spliced(taps, self._kept(batch.keep)):
            logits = self._forward(batch.input_ids, batch.attention_mask).logits
        counted = torch.from_numpy(batch.keep[:, 1:]).to(self.device)
        targets = torch.from_numpy(batch.input_ids[:, 1:]).to(self.device)[counted]
        return logits[:, :-1][counted].float().log_softmax(1), targets

    def divide(self, batch: Batch) -> Iterator[Batch]:
        """The batch in parts of so many contexts that their logits can be held; one at least."""
        rows, length = batch.input_ids.shape
        step = max(1, _LOGITS_AT_ONCE // (length * self._n_embeddings))
        ends = batch.keep.sum(axis=1).cumsum()
        for start in range(0, rows, step):
            part = slice(start, start + step)
            kept = slice(ends[start - 1] if start else 0, ends[part][-1])
            yield Batch(
                batch.input_ids[part],
                batch.attention_mask[part],
                batch.keep[part],
                batch.token[kept],
            )

    def unembedding(self) -> tuple[Tensor, Tensor] | None:
        """(W_U, gain) for a logit lens, float32: direction d raises the logits by (gain·d) W_U.

        W_U is (d_model, n_vocab), a view of the model's own weights where those are float32;
        gain (d_model,) is the factor of the final norm, ones where there is no such norm. None
        where logits are no linear function of the normalised residual stream: no head, a
        nonlinear one (BERT), or one of another width (OPT-350m).
        """
        model: Any = self.model
        head = model.get_output_embeddings() if self.is_causal else None
        if not isinstance(head, nn.Linear) or head.in_features != self.d_model:
            return None
        around = model.get_submodule(self.block_path.rpartition(".")[0])
        norms = [getattr(around, name, None) for name in _FINAL_NORMS]
        norm = next((norm for norm in norms if isinstance(norm, nn.Module)), None)
        gain = torch.ones(self.d_model) if norm is None else affine(norm, self.d_model)[0]
        return head.weight.float().T, gain.to(self.device)

    def _check(self, point: HookPoint) -> None:
        if point.model not in ("", self.name):
            raise ValueError(f"{point} is no point of {self.name}")
        if not 0 <= point.layer < self.n_layers:
            raise BadInput(
                f"{self.name} has no layer {point.layer}; its layers are 0 to {self.n_layers - 1}."
            )

    def _tap(self, point: HookPoint) -> Tap:
        self._check(point)
        if point.hook in ("resid_pre", "resid_post"):
            side: Literal["input", "output"] = "input" if point.hook == "resid_pre" else "output"
            return Tap((Site(self._blocks[point.layer], side),), self.d_model)
        if point.hook in ("attn_out", "mlp_out"):
            parts = self._parts[point.layer]
            module = parts.attn if point.hook == "attn_out" else parts.mlp
            return Tap((Site(module, "output"),), self.d_model)
        taps = self._taps[point.layer]
        if point.hook not in taps:
            raise BadInput(
                f"{self.name} ({self.model_type}) has no {point.hook} in layer {point.layer}, "
                f"since {ABSENT[point.hook]}; use {', '.join(_ALWAYS)} or {', '.join(taps)}."
            )
        return taps[point.hook]

    @cached_property
    def _parts(self) -> list[Parts]:
        return find_parts(self._blocks, self._config, self._probe)

    @cached_property
    def _taps(self) -> list[dict[str, Tap]]:
        return find_taps(self._blocks, self._parts, self._probe)

    @cached_property
    def _goes_by_blocks(self) -> bool:
        """Whether the last block gives the same where those before give their last one's output."""
        if self.n_layers < 2 or len(set(self._blocks)) < self.n_layers:
            return False
        last = {0: Tap((Site(self._blocks[-1], "output"),), self.d_model)}
        keep = torch.arange(min(_PROBED, self._n_embeddings), device=self.device)
        with repeated(self._blocks[:-1]):
            try:
                first, second = (capture(self._probe, last, keep)[0] for _ in range(2))
            except Exception:  # Whatever a model says to blocks that did not run.
                return False
        return torch.equal(first, second)

    def _probe(self) -> None:
        ids = np.arange(min(_PROBED, self._n_embeddings), dtype=np.int64)[None]
        self._forward(ids, np.ones_like(ids, dtype=bool))

    def _forward(self, ids: NDArray[np.int64], attended: NDArray[np.bool_]) -> Any:
        if self._positions is not None and ids.shape[1] > self._positions:
            raise BadInput(
                f"a context of {ids.shape[1]} places is more than {self.name} can read "
                f"({self._positions}); give a smaller --context."
            )
        # Without padding no mask is needed, and attention has a faster path.
        mask = None if attended.all() else torch.from_numpy(attended).to(self.device).long()
        with quiet():
            return self.model(input_ids=torch.from_numpy(ids).to(self.device), attention_mask=mask)

    def _kept(self, keep: NDArray[np.bool_]) -> Tensor:
        """Row-major indices of the kept positions, i64 (n_keep,) on the device."""
        return torch.from_numpy(np.flatnonzero(keep)).to(self.device)

    def _pick_pad_id(self) -> int:
        choices = (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        return next((i for i in choices if i is not None and i < self._n_embeddings), 0)

    def _refuse_leftovers(self, unexpected: frozenset[str]) -> None:
        """Refuse a checkpoint that holds more of the blocks than the model was built with.

        Old checkpoints also hold buffers that are computed nowadays; those are no loss.
        """
        buffers = [name.split(".") for name, _ in self.model.named_buffers()]
        computed = tuple("." + ".".join(parts[-2:]) for parts in buffers)
        inside = re.compile(rf"(^|\.){re.escape(self.block_path.rpartition('.')[2])}\.\d+\.")
        left = sorted(
            name for name in unexpected if inside.search(name) and not name.endswith(computed)
        )
        if left:
            raise BadInput(
                f"{self.source} holds weights that its configuration has no place for, such as "
                f"{left[0]}; correct its config.json (number of layers, biases)."
            )


def pick_device(device: str) -> torch.device:
    """'auto' is CUDA where there is one, else the CPU; BadInput for one that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise BadInput(
            f"--device {device} is not usable on this machine; use auto, cpu or cuda."
        ) from error


def _bos_id(tokenizer: PreTrainedTokenizerBase, is_causal: bool, n_embeddings: int) -> int | None:
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    if bare and len(full) > len(bare) and full[: len(bare)] != bare:
        return int(full[0])
    declared = tokenizer.bos_token_id
    return declared if is_causal and declared is not None and declared < n_embeddings else None


def _positions(model: Any, config: Any) -> int | None:
    """How many positions the model can number, None where the configuration sets no limit."""
    for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        limit = getattr(config, name, None)
        if isinstance(limit, int) and limit > 0:
            break
    else:
        return None
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return limit - int(padding) - 1  # RoBERTa numbers its positions from beyond it
    return limit
