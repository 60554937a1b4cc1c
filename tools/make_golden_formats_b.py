"""Writes tests/data/formats/: small dictionaries in published formats, and what peers make of them.

    OMP_NUM_THREADS=1 PYTHON tools/make_golden_formats_b.py tests/data/formats

PYTHON is that of an environment with the group `peers`: dictionary-learning 0.1.0 trains and saves
every class it has with its own trainers and encodes with its own classes; files of Llama Scope,
Llama Scope R1-Distill, Qwen Scope, Goodfire and circuit-tracer are built to the published layouts
and read by SAELens 6.54.12's loaders of them. Nothing here is imported by the atlas.

Each `expected.safetensors` holds x (n, d_in) and, per dictionary, `NAME/acts` (n, d_sae) and
`NAME/reconstruction` (n, d_out), float32, as the peer's own `encode` and `decode` give them.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar
from unittest import mock

import torch
import yaml
from dictionary_learning.dictionary import AutoEncoderNew
from dictionary_learning.trainers.batch_top_k import BatchTopKTrainer
from dictionary_learning.trainers.gated_anneal import GatedAnnealTrainer
from dictionary_learning.trainers.gdm import GatedSAETrainer
from dictionary_learning.trainers.jumprelu import JumpReluTrainer
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKTrainer
from dictionary_learning.trainers.p_anneal import PAnnealTrainer
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate
from dictionary_learning.trainers.top_k import TopKTrainer
from dictionary_learning.training import trainSAE
from dictionary_learning.utils import load_dictionary
from sae_lens import SAE
from sae_lens.loading import pretrained_sae_loaders as loaders
from safetensors.torch import save_file
from torch import Tensor

D, N, ROWS = 6, 18, 24
"""Width of the activations, of the dictionaries, and inputs that are encoded."""

STEPS = 40


def activations(d: int, rows: int, seed: int) -> Tensor:
    """Inputs with a mean and with directions of unequal size, as a residual stream has."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator)
    return 0.7 + torch.randn(rows, d, generator=generator) @ mixing


class Buffer:
    """Batches of activations, and a configuration as dictionary_learning's buffers have it."""

    config: ClassVar = {
        "d_submodule": D,
        "io": "out",
        "n_ctxs": 30,
        "ctx_len": 128,
        "refresh_batch_size": 512,
        "out_batch_size": 64,
        "device": "cpu",
    }

    def __iter__(self) -> Iterator[Tensor]:
        seed = 0
        while True:
            seed += 1
            yield activations(D, 64, seed)


def train_dictionary_learning(folder: Path) -> None:
    """Every class by its own trainer, saved as `trainSAE` saves it."""
    common = {"steps": STEPS, "activation_dim": D, "dict_size": N, "layer": 3, "device": "cpu"}
    common |= {"lm_name": "EleutherAI/pythia-70m-deduped", "seed": 0}
    common |= {"warmup_steps": 1, "lr": 2e-2, "submodule_name": "resid_post_layer_3"}
    sparse = {"sparsity_warmup_steps": 2}
    top = {"k": 4, "threshold_start_step": 5}
    annealed = {"anneal_start": 10, "p_end": 0.2, "initial_sparsity_penalty": 0.05, **sparse}
    unnamed = {name: value for name, value in common.items() if name != "submodule_name"}
    trainers = [
        common | sparse | {"trainer": StandardTrainer},
        common | sparse | {"trainer": StandardTrainerAprilUpdate},
        common | annealed | {"trainer": PAnnealTrainer},
        common | sparse | {"trainer": GatedSAETrainer},
        unnamed | annealed | {"trainer": GatedAnnealTrainer},
        common | sparse | {"trainer": JumpReluTrainer, "target_l0": 4.0, "bandwidth": 0.1},
        common | top | {"trainer": TopKTrainer},
        common | top | {"trainer": BatchTopKTrainer},
        common
        | top
        | {"trainer": MatryoshkaBatchTopKTrainer, "group_fractions": [0.25, 0.25, 0.5]},
    ]
    data = Buffer()
    trainSAE(
        data,
        trainer_configs=trainers,
        steps=STEPS,
        save_steps=[2],
        save_dir=str(folder),
        normalize_activations=True,
        device="cpu",
    )
    for kept in folder.glob("trainer_*/checkpoints"):
        if kept.parent.name != "trainer_7":  # a BatchTopK without a threshold yet
            shutil.rmtree(kept)

    torch.manual_seed(0)
    new = AutoEncoderNew(D, N)
    for parameter in new.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    last = folder / f"trainer_{len(trainers)}"
    last.mkdir()
    torch.save(new.state_dict(), last / "ae.pt")
    config = {"dict_class": "AutoEncoderNew", "activation_dim": D, "dict_size": N, "layer": 3}
    config |= {"lm_name": "EleutherAI/pythia-70m-deduped", "trainer_class": "NewTrainer"}
    config |= {"submodule_name": "gpt_neox.layers.3.mlp"}
    whole = {"trainer": config, "buffer": Buffer.config}
    (last / "config.json").write_text(json.dumps(whole, indent=4))


