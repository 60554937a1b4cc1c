"""Qwen Scope (Qwen, 2026, arXiv 2605.11887): layer{n}.sae.pt, one TopK SAE for each block.

    acts = top k of x @ W_enc.T + b_enc          W_enc (d_sae, d_model); no pre-bias, no ReLU
    x̂    = acts @ W_dec.T + b_dec                W_dec (d_model, d_sae)

as on the model cards, which read what leaves the block. k and the model are said by the name of
the repository alone, SAE-Res-Qwen3-1.7B-Base-W32K-L0_50.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import torch

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import SIGNED_TOPK, checked_k
from atlas.ingest.importing.formats.found import Format, Found, Source, Tensors
from atlas.sae import SaeWeights

_NAME = "qwen-scope"


def _detect(source: Source) -> list[Found]:
    return [_found(source, path) for path in source.matching("layer*.sae.pt")]


def _found(source: Source, path: Path) -> Found:
    layer = re.fullmatch(r"layer(\d+)\.sae\.pt", path.name)
    release = re.search(r"SAE-Res-([^/]+)-W\d+K-L0_(\d+)(?:/|$)", source.full_path(path))
    if not layer or not release:
        raise BadInput(
            f"how many latents of {path} are active is said by the name of its repository alone; "
            "keep it as layer0.sae.pt in a folder named as published, such as "
            "SAE-Res-Qwen3-1.7B-Base-W32K-L0_50."
        )
    tensors = Tensors.open(path)
    d_sae, d_in = tensors.shape("W_enc", 2)
    k = checked_k(int(release[2]), d_sae, path)
    place = (int(layer[1]), "resid_post")
    return Found(
        format=_NAME,
        why=f"{path.name} below {release[0].strip('/')}",
        place=source.place(path),
        model=f"Qwen/{release[1]}",
        inputs=(place,),
        outputs=(place,),
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_in,
        architecture="topk",
        declared={"l0": float(k)},
        conventions={"published": {"repository": release[0].strip("/")}, "notes": [SIGNED_TOPK]},
        load=partial(_load, path, k),
    )


def _load(path: Path, k: int) -> SaeWeights:
    tensors = Tensors.open(path)
    d_sae, d_in = tensors.shape("W_enc", 2)
    sae = SaeWeights(
        architecture="topk",
        activation="topk",
        k=k,
        W_enc=tensors.take("W_enc", d_sae, d_in).T.contiguous(),
        b_enc=tensors.take("b_enc", d_sae),
        W_dec=tensors.take("W_dec", d_in, d_sae).T.contiguous(),
        b_dec=tensors.take("b_dec", d_in),
        pre_bias=torch.zeros(d_in),
        input_scale=1.0,
        output_scale=1.0,
    )
    tensors.done()
    return sae


FORMAT = Format(
    name=_NAME,
    summary="Qwen Scope's SAEs of Qwen 3 and 3.5: topk",
    looks_for="layer{n}.sae.pt below SAE-Res-…-L0_{k}",
    detect=_detect,
)
