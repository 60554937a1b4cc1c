"""Loads a transformers checkpoint and its tokenizer, refusing whatever would be read wrongly.

transformers goes on after problems that would make an atlas of noise: absent weights are drawn at
random, an absent tokenizer is replaced by an empty one, NaN weights are loaded like others. Each
of these, and every error of the libraries below, is told here in one sentence.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import huggingface_hub
import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from atlas.errors import BadInput
from atlas.ingest.models.randomize import Randomization

_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Weight files in the order in which transformers looks for them."""

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model: float32 on the CPU, bfloat16 on CUDA; in eval mode, without gradients.

    model: with its language-modelling head where `is_causal`, without a head otherwise.
    revision: the hub's commit; None for a folder.
    sha256: of the weight files (one file: as `sha256sum` prints it; shards: of all in order); of
        the weights themselves where they were randomised.
    unexpected: names of stored weights that the model has no place for.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str | None
    sha256: str
    is_causal: bool
    unexpected: frozenset[str]


def load_checkpoint(
    source: str,
    revision: str | None,
    device: torch.device,
    randomized: Randomization | None = None,
) -> Checkpoint:
    """Load hub id or folder `source`; a folder is read without asking the hub.

    randomized: makes the weights random once they are read.

    Raises BadInput for all that can be wrong with it.
    """
    folder = _as_folder(source)
    where: dict[str, Any] = {
        "revision": revision,
        "local_files_only": folder is not None,
        "trust_remote_code": False,  # said aloud, for else transformers asks on the terminal
    }
    path = str(folder) if folder else source
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if folder:
        _check_folder(folder)
    with quiet():
        config = _asked(source, transformers.AutoConfig.from_pretrained, path, **where)
        loader, is_causal = _loader(source, config)
        model, info = _asked(
            source,
            loader.from_pretrained,
            path,
            config=config,
            dtype=torch.float32 if randomized else dtype,
            output_loading_info=True,
            **where,
        )
        tokenizer = _tokenizer(source, path, where)
    missing = info["missing_keys"]
    headed = not is_causal and model.base_model is not model
    if headed:
        prefix = model.base_model_prefix + "."
        missing = [name for name in missing if name.startswith(prefix)]
    _check_missing(source, missing)
    if randomized:
        with quiet():
            model = randomized.of(model)
    if headed:
        model = model.base_model
    _check_finite(source, model)
    _check_vocabulary(source, model, tokenizer)
    commit = None if folder else getattr(config, "_commit_hash", None)
    if randomized:
        sha256 = hash_weights(model)  # before a device's rounding: the same model on all of them
        model = model.to(dtype)
    else:
        files = _weight_files(folder) if folder else _cached_weight_files(source, commit)
        sha256 = _hash_files(files) if files else hash_weights(model)
    return Checkpoint(
        model=model.to(device).eval().requires_grad_(False),
        tokenizer=tokenizer,
        revision=commit,
        sha256=sha256,
        is_causal=is_causal,
        unexpected=frozenset(info["unexpected_keys"]),
    )


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every weight, by name."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        value = value.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' warnings and progress bars off stderr, which belongs to the caller."""
    log: Any = transformers.utils.logging
    hub = logging.getLogger("huggingface_hub")
    verbosity, bars, level = log.get_verbosity(), log.is_progress_bar_enabled(), hub.level
    log.set_verbosity_error()
    log.disable_progress_bar()
    hub.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
        hub.setLevel(level)


def _as_folder(source: str) -> Path | None:
    """The folder that `source` names, None for a hub id."""
    path = Path(source).expanduser()
    if not source:
        raise BadInput("the model has no name; name a model's folder or its hub id.")
    if path.is_dir():
        return path
    if path.exists():
        raise BadInput(f"{source} is a file; name the folder of the model (or its hub id).")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source) or source.startswith("."):
        raise BadInput(f"there is no folder {source}; name a model's folder or its hub id.")
    return None


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise BadInput(
            f"{folder} holds no config.json; name a folder in Hugging Face form "
            "(config, weights and tokenizer)."
        )
    files = _weight_files(folder)
    if not files:
        raise BadInput(
            f"{folder} holds a configuration but no weights; put model.safetensors there "
            "(or pytorch_model.bin, or an index with its shards)."
        )
    for file in files:
        if not file.is_file():
            raise BadInput(f"{file} is missing, though the index names it; fetch it again.")
        with file.open("rb") as stream:
            if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise BadInput(f"{file} is only a Git LFS pointer; run `git lfs pull` there.")


