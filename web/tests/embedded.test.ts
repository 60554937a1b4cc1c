import assert from "node:assert/strict";
import test from "node:test";
import { type Embedded, find, missing, search } from "../src/embedded.ts";

function card(name: string, label: string, words: string[], id: number) {
  const [model, site] = name.split("/") as [string, string];
  return {
    path: "/api/feature",
    params: { name },
    body: {
      card: {
        name, feature_id: id, sae: `${model}/${site}`, model, layer: 3, density: 0.1,
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
  assert.equal(find(data, "/api/lineage", { name: "a/3-x/1", measure: "pearson", up: "3" }), "any measure");
  assert.equal(find(data, "/api/lineage", { name: "a/3-x/1", measure: "jaccard" }), "jaccard");
  assert.equal(find(data, "/api/lineage", { name: "a/3-x/2" }), undefined);
  assert.equal(find(data, "/api/community", { clustering: "1", id: "0" }), "members");
  assert.equal(find(data, "/api/community", { clustering: "1" }), undefined);
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

test("what an export lacks is told with the way to it", () => {
  for (const path of ["/api/sql", "/api/sentence", "/api/graph"]) assert.match(missing(path, undefined), /atlas view ATLAS/);
});
