"""Reads dictionaries that others published: every format the field writes, one module each.

`read_dictionaries` says what it found and why. A source may hold many dictionaries; none is read
before its `load` is called, and nothing in a file is ever executed.

    saelens              SAELens 6.54.12 and before 6       scale or whitening of the input, lengths
                                                            of decoder rows, gate, signs
    gemma-scope          Lieberum et al. 2024               scale of the embeddings
    gemma-scope-2        Google DeepMind 2025               -
    sparsify             eai-sparsify 1.3.3 and before      signs
    dictionary-learning  dictionary-learning 0.1.0          lengths of decoder rows, gate
    openai               openai/sparse_autoencoder 4965b94  -
    llama-scope          Language-Model-SAEs 1e710367       average norms, lengths of decoder rows
    llamascopium         Language-Model-SAEs 95281ac        lengths of decoder rows (in thresholds)
    qwen-scope           model cards, arXiv 2605.11887      -
    goodfire             model cards of January 2025        -
    circuit-tracer       circuit-tracer 4bb8c0e             several outputs into one, side by side
    atlas                the tables of another atlas        -

The second column is whose code or text each module follows, the third what it folds into the form
of `atlas.sae`. `Found.conventions` says it of each dictionary.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.importing.formats import (
    atlas,
    circuit_tracer,
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    llamascopium,
    openai,
    qwen_scope,
    saelens,
    sparsify,
)
from atlas.ingest.importing.formats.found import Format, Found, Source, first_line

_FORMATS: tuple[Format, ...] = (
    saelens.FORMAT,
    gemma_scope.FORMAT_1,
    gemma_scope.FORMAT_2,
    sparsify.FORMAT,
    dictionary_learning.FORMAT,
    openai.FORMAT,
    llama_scope.FORMAT,
    llamascopium.FORMAT,
    qwen_scope.FORMAT,
    goodfire.FORMAT,
    circuit_tracer.FORMAT,
    atlas.FORMAT,
)

FORMATS = {format.name: format for format in _FORMATS}
"""All formats, by the name that --format takes."""

_AT_MOST = 20 * 2**30
"""Bytes that are fetched from the hub at a time; more is for who names a part of it."""

_SUFFIXES = (".json", ".yaml", ".safetensors", ".npz", ".pt", ".pth", ".bin")
"""Files that can belong to a dictionary."""


def read_dictionaries(
    source: str, format: str = "auto", *, revision: str | None = None, wait: float = 0.0
) -> list[Found]:
    """The dictionaries in a file, a folder, or a repository of the Hugging Face hub.

    source: a path, or REPO[:SUBFOLDER]; a path that exists comes first.
    format: a key of `FORMATS`, or 'auto' to recognise it.
    revision: branch, tag or commit of the repository.
    wait: seconds to wait for another process's lock on an atlas.

    Raises BadInput where nothing, or more than one format, is recognised.
    """
    if format != "auto" and format not in FORMATS:
        raise BadInput(
            f"there is no format {format!r} of dictionaries; use auto or one of "
            f"{', '.join(FORMATS)}."
        )
    files = replace(_open(source, revision), wait=wait)
    formats = FORMATS.values() if format == "auto" else [FORMATS[format]]
    found = [one for tried in formats for one in tried.detect(files)]
    if not found:
        raise BadInput(_nothing(files, list(formats)))
    _check_unambiguous(files, found)
    if files.commit:
        commit = {"commit": files.commit}
        found = [replace(one, conventions=one.conventions | commit) for one in found]
    return sorted(found, key=lambda one: _natural(one.place))


def _check_unambiguous(source: Source, found: list[Found]) -> None:
    for i, one in enumerate(found):
        for other in found[:i]:
            parts, others = PurePosixPath(one.place).parts, PurePosixPath(other.place).parts
            n = min(len(parts), len(others))
            if one.format != other.format and parts[:n] == others[:n]:
                raise BadInput(
                    f"{one.place} in {source.name} could be {other.format} ({other.why}) or "
                    f"{one.format} ({one.why}); choose with --format."
                )


def _nothing(source: Source, formats: list[Format]) -> str:
    seen = ", ".join(str(file) for file in source.files[:8]) or "no file"
    more = f" and {len(source.files) - 8:,} more" if len(source.files) > 8 else ""
    wanted = "; ".join(f"{format.name}: {format.looks_for}" for format in formats)
    return (
        f"{source.name} holds no dictionary that is recognised: there is {seen}{more}, but none of "
        f"{wanted}."
    )


def _open(source: str, revision: str | None) -> Source:
    path = Path(source).expanduser()
    if path.is_file():
        return Source(
            source, path.parent, (PurePosixPath(path.name),), path.resolve().parent.as_posix()
        )
    if path.is_dir():
        return Source(source, path, _listing(path), path.resolve().as_posix())
    repository, _, part = source.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadInput(
            f"there is no file or folder {source}, and it is no repository of the hub either "
            "(OWNER/NAME or OWNER/NAME:SUBFOLDER); check the path."
        )
    part = part.strip("/")
    root = _fetch(repository, part, revision)
    inside = tuple(
        file
        for file in _listing(root)
        if not part or file == PurePosixPath(part) or PurePosixPath(part) in file.parents
    )
    commit = root.name if root.parent.name == "snapshots" else None
    return Source(source, root, inside, repository, commit)


def _listing(folder: Path) -> tuple[PurePosixPath, ...]:
    """All files below a folder but hidden ones, in natural order."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = [file.as_posix() for file in files if not any(p[0] == "." for p in file.parts)]
    return tuple(PurePosixPath(name) for name in sorted(names, key=_natural))


