"""The loop that one would write by hand: a transformers model with hooks, TopK SAEs by autograd.

It reads contexts that are tokenised and packed beforehand, does not shuffle, revives no dead latent
and saves nothing; what it has in common with the ingest are the widths, the batches, the optimizer
and its rate. It computes with as many threads as torch is set to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text.contexts import Batch
from atlas.ingest.training.trainee import TrainConfig
from atlas.sae import SaeWeights


class BareSae(nn.Module):
    """A TopK SAE: dense encoder, `torch.topk`, decoder by `embedding_bag`."""

    def __init__(self, first: Tensor, config: TrainConfig) -> None:
        """first: activations (n, d) that give mean and scale."""
        super().__init__()
        d = first.shape[1]
        centre = first.mean(0)
        self.k = config.k
        self.scale = math.sqrt(d) / float((first - centre).norm(dim=1).mean())
        self.pre_bias = centre * self.scale
        W_dec = F.normalize(torch.randn(config.d_sae, d), dim=1)
        self.W_enc = nn.Parameter(W_dec.T.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(config.d_sae))
        self.W_dec = nn.Parameter(W_dec)
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.optimizer = torch.optim.Adam(self.parameters(), betas=(0.9, 0.99), fused=True)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h (n, d), and value and index (n, k) of its active latents."""
        h = x * self.scale - self.pre_bias
        value, index = torch.topk(h @ self.W_enc + self.b_enc, self.k, dim=1, sorted=False)
        return h, value.relu(), index

    def step(self, x: Tensor, rate: float) -> None:
        """One step of Adam on activations (n, d)."""
        h, value, index = self.encode(x)
        decoded = F.embedding_bag(index, self.W_dec, per_sample_weights=value, mode="sum")
        F.mse_loss(decoded + self.b_dec, h).backward()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            self.W_dec.copy_(F.normalize(self.W_dec, dim=1))

    def weights(self) -> SaeWeights:
        """The same SAE in the atlas's form."""
        return SaeWeights(
            architecture="topk",
            activation="topk",
            k=self.k,
            W_enc=self.W_enc.detach(),
            b_enc=self.b_enc.detach(),
            W_dec=self.W_dec.detach(),
            b_dec=self.b_dec.detach() + self.pre_bias,
            pre_bias=self.pre_bias,
            input_scale=self.scale,
            output_scale=self.scale,
        )


def train(
    model: LanguageModel,
    points: Sequence[HookPoint],
    contexts: Sequence[Batch],
    config: TrainConfig,
) -> list[BareSae]:
    """One SAE for each hook point, on as many steps as `contexts` have full batches of tokens."""
    saes: list[BareSae] = []
    tokens = 0
    waiting = [torch.empty(0, model.width(point)) for point in points]
    for found in activations(model, points, contexts):
        waiting = [torch.cat(pair) for pair in zip(waiting, found, strict=True)]
        while len(waiting[0]) >= config.batch_tokens:
            if not saes:
                saes = [BareSae(x, config) for x in waiting]
            for sae, x in zip(saes, waiting, strict=True):
                sae.step(
                    x[: config.batch_tokens],
                    config.moment(tokens).schedule * config.peak_rate(x.shape[1]),
                )
            waiting = [x[config.batch_tokens :] for x in waiting]
            tokens += config.batch_tokens
    return saes


@torch.no_grad()
def encode(
    model: LanguageModel,
    points: Sequence[HookPoint],
    contexts: Sequence[Batch],
    saes: Sequence[BareSae],
) -> list[list[tuple[Tensor, Tensor]]]:
    """Value and index of every token's active latents, for each SAE."""
    return [
        [sae.encode(x)[1:] for sae, x in zip(saes, found, strict=True)]
        for found in activations(model, points, contexts)
    ]


def activations(
    model: LanguageModel, points: Sequence[HookPoint], contexts: Sequence[Batch]
) -> Iterator[list[Tensor]]:
    """Residual stream after each point's block, (n, d), of the tokens that count."""
    blocks = model.model.get_submodule(model.block_path)
    found: dict[int, Tensor] = {}

    def keeper(layer: int) -> Callable[[nn.Module, object, Any], None]:
        def keep(_module: nn.Module, _args: object, output: Any) -> None:
            found[layer] = output if isinstance(output, Tensor) else output[0]

        return keep

    hooks = [blocks[p.layer].register_forward_hook(keeper(p.layer)) for p in points]
    for batch in contexts:
        with torch.no_grad():
            model.model.base_model(
                input_ids=torch.from_numpy(batch.input_ids),
                attention_mask=torch.from_numpy(batch.attention_mask).long(),
                use_cache=False,
            )
        keep = torch.from_numpy(batch.keep)
        yield [found[point.layer][keep] for point in points]
    for hook in hooks:
        hook.remove()
