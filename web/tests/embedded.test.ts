import assert from "node:assert/strict";
import test from "node:test";
import type { AtlasInfo } from "../src/types.ts";
import { type Embedded, find, held, missing, search } from "../src/embedded.ts";

function card(name: string, label: string, words: string[], id: number) {
  const [model, site] = name.split("/") as [string, string];
  return {
    path: "/api/feature",
    params: { name },
    body: {
      card: {
        name,
        feature_id: id,
        sae: `${model}/${site}`,
        model,
        layer: 3,
        density: 0.1,
        labels: label ? [{ text: label, score: 0.5 }] : [],
        top_words: words.map((form) => ({ form })),
      },
    },
  };
}

const data: Embedded = {
  exported_at: "2026-01-01T00:00:00Z",
  note: "three features",
  answers: [
    { path: "/api/lineage", params: { name: "a/3-x/1" }, body: "any measure" },
    { path: "/api/lineage", params: { name: "a/3-x/1", measure: "jaccard" }, body: "jaccard" },
    { path: "/api/community", params: { clustering: 1, id: 0, variant: null }, body: "members" },
    card("a/3-x/1", "Return · Returns", ["return", "give"], 1),
    card("a/3-x/2", "the", ["return"], 2),
    card("b/3-x/1", "", ["give"], 3),
  ],
};

test("the most specific answer whose parameters agree is taken", () => {
  assert.equal(
    find(data, "/api/lineage", { name: "a/3-x/1", measure: "pearson", up: "3" }),
    "any measure",
  );
  assert.equal(find(data, "/api/lineage", { name: "a/3-x/1", measure: "jaccard" }), "jaccard");
  assert.equal(find(data, "/api/lineage", { name: "a/3-x/2" }), undefined);
  assert.equal(find(data, "/api/community", { clustering: "1", id: "0" }), "members");
  assert.equal(find(data, "/api/community", { clustering: "1" }), undefined);
  assert.equal(
    find(data, "/api/community", { clustering: "1", id: "0", variant: "seed1" }),
    undefined,
  );
});

test("search: every word somewhere, labels before words", () => {
  const names = (q: string, within = "") => search(data, q, within, 10).map((hit) => hit.feature);
  assert.deepEqual(names("RETURN"), ["a/3-x/1", "a/3-x/2"]);
  assert.deepEqual(names("return give"), ["a/3-x/1"]);
  assert.deepEqual(names("give", "b/"), ["b/3-x/1"]);
  assert.deepEqual(names("nothing"), []);
  assert.equal(search(data, "give", "", 1).length, 1);
  assert.deepEqual(names(""), ["a/3-x/1", "a/3-x/2", "b/3-x/1"]);
});

test("the overview of an export offers what the export holds", () => {
  const graph = { model: "a", hook: "x", variant: null, layers: [3, 4] };
  const whole = {
    measures: ["pearson"],
    graphs: [graph, { ...graph, variant: "seed1" }, { ...graph, model: "b" }],
    clusterings: [{ clustering_id: 1 }, { clustering_id: 2 }],
    comparisons: [{ model_a: "a", model_b: "b", metric: "svcca", subspace: "all" }],
  } as unknown as AtlasInfo;
  const part = held(
    {
      ...data,
      answers: [
        {
          path: "/api/graph",
          params: { model: "a", hook: "x", variant: "seed1", measure: "pearson" },
          body: {},
        },
        { path: "/api/flow", params: { model: "b", hook: "x", variant: null }, body: {} },
        { path: "/api/communities", params: { clustering: 2 }, body: {} },
      ],
    },
    whole,
  );
  assert.deepEqual(part.graphs, whole.graphs.slice(1));
  assert.deepEqual(part.clusterings, [{ clustering_id: 2 }]);
  assert.deepEqual(part.comparisons, []);
});

test("what an export lacks is told with the way to it", () => {
  for (const path of ["/api/sql", "/api/sentence", "/api/graph"])
    assert.match(missing(path, undefined), /atlas view ATLAS/);
});