def dictionary_learning(folder: Path) -> None:
    """Files of dictionary-learning 0.1.0, and its own codes and reconstructions."""
    train_dictionary_learning(folder)
    x = activations(D, ROWS, 1000)
    expected = {"x": x}
    for trainer in sorted(folder.glob("trainer_*")):
        dictionary, _ = load_dictionary(str(trainer), "cpu")
        acts = dictionary.encode(x)
        expected[f"{trainer.name}/acts"] = acts
        expected[f"{trainer.name}/reconstruction"] = dictionary.decode(acts)
    batchtopk, _ = load_dictionary(str(folder / "trainer_7"), "cpu")
    batchtopk.load_state_dict(torch.load(folder / "trainer_7" / "checkpoints" / "ae_2.pt"))
    each = [batchtopk.encode(row[None], use_threshold=False) for row in x]
    expected["trainer_7/checkpoints/ae_2.pt/acts"] = torch.cat(each)
    write_expected(folder, expected)


def weights(d_in: int, d_sae: int, d_out: int, seed: int) -> dict[str, Tensor]:
    """Random W_enc (d_in, d_sae), b_enc, W_dec (d_sae, d_out), b_dec; no norm is 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "W_enc": 0.6 * normal(d_in, d_sae),
        "b_enc": 0.3 * normal(d_sae) - 0.4,
        "W_dec": normal(d_sae, d_out) * (0.5 + torch.rand(d_sae, 1, generator=generator)),
        "b_dec": 0.5 * normal(d_out),
    }


def by_saelens(
    loader: Callable[..., tuple], root: Path, folder: str, *, repo: str = "org/repo"
) -> SAE:
    """The SAE that a loader of SAELens makes of files under `root`, without a hub."""

    def local(repo_id: str, filename: str, subfolder: str | None = None, **_: object) -> str:
        found = root / (subfolder or "") / filename
        if not found.exists():
            raise FileNotFoundError(found)
        return str(found)

    def shapes(repo_id: str, filename: str) -> dict[str, list[int]]:
        with loaders.safe_open(root / filename, framework="pt") as stored:
            return {name: stored.get_slice(name).get_shape() for name in stored.keys()}  # noqa: SIM118

    with (
        mock.patch.object(loaders, "hf_hub_download", local),
        mock.patch.object(loaders, "get_safetensors_tensor_shapes", shapes),
    ):
        overrides = {"device": "cpu", "dtype": "float32"}
        config, state, _ = loader(repo, folder, device="cpu", cfg_overrides=overrides)
    config = loaders.handle_config_defaulting(config)
    settings = SAE.get_sae_config_class_for_architecture(config["architecture"]).from_dict(config)
    sae = SAE.get_sae_class_for_architecture(settings.architecture())(settings)
    sae.process_state_dict_for_loading(state)
    sae.load_state_dict(state)
    return sae


def record(expected: dict[str, Tensor], name: str, sae: SAE, x: Tensor) -> None:
    """Keep an SAE's code of x and what it decodes it to."""
    with torch.no_grad():
        acts = sae.encode(x)
        expected[f"{name}/acts"] = acts.contiguous()
        expected[f"{name}/reconstruction"] = sae.decode(acts).contiguous()


