"""Language models that know nothing: the floor of every claim about what training has put in one.

An SAE finds features in a model of random weights, too, and scores for them that are much like a
trained model's (Heap et al. 2025, arXiv 2501.17727): tokens alone have structure. What two trained
models share beyond what either shares with its randomised self is owed to their training.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from atlas.errors import BadInput

KINDS = {"shuffle": "shuffled", "init": "random"}
"""Ways of randomising a model, each with what is added to the model's name."""


@dataclass(frozen=True)
class Randomization:
    """How a model's weights become random.

    shuffle: the entries of every parameter trade places within it. Each matrix, embedding, bias and
        gain of a norm keeps the distribution that training gave it, and its norm; which entry is
        where, and so every direction, is lost.
    init: weights are drawn anew, as before the first step of training.

    Both leave the architecture, the tokenizer and whatever is no parameter (rotary frequencies,
    masks) as they are, and tied weights tied.
    """

    kind: str
    """A key of `KINDS`."""
    draw: int = 0
    """Which of the random models: its own seed, for several SAEs shall be able to read one."""

    def __str__(self) -> str:
        return f"{self.kind}={self.draw}"

    def name(self, model: str) -> str:
        """What the randomised `model` is called: 'gpt2-shuffled', and 'gpt2-shuffled-3' of draw 3.

        >>> Randomization("init", 3).name("gpt2")
        'gpt2-random-3'
        """
        return f"{model}-{KINDS[self.kind]}" + (f"-{self.draw}" if self.draw else "")

    def of(self, model: PreTrainedModel) -> PreTrainedModel:
        """The randomised model, float32 on the CPU as `model` is, which may be used up by it.

        The same on every machine, as long as torch and NumPy draw the same numbers.
        """
        return _shuffled(model, self.draw) if self.kind == "shuffle" else _drawn(model, self.draw)


def parse_randomization(text: str | None) -> Randomization | None:
    """'shuffle' or 'shuffle=3' → a Randomization; BadInput for anything else."""
    if text is None:
        return None
    match = re.fullmatch(rf"({'|'.join(KINDS)})(?:=(\d{{1,9}}))?", text.strip(), re.ASCII)
    if not match:
        raise BadInput(
            f"--randomize {text!r} is none of {', '.join(KINDS)}, with or without a number; write "
            "it as shuffle or shuffle=1."
        )
    return Randomization(match[1], int(match[2] or 0))


def _shuffled(model: PreTrainedModel, draw: int) -> PreTrainedModel:
    generator = np.random.default_rng(draw)
    # By name, for transformers may list modules in another order; tied weights come once.
    for _, weight in sorted(model.named_parameters()):
        entries = weight.detach().flatten().clone()  # loaded ones may lie in the mapped file
        generator.shuffle(entries.numpy())
        weight.data = entries.view(weight.shape)
    return model


def _drawn(model: PreTrainedModel, draw: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(draw)
        drawn: Any = type(model)(copy.deepcopy(model.config))
    return cast(PreTrainedModel, drawn.float())
