/** Similarity of two models' SAEs, layer by layer, against chance. */

import * as address from "../address.ts";
import { cividis, readableOn } from "../colours.ts";
import { el, fill, svg } from "../dom.ts";
import { count, counted, fixed, number } from "../format.ts";
import { segments, select } from "../parts/controls.ts";
import { featureLink } from "../parts/links.ts";
import { tips } from "../parts/tooltip.ts";
import type { HeatmapRow, PairsAnswer } from "../types.ts";
import { hint, show, type View } from "../view.ts";

type Kind = "value" | "calibrated" | "null_mean";
const KINDS: { value: Kind; text: string }[] = [
  { value: "value", text: "value" },
  { value: "calibrated", text: "above chance" },
  { value: "null_mean", text: "chance" },
];
const SIGNIFICANT = 0.05;

export const heatmap: View = (root, page) => {
  const { atlas, address: here } = page;
  const models = [
    ...new Map(atlas.comparisons.map((c) => [`${c.model_a}\n${c.model_b}`, c])).values(),
  ];
  if (models.length === 0) {
    root.append(
      hint(
        "No models are compared yet. `atlas compare ATLAS MODEL_A MODEL_B` measures how alike their features are.",
      ),
    );
    return;
  }
  const [a = models[0]!.model_a, b = models[0]!.model_b] = here.path;
  const own = atlas.comparisons.filter((c) => c.model_a === a && c.model_b === b);
  const metrics = [...new Set(own.map((c) => c.metric))];
  const subspaces = [...new Set(own.map((c) => c.subspace))];
  let metric = here.params.metric ?? metrics[0] ?? "svcca";
  let subspace = here.params.subspace ?? subspaces[0] ?? "all";
  let kind = KINDS.find((k) => k.value === here.params.show)?.value ?? "calibrated";
  let rows: HeatmapRow[] = [];
  const place = el("div", { class: "figure" }, hint("Looking …"));
  const pairs = el("section", { "aria-live": "polite" });
  const remember = () =>
    page.go(address.format("heatmap", [a, b], { metric, subspace, show: kind }), true);
  const load = () => {
    remember();
    fill(pairs);
    void show(
      place,
      page.signal,
      (signal) => page.api.heatmap({ a, b, metric, subspace }, signal),
      (answer) => {
        rows = answer;
        redraw();
      },
    );
  };
  const redraw = () =>
    fill(
      place,
      rows.length > 0 ? drawn(rows, kind, chosen) : hint("Nothing is stored of this choice."),
    );
  const chosen = (row: HeatmapRow) =>
    void show(
      pairs,
      page.signal,
      (signal) => page.api.pairs(row.pairing_id, 100, signal),
      (answer) => fill(pairs, pairTable(answer)),
    );
  root.append(
    el("h1", {}, "Similarity of layers"),
    el(
      "div",
      { class: "controls" },
      select(
        "models",
        models.map((c, i) => ({ value: String(i), text: `${c.model_a} × ${c.model_b}` })),
        String(models.findIndex((c) => c.model_a === a && c.model_b === b)),
        (v) => {
          const c = models[Number(v)];
          if (c) page.go(address.format("heatmap", [c.model_a, c.model_b]));
        },
      ),
      select(
        "metric",
        metrics.map((m) => ({ value: m, text: m })),
        metric,
        (v) => {
          metric = v;
          load();
        },
      ),
      subspaces.length > 1 &&
        select(
          "features",
          subspaces.map((s) => ({ value: s, text: s })),
          subspace,
          (v) => {
            subspace = v;
            load();
          },
        ),
      segments("show", KINDS, kind, (v) => {
        kind = v as Kind;
        remember();
        redraw();
      }),
    ),
    place,
    pairs,
  );
  load();
};