def _natural(name: str) -> list[Any]:
    """A key that sorts numbers in names by size."""
    return [(not p.isdigit(), int(p) if p.isdigit() else p) for p in re.split(r"(\d+)", name)]


def _fetch(repository: str, part: str, revision: str | None) -> Path:
    """The folder of a repository's snapshot with the files of that part."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    within = [f"{part}/*{suffix}" if part else f"*{suffix}" for suffix in _SUFFIXES]
    if part.endswith(_SUFFIXES):
        folder = f"{part.rpartition('/')[0]}/".lstrip("/")
        within = [part, f"{folder}*.json", f"{folder}*.yaml"]
    try:
        _check_size(HfApi(), repository, part, revision)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=within))
    except LocalEntryNotFoundError as error:
        raise BadInput(
            f"{repository} is not on this machine and the hub cannot be reached; fetch it where "
            "there is a network, and give the folder."
        ) from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BadInput(
            f"{repository} cannot be fetched from the hub ({first_line(error)}); check its name, "
            "the revision and your access."
        ) from error


def _check_size(api: Any, repository: str, part: str, revision: str | None) -> None:
    """BadInput if the part is too large to fetch by mistake; nothing if the hub is out of reach."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        listed = api.model_info(repository, revision=revision, files_metadata=True).siblings or []
    except HfHubHTTPError:
        raise
    except Exception:  # without a network the cached snapshot may do, which the caller finds out
        return
    inside = [
        file
        for file in listed
        if (not part or file.rfilename == part or file.rfilename.startswith(f"{part}/"))
        and file.rfilename.endswith(_SUFFIXES)
    ]
    if not inside:
        raise BadInput(
            f"{repository} has no file of a dictionary in {part or 'it'}; it has "
            f"{', '.join(sorted({file.rfilename.split('/')[0] for file in listed})[:8]) or 'none'}."
        )
    size = sum(file.size or 0 for file in inside)
    if size > _AT_MOST:
        largest = max(inside, key=lambda file: file.size or 0).rfilename
        raise BadInput(
            f"{repository}:{part} is {size / 2**30:,.0f} GiB in {len(inside):,} files; name a part "
            f"of it, such as {repository}:{largest.rpartition('/')[0] or largest}."
        )
