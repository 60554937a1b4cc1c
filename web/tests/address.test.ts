import assert from "node:assert/strict";
import test from "node:test";
import * as address from "../src/address.ts";

test("a feature's address is its name", () => {
  const name = "stories260k/3-resid_post-jumprelu/12";
  assert.equal(address.feature(name), "#/feature/stories260k/3-resid_post-jumprelu/12");
  assert.equal(address.parse(address.feature(name)).path.join("/"), name);
});

test("what is written is read again", () => {
  for (const text of [
    "",
    "a b",
    "50 %",
    "a/b?c#d&e=f",
    "“Lily” ␣ ⏎",
    "<img src=x onerror=alert(1)>",
    "+",
  ]) {
    const link = address.format("sentence", ["org/model", text || "x"], { text, empty: null });
    const read = address.parse(link);
    assert.deepEqual(read.path, ["org/model", text || "x"]);
    assert.deepEqual(read.params, text ? { text } : {});
  }
});

test("no address is the start page, and a broken escape is no error", () => {
  for (const hash of ["", "#", "#/"]) assert.equal(address.parse(hash).view, "search");
  assert.deepEqual(address.parse("#/feature/100%/3-x/1").path, ["100%", "3-x", "1"]);
});

test("names of features are told from other texts", () => {
  for (const name of ["m/3-resid_post/0", "org/m/11-mlp_out-wide/24575"])
    assert.ok(address.namesFeature(name), name);
  for (const text of ["m/3-resid_post", "3-resid_post/1", "a b/3-x/1", "m/x/1", "m/3-x/1.5", ""])
    assert.ok(!address.namesFeature(text), text);
});
