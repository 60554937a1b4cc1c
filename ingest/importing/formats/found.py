"""What an importer finds, and what every importer needs: files, tensors, names of hooks, folding.

An importer is a `Format`. Its `detect` looks through a `Source` by file names, configurations and
tensor shapes, and returns one `Found` for each dictionary; tensors are read by `Found.load`.
"""

from __future__ import annotations

import fnmatch
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atlas.errors import BadInput
from atlas.names import SaeName
from atlas.sae import SaeWeights

Place = tuple[int, str]
"""A layer and a hook by our name, as in `atlas.names.HOOKS`."""


@dataclass(frozen=True)
class Origin:
    """What another atlas knows of a dictionary of its own, and files of weights do not."""

    atlas: str
    """As the user named it: for messages."""
    name: SaeName
    """There."""
    sha256: str
    """Of settings and weights, as `SaeWeights.sha256`."""
    model_sha256: str
    """Of the weights of the model that it is named after."""
    other_models: tuple[str, ...]
    """Names of those that a crosscoder reads beside it; their hook points are not in `Found`."""
    corpus_sha256: str
    """Of the reference corpus on which `Found.declared` was measured."""
    held_out: bool | None
    """Whether training never saw that corpus; None if that is not known."""
    train_tokens: int | None
    record: list[dict[str, float]]
    """The course of its training."""
    flagged: str | None
    """What deviated when it was imported there from files, as `saes.quality` has it."""


@dataclass(frozen=True)
class Found:
    """One dictionary found in a file, a folder or a repository; `load` reads its tensors."""

    format: str
    """A key of `atlas.ingest.importing.formats.FORMATS`."""
    why: str
    """One clause: what gave the format away."""
    place: str
    """Its file or folder inside the source, '.' for the source itself."""
    model: str | None
    """The model as the publisher names it; None where that is not said."""
    inputs: tuple[Place, ...] | None
    """Where it reads; None where that is not said, or is no hook point of ours (see `notes`)."""
    outputs: tuple[Place, ...] | None
    """Where what it reconstructs belongs, likewise."""
    d_in: int
    d_sae: int
    """Latents after import: a signed TopK of n latents has 2n."""
    d_out: int
    architecture: str
    """As in `SaeWeights.architecture`."""
    declared: dict[str, float]
    """Metrics the publisher states, by our names: l0, explained_variance, mse, ce_recovered, …"""
    conventions: dict[str, Any]
    """JSON: 'published', its configuration as it was found; 'notes', one sentence for each thing
    folded or assumed; 'commit' of the repository it came from."""
    load: Callable[[], SaeWeights]
    """Reads it: float32, on the CPU; BadInput if a tensor is missing, misshapen or not finite."""
    origin: Origin | None = None
    """Of one in another atlas; then nothing about it is read from names of files, or assumed."""


@dataclass(frozen=True)
class Source:
    """The files to look through."""

    name: str
    """As the user gave it: for messages."""
    root: Path
    """A folder."""
    files: tuple[PurePosixPath, ...]
    """Relative to `root`, in natural order ('layer_2' before 'layer_10')."""
    full_name: str
    """Repository id, or absolute path, of `root`: what publishers say by folder names is here."""
    commit: str | None = None
    """Of the repository."""
    wait: float = 0.0
    """Seconds to wait for another process's lock on a file."""

    def matching(self, *patterns: str) -> list[Path]:
        """Paths of the files whose name matches one of the patterns ('*.pt', 'params.npz')."""
        return [
            self.root / file
            for file in self.files
            if any(fnmatch.fnmatchcase(file.name, pattern) for pattern in patterns)
        ]

    def place(self, path: Path) -> str:
        """A path inside the source as `Found.place` has it."""
        return path.relative_to(self.root).as_posix()

    def full_path(self, path: Path) -> str:
        """The same with the repository's id or the folders above it, for what their names say."""
        return f"{self.full_name}/{self.place(path)}"


@dataclass(frozen=True)
class Format:
    """A way in which dictionaries are published."""

    name: str
    """What `--format` calls it."""
    summary: str
    """One line: whose format, and which architectures."""
    looks_for: str
    """The files that give it away, for the message when nothing is recognised."""
    detect: Callable[[Source], list[Found]]
    """All dictionaries of this format; [] if there are none, BadInput for one that is surely of
    this format and cannot be read."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; BadInput if the file is missing, damaged or something else."""
    try:
        loaded = json.loads(path.read_text("utf-8"), parse_constant=_no_number)
    except (OSError, ValueError) as error:  # UnicodeDecodeError and JSONDecodeError among them
        raise BadInput(f"{path} cannot be read as JSON ({error}); get it again.") from error
    if not isinstance(loaded, dict):
        raise BadInput(f"{path} holds no JSON object; get it again from its publisher.")
    return loaded


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number")