def llama_scope(folder: Path) -> None:
    """A Llama Scope repository of 2024, as SAELens reads it: decoder norms are not applied.

    SAELens compares the threshold with activations that have not been multiplied by the decoder's
    norms, as OpenMOSS' own loader does; its code is right where all norms are 1, so the second
    dictionary has such a decoder.
    """
    x = activations(D, ROWS, 1001)
    expected = {"x": x}
    norms = {"in": 3.7, "out": 3.7}
    for layer, unit in ((15, False), (16, True)):
        w = weights(D, N, D, layer)
        if unit:
            w["W_dec"] /= w["W_dec"].norm(dim=1, keepdim=True)
        name = f"Llama3_1-8B-Base-L{layer}R-8x"
        hook = f"blocks.{layer}.hook_resid_post"
        checkpoints = folder / name / "checkpoints"
        checkpoints.mkdir(parents=True)
        hyperparameters = {
            "hook_point_in": hook,
            "hook_point_out": hook,
            "use_decoder_bias": True,
            "apply_decoder_bias_to_pre_encoder": False,
            "expansion_factor": N // D,
            "d_model": D,
            "d_sae": N,
            "act_fn": "jumprelu",
            "jump_relu_threshold": 0.35,
            "norm_activation": "dataset-wise",
            "dataset_average_activation_norm": norms,
            "decoder_exactly_fixed_norm": False,
            "sparsity_include_decoder_norm": True,
            "use_glu_encoder": False,
            "top_k": 4,
        }
        (folder / name / "hyperparams.json").write_text(json.dumps(hyperparameters, indent=4))
        model = {"model_name": "meta-llama/Llama-3.1-8B", "d_model": D}
        (folder / name / "lm_config.json").write_text(json.dumps(model, indent=4))
        state = {
            "encoder.weight": w["W_enc"].T.contiguous(),
            "encoder.bias": w["b_enc"],
            "decoder.weight": w["W_dec"].T.contiguous(),
            "decoder.bias": w["b_dec"],
        }
        save_file(state, checkpoints / "final.safetensors", {"version": "0.1.0"})
        sae = by_saelens(loaders.llama_scope_sae_huggingface_loader, folder, name)
        sae.fold_activation_norm_scaling_factor(D**0.5 / norms["in"])
        record(expected, name, sae, x)
    write_expected(folder, expected)


def llama_scope_r1(folder: Path) -> None:
    """A dictionary of Llama Scope R1-Distill, as SAELens reads it."""
    x = activations(D, ROWS, 1002)
    name = "800M-Slimpajama-0-OpenR1-Math-220k/L5R"
    (folder / name).mkdir(parents=True)
    w = weights(D, N, D, 5)
    hook = "blocks.5.hook_resid_post"
    config = {
        "sae_type": "sae",
        "hook_point_in": hook,
        "hook_point_out": hook,
        "d_model": D,
        "expansion_factor": N // D,
        "use_decoder_bias": True,
        "use_glu_encoder": False,
        "act_fn": "jumprelu",
        "jumprelu_threshold_window": 2.0,
        "norm_activation": "dataset-wise",
        "sparsity_include_decoder_norm": False,
        "top_k": 4,
    }
    (folder / name / "config.json").write_text(json.dumps(config, indent=4))
    norm = 4.9
    state = {
        "encoder.weight": w["W_enc"].T.contiguous(),
        "encoder.bias": w["b_enc"],
        "decoder.weight": w["W_dec"].T.contiguous(),
        "decoder.bias": w["b_dec"],
        "log_jumprelu_threshold": torch.linspace(-2.0, 0.5, N),
        f"dataset_average_activation_norm.{hook}": torch.tensor(norm),
    }
    save_file(state, folder / name / "sae_weights.safetensors", {"version": "0.1.0"})
    sae = by_saelens(loaders.llama_scope_r1_distill_sae_huggingface_loader, folder, name)
    sae.fold_activation_norm_scaling_factor(D**0.5 / norm)
    expected = {"x": x}
    record(expected, name, sae, x)
    write_expected(folder, expected)


def qwen_scope(folder: Path) -> None:
    """A Qwen Scope repository, square so that a transposed matrix fits too."""
    x = activations(D, ROWS, 1003)
    repo = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_3"
    (folder / repo).mkdir(parents=True)
    w = weights(D, D, D, 7)
    state = {"W_enc": w["W_enc"].T.contiguous(), "W_dec": w["W_dec"].T.contiguous()}
    torch.save(state | {"b_enc": w["b_enc"], "b_dec": w["b_dec"]}, folder / repo / "layer0.sae.pt")

    def loader(repo: str, folder: str, **settings: dict) -> tuple:
        settings["cfg_overrides"] |= {"d_in": D, "d_sae": D}
        return loaders.qwen_scope_sae_huggingface_loader(repo, folder, **settings)

    sae = by_saelens(loader, folder / repo, "layer0.sae.pt", repo=f"Qwen/{repo}")
    expected = {"x": x}
    record(expected, repo, sae, x)
    write_expected(folder, expected)


