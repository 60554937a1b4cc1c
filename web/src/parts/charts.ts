/** Small charts of the feature page. */

import { scaleLinear } from "d3-scale";
import { el, svg } from "../dom.ts";
import { count, fixed, number, percent, visible } from "../format.ts";
import type { TokenEffect, TopWord } from "../types.ts";
import { tips } from "./tooltip.ts";

/** How often which activation: counts on a logarithmic scale, as they span powers of ten. */
export function histogram(edges: number[], counts: number[]): SVGElement {
  const [width, height, bottom, left] = [340, 110, 18, 34];
  const x = scaleLinear([edges[0] ?? 0, edges.at(-1) ?? 1], [left, width - 6]);
  const most = Math.max(1, ...counts);
  const y = scaleLinear([0, Math.log10(1 + most)], [height - bottom, 6]);
  const powers: number[] = [];
  for (let power = 1; power <= most; power *= 10) powers.push(power);
  const chart = svg(
    "svg",
    {
      class: "chart",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `Histogram of ${count(counts.reduce((a, b) => a + b, 0))} activations up to ${number(edges.at(-1))}`,
    },
    ...powers.map((power) =>
      svg("line", {
        class: "grid",
        x1: left,
        x2: width - 6,
        y1: y(Math.log10(1 + power)),
        y2: y(Math.log10(1 + power)),
      }),
    ),
    ...powers.map((power) =>
      svg(
        "text",
        { x: left - 4, y: y(Math.log10(1 + power)) + 3, "text-anchor": "end" },
        power >= 1000 ? `${power / 1000}k` : power,
      ),
    ),
    ...counts.map((n, i) => {
      const [from, to] = [edges[i] ?? 0, edges[i + 1] ?? 0];
      return svg("rect", {
        class: "bar",
        x: x(from) + 0.5,
        width: Math.max(0.5, x(to) - x(from) - 1),
        y: y(Math.log10(1 + n)),
        height: Math.max(0, height - bottom - y(Math.log10(1 + n))),
        "data-told": `${count(n)} tokens with ${number(from)} to ${number(to)}`,
      });
    }),
    svg("line", {
      class: "axis",
      x1: left,
      x2: width - 6,
      y1: height - bottom,
      y2: height - bottom,
    }),
    ...x
      .ticks(6)
      .map((tick) =>
        svg("text", { x: x(tick), y: height - 5, "text-anchor": "middle" }, number(tick, 2)),
      ),
  );
  tips(chart, ".bar", (bar) => [bar.getAttribute("data-told") ?? ""]);
  return chart;
}

function bar(share: number, kind: string): HTMLElement {
  const inner = el("span", { class: `fill ${kind}` });
  inner.style.width = `${(100 * Math.min(1, Math.max(0, share))).toFixed(1)}%`;
  return el("span", { class: "meter", "aria-hidden": "true" }, inner);
}

/** Word forms with the share of their occurrences on which the feature is active. */
export function topWords(words: TopWord[]): HTMLElement {
  return el(
    "table",
    { class: "bars" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, "word"),
        el("th", { scope: "col" }, "active on"),
        el("th", { scope: "col", class: "right" }, "mean"),
      ),
    ),
    el(
      "tbody",
      {},
      ...words.map((word) =>
        el(
          "tr",
          {
            title: `active on ${count(word.n_active)} of ${count(word.n_words)} occurrences (${percent(word.n_active / word.n_words)})`,
          },
          el("th", { scope: "row", class: "token" }, word.form),
          el(
            "td",
            {},
            bar(word.n_active / word.n_words, ""),
            el("span", { class: "beside" }, `${count(word.n_active)} of ${count(word.n_words)}`),
          ),
          el("td", { class: "right" }, number(word.mean_activation)),
        ),
      ),
    ),
  );
}

/** Tokens that the decoder direction makes more (`up`) or less likely. */
export function effects(tokens: TokenEffect[], kind: "up" | "down"): HTMLElement {
  const most = Math.max(1e-9, ...tokens.map((token) => Math.abs(token.effect)));
  return el(
    "table",
    { class: "bars" },
    el(
      "tbody",
      {},
      ...tokens.map((token) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "token" }, visible(token.text)),
          el("td", {}, bar(Math.abs(token.effect) / most, kind)),
          el("td", { class: "right" }, `${token.effect > 0 ? "+" : ""}${fixed(token.effect)}`),
        ),
      ),
    ),
  );
}
