"""Goodfire's SAEs of Llama 3.1 8B and 3.3 70B (January 2025): one PyTorch file each.

    acts = relu(x @ encoder_linear.weight.T + encoder_linear.bias)
    x̂    = acts @ decoder_linear.weight.T + decoder_linear.bias

as on their model cards. What they read is in the file's name, Llama-3.1-8B-Instruct-SAE-l19.pth:
what leaves that block (`model.layers.19`).
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch

from atlas.ingest.importing.formats.canonical import linear_pair, probe
from atlas.ingest.importing.formats.found import Format, Found, Source, Tensors
from atlas.sae import SaeWeights

_NAME = "goodfire"


def _detect(source: Source) -> list[Found]:
    return [
        _found(source, Tensors.of(path, values))
        for path, values in probe(source, "*.pt", "*.pth")
        if "encoder_linear.weight" in values
    ]


def _found(source: Source, tensors: Tensors) -> Found:
    d_sae, d_in = tensors.shape("encoder_linear.weight", 2)
    match = re.fullmatch(r"(.+)-SAE-l(\d+)\.pth?", tensors.path.name)
    place = (int(match[2]), "resid_post") if match else None
    missing = "Where it reads is said by the published file's name alone (…-SAE-l19.pth)."
    return Found(
        format=_NAME,
        why="encoder_linear.weight in a PyTorch file",
        place=source.place(tensors.path),
        model=match[1] if match else None,
        inputs=(place,) if place else None,
        outputs=(place,) if place else None,
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture="standard",
        declared={},
        conventions={"published": {}, "notes": [] if place else [missing]},
        load=partial(_load, tensors.path),
    )


def _load(path: Path) -> SaeWeights:
    tensors = Tensors.open(path)
    W_enc, b_enc, W_dec = linear_pair(tensors, "encoder_linear", "decoder_linear")
    sae = SaeWeights(
        architecture="standard",
        activation="relu",
        k=None,
        W_enc=W_enc,
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=tensors.take("decoder_linear.bias", W_enc.shape[0]),
        pre_bias=torch.zeros(W_enc.shape[0]),
        input_scale=1.0,
        output_scale=1.0,
    )
    tensors.done()
    return sae


FORMAT = Format(
    name=_NAME,
    summary="Goodfire's SAEs of Llama 3: standard",
    looks_for="a .pt or .pth with encoder_linear and decoder_linear",
    detect=_detect,
)