function drawn(rows: HeatmapRow[], kind: Kind, chosen: (row: HeatmapRow) => void): HTMLElement {
  const [size, left, top] = [64, 150, 44];
  const axis = (side: "a" | "b") =>
    [...new Map(rows.map((r) => [r[`sae_${side}`], r[`layer_${side}`]])).entries()]
      .toSorted((x, y) => x[1] - y[1] || x[0].localeCompare(y[0]))
      .map(([sae]) => sae);
  const [as, bs] = [axis("a"), axis("b")];
  const bySae = new Map(rows.map((row) => [`${row.sae_a}\n${row.sae_b}`, row]));
  const short = (sae: string) => sae.slice(sae.lastIndexOf("/") + 1);
  const cells = as.flatMap((a, i) =>
    bs.map((b, j) => {
      const row = bySae.get(`${a}\n${b}`);
      const value = row?.[kind] ?? null;
      if (!row || value === null) return null;
      const colour = cividis(value);
      const notable = row.q !== null && row.q < SIGNIFICANT;
      const choose = () => chosen(row);
      return svg(
        "g",
        {
          class: "cell",
          transform: `translate(${left + j * size},${top + i * size})`,
          tabindex: 0,
          role: "button",
          "aria-label": `${a} and ${b}: ${kind} ${fixed(value)}, ${notable ? "significant" : "not significant"}`,
          "data-key": `${a}\n${b}`,
          on: {
            click: choose,
            keydown: (event) => {
              if (event.key === "Enter") choose();
            },
          },
        },
        svg("rect", { width: size - 2, height: size - 2, rx: 3, fill: `rgb(${colour.join(",")})` }),
        svg(
          "text",
          { x: size / 2 - 1, y: size / 2 + 4, "text-anchor": "middle", fill: readableOn(colour) },
          fixed(value),
        ),
        notable && svg("circle", { cx: size - 11, cy: 10, r: 3, fill: readableOn(colour) }),
      );
    }),
  );
  const drawing = svg(
    "svg",
    {
      class: "heatmap",
      width: left + bs.length * size + 10,
      height: top + as.length * size + 10,
      role: "group",
      "aria-label": "Layers of one model by layers of the other",
    },
    svg(
      "text",
      { class: "head", x: left, y: 14 },
      rows[0]?.sae_b.slice(0, rows[0].sae_b.lastIndexOf("/")) ?? "",
    ),
    svg(
      "text",
      { class: "head", x: 0, y: top - 10 },
      rows[0]?.sae_a.slice(0, rows[0].sae_a.lastIndexOf("/")) ?? "",
    ),
    ...bs.map((b, j) =>
      svg(
        "text",
        { x: left + j * size + size / 2, y: top - 10, "text-anchor": "middle" },
        bs.length > 1 && size < 80 ? short(b).split("-")[0] : short(b),
      ),
    ),
    ...as.map((a, i) =>
      svg(
        "text",
        { x: left - 8, y: top + i * size + size / 2 + 4, "text-anchor": "end" },
        short(a),
      ),
    ),
    ...cells,
  );
  tips(drawing, ".cell", (cell) => {
    const row = bySae.get(cell.getAttribute("data-key") ?? "");
    return row ? told(row) : null;
  });
  return el("div", {}, el("div", { class: "scroll" }, drawing as unknown as Node), scale());
}

function told(row: HeatmapRow): HTMLElement[] {
  return [
    el("b", {}, `${row.sae_a} × ${row.sae_b}`),
    el("div", {}, `value ${fixed(row.value, 3)}, above chance ${fixed(row.calibrated, 3)}`),
    el(
      "div",
      {},
      `chance ${fixed(row.null_mean, 3)} ± ${fixed(row.null_sd, 3)}, q ${number(row.q)}`,
    ),
    el("div", {}, `${counted(row.n, "pair")} of features (${row.method})`),
    ...(row.ceiling !== null || row.floor !== null
      ? [el("div", {}, `floor ${fixed(row.floor, 3)}, ceiling ${fixed(row.ceiling, 3)}`)]
      : []),
    el("div", { class: "hint" }, "click for the pairs"),
  ];
}

function scale(): HTMLElement {
  const steps = 40;
  return el(
    "p",
    { class: "legend" },
    el("span", {}, "0"),
    svg(
      "svg",
      { width: 160, height: 12, "aria-hidden": "true" },
      ...Array.from({ length: steps }, (_, i) =>
        svg("rect", {
          x: (160 * i) / steps,
          width: 160 / steps + 0.5,
          height: 12,
          fill: `rgb(${cividis(i / (steps - 1)).join(",")})`,
        }),
      ),
    ) as unknown as Node,
    el("span", {}, "1"),
    el("span", {}, `● beyond chance: q < ${SIGNIFICANT} after Benjamini & Hochberg`),
  );
}

function pairTable(answer: PairsAnswer): HTMLElement {
  return el(
    "div",
    {},
    el("h2", {}, `${answer.sae_a} × ${answer.sae_b}`),
    hint(
      `The ${count(Math.min(answer.n_pairs, answer.pairs.length))} closest of ${counted(answer.n_pairs, "pair")} (${answer.method}).`,
    ),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "table" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, answer.sae_a),
            el("th", { scope: "col" }, answer.sae_b),
            el("th", { scope: "col", class: "right" }, "r"),
            el("th", { scope: "col", class: "right" }, "q"),
          ),
        ),
        el(
          "tbody",
          {},
          ...answer.pairs.map((pair) =>
            el(
              "tr",
              {},
              el("td", {}, featureLink(pair.feature_a, pair.label_a)),
              el("td", {}, featureLink(pair.feature_b, pair.label_b)),
              el("td", { class: "right" }, fixed(pair.r, 3)),
              el("td", { class: "right" }, number(pair.q, 2)),
            ),
          ),
        ),
      ),
    ),
  );
}