def goodfire(folder: Path) -> None:
    """Goodfire's file for Llama 3.1 8B, in bfloat16 as published."""
    x = activations(D, ROWS, 1004)
    repo, file = "Llama-3.1-8B-Instruct-SAE-l19", "Llama-3.1-8B-Instruct-SAE-l19.pth"
    (folder / repo).mkdir(parents=True)
    w = weights(D, N, D, 19)
    state = {
        "encoder_linear.weight": w["W_enc"].T,
        "encoder_linear.bias": w["b_enc"],
        "decoder_linear.weight": w["W_dec"].T,
        "decoder_linear.bias": w["b_dec"],
    }
    state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in state.items()}
    torch.save(state, folder / repo / file)

    def loader(repo: str, folder: str, **settings: dict) -> tuple:
        settings["cfg_overrides"] |= {"d_in": D, "d_sae": N}
        return loaders.get_goodfire_huggingface_loader(repo, folder, **settings)

    sae = by_saelens(loader, folder / repo, file, repo=f"Goodfire/{repo}")
    expected = {"x": x}
    record(expected, repo, sae, x)
    write_expected(folder, expected)


def circuit_tracer(folder: Path) -> None:
    """Two layers of transcoders (ReLU) and a cross-layer transcoder, as SAELens reads them.

    SAELens sums a cross-layer transcoder's decoders, so only its code is a reference.
    """
    x = activations(D, ROWS, 1005)
    expected = {"x": x}
    layers = folder / "transcoders"
    layers.mkdir(parents=True)
    config = {"model_name": "Qwen/Qwen3-0.6B", "model_kind": "transcoder_set"}
    hooks = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    (layers / "config.yaml").write_text(yaml.safe_dump(config | hooks))
    run = {"d_model": {"value": D}, "d_feature": {"value": N}, "batch_size": {"value": 8}}
    (layers / "wandb-config.yaml").write_text(yaml.safe_dump(run))
    for layer in range(2):
        w = weights(D, N, D, 30 + layer)
        file = f"layer_{layer}.safetensors"
        save_file(w | {"W_enc": w["W_enc"].T.contiguous()}, layers / file)
        sae = by_saelens(loaders.mwhanna_transcoder_huggingface_loader, layers, file)
        record(expected, f"transcoders/{file}", sae, x)

    cross, n_layers = folder / "clt", 3
    cross.mkdir()
    config = {"model_name": "google/gemma-2-2b", "model_kind": "cross_layer_transcoder"}
    (cross / "config.yaml").write_text(yaml.safe_dump(config | hooks))
    for layer in range(n_layers):
        w = weights(D, N, D * (n_layers - layer), 40 + layer)
        encoder = {
            f"W_enc_{layer}": w["W_enc"].T.contiguous(),
            f"b_enc_{layer}": w["b_enc"],
            f"b_dec_{layer}": w["b_dec"][:D].contiguous(),
        }
        save_file(encoder, cross / f"W_enc_{layer}.safetensors")
        decoder = {f"W_dec_{layer}": w["W_dec"].reshape(N, n_layers - layer, D).contiguous()}
        save_file(decoder, cross / f"W_dec_{layer}.safetensors")
        sae = by_saelens(loaders.mntss_clt_layer_huggingface_loader, cross, str(layer))
        with torch.no_grad():
            expected[f"clt/{layer}/acts"] = sae.encode(x).contiguous()
    write_expected(folder, expected)


def write_expected(folder: Path, expected: dict[str, Tensor]) -> None:
    """Write a format's expectations beside its files."""
    tensors = {name: tensor.detach().float().contiguous() for name, tensor in expected.items()}
    save_file(tensors, folder / "expected.safetensors")


def main(target: Path) -> None:
    """Write everything anew."""
    makers = (
        dictionary_learning,
        llama_scope,
        llama_scope_r1,
        qwen_scope,
        goodfire,
        circuit_tracer,
    )
    for make in makers:
        folder = target / make.__name__
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(folder)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{make.__name__}: {size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
