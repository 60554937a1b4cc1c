"""Published dictionaries under tests/data/formats, beside what their own libraries made of inputs.

`tools/make_golden_formats.py` writes them. `assert_conforms` is what every importer must pass.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from atlas.ingest.importing.formats import read_dictionaries
from atlas.ingest.importing.formats.found import Found
from atlas.sae import SaeWeights

DATA = Path(__file__).parent / "data" / "formats"


def cases(format: str) -> list[str]:
    """Names of the dictionaries in tests/data/formats/FORMAT."""
    return sorted(path.parent.name for path in (DATA / format).glob("*/expected.safetensors"))


def found_in(folder: Path, format: str = "auto") -> Found:
    """The one dictionary there."""
    (found,) = read_dictionaries(str(folder), format)
    return found


def assert_same_codes(
    sae: SaeWeights, x: torch.Tensor, acts: torch.Tensor, y: torch.Tensor, atol: float = 1e-5
) -> None:
    """The dictionary gives these activations and reconstructions, signed latents as two."""
    code = sae.encode(x)
    ours, n = code.dense(sae.d_sae), acts.shape[1]
    if sae.d_sae == 2 * n:
        ours = ours[:, :n] - ours[:, n:]
    torch.testing.assert_close(ours, acts, atol=atol, rtol=1e-5)
    torch.testing.assert_close(sae.decode(code, x), y, atol=atol, rtol=1e-5)


def assert_conforms(folder: Path, format: str) -> Found:
    """It is recognised as of that format, described as it is, and computes what is expected."""
    found = found_in(folder)
    assert found.format == format
    sae, expected = found.load(), load_file(folder / "expected.safetensors")
    sizes = (sae.d_in, sae.d_sae, sae.d_out, sae.architecture)
    assert sizes == (found.d_in, found.d_sae, found.d_out, found.architecture)
    assert_same_codes(sae, expected["x"], expected["acts"], expected["y"])
    assert (expected["acts"] != 0).any()
    json.dumps(found.conventions)
    assert all(note.endswith(".") for note in found.conventions["notes"])
    return found


def changed(
    source: Path,
    copy: Path,
    *,
    config: dict[str, Any] | None = None,
    tensors: Callable[[dict[str, torch.Tensor]], object] | None = None,
) -> Path:
    """A copy of a folder with one cfg.json and one safetensors file, entries of both changed."""
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("expected.*"))
    (path,) = copy.rglob("cfg.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    if tensors is not None:
        (weights,) = (p for p in copy.rglob("sae*.safetensors"))
        values = load_file(weights)
        tensors(values)
        save_file({name: tensor.contiguous() for name, tensor in values.items()}, weights)
    return copy