def _weight_files(folder: Path) -> list[Path]:
    """The files that transformers reads weights from, by name; empty if there are none."""
    for name in _WEIGHTS:
        file = folder / name
        if file.is_file():
            if not name.endswith(".json"):
                return [file]
            try:
                shards = json.loads(file.read_text("utf-8"))["weight_map"].values()
                return [folder / shard for shard in sorted(set(shards))]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise BadInput(f"{file} is no index of weights; fetch it again.") from error
    return []


def _cached_weight_files(source: str, commit: str | None) -> list[Path]:
    """As `_weight_files` for a model in the hub's cache (links into its store)."""
    if commit is None:
        return []
    for name in _WEIGHTS:
        file = huggingface_hub.try_to_load_from_cache(source, name, revision=commit)
        if isinstance(file, str):
            return _weight_files(Path(file).parent)
    return []


def _hash_files(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _loader(source: str, config: Any) -> tuple[Any, bool]:
    """The auto class that loads the model, and whether it is a causal language model."""
    model_type = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise BadInput(
            f"{source} is an encoder-decoder ({model_type}); only decoders and encoders with one "
            "stack of blocks can be read."
        )
    masked = model_type in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if masked and not (getattr(config, "is_decoder", False) or getattr(config, "causal", False)):
        return transformers.AutoModelForMaskedLM, False
    if model_type in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return transformers.AutoModelForCausalLM, True
    return transformers.AutoModel, False


def _tokenizer(source: str, path: str, where: dict[str, Any]) -> PreTrainedTokenizerBase:
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(path, **where)
    except Exception as error:  # whatever a tokenizer's file can make the parsers raise
        raise BadInput(
            f"cannot load the tokenizer of {source} ({_reason(error)}); a tokenizer.json is needed."
        ) from error
    # With no tokenizer files, transformers makes up a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise BadInput(f"{source} has no tokenizer; put its tokenizer.json beside the weights.")
    if not tokenizer.is_fast:
        raise BadInput(
            f"the tokenizer of {source} cannot tell where in the text its tokens lie; "
            "a fast tokenizer (tokenizer.json) is needed."
        )
    return tokenizer


def _asked(source: str, load: Any, *args: Any, **options: Any) -> Any:
    """load(…), its errors told as sentences."""
    try:
        return load(*args, **options)
    except MemoryError:
        raise
    except Exception as error:  # transformers, safetensors, torch and pickle raise all sorts
        _tell(source, error)


def _tell(source: str, error: BaseException) -> NoReturn:
    chain: list[BaseException] = [error]
    while (earlier := chain[-1].__cause__ or chain[-1].__context__) and earlier not in chain:
        chain.append(earlier)
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    if "GatedRepoError" in kinds:
        sentence = (
            f"{source} is gated on the hub; accept its terms there and log in with `hf auth login`."
        )
    elif kinds & {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        sentence = (
            f"there is no model {source} (of that revision) on the hub, nor a folder of that "
            "name; check the spelling."
        )
    elif kinds & {"LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectError"}:
        sentence = (
            f"there is no folder {source}, and the hub cannot be reached for a model of that "
            "name; check the spelling or the network."
        )
    else:
        sentence = (
            f"cannot load the model {source} ({_reason(error)}); check its files, or fetch them "
            "again."
        )
    raise BadInput(sentence) from error


def _reason(error: BaseException) -> str:
    """The first line of an error's message, fit to stand inside a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".:")[:200]


def _check_missing(source: str, missing: Iterable[str]) -> None:
    names = sorted(missing)
    if names:
        raise BadInput(
            f"{source} lacks {len(names)} weights that its configuration asks for, such as "
            f"{names[0]}; fetch the model again (they would be random)."
        )


def _check_finite(source: str, model: nn.Module) -> None:
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise BadInput(
                f"the weights of {source} hold NaN or infinity, in {name}; fetch the model again."
            )


def input_embeddings(model: PreTrainedModel) -> Tensor:
    """The matrix of token embeddings, (n, width)."""
    return cast(Tensor, model.get_input_embeddings().weight)


def _check_vocabulary(
    source: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Every id that a text can yield must have an embedding.

    Special tokens may lie beyond: text never yields them (Gemma 3's image token does).
    """
    rows = len(input_embeddings(model))
    added = tokenizer.added_tokens_decoder.items()
    special = {index for index, token in added if token.special} | set(tokenizer.all_special_ids)
    largest = max(index for index in tokenizer.get_vocab().values() if index not in special)
    if largest >= rows:
        raise BadInput(
            f"the tokenizer of {source} has ids up to {largest}, but the model embeds only {rows}; "
            "give the tokenizer that the model was trained with."
        )
