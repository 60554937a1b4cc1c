/**
 * How many features pass from layer to layer, appear and disappear.
 *
 * Drawn here rather than by a Sankey library, because a ribbon has two widths: several features can
 * continue in one and one in several, so that as many leave a layer as `passed_a` says and `passed_b`
 * arrive.
 */

import * as address from "../address.ts";
import { el, fill, svg } from "../dom.ts";
import { count, percent, words } from "../format.ts";
import { segments, select, slider } from "../parts/controls.ts";
import { tips } from "../parts/tooltip.ts";
import type { FlowAnswer, GraphInfo } from "../types.ts";
import { hint, show, type View } from "../view.ts";
import { chosenGraph, graphChoices, noGraph } from "./choices.ts";

export const flow: View = (root, page) => {
  const graph = chosenGraph(page);
  if (!graph) {
    root.append(noGraph());
    return;
  }
  const { params } = page.address;
  let measure = params.measure ?? page.atlas.measures[0] ?? "pearson";
  let at_least = Number(params.at_least ?? 0.5);
  let all = params.of === "all";
  let shown: FlowAnswer | undefined;
  const place = el("div", { class: "figure" }, hint("Counting …"));
  const remember = (of: GraphInfo = graph) =>
    address.format("flow", address.series(of), { measure, at_least, of: all ? "all" : "" });
  const load = () => {
    page.go(remember(), true);
    void show(
      place,
      page.signal,
      (signal) => page.api.flow({ ...graph, layers: null, measure, at_least }, signal),
      (answer) => {
        shown = answer;
        redraw();
      },
    );
  };
  const redraw = () => {
    if (shown) fill(place, sankey(shown, all), table(shown, all));
  };
  root.append(
    el("h1", {}, "Flow of features through the layers"),
    el(
      "p",
      { class: "hint lead" },
      "A feature passes where a feature of the next layer reaches the threshold with it, disappears where none does, and appears where none of the layer before does.",
    ),
    el(
      "div",
      { class: "controls" },
      graphChoices(page, graph, (chosen) => page.go(remember(chosen))),
      !page.api.embedded &&
        select(
          "measure",
          page.atlas.measures.map((m) => ({ value: m, text: words(m) })),
          measure,
          (v) => {
            measure = v;
            load();
          },
        ),
      !page.api.embedded &&
        slider("at least", { min: 0.05, max: 1, step: 0.05 }, at_least, (v) => {
          at_least = v;
          load();
        }),
      segments(
        "shares of",
        [
          { value: "live", text: "live features" },
          { value: "all", text: "all features" },
        ],
        all ? "all" : "live",
        (v) => {
          all = v === "all";
          page.go(remember(), true);
          redraw();
        },
      ),
    ),
    place,
  );
  load();
};

/** A ribbon from a span on the left to a span on the right. */
function ribbon(x0: number, [a0, a1]: [number, number], x1: number, [b0, b1]: [number, number]) {
  const middle = (x0 + x1) / 2;
  return `M${x0},${a0} C${middle},${a0} ${middle},${b0} ${x1},${b0} L${x1},${b1} C${middle},${b1} ${middle},${a1} ${x0},${a1} Z`;
}

