"""Similar layers: distances against plain NumPy, groups that are runs of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_model, make_text

from atlas.ingest.models.language_model import LanguageModel
from atlas.ingest.models.sites import HookPoint
from atlas.ingest.text import reference as references
from atlas.ingest.text.contexts import batches, stream_contexts
from atlas.ingest.text.corpus import Document
from atlas.ingest.training.layer_groups import angular_distances, merge_neighbours, similar_layers


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> LanguageModel:
    folder = make_model(tmp_path_factory.mktemp("model"), n_layers=4)
    return LanguageModel.load(str(folder), device="cpu")


@pytest.fixture(scope="module")
def stream(model):
    documents = [Document(f"#{i}", make_text(60, i)) for i in range(6)]
    return references.stream(references.build("tiny", "tiny", documents), model.tokenizer)


def test_distances_are_mean_angles(model, stream):
    points = [HookPoint(layer, "resid_post") for layer in range(4)]
    found = angular_distances(model, points, stream, 32)
    rows = [
        torch.stack(model.run(batch, points)).double().numpy()
        for batch in batches(stream_contexts(stream, 32, model.bos_id), 500, model.pad_id)
    ]
    x = np.concatenate(rows, axis=1)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    for i in range(4):
        for j in range(4):
            if i != j:
                angle = np.arccos((x[i] * x[j]).sum(1)).mean() / np.pi
                assert found[i, j] == pytest.approx(angle, abs=1e-5)
    groups = similar_layers(model, points, 2, stream, 32)
    assert [point for group in groups for point in group] == points


@given(st.integers(1, 8), st.data())
def test_groups_are_runs(n, data):
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    distances = rng.random((n, n))
    distances += distances.T
    n_groups = data.draw(st.integers(1, n))
    points = [HookPoint(layer, "resid_post") for layer in range(n)]
    groups = merge_neighbours(points, distances, n_groups)
    assert len(groups) == n_groups
    assert [point for group in groups for point in group] == points


def test_the_nearest_layers_go_together():
    place = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 3.0])
    distances = np.abs(place[:, None] - place)
    points = [HookPoint(layer, "mlp_out") for layer in range(6)]
    groups = merge_neighbours(points, distances, 3)
    assert [[point.layer for point in group] for group in groups] == [[0, 1, 2], [3, 4], [5]]