def read_pickle(path: Path) -> Any:
    """What torch.load gives of tensors and plain values only: nothing in the file is executed.

    Tensors are mapped from the file where its layout allows it, not read.
    Raises BadInput for a damaged file and for one that holds anything else.
    """
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInput(
            f"{path} is damaged, or holds Python objects beside tensors, which could run code and "
            "are not loaded; get it as safetensors, or save its state_dict alone."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BadInput(
            f"{path} cannot be read as a PyTorch file ({first_line(error)}); get it again."
        ) from error


def first_line(error: Exception) -> str:
    """What an error says, without the rest."""
    return (str(error) or type(error).__name__).splitlines()[0]


class Tensors:
    """The tensors of one file, taken by name and shape.

    Shapes are known at once; a tensor is read when it is taken. `done` refuses tensors that
    nobody took: a file with more in it than the format says is of another format.
    """

    def __init__(
        self,
        path: Path,
        shapes: Mapping[str, tuple[int, ...]],
        read: Callable[[str], Tensor],
    ) -> None:
        self.path = path
        self.shapes = dict(shapes)
        self._read = read
        self._taken: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> Tensors:
        """Of a .safetensors, .npz or PyTorch file; BadInput if it cannot be read."""
        if path.suffix == ".safetensors":
            return cls(path, safetensors_shapes(path), partial(_read_safetensors, path))
        if path.suffix == ".npz":
            return cls(path, npz_shapes(path), partial(_read_npz, path))
        loaded = read_pickle(path)
        if not isinstance(loaded, dict):
            raise BadInput(f"{path} holds no named tensors; get its state_dict from its publisher.")
        return cls.of(path, loaded)

    @classmethod
    def of(cls, path: Path, values: Mapping[str, Any]) -> Tensors:
        """Of what `read_pickle` returned; what is no tensor is left out."""
        tensors = {name: t for name, t in values.items() if isinstance(t, Tensor)}
        return cls(path, {name: tuple(t.shape) for name, t in tensors.items()}, tensors.__getitem__)

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    def shape(self, name: str, ndim: int) -> tuple[int, ...]:
        """The shape of a tensor that must be there and have so many dimensions."""
        if name not in self.shapes:
            seen = ", ".join(sorted(self.shapes)) or "no tensor"
            raise BadInput(
                f"{self.path} has no {name!r}, only {seen}; it is incomplete or of another format "
                "(--format)."
            )
        shape = self.shapes[name]
        if len(shape) != ndim:
            raise BadInput(
                f"{name!r} in {self.path} has {len(shape)} dimensions instead of {ndim}; it is of "
                "another format (--format)."
            )
        return shape

    def take(self, name: str, *shape: int) -> Tensor:
        """A tensor as float32; BadInput if missing, of another shape, or not finite."""
        found = self.shape(name, len(shape))
        if found != shape:
            raise BadInput(
                f"{name!r} in {self.path} has the shape {found} instead of {shape}; the file and "
                "its configuration do not belong together."
            )
        self._taken.add(name)
        tensor = self._read(name).detach().to(torch.float32).contiguous()
        if not tensor.isfinite().all():
            raise BadInput(
                f"{name!r} in {self.path} holds values that are not finite; the file is damaged, "
                "or the training diverged."
            )
        return tensor

    def take_scalar(self, name: str) -> float:
        """A tensor of one value."""
        shape = self.shapes.get(name, ())
        return float(self.take(name, *([1] * len(shape))))

    def ignore(self, *names: str) -> None:
        """Leave tensors that have nothing to do with what the dictionary computes."""
        self._taken.update(names)

    def done(self) -> None:
        """BadInput if tensors are left."""
        left = sorted(set(self.shapes) - self._taken)
        if left:
            raise BadInput(
                f"{self.path} also has {', '.join(left)}, which this format does not know; "
                "without them it might compute something else, so it is not imported."
            )


def safetensors_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a safetensors file, without reading its tensors."""
    try:
        with safe_open(path, framework="pt") as stored:
            names = list(stored.keys())
            return {name: tuple(stored.get_slice(name).get_shape()) for name in names}
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read ({first_line(error)}); get it again.") from error


def npz_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a NumPy .npz file, without reading its arrays."""
    shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                with archive.open(member) as stream:
                    version = npy.read_magic(stream)
                    header = npy.read_array_header_1_0 if version == (1, 0) else _later_header
                    shapes[member.removesuffix(".npy")] = tuple(header(stream)[0])
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read ({first_line(error)}); get it again.") from error
    return shapes


def _later_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    return npy.read_array_header_2_0(stream)


def _read_safetensors(path: Path, name: str) -> Tensor:
    try:
        with safe_open(path, framework="pt") as stored:
            tensor: Tensor = stored.get_tensor(name)
            return tensor
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path} cannot be read ({first_line(error)}); get it again.") from error


