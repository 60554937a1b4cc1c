"""Published dictionaries under tests/data/formats, and comparing what is read of them with peers.

The files there and what they must give are written by tools/make_golden_formats*.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from atlas.ingest.importing.formats import read_dictionaries
from atlas.sae import SaeWeights

FOLDER = Path(__file__).parent / "data" / "formats"


def expected(format):
    """x (n, d_in), and by name what the peer made of it."""
    return load_file(FOLDER / format / "expected.safetensors")


def acts_of(sae, x):
    """All activations (n, d_sae)."""
    return sae.encode(x).dense(sae.d_sae)


def check(sae: SaeWeights, x, acts, reconstruction=None):
    """The same activations, and the same reconstruction, to 1e-5 of the largest."""
    code = sae.encode(x)
    mine = code.dense(sae.d_sae)
    torch.testing.assert_close(mine, acts, rtol=1e-5, atol=1e-5)
    assert 0 < (mine > 0).float().mean() < 1, "nothing is compared"
    if reconstruction is not None:
        torch.testing.assert_close(sae.decode(code, x), reconstruction, rtol=1e-5, atol=1e-5)


def one(path, format="auto"):
    """The only dictionary there."""
    (found,) = read_dictionaries(str(path), format)
    return found


def write(path, tensors, **beside):
    """Write tensors as .safetensors or as .pt, by the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: t.contiguous() for name, t in tensors.items()}, path)
    else:
        torch.save({**tensors, **beside}, path)
    return path


class Runs:
    """What a malicious file holds: calls a function when it is unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)
