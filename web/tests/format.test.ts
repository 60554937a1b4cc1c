import assert from "node:assert/strict";
import test from "node:test";
import { cividis, readableOn, shade } from "../src/colours.ts";
import { clipped, count, counted, fixed, number, percent, short, visible } from "../src/format.ts";

test("numbers as one reads them", () => {
  assert.equal(number(0.0123456), "0.0123");
  assert.equal(number(12345.6), "12,346");
  assert.equal(number(-1.5), "−1.50");
  assert.equal(number(0.00000123), "1.23e−6");
  assert.equal(number(Number.NaN), "–");
  assert.equal(fixed(-0.123), "−0.12");
  assert.equal(fixed(null), "–");
  assert.equal(percent(0.01722), "1.72 %");
  assert.equal(percent(1), "100 %");
  assert.equal(percent(0), "0 %");
  assert.equal(count(1234567), "1,234,567");
  assert.equal(counted(1, "feature"), "1 feature");
  assert.equal(counted(0, "community", "communities"), "0 communities");
  assert.equal(short(1_070_000), "1.07M");
});

test("texts", () => {
  assert.equal(visible(" a\n\tb"), "␣a⏎⇥b");
  assert.equal(clipped("abcdef", 4), "abc…");
  assert.equal(clipped("😀😀", 2), "😀😀"); // characters, not UTF-16 units
});

test("a stronger activation is a darker shade, none is none", () => {
  assert.equal(shade(0, 5), 0);
  assert.equal(shade(1, 0), 0);
  assert.ok(shade(0.01, 5) > 0.05);
  assert.ok(shade(1, 5) < shade(2, 5) && shade(2, 5) < shade(5, 5) && shade(9, 5) === shade(5, 5));
});

test("cividis grows lighter all the way, and texts on it have WCAG's contrast", () => {
  const linear = (value: number) =>
    value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
  let before = -1;
  for (let share = 0; share <= 1; share += 0.02) {
    const [r, g, b] = cividis(share);
    const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    assert.ok(luminance > before);
    before = luminance;
    const text = readableOn([r, g, b]) === "#000" ? 0 : 1;
    const contrast = (Math.max(luminance, text) + 0.05) / (Math.min(luminance, text) + 0.05);
    assert.ok(contrast >= 4.5, `${contrast} at ${share}`);
  }
  assert.deepEqual(cividis(-1), cividis(0));
  assert.deepEqual(cividis(2), cividis(1));
});