def _read_npz(path: Path, name: str) -> Tensor:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return torch.from_numpy(np.ascontiguousarray(stored[name]))
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} cannot be read ({first_line(error)}); get it again.") from error


_TRANSFORMER_LENS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    # A copy of the residual stream before ln2, made for patching the MLP's input alone.
    "hook_mlp_in": "resid_mid",
    "ln2.hook_normalized": "mlp_norm",
    "attn.hook_z": "attn_z",
    "mlp.hook_in": "mlp_in",
    "mlp.hook_out": "mlp_out",
    "mlp.hook_post": "mlp_act",
}


def place_of_transformer_lens(name: str) -> Place | None:
    """The place of a TransformerLens 3.9 hook name ('blocks.5.hook_resid_post'), None if not ours.

    Versions before 3 fired a LayerNorm's 'ln2.hook_normalized' behind its gain and bias, where
    `mlp_in` is; see `atlas.names.HOOKS`.
    """
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    hook = match and _TRANSFORMER_LENS.get(match[2])
    return (int(match[1]), hook) if match and hook else None


def transformer_lens_name(place: Place) -> str:
    """The TransformerLens 3.9 hook name of a place of ours."""
    layer, hook = place
    return f"blocks.{layer}.{_TO_TRANSFORMER_LENS[hook]}"


_TO_TRANSFORMER_LENS = {
    ours: theirs
    for theirs, ours in _TRANSFORMER_LENS.items()
    if theirs not in ("hook_mlp_in", "mlp.hook_out")
}


_BLOCKS = r"(?:.*\.)?(?:layers|layer|h|blocks|block)\.(\d+)"
_ATTENTION = r"(?:self_attn|self_attention|attention|attn)"
_MLP = r"(?:mlp|feed_forward|ffn)"

_MODULE_OUTPUTS = (
    (r"", "resid_post"),
    (rf"\.{_MLP}", "mlp_out"),
    (rf"\.{_ATTENTION}", "attn_out"),
    (r"\.pre_feedforward_layernorm", "mlp_in"),  # of Gemma 2 and 3, and the next
    (r"\.post_feedforward_layernorm", "mlp_out"),
)
_MODULE_INPUTS = (
    (r"", "resid_pre"),
    (rf"\.{_MLP}", "mlp_in"),
    (r"\.self_attn\.o_proj", "attn_z"),
)


def place_of_module(name: str, side: str = "output") -> Place | None:
    """What leaves or enters a Hugging Face module, None if that is no place of ours.

    name: as in named_modules(), with or without what stands before the blocks: 'layers.5',
        'gpt_neox.layers.5.mlp', 'model.layers.5.self_attn', 'transformer.h.5.attn'.
    side: 'output' or 'input'.
    """
    for end, hook in _MODULE_OUTPUTS if side == "output" else _MODULE_INPUTS:
        match = re.fullmatch(_BLOCKS + end, name)
        if match:
            return int(match[1]), hook
    return None


def doubled(W_enc: Tensor, b_enc: Tensor, W_dec: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A dictionary of n signed latents as one of 2n that are never negative.

    Latent n + i is latent i where it was negative, so the k largest magnitudes are the k largest
    of these, and the sum over the decoder is the same.
    """
    return (
        torch.cat([W_enc, -W_enc], dim=1),
        torch.cat([b_enc, -b_enc]),
        torch.cat([W_dec, -W_dec]),
    )


def gated_threshold(b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> Tensor:
    """The threshold (d_sae,) that makes a JumpReLU of a gated encoder.

    With the encoder W_enc * exp(r_mag) and the bias b_mag, the gate x @ W_enc + b_gate > 0 is
    pre > b_mag - b_gate * exp(r_mag) (Rajamanoharan et al. 2024a, §3.3).
    """
    return b_mag - b_gate * r_mag.exp()


def setting(config: Mapping[str, Any], name: str, kind: type[Any], path: Path) -> Any:
    """An entry of a configuration that must be there and of that type; BadInput otherwise."""
    value = config.get(name)
    accepted = (int, float) if kind is float else kind
    wrong = not isinstance(value, accepted) or (kind is not bool and isinstance(value, bool))
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        seen = "is missing" if name not in config else f"is {value!r}"
        raise BadInput(
            f"{name!r} {seen} in {path}, where {_KINDS[kind]} is needed; correct it, or get the "
            "file again."
        )
    return value


_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    dict: "an object",
}


def known(value: str, choices: Iterable[str], what: str, path: Path) -> str:
    """`value` if it is one of the choices; BadInput that names them otherwise."""
    choices = list(choices)
    if value not in choices:
        raise BadInput(
            f"{what} {value!r} in {path} is unknown to this version, which knows "
            f"{', '.join(choices)}; export it from its library in one of these."
        )
    return value
