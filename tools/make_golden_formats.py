"""Writes small dictionaries with their own libraries, and what these make of some inputs.

    SPARSIFY_DISABLE_TRITON=1 python tools/make_golden_formats.py tests/data/formats

wants sae-lens 6.54 and eai-sparsify 1.3 installed. Every folder gets the published files and
`expected.safetensors`: x (n, d_in), acts (n, d_sae) and y (n, d_out) of the library's own encode
and forward. Gemma Scope's files are written by their layout, and read by SAELens's loaders of them.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from sae_lens.registry import get_sae_class, get_sae_training_class
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening
from safetensors.torch import load_file, save_file
from sparsify import SparseCoder, SparseCoderConfig
from torch import Tensor

D, N, D_OUT, ROWS = 6, 16, 5, 24

_HOOK: dict[str, Any] = {"model_name": "gpt2", "hook_name": "blocks.5.hook_resid_post"}
_TRANSCODER: dict[str, Any] = {
    "model_name": "gpt2",
    "hook_name": "blocks.2.ln2.hook_normalized",
    "hook_name_out": "blocks.2.hook_mlp_out",
}


def activations(d: int = D) -> Tensor:
    """Inputs that are neither centred nor of one length."""
    g = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, d, generator=g) * torch.rand(ROWS, 1, generator=g) * 4 + 0.5


@torch.no_grad()
def fill(module: torch.nn.Module) -> None:
    """Random weights: biases that are not 0, decoder rows that are not of length 1."""
    g = torch.Generator().manual_seed(0)
    for name, tensor in sorted(module.state_dict().items()):
        if name == "topk_threshold":
            tensor.fill_(0.8)
        elif name == "threshold":
            tensor.copy_(torch.rand(tensor.shape, generator=g))
        elif tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=g) / 3)
        else:
            tensor.copy_(torch.randn(tensor.shape, generator=g) / math.sqrt(D))


@torch.no_grad()
def expect(folder: Path, sae: Any, x: Tensor) -> None:
    """Write what SAELens itself computes; it wants attention heads apart."""
    given = x.reshape(len(x), 2, -1) if sae.cfg.reshape_activations == "hook_z" else x
    acts, y = sae.encode(given), sae(given).reshape(len(x), -1)
    tensors = {"x": x, "acts": acts.contiguous(), "y": y.contiguous()}
    save_file(tensors, folder / "expected.safetensors")


def saelens(folder: Path, architecture: str, *, metadata: Any = _HOOK, **config: Any) -> None:
    """A final SAE of SAELens."""
    sae_class, config_class = get_sae_class(architecture)
    config = {"d_in": D, "d_sae": N, "metadata": SAEMetadata(**metadata)} | config
    if "transcoder" in architecture:
        config |= {"apply_b_dec_to_input": False, "d_out": D_OUT}
    sae = sae_class(config_class(**config))
    fill(sae)
    if architecture == "matching_pursuit":
        sae.W_dec.data /= sae.W_dec.norm(dim=1, keepdim=True)
    sae.save_model(folder)
    x = activations(config["d_in"])
    expect(folder, SAE.load_from_disk(folder, dtype="float32"), x)


def trained(
    folder: Path, architecture: str, *, final: bool, norm: str = "none", **config: Any
) -> None:
    """A SAELens SAE as it is saved in the course of training, or at its end.

    What is expected of a checkpoint is what the final SAE made of it computes.
    """
    sae_class, config_class = get_sae_training_class(architecture)
    metadata = SAEMetadata(**_HOOK, l0=3.5, num_dead_features=2) if final else SAEMetadata(**_HOOK)
    sae = sae_class(
        config_class(d_in=D, d_sae=N, normalize_activations=norm, metadata=metadata, **config)
    )
    fill(sae)
    scaler = ActivationScaler()
    if norm == "expected_average_only_in":
        scaler.scaling_factor = 0.4
    elif norm == "covariance_whitening":
        matrix = torch.randn(D, D, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        scaler.whitening = ActivationWhitening(
            torch.linspace(-1, 1, D, dtype=torch.float64), matrix, torch.linalg.inv(matrix)
        )
    if not final:
        sae.save_model(folder)
        scaler.save(str(folder / "activation_scaler.json"))
    if scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    if scaler.whitening is not None:
        whitening = scaler.whitening
        sae.fold_activation_whitening(whitening.mean, whitening.matrix, whitening.inverse_matrix)
    last = folder if final else folder / "last"
    sae.save_inference_model(last)
    expect(folder, SAE.load_from_disk(last), activations())
    if not final:
        shutil.rmtree(last)


def old_jumprelu(folder: Path) -> None:
    """A checkpoint of before log_threshold went."""
    saelens(folder, "jumprelu")
    weights = load_file(folder / "sae_weights.safetensors")
    weights["log_threshold"] = weights.pop("threshold").log()
    save_file(weights, folder / "sae_weights.safetensors")


def before_6(folder: Path, dtype: torch.dtype = torch.float32, **config: Any) -> None:
    """The flat configuration of SAELens 3 to 5."""
    folder.mkdir(parents=True)
    g = torch.Generator().manual_seed(0)
    weights = {
        "W_enc": torch.randn(D, N, generator=g),
        "W_dec": torch.randn(N, D, generator=g),
        "b_enc": torch.randn(N, generator=g) / 3,
        "b_dec": torch.randn(D, generator=g) / 3,
        "scaling_factor": torch.ones(N),
    }
    weights = {name: tensor.to(dtype) for name, tensor in weights.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    save_file({"sparsity": torch.linspace(-4, -0.5, N)}, folder / "sparsity.safetensors")
    flat = {
        "d_in": D,
        "d_sae": N,
        "dtype": str(dtype),
        "device": "cpu",
        "model_name": "gpt2-small",
        "hook_layer": 8,
        "hook_head_index": None,
        "activation_fn_kwargs": {},
        "prepend_bos": True,
        "finetuning_scaling_factor": False,
        "sae_lens_training_version": "3.13.1",
    }
    (folder / "cfg.json").write_text(json.dumps(flat | config))
    expect(folder, SAE.load_from_disk(folder, dtype="float32"), activations())


def sparsify(
    folder: Path, hookpoint: str, dtype: torch.dtype = torch.float32, **config: Any
) -> None:
    """A coder of eai-sparsify."""
    coder = SparseCoder(D, SparseCoderConfig(**config), dtype=dtype)
    fill(coder)
    coder.save_to_disk(folder / hookpoint)
    coder = SparseCoder.load_from_disk(folder / hookpoint).float()
    x = activations()
    with torch.no_grad():
        values, indices, pre = coder.encode(x)
        acts = torch.zeros_like(pre).scatter(1, indices, values)
        y = coder.decode(values, indices)  # with multi_topk, its forward decodes 4 * k latents
        if coder.W_skip is not None:
            y += x @ coder.W_skip.mT
        save_file({"x": x, "acts": acts, "y": y}, folder / "expected.safetensors")


def gemma_tensors(d_out: int = D) -> dict[str, Tensor]:
    """A JumpReLU dictionary."""
    g = torch.Generator().manual_seed(5)
    return {
        "w_enc": torch.randn(D, N, generator=g),
        "w_dec": torch.randn(N, d_out, generator=g),
        "b_enc": torch.randn(N, generator=g) / 3,
        "b_dec": torch.randn(d_out, generator=g) / 3,
        "threshold": torch.rand(N, generator=g),
    }


def gemma_scope(folder: Path, repository: str, part: str) -> None:
    """A dictionary of Gemma Scope 1."""
    place = folder / repository / part
    place.mkdir(parents=True)
    arrays = {name.replace("w_", "W_"): tensor.numpy() for name, tensor in gemma_tensors().items()}
    np.savez(place / "params.npz", **arrays)
    if "transcoders" in repository:
        return
    with mock.patch.object(loaders, "hf_hub_download", return_value=place / "params.npz"):
        config, state, _ = loaders.gemma_2_sae_huggingface_loader(
            f"google/{repository}", part, "cpu", cfg_overrides={"d_in": D, "d_sae": N}
        )
    expect(folder, loaded(config, state), activations())


def gemma_scope_2(folder: Path, part: str, config: dict[str, Any], affine: bool = False) -> None:
    """A dictionary of Gemma Scope 2."""
    repository = "gemma-scope-2-1b-pt"
    place = folder / repository / part
    place.mkdir(parents=True)
    tensors = gemma_tensors(D if affine or "transcoder" not in part else D_OUT)
    if affine:
        tensors["affine_skip_connection"] = torch.randn(
            D, D, generator=torch.Generator().manual_seed(6)
        )
    save_file(tensors, place / "params.safetensors")
    (place / "config.json").write_text(json.dumps(config))
    shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    with (
        mock.patch.object(
            loaders,
            "hf_hub_download",
            lambda *args, filename="config.json", **_: str(place / filename),
        ),
        mock.patch.object(loaders, "get_safetensors_tensor_shapes", return_value=shapes),
    ):
        found, state, _ = loaders.gemma_3_sae_huggingface_loader(
            f"google/{repository}", part, "cpu"
        )
    expect(folder, loaded(found, state), activations())


def loaded(config: dict[str, Any], state: dict[str, Tensor]) -> Any:
    """The SAE that SAELens makes of what a loader of its own returned."""
    sae = SAE.from_dict(loaders.handle_config_defaulting(config))
    sae.load_state_dict(state)
    return sae


def main() -> None:
    """Write all of them below the folder that is given."""
    root = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    for format in ("saelens", "sparsify", "gemma_scope"):
        shutil.rmtree(root / format, ignore_errors=True)
    for name, make in _CASES.items():
        make(root / name)


_CASES: dict[str, Callable[[Path], None]] = {
    "saelens/standard": lambda folder: saelens(folder, "standard"),
    "saelens/standard_without_b_dec": lambda folder: saelens(
        folder, "standard", apply_b_dec_to_input=False
    ),
    "saelens/square_bfloat16": lambda folder: saelens(
        folder, "standard", d_sae=D, dtype="bfloat16"
    ),
    "saelens/layer_norm": lambda folder: saelens(
        folder, "standard", normalize_activations="layer_norm"
    ),
    "saelens/constant_norm": lambda folder: saelens(
        folder, "topk", k=3, normalize_activations="constant_norm_rescale"
    ),
    "saelens/hook_z": lambda folder: saelens(
        folder,
        "jumprelu",
        reshape_activations="hook_z",
        metadata={"model_name": "gpt2", "hook_name": "blocks.1.attn.hook_z"},
    ),
    "saelens/gated": lambda folder: saelens(folder, "gated"),
    "saelens/topk": lambda folder: saelens(folder, "topk", k=4),
    "saelens/topk_rescaled": lambda folder: saelens(
        folder, "topk", k=4, rescale_acts_by_decoder_norm=True
    ),
    "saelens/abstopk": lambda folder: saelens(folder, "abstopk", k=4),
    "saelens/jumprelu": lambda folder: saelens(folder, "jumprelu"),
    "saelens/matching_pursuit": lambda folder: saelens(
        folder, "matching_pursuit", max_iterations=4, residual_threshold=0.9
    ),
    "saelens/transcoder": lambda folder: saelens(folder, "transcoder", metadata=_TRANSCODER),
    "saelens/skip_transcoder": lambda folder: saelens(
        folder, "skip_transcoder", metadata=_TRANSCODER
    ),
    "saelens/jumprelu_transcoder": lambda folder: saelens(
        folder, "jumprelu_transcoder", metadata=_TRANSCODER
    ),
    "saelens/jumprelu_skip_transcoder": lambda folder: saelens(
        folder, "jumprelu_skip_transcoder", metadata=_TRANSCODER
    ),
    "saelens/batchtopk_final": lambda folder: trained(folder, "batchtopk", final=True, k=4),
    "saelens/matryoshka_final": lambda folder: trained(
        folder, "matryoshka_batchtopk", final=True, k=4, matryoshka_widths=[4, N]
    ),
    "saelens/batchtopk_checkpoint": lambda folder: trained(
        folder, "batchtopk", final=False, k=4, norm="expected_average_only_in"
    ),
    "saelens/topk_checkpoint_whitened": lambda folder: trained(
        folder, "topk", final=False, k=4, norm="covariance_whitening"
    ),
    "saelens/gated_checkpoint": lambda folder: trained(
        folder, "gated", final=False, norm="expected_average_only_in"
    ),
    "saelens/jumprelu_log_threshold": old_jumprelu,
    "saelens/before_6": lambda folder: before_6(
        folder, hook_name="blocks.8.hook_resid_pre", activation_fn_str="relu"
    ),
    "saelens/before_6_topk_float16": lambda folder: before_6(
        folder,
        torch.float16,
        hook_name="blocks.8.hook_mlp_out",
        activation_fn_str="topk",
        activation_fn_kwargs={"k": 4},
        normalize_activations="none",
        apply_b_dec_to_input=False,
    ),
    "sparsify/topk": lambda folder: sparsify(folder, "layers.5", expansion_factor=3, k=4),
    "sparsify/square": lambda folder: sparsify(folder, "layers.5.mlp", expansion_factor=1, k=2),
    "sparsify/num_latents_bfloat16": lambda folder: sparsify(
        folder, "h.2.attn", torch.bfloat16, num_latents=14, k=4, normalize_decoder=False
    ),
    "sparsify/groupmax": lambda folder: sparsify(
        folder, "layers.5", activation="groupmax", num_latents=N, k=4, multi_topk=True
    ),
    "sparsify/transcoder": lambda folder: sparsify(
        folder, "layers.5.mlp", num_latents=N, k=4, transcode=True
    ),
    "sparsify/skip_transcoder": lambda folder: sparsify(
        folder, "layers.5.mlp", num_latents=N, k=4, transcode=True, skip_connection=True
    ),
    "gemma_scope/res": lambda folder: gemma_scope(
        folder, "gemma-scope-2b-pt-res", "layer_5/width_16k/average_l0_68"
    ),
    "gemma_scope/embedding": lambda folder: gemma_scope(
        folder, "gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_21"
    ),
    "gemma_scope/att": lambda folder: gemma_scope(
        folder, "gemma-scope-9b-it-att", "layer_20/width_131k/average_l0_81"
    ),
    "gemma_scope/transcoders": lambda folder: gemma_scope(
        folder, "gemma-scope-2b-pt-transcoders", "layer_4/width_16k/average_l0_88"
    ),
    "gemma_scope/2_resid_post": lambda folder: gemma_scope_2(
        folder,
        "resid_post/layer_7_width_16k_l0_small",
        {
            "architecture": "jump_relu",
            "model_name": "gemma-v3-1b-pt",
            "hf_hook_point_in": "model.layers.7.output",
            "l0": 12,
        },
    ),
    "gemma_scope/2_transcoder_affine": lambda folder: gemma_scope_2(
        folder,
        "transcoder/layer_7_width_16k_l0_small_affine",
        {
            "architecture": "jump_relu",
            "model_name": "google/gemma-3-1b-pt",
            "hf_hook_point_in": "model.layers.7.pre_feedforward_layernorm.output",
            "hf_hook_point_out": "model.layers.7.post_feedforward_layernorm.output",
            "affine_connection": True,
        },
        affine=True,
    ),
}


if __name__ == "__main__":
    main()