function sankey(flow: FlowAnswer, all: boolean): Node {
  const n = flow.layers.length;
  const [width, height, bar, top] = [Math.max(760, n * 150), 430, 16, 34];
  const total = (i: number) => (all ? flow.layers[i]!.n_features : flow.layers[i]!.n_alive);
  const most = Math.max(1, ...flow.layers.map((_, i) => total(i)));
  const unit = (height - top - 64) / most;
  const x = (i: number) => 70 + (i * (width - 140 - bar)) / Math.max(1, n - 1);
  const parts: SVGElement[] = [];
  const told = (text: string) => ({ "data-told": text });
  flow.layers.forEach((layer, i) => {
    const size = total(i);
    const dead = all ? layer.n_features - layer.n_alive : 0;
    parts.push(
      svg(
        "text",
        { class: "head", x: x(i) + bar / 2, y: 14, "text-anchor": "middle" },
        `layer ${layer.layer}`,
      ),
      svg(
        "text",
        { class: "note", x: x(i) + bar / 2, y: 27, "text-anchor": "middle" },
        count(size),
      ),
      svg("rect", {
        class: "stock told",
        x: x(i),
        y: top,
        width: bar,
        height: unit * layer.n_alive,
        ...told(
          `${layer.sae}: ${count(layer.n_alive)} live of ${count(layer.n_features)} features`,
        ),
      }),
    );
    if (dead > 0) {
      parts.push(
        svg("rect", {
          class: "dead told",
          x: x(i),
          y: top + unit * layer.n_alive,
          width: bar,
          height: unit * dead,
          ...told(`${count(dead)} dead features of ${layer.sae}`),
        }),
      );
    }
  });
  flow.steps.forEach((step, i) => {
    const [x0, x1] = [x(i) + bar, x(i + 1)];
    const share = (k: number, of: number) => percent(of > 0 ? k / of : null);
    const label = `${step.layer_a} → ${step.layer_b}`;
    parts.push(
      svg("path", {
        class: "passed told",
        d: ribbon(x0, [top, top + unit * step.passed_a], x1, [top, top + unit * step.passed_b]),
        ...told(
          `${label}: ${count(step.passed_a)} pass (${share(step.passed_a, total(i))}), into ${count(step.passed_b)} features`,
        ),
      }),
    );
    const gone: [number, number] = [
      top + unit * step.passed_a,
      top + unit * (step.passed_a + step.disappearing),
    ];
    const end = Math.min(40, (x1 - x0) * 0.35);
    if (step.disappearing > 0) {
      parts.push(
        svg("path", {
          class: "gone told",
          d: ribbon(x0, gone, x0 + end, [gone[0] + 18, gone[1] + 18]),
          ...told(
            `${label}: ${count(step.disappearing)} disappear (${share(step.disappearing, total(i))})`,
          ),
        }),
      );
    }
    const born: [number, number] = [
      top + unit * step.passed_b,
      top + unit * (step.passed_b + step.appearing),
    ];
    if (step.appearing > 0) {
      parts.push(
        svg("path", {
          class: "born told",
          d: ribbon(x1 - end, [born[0] + 18, born[1] + 18], x1, born),
          ...told(
            `${label}: ${count(step.appearing)} appear (${share(step.appearing, total(i + 1))})`,
          ),
        }),
      );
    }
  });
  const drawing = svg(
    "svg",
    {
      class: "sankey",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": "Flow of features from layer to layer; the table below has the numbers",
    },
    ...parts,
  );
  tips(drawing, ".told", (part) => [part.getAttribute("data-told") ?? ""]);
  const legend = el(
    "p",
    { class: "legend" },
    ...[
      ["passed", "passes"],
      ["gone", "disappears"],
      ["born", "appears"],
      ...(all ? [["dead", "dead"]] : []),
    ].map(([kind, text]) => el("span", {}, el("i", { class: `swatch ${kind}` }), text)),
  );
  return el("div", {}, legend, el("div", { class: "scroll" }, drawing as unknown as Node));
}

function table(flow: FlowAnswer, all: boolean): HTMLElement {
  const total = (i: number) => (all ? flow.layers[i]!.n_features : flow.layers[i]!.n_alive);
  const cell = (k: number, of: number) =>
    el(
      "td",
      { class: "right" },
      count(k),
      el("span", { class: "hint" }, ` ${percent(of > 0 ? k / of : null)}`),
    );
  return el(
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
          ...["layers", "pass on", "disappear", "continue", "appear"].map((t, i) =>
            el(
              "th",
              {
                scope: "col",
                class: i ? "right" : "",
                title:
                  [
                    "",
                    "of the earlier layer",
                    "of the earlier layer",
                    "of the later layer",
                    "of the later layer",
                  ][i] ?? "",
              },
              t,
            ),
          ),
        ),
      ),
      el(
        "tbody",
        {},
        ...flow.steps.map((step, i) =>
          el(
            "tr",
            {},
            el("th", { scope: "row" }, `${step.layer_a} → ${step.layer_b}`),
            cell(step.passed_a, total(i)),
            cell(step.disappearing, total(i)),
            cell(step.passed_b, total(i + 1)),
            cell(step.appearing, total(i + 1)),
          ),
        ),
      ),
    ),
  );
}
