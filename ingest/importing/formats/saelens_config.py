"""Configurations of SAELens, brought to one form: what is computed, where, and what is told of it.

Version 6 nests where the SAE belongs in `metadata`; before, everything lay flat and under older
names, and what an entry's absence means has changed (SAELens 6.54, handle_pre_6_0_config).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.importing.formats.canonical import checked_k
from atlas.ingest.importing.formats.found import (
    Place,
    known,
    place_of_module,
    place_of_transformer_lens,
    read_json,
    setting,
)


@dataclass(frozen=True)
class _Architecture:
    ours: str
    kind: str
    transcoder: bool = False
    skip: bool = False


_ARCHITECTURES = {
    "standard": _Architecture("standard", "relu"),
    "gated": _Architecture("gated", "gated"),
    "topk": _Architecture("topk", "topk"),
    "abstopk": _Architecture("abstopk", "abstopk"),
    "jumprelu": _Architecture("jumprelu", "jumprelu"),
    "batchtopk": _Architecture("batchtopk", "batchtopk"),
    "matryoshka_batchtopk": _Architecture("matryoshka", "batchtopk"),
    "matching_pursuit": _Architecture("matching-pursuit", "matching_pursuit"),
    "transcoder": _Architecture("transcoder", "relu", transcoder=True),
    "skip_transcoder": _Architecture("skip-transcoder", "relu", transcoder=True, skip=True),
    "jumprelu_transcoder": _Architecture("transcoder", "jumprelu", transcoder=True),
    "jumprelu_skip_transcoder": _Architecture(
        "skip-transcoder", "jumprelu", transcoder=True, skip=True
    ),
}

_NORMALIZATIONS = (
    "none",
    "expected_average_only_in",
    "constant_norm_rescale",
    "layer_norm",
    "covariance_whitening",
)

_CENTRED_RELEASES = (
    "jbloom/GPT2-Small-SAEs-Reformatted",
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
    "tommmcgrath/gpt2-small-mlp-out-saes",
)
"""Repositories whose SAEs read a model with centred weights, which their files do not say."""

_CENTRED = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
"""Hook points that `center_writing_weights` changes: it takes the mean over d_model away."""


@dataclass
class Config:
    """What one configuration says. `notes` has a sentence for each thing folded or assumed."""

    path: Path
    published: dict[str, Any]
    flat: dict[str, Any]
    """Settings of the SAE, by the names of version 6."""
    metadata: dict[str, Any]
    before_6: bool
    name: str
    """The architecture, as SAELens calls it."""
    of_centred_release: bool
    """Whether its repository is known for a model with centred weights."""
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, full_path: str) -> Config:
        """Read a `cfg.json`; BadInput if it is damaged, or says what cannot be imported."""
        published = read_json(path)
        before_6 = not isinstance(published.get("metadata"), dict)
        if before_6:
            flat = _modernised(published, path)
            metadata = published | {"hook_name": _old_hook(published)}
        else:
            flat, metadata = published, published["metadata"]
        name = flat.get("architecture", "standard" if before_6 else None)
        if name == "temporal":
            raise BadInput(
                f"{path} is a temporal SAE, whose code of a token depends on those before it by "
                "attention; no dictionary of single activations computes that, so it is not "
                "imported."
            )
        known(str(name), _ARCHITECTURES, "the architecture", path)
        release = any(release in full_path for release in _CENTRED_RELEASES)
        config = cls(path, published, flat, metadata, before_6, str(name), release)
        config._refuse()
        config._tell()
        return config

    # What it computes -----------------------------------------------------------------------

    @property
    def _architecture(self) -> _Architecture:
        return _ARCHITECTURES[self.name]

    @property
    def architecture(self) -> str:
        """What it was trained as, by our name: BatchTopK is saved as JumpReLU, for example."""
        trained = self.metadata.get("training_architecture")
        if trained is None or self._architecture.transcoder:
            return self._architecture.ours
        return _ARCHITECTURES[trained].ours if trained in _ARCHITECTURES else str(trained)

    @property
    def kind(self) -> str:
        """How its tensors are laid out and activated."""
        return self._architecture.kind

    @property
    def tied(self) -> bool:
        """Whether the encoder is the decoder transposed."""
        return self.kind == "matching_pursuit"

    @property
    def skip(self) -> bool:
        """Whether it has W_skip."""
        return self._architecture.skip

    @property
    def normalize(self) -> str:
        """What is done to its input first."""
        return str(self.flat.get("normalize_activations", "none"))

    @property
    def apply_b_dec(self) -> bool:
        """Whether b_dec is taken from the input."""
        return not self._architecture.transcoder and bool(
            self.flat.get("apply_b_dec_to_input", True)
        )

    @property
    def rescaled(self) -> bool:
        """Whether activations are in units of their decoder direction's length."""
        return self.kind in ("topk", "abstopk", "batchtopk") and bool(
            self.flat.get("rescale_acts_by_decoder_norm", False)
        )

    @property
    def finetuned(self) -> bool:
        """Whether `scaling_factor` counts."""
        return bool(self.published.get("finetuning_scaling_factor", False))

    @property
    def centred(self) -> bool:
        """Whether it reads and writes activations less their mean over d_model."""
        return (
            self._centred_model()
            and self.normalize != "layer_norm"  # which takes that mean away, and gives it back
            and self.inputs is not None
            and self.inputs == self.outputs
            and self.inputs[0][1] in _CENTRED
        )

    def k(self, d_in: int, d_sae: int) -> int | None:
        """Most latents at once; for those without such a number, what training aimed at."""
        if self.kind in ("topk", "abstopk"):
            return checked_k(setting(self.flat, "k", int, self.path), d_sae, self.path)
        if self.kind == "matching_pursuit":
            if self.flat.get("max_iterations") is None:
                return d_in
            return int(setting(self.flat, "max_iterations", int, self.path))
        trained = self._nested("training_architecture_details")
        aims = (self.flat.get("k"), trained.get("k"), trained.get("target_l0"))
        return next((round(aim) for aim in aims if isinstance(aim, int | float)), None)

    @property
    def residual_threshold(self) -> float:
        """Of matching pursuit: the length of what is left at which it stops."""
        return float(
            setting(
                {"residual_threshold": 1e-2} | self.flat, "residual_threshold", float, self.path
            )
        )

    def _nested(self, key: str) -> dict[str, Any]:
        """A part of the metadata that is missing or empty as often as not."""
        value = self.metadata.get(key)
        return value if isinstance(value, dict) else {}

    def check_sizes(self, d_in: int, d_sae: int, d_out: int) -> None:
        """BadInput if the sizes of the tensors are not those it states."""
        for name, size in (("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)):
            stated = self.flat.get(name)
            if stated is not None and stated != size:
                raise BadInput(
                    f"{self.path} says {name} {stated}, but the tensors beside it say {size}; they "
                    "do not belong together, or a matrix is transposed."
                )

    # Where it belongs -----------------------------------------------------------------------

    @property
    def model(self) -> str | None:
        """The model, as SAELens names it."""
        return self.metadata.get("model_name")

    @property
    def inputs(self) -> tuple[Place, ...] | None:
        """Where it reads; None unless it is known where it writes, too."""
        return self._sites and (self._sites[0],)

    @property
    def outputs(self) -> tuple[Place, ...] | None:
        """Where what it reconstructs belongs."""
        return self._sites and (self._sites[1],)

    @property
    def _sites(self) -> tuple[Place, Place] | None:
        read = self._place("hook_name", "hf_hook_name")
        if not self._architecture.transcoder:
            return read and (read, read)
        written = self._place("hook_name_out", "hf_hook_name_out")
        return read and written and (read, written)

    def _place(self, key: str, hugging_face: str) -> Place | None:
        name = str(self.metadata.get(key) or "")
        module, _, side = str(self.metadata.get(hugging_face) or "").rpartition(".")
        place = place_of_module(module, side) if side in ("input", "output") else None
        return place or place_of_transformer_lens(name) or place_of_module(name)

    def declared(self, d_sae: int) -> dict[str, float]:
        """Metrics stated in it: of the end of training."""
        if self.before_6:
            return {}
        l0, dead = self.metadata.get("l0"), self.metadata.get("num_dead_features")
        stated = {"l0": l0, "dead_share": dead / d_sae if isinstance(dead, int | float) else None}
        return {name: float(v) for name, v in stated.items() if isinstance(v, int | float)}

    # What is told of it ---------------------------------------------------------------------

    def _centred_model(self) -> bool:
        loading = self._nested("model_from_pretrained_kwargs")
        return bool(loading.get("center_writing_weights", self.of_centred_release))

    def _tell(self) -> None:
        """Write the notes."""
        note = self.notes.append
        if self.kind == "batchtopk":
            note("A checkpoint of a training: topk_threshold is the threshold of every latent.")
        elif self.architecture != self._architecture.ours:
            note(f"Trained as {self.architecture}, published as {self.name}.")
        if self.kind == "gated":
            note("The gate is folded into a JumpReLU's threshold.")
        if self.kind == "abstopk":
            note("Each signed latent i is two: i where positive, d_sae / 2 + i where negative.")
        if self.rescaled:
            note("Lengths of decoder directions are folded into encoder and activations.")
        if self.normalize == "expected_average_only_in":
            note("The input's scale, of activation_scaler.json, is folded into the weights.")
        if self.normalize == "covariance_whitening":
            note("The whitening of the input is folded into encoder and decoder.")
        if self.flat.get("apply_b_dec_to_input") is None and not self._architecture.transcoder:
            note("apply_b_dec_to_input is not stated; it is taken as true, as SAELens does.")
        dtype = str(self.flat.get("dtype", "float32")).removeprefix("torch.")
        if dtype != "float32":
            note(f"SAELens computes it in {dtype}; here its stored weights are used in float32.")
        if self.metadata.get("prepend_bos") is False:
            note("Trained on contexts without a beginning-of-sequence token.")
        for key in ("hook_name", "hook_name_out"):
            found = self._place(key, f"hf_{key}")
            if self.metadata.get(key) and found is None:
                note(f"Its {key} {self.metadata[key]} is no hook point of the atlas.")
            if found and found[1] == "mlp_norm":
                note(
                    "A LayerNorm's hook_normalized was behind its gain until TransformerLens 3; if "
                    "it was trained so, on GPT-2 or Pythia, it reads mlp_in instead."
                )
        self._tell_processing()

    def _tell_processing(self) -> None:
        loading = self._nested("model_from_pretrained_kwargs")
        processed = sorted(key for key, value in loading.items() if value is True)
        if self.centred:
            whence = "its configuration" if loading else "SAELens's list of releases"
            self.notes.append(
                f"Trained on a model with center_writing_weights (by {whence}): activations less "
                "their mean over d_model, which is folded into W_enc; W_skip hands the mean on."
            )
        elif self._centred_model() and self._architecture.transcoder:
            self.notes.append(
                "Its target was centred over d_model (center_writing_weights); that mean of the "
                "activation is not reconstructed."
            )
        elif processed:
            self.notes.append(
                f"Trained on a model loaded with {', '.join(processed)}, which changes nothing at "
                "its hook point."
            )

    def _refuse(self) -> None:
        """BadInput for what the canonical form cannot express."""
        known(self.normalize, _NORMALIZATIONS, "normalize_activations", self.path)
        shape = str(self.flat.get("reshape_activations", "none"))
        known(shape, ("none", "hook_z"), "reshape_activations", self.path)
        if self._architecture.transcoder:
            if self.flat.get("apply_b_dec_to_input"):
                raise BadInput(
                    f"{self.path} is a transcoder with apply_b_dec_to_input, but b_dec belongs to "
                    "its output; set it to false if its library did not subtract b_dec."
                )
            if self.normalize in ("layer_norm", "constant_norm_rescale", "covariance_whitening"):
                raise BadInput(
                    f"{self.path} is a transcoder with normalize_activations {self.normalize!r} of "
                    "its input alone, which the atlas does not compute; it is not imported."
                )
        if self.tied and self.flat.get("stop_on_duplicate_support") is False:
            raise BadInput(
                f"{self.path} pursues without stop_on_duplicate_support, which the atlas does not "
                "compute; export it with that setting if its results allow it."
            )
        if self.tied and self.normalize == "covariance_whitening":
            raise BadInput(
                f"{self.path} whitens the input of a tied encoder, which cannot be folded; it is "
                "not imported."
            )
        if self.metadata.get("hook_head_index") is not None:
            raise BadInput(
                f"{self.path} reads one attention head alone (hook_head_index "
                f"{self.metadata['hook_head_index']}); the atlas has hook points for all heads."
            )
        self._refuse_processing()

    def _refuse_processing(self) -> None:
        loading = self._nested("model_from_pretrained_kwargs")
        changed = [
            key
            for key in ("fold_value_biases", "refactor_factored_attn_matrices")
            if loading.get(key)
        ]
        if changed and self.inputs and self.inputs[0][1] == "attn_z":
            raise BadInput(
                f"{self.path} was trained on a model loaded with {', '.join(changed)}, which "
                "changes attn_z; the atlas reads the model as published, so it is not imported."
            )
        if self.centred and (self.tied or self.normalize == "constant_norm_rescale"):
            raise BadInput(
                f"{self.path} reads a model with center_writing_weights, which cannot be folded "
                f"into {'a tied encoder' if self.tied else 'an input of constant length'}; it is "
                "not imported."
            )


def _modernised(old: dict[str, Any], path: Path) -> dict[str, Any]:
    """A configuration of before version 6 by the names of version 6."""
    new = dict(old)
    activation = old.get("activation_fn_str", old.get("activation_fn", "relu"))
    known(str(activation), ("relu", "topk"), "the activation function", path)
    if activation == "topk":
        if old.get("architecture", "standard") not in ("standard", "topk"):
            raise BadInput(
                f"{path} combines the activation function topk with the architecture "
                f"{old['architecture']!r}, which the atlas does not compute; it is not imported."
            )
        arguments = (
            setting(old, "activation_fn_kwargs", dict, path)
            if "activation_fn_kwargs" in old
            else {}
        )
        new |= {"architecture": "topk", "k": arguments.get("k", old.get("k"))}
        setting(new, "k", int, path)
    normalize = old.get("normalize_activations")
    if not isinstance(normalize, str):
        new["normalize_activations"] = "expected_average_only_in" if normalize else "none"
    new["architecture"] = new.get("architecture", "standard")
    return new


def _old_hook(old: dict[str, Any]) -> str | None:
    """The hook's name; the oldest configurations leave its layer to be filled in."""
    name = old.get("hook_name", old.get("hook_point"))
    layer = old.get("hook_layer", old.get("hook_point_layer"))
    return None if name is None else re.sub(r"\{layer\}", str(layer), str(name))
