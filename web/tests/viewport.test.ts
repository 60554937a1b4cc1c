import assert from "node:assert/strict";
import test from "node:test";
import * as v from "../src/graph/viewport.ts";
import { suffices, windowOf } from "../src/graph/windows.ts";
import type { GraphAnswer } from "../src/types.ts";

/** A small linear congruential generator: the same cases in every run. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (1664525 * state + 1013904223) % 2 ** 32) / 2 ** 32;
}

const close = (a: number, b: number, tolerance = 1e-6) =>
  assert.ok(Math.abs(a - b) <= tolerance, `${a} ≠ ${b}`);

function views(n: number): v.Viewport[] {
  const next = random(7);
  return Array.from({ length: n }, () => {
    const extent = {
      n_layers: 1 + Math.floor(next() * 30),
      n_features: 1 + Math.floor(next() * 40_000),
    };
    let view = v.whole(300 + 1500 * next(), 200 + 900 * next(), extent);
    for (let i = 0; i < 6; i++) {
      view = v.zoomed(view, 0.3 + 6 * next(), view.width * next(), view.height * next());
      view = v.panned(view, 2000 * (next() - 0.5), 2000 * (next() - 0.5));
    }
    return view;
  });
}

test("places on the canvas and in the graph are each other's inverse", () => {
  for (const view of views(200)) {
    close(v.fromX(view, v.toX(view, 1.3)), 1.3);
    close(v.fromY(view, v.toY(view, 0.37)), 0.37);
  }
});

test("whatever one does, the graph stays in view and the zoom within its limits", () => {
  for (const view of views(300)) {
    const span = view.y1 - view.y0;
    assert.ok(span > 0 && span <= 1 + 1e-9);
    assert.ok(view.y1 > 0 && view.y0 < 1);
    assert.ok(v.pitch(view) <= view.height, "a feature is smaller than the canvas");
    const [left, right] = [v.toX(view, 0), v.toX(view, view.extent.n_layers - 1)];
    assert.ok(left < view.width && right > 0);
    close(v.settle(view).y0, view.y0);
    close(v.settle(view).middle, view.middle);
  }
});

test("zooming keeps what is under the pointer, away from the edges", () => {
  const view = v.zoomed(v.whole(1200, 800, { n_layers: 12, n_features: 16_384 }), 40, 600, 420);
  for (const factor of [1.1, 3, 0.7]) {
    const next = v.zoomed(view, factor, 640, 300);
    close(v.fromY(next, 300), v.fromY(view, 300));
    close(v.fromX(next, 640), v.fromX(view, 640));
  }
});

test("layers move apart as one zooms in, never closer than all of them fit", () => {
  let view = v.whole(1200, 800, { n_layers: 12, n_features: 16_384 });
  let before = v.spacing(view);
  close(before, 100);
  for (let i = 0; i < 20; i++) {
    view = v.zoomed(view, 1.5, 600, 400);
    assert.ok(v.spacing(view) >= before - 1e-9);
    before = v.spacing(view);
  }
  close(before, 290);
});

test("a flight begins and ends where it should and does not leave the graph", () => {
  const [from, to] = [
    views(2)[0] as v.Viewport,
    v.whole(1000, 700, { n_layers: 5, n_features: 1000 }),
  ];
  const near = v.around(to, 3, 0.8);
  close(v.between(to, near, 0).y0, to.y0);
  close(v.between(to, near, 1).y1, near.y1);
  assert.ok(v.between(to, near, 0.5).y1 - v.between(to, near, 0.5).y0 < to.y1 - to.y0);
  assert.ok(from.width > 0);
});

test("the window asked for holds the view, and small moves ask for the same one", () => {
  for (const view of views(400)) {
    const window = windowOf(view);
    assert.ok(window.y0 <= Math.max(0, view.y0) + 1e-9 && window.y1 >= Math.min(1, view.y1) - 1e-9);
    assert.ok(window.y0 >= 0 && window.y1 <= 1);
    assert.ok(window.from >= 0 && window.to < view.extent.n_layers && window.from <= window.to);
    assert.ok(window.bins >= 32 && window.bins <= 320);
  }
  const view = v.around(v.whole(1200, 800, { n_layers: 12, n_features: 16_384 }), 5, 0.4);
  const distinct = new Set(
    Array.from({ length: 60 }, (_, i) => JSON.stringify(windowOf(v.panned(view, 0, i)))),
  );
  assert.ok(distinct.size <= 2, `${distinct.size} windows for a move of 60 pixels`);
});

test("what is loaded suffices where it holds the view, and bands never do", () => {
  const extent = { n_layers: 3, n_features: 1000 };
  const layers = [0, 1, 2].map((layer) => ({ layer, sae: "", n: 1000, n_features: 1000 }));
  const view = v.around(v.whole(900, 700, extent), 1, 0.5);
  const answer = {
    layers,
    from_layer: 0,
    to_layer: 2,
    y0: 0.4,
    y1: 0.6,
    complete: false,
    nodes: [{}],
    bands: [],
  } as unknown as GraphAnswer;
  assert.ok(suffices(answer, view));
  assert.ok(!suffices({ ...answer, y0: view.y0 + 0.001 }, view));
  assert.ok(!suffices({ ...answer, nodes: [], bands: [{}] } as unknown as GraphAnswer, view));
  assert.ok(suffices({ ...answer, y0: 0.5, y1: 0.5, complete: true }, view));
});
