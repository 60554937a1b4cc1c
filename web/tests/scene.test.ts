import assert from "node:assert/strict";
import test from "node:test";
import { along, lowerBound, Scene } from "../src/graph/scene.ts";
import { toX, toY, whole } from "../src/graph/viewport.ts";
import { reach, rows } from "../src/parts/layout.ts";
import type { GraphAnswer } from "../src/types.ts";

/** Layers 0, 4 and 8 with features at (i + .5) / 10. */
function answer(edges: [number, number, number][]): GraphAnswer {
  const nodes = [0, 4, 8].flatMap((layer, x) =>
    Array.from({ length: 10 }, (_, i) => ({
      id: 100 * x + i,
      feature: `m/${layer}-h/${i}`,
      layer,
      y: (i + 0.5) / 10,
      label: null,
      density: 0.01,
      community: null,
    })),
  );
  const node = (id: number) => nodes.find((n) => n.id === id)!;
  return {
    at_least: 0.5,
    nodes,
    bands: [],
    layers: [0, 4, 8].map((layer) => ({ layer, sae: "", n: 10, n_features: 10 })),
    edges: edges.map(([a, b, value]) => ({
      a,
      b,
      value,
      layer_a: node(a).layer,
      layer_b: node(b).layer,
      ya: node(a).y,
      yb: node(b).y,
    })),
  } as unknown as GraphAnswer;
}

const view = whole(900, 1000, { n_layers: 3, n_features: 10 });

test("the node under the pointer is the nearest one", () => {
  const scene = new Scene(answer([]));
  for (const node of scene.nodes) {
    assert.equal(scene.nodeAt(view, toX(view, node.x) + 4, toY(view, node.y) - 5), node);
    assert.equal(scene.nodeAt(view, toX(view, node.x) + 30, toY(view, node.y)), null);
    assert.equal(scene.nodeAt(view, toX(view, node.x), toY(view, node.y) + 30), null);
  }
});

test("the edge under the pointer is found on its curve, ends and middle", () => {
  const scene = new Scene(
    answer([
      [1, 108, 0.9],
      [3, 103, 0.8],
    ]),
  );
  const [steep, level] = scene.edges;
  assert.equal(scene.edgeAt(view, toX(view, 0.5), toY(view, 0.5)), steep);
  assert.equal(scene.edgeAt(view, toX(view, 0.2), toY(view, 0.35)), level);
  assert.equal(scene.edgeAt(view, toX(view, 1.5), toY(view, 0.5)), null);
});

test("an edge's curve goes from end to end, evenly about its middle", () => {
  const edge = { ya: 0.2, yb: 0.6 };
  for (const [share, y] of [
    [0, 0.2],
    [0.5, 0.4],
    [1, 0.6],
  ] as const)
    assert.ok(Math.abs(along(edge, share) - y) < 1e-4);
  for (let share = 0; share <= 0.5; share += 0.05) {
    assert.ok(Math.abs(along(edge, share) + along(edge, 1 - share) - 0.8) < 1e-4);
    assert.ok(along(edge, share) <= along(edge, share + 0.05) + 1e-9);
  }
});

test("a lineage goes up and down, not sideways", () => {
  const scene = new Scene(
    answer([
      [0, 100, 0.9],
      [1, 100, 0.6],
      [100, 200, 0.8],
      [1, 101, 0.7],
    ]),
  );
  const { nodes, edges } = scene.lineage(100);
  assert.deepEqual(
    [...nodes].sort((a, b) => a - b),
    [0, 1, 100, 200],
  );
  assert.equal(edges.size, 3); // the edge of 1 to 101 leads sideways
  assert.equal(scene.lineage(0).nodes.size, 3);
});

test("a lineage with too many members keeps each one's strongest", () => {
  const scene = new Scene(
    answer([
      [0, 100, 0.9],
      [0, 101, 0.6],
      [100, 200, 0.8],
      [100, 201, 0.7],
      [100, 202, 0.6],
    ]),
  );
  assert.deepEqual(
    [...scene.lineage(0, 4).nodes].sort((a, b) => a - b),
    [0, 100, 101, 200],
  );
});

test("lowerBound is the first not below", () => {
  const column = [0.1, 0.3, 0.3, 0.7].map((y) => ({ y }));
  for (const [y, at] of [
    [0, 0],
    [0.3, 1],
    [0.31, 3],
    [0.8, 4],
  ] as const)
    assert.equal(lowerBound(column, y), at);
  assert.equal(lowerBound([], 1), 0);
});

test("rows: a column's features have distinct rows, and parallel edges do not cross", () => {
  const columns = ["0", "1", "2"];
  const nodes = columns.flatMap((column) =>
    [..."abcd"].map((letter) => ({ name: column + letter, label: null, column, community: null })),
  );
  const edges = [..."abcd"].flatMap((letter, i) => [
    { a: `0${letter}`, b: `1${"dcba"[i]}`, value: 1 },
    { a: `1${"dcba"[i]}`, b: `2${letter}`, value: 1 },
    ...(i === 0 ? [{ a: "0a", b: "2a", value: 0.5 }] : []), // leaps over a layer
  ]);
  const row = rows(columns, nodes, edges);
  for (const column of columns) {
    const own = nodes.filter((n) => n.column === column).map((n) => row.get(n.name));
    assert.deepEqual(
      own.toSorted((a, b) => a! - b!),
      [0, 1, 2, 3],
    );
  }
  for (const edge of edges) assert.equal(row.get(edge.a), row.get(edge.b));
});

test("rows: features without edges, and none at all, have places too", () => {
  const node = (name: string, column: string) => ({ name, label: null, column, community: null });
  assert.equal(rows(["0", "1"], [node("x", "0"), node("y", "1"), node("z", "1")], []).size, 3);
  assert.equal(rows(["0"], [node("x", "0")], []).get("x"), 0);
});

test("reach: ancestors and descendants", () => {
  const edges = [
    ["a", "b"],
    ["b", "c"],
    ["x", "b"],
    ["a", "y"],
  ].map(([a, b]) => ({ a: a!, b: b!, value: 1 }));
  assert.deepEqual([...reach("b", edges)].sort(), ["a", "b", "c", "x"]);
  assert.deepEqual([...reach("y", edges)].sort(), ["a", "y"]);
});
