"""What an ingest will do, decided and checked before anything long begins."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atlas.errors import BadInput
from atlas.ingest.models.randomize import Randomization, parse_randomization
from atlas.names import HOOKS, SaeName, check_model_name, check_variant

ALGORITHM = 2
"""Raised whenever the same options would yield other numbers: a work folder never mixes two."""

_COUNT = re.compile(r"(\d+(?:\.\d+)?)([kMG]?)", re.ASCII)
_FACTORS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_EDGE_BYTES = 1 << 20


@dataclass(frozen=True)
class IngestOptions:
    """The options of `atlas ingest`, as given."""

    model: str
    """Hub id or folder."""
    corpus: str | None = None
    """Text to train on; None trains on the atlas's own reference documents."""
    name: str | None = None
    """Name of the model in the atlas; the last part of `model` if None."""
    revision: str | None = None
    randomize: str | None = None
    """KIND or KIND=DRAW: make the weights random, see `atlas.ingest.models.randomize`."""
    layers: str = "all"
    hook: str = "resid_post"
    variant: str | None = None
    arch: str = "topk"
    """Architectures of SAEs to train, separated by commas; every one with every width and k."""
    width: str = "8x"
    k: str = "16"
    settings: tuple[str, ...] = ()
    """NAME=VALUE of architectures' own settings."""
    strategy: str | None = None
    """NAME or NAME=VALUE: see `atlas.ingest.training.sweep.STRATEGIES`."""
    partners: tuple[str, ...] = ()
    """NAME@LAYERS of models in the atlas that a crosscoder reads beside this one."""
    sae: str | None = None
    """Published SAEs to import in place of training: a folder, a file, or REPO[:SUBFOLDER]."""
    format: str = "auto"
    strict: bool = False
    """Refuse imported SAEs that do not do what their publisher declares."""
    log: str | None = None
    """Folder for the course of the training."""
    train_tokens: str = "2M"
    reference_tokens: str = "300k"
    context: int = 128
    seed: int = 0
    device: str = "auto"
    block_path: str | None = None
    text_field: str | None = None
    licence: str | None = None
    """Of the text, kept with a new atlas's reference corpus."""


Point = tuple[int, str]
"""Layer and hook."""


@dataclass(frozen=True)
class PlannedSae:
    """One SAE of a plan."""

    name: SaeName
    inputs: tuple[Point, ...]
    """The hook points it reads, side by side."""
    outputs: tuple[Point, ...]
    """Those it reconstructs."""
    arch: str
    d_sae: int
    k: int | None
    """The mean number of active features that training aims at; None if imported."""
    settings: tuple[tuple[str, float], ...] = ()
    published: str | None = None
    """Of an imported one, a hash of its files and how they were read."""
    partners: tuple[tuple[str, Point], ...] = ()
    """Hook points of other models that it reads and reconstructs behind those: name and point."""

    @property
    def key(self) -> str:
        """Its name within the model, which also names files."""
        return str(self.name).removeprefix(f"{self.name.model}/")


@dataclass(frozen=True)
class Partner:
    """Another model that crosscoders of a plan read."""

    model: str
    """Name in the atlas."""
    model_sha256: str
    config_sha256: str
    tokenizer_sha256: str
    block_path: str


@dataclass(frozen=True)
class Plan:
    """An ingest with every choice made; equal plans give equal SAEs."""

    model: str
    """Name in the atlas."""
    model_sha256: str
    """Of the weights, those of a randomised model as they have become."""
    config_sha256: str
    """Of the model's configuration, by which the same weights compute this or that."""
    tokenizer_sha256: str
    block_path: str
    saes: tuple[PlannedSae, ...]
    strategy: str | None
    train_tokens: int | None
    """None where nothing is trained."""
    context: int
    seed: int
    corpus: str | None
    """Fingerprint of the training text."""
    partners: tuple[Partner, ...] = ()

    @property
    def sha256(self) -> str:
        """Identity of the run in an atlas: a hash of every choice."""
        return _sha256(asdict(self))


@dataclass(frozen=True)
class Circumstances:
    """What else the bits of a result depend on: work done in others is never gone on with."""

    reference: str
    """Hash of the atlas's reference corpus, or how many tokens a new one shall have."""
    device: str
    threads: int
    """Sums of floats depend on how many threads share them."""
    versions: dict[str, str]

    def key(self, plan: Plan) -> str:
        """Name of the work folder for that plan."""
        return _sha256([plan.sha256, asdict(self), ALGORITHM])[:16]


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def parse_count(text: str, option: str) -> int:
    """'300k' → 300,000; BadInput unless a positive number with an optional k, M or G."""
    match = _COUNT.fullmatch(text.strip())
    count = int(float(match[1]) * _FACTORS[match[2]]) if match else 0
    if count < 1:
        raise BadInput(
            f"{option} {text!r} is not a positive number; write it as 300000, 300k or 2M."
        )
    return count


