"""Lets imported SAEs into an atlas: each is judged first; what deviates is flagged or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from atlas.errors import BadInput
from atlas.ingest.importing.conformance import SAMPLE_TOKENS, Verdict, conformance
from atlas.ingest.measuring.quality import spread
from atlas.ingest.models.sites import Placed
from atlas.ingest.prepare import Prepared
from atlas.ingest.text.contexts import batches, by_length, stream_contexts
from atlas.ingest.text.tokens import TokenStream
from atlas.ingest.workspace import Workspace
from atlas.progress import Progress

_BATCH_TOKENS = 1 << 11


def admit(
    prepared: Prepared,
    saes: Mapping[str, Placed],
    measured: Mapping[str, Mapping[str, float]],
    stream: TokenStream,
    work: Workspace,
    progress: Progress,
) -> dict[str, str]:
    """What `saes.quality` shall say of each imported SAE; nothing of trained ones.

    measured: metrics of each that were measured by now.

    BadInput where one deviates and `--strict` was given.
    """
    if not prepared.found:
        return {}
    done = work.read("judged")
    if done is None:
        done = _judge(prepared, saes, measured, stream, progress)
        work.finish("judged", **done)
    verdicts = {key: Verdict(one["quality"], tuple(one["findings"])) for key, one in done.items()}
    names = {sae.key: str(sae.name) for sae in prepared.plan.saes}
    deviating = {key: verdict for key, verdict in verdicts.items() if not verdict.sound}
    if deviating and prepared.options.strict:
        said = " ".join(f"{names[key]}: {one.quality}" for key, one in deviating.items())
        raise BadInput(f"Nothing was imported, as --strict was given. {said}")
    for key, verdict in deviating.items():
        progress.notice(f"{names[key]} is flagged: {verdict.quality}")
    return {key: verdict.quality for key, verdict in verdicts.items()}


def _judge(
    prepared: Prepared,
    saes: Mapping[str, Placed],
    measured: Mapping[str, Mapping[str, float]],
    stream: TokenStream,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    model, plan = prepared.model, prepared.plan
    contexts = list(stream_contexts(stream, plan.context, model.bos_id))
    chosen = by_length(spread(contexts, SAMPLE_TOKENS))
    sample = list(batches(chosen, _BATCH_TOKENS, model.pad_id))
    found: dict[str, dict[str, Any]] = {}
    with progress.task("judging SAEs", len(saes), "SAEs") as task:
        for key, (sites, weights) in saes.items():
            verdict = conformance(prepared.found[key], weights, sites, model, sample, measured[key])
            found[key] = asdict(verdict)
            task.advance()
    return found