def parse_layers(text: str, n_layers: int, option: str = "--layers") -> tuple[int, ...]:
    """'0,2-4' → (0, 2, 3, 4) and 'all' → every layer; BadInput outside 0 … n_layers − 1."""
    if text.strip() == "all":
        return tuple(range(n_layers))
    layers: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip(), re.ASCII)
        if not match:
            raise BadInput(f"{option} {text!r} is no list of layers; write it as 0,2-4 or all.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise BadInput(
                f"{option} {text!r} counts down at {part.strip()}; write {last}-{first}."
            )
        if last >= n_layers:
            raise BadInput(
                f"{option} {text!r} names layer {last}, but the model has layers 0 to "
                f"{n_layers - 1}; choose among these."
            )
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def parse_width(text: str, d_in: int) -> int:
    """'1024' → 1,024 and '8x' → 8 · d_in features; BadInput if not a positive whole number."""
    match = re.fullmatch(r"(\d+)(x?)", text.strip(), re.ASCII)
    d_sae = int(match[1]) * (d_in if match[2] else 1) if match else 0
    if d_sae < 1:
        raise BadInput(f"--width {text!r} is no number of features; write it as 1024 or 8x.")
    return d_sae


def parse_list(text: str, option: str) -> tuple[str, ...]:
    """'4x, 16x' → ('4x', '16x'); BadInput where an entry is empty or comes twice."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found) or len(set(found)) < len(found):
        raise BadInput(
            f"{option} {text!r} has an empty or a repeated entry; separate values by commas."
        )
    return found


def parse_hooks(text: str) -> tuple[str, str | None]:
    """'resid_post' → ('resid_post', None), 'mlp_in:mlp_out' → both; BadInput for other hooks."""
    first, colon, second = text.partition(":")
    for hook in (first, second) if colon else (first,):
        if hook not in HOOKS:
            raise BadInput(f"--hook {text!r} is none of {', '.join(HOOKS)}, nor IN:OUT of these.")
    return first, second if colon else None


def parse_settings(given: Sequence[str]) -> dict[str, float]:
    """('bandwidth=0.001',) → {'bandwidth': 0.001}; BadInput where one is no NAME=NUMBER."""
    found: dict[str, float] = {}
    for one in given:
        name, _, value = one.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise BadInput(
                f"--set {one!r} is no NAME=NUMBER; write it as bandwidth=0.001."
            ) from None
    return found


def check_options(options: IngestOptions) -> None:
    """Refuse what is wrong whatever the model, before one is loaded."""
    parse_count(options.train_tokens, "--train-tokens")
    parse_count(options.reference_tokens, "--reference-tokens")
    parse_layers(options.layers if options.layers != "all" else "0", 10**9)
    for width in parse_list(options.width, "--width"):
        parse_width(width, 1)
    for k in parse_list(options.k, "--k"):
        parse_count(k, "--k")
    parse_settings(options.settings)
    check_variant(options.variant)
    # A file may be an atlas, which knows random models; what it is tells `find_published`.
    published = options.sae is not None and not Path(options.sae).expanduser().is_file()
    if parse_randomization(options.randomize) and published:
        raise BadInput(
            "--randomize is for SAEs that are trained here, for no published one knows this random "
            "model; leave it out, or --sae."
        )
    if options.partners and options.sae is not None:
        raise BadInput("--with is for crosscoders that are trained; leave it out, or --sae.")
    if options.name is not None:
        check_model_name(options.name)
    parse_hooks(options.hook)
    if options.context < 2:
        raise BadInput(f"--context {options.context} is too short; give at least 2 tokens.")
    if not 0 <= options.seed < 2**63:
        raise BadInput(f"--seed {options.seed} is out of range; give a number from 0 to 2^63 - 1.")


def default_name(source: str, randomized: Randomization | None = None) -> str:
    """'EleutherAI/pythia-70m' or 'models/pythia-70m/' → 'pythia-70m', or 'pythia-70m-shuffled'."""
    name = (
        Path(source).resolve().name if Path(source).is_dir() else source.rstrip("/").split("/")[-1]
    )
    return randomized.name(name) if randomized else name


def corpus_fingerprint(source: str, text_field: str | None) -> str:
    """A hash that changes with the corpus, cheap for any size.

    Of each file its name, its length and its first and last MiB; of a data set on the hub its name.
    """
    digest = hashlib.sha256(f"{text_field}\0".encode())
    path = Path(source).expanduser()
    if not path.exists():
        digest.update(source.encode())
        return digest.hexdigest()
    root = path if path.is_dir() else path.parent
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            size = file.stat().st_size
            digest.update(f"{file.relative_to(root)}\0{size}\0".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_EDGE_BYTES))
                if size > _EDGE_BYTES:
                    stream.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
                    digest.update(stream.read())
    return digest.hexdigest()
