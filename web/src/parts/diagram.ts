/** A small layered graph as SVG: layers as columns, features as labelled boxes, edges as curves. */

import { community, type Scheme } from "../colours.ts";
import { el, svg } from "../dom.ts";
import { clipped, fixed, percent } from "../format.ts";
import { type DiagramEdge, type DiagramNode, reach, rows } from "./layout.ts";
import { hideTip, showTip } from "./tooltip.ts";

const ROW = 28;
const HEIGHT = 22;
const HEAD = 26;
/** Widths of boxes and of the gaps between their columns. */
const BOX = { least: 116, most: 200 };
const GAP = { least: 36, most: 84 };

export function diagram(
  columns: { key: string; title: string; note?: string }[],
  nodes: DiagramNode[],
  edges: DiagramEdge[],
  options: {
    scheme: Scheme;
    focus?: string;
    measure: string;
    /** Width to fill, in pixels, as far as the boxes stay readable. */
    width: number;
    chosen: (name: string) => void;
    entered?: (name: string | null) => void;
  },
): HTMLElement {
  const row = rows(
    columns.map((c) => c.key),
    nodes,
    edges,
  );
  const n = columns.length;
  const gap = Math.min(GAP.most, Math.max(GAP.least, (0.3 * options.width) / n));
  const wide = Math.min(BOX.most, Math.max(BOX.least, (options.width - (n - 1) * gap) / n));
  const x = new Map(columns.map((c, i) => [c.key, i * (wide + gap)]));
  const tallest = Math.max(1, ...[...row.values()].map((r) => r + 1));
  const [width, height] = [n * (wide + gap) - gap + 2, HEAD + tallest * ROW];
  const at = new Map(
    nodes.map((node) => [
      node.name,
      {
        x: x.get(node.column) ?? 0,
        y: HEAD + (row.get(node.name) ?? 0) * ROW + (ROW - HEIGHT) / 2,
      },
    ]),
  );
  const label = new Map(nodes.map((node) => [node.name, node.label ?? node.name]));
  const curves = edges.map((edge) => {
    const ends = [at.get(edge.a), at.get(edge.b)].filter((end) => end !== undefined);
    const [from, to] = ends.sort((a, b) => a.x - b.x);
    if (!from || !to) return null;
    const [x0, y0, x1, y1] = [from.x + wide, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
    const middle = (x0 + x1) / 2;
    return svg("path", {
      class: edge.across ? "edge across" : "edge",
      d: `M${x0},${y0} C${middle},${y0} ${middle},${y1} ${x1},${y1}`,
      "stroke-width": (0.6 + 3.4 * Math.max(0, edge.value) ** 2).toFixed(2),
      "data-a": edge.a,
      "data-b": edge.b,
      on: {
        pointermove: (event) =>
          showTip(
            event.clientX,
            event.clientY,
            el(
              "b",
              {},
              `${edge.across ? "counterparts, r" : options.measure} ${fixed(edge.value)}`,
            ),
            el("div", {}, label.get(edge.a), " → ", label.get(edge.b)),
          ),
        pointerleave: hideTip,
      },
    });
  });
  const boxes = nodes.map((node) => {
    const place = at.get(node.name) ?? { x: 0, y: 0 };
    const colour = community(node.community, options.scheme);
    const choose = () => options.chosen(node.name);
    return svg(
      "g",
      {
        class: node.name === options.focus ? "box focus" : "box",
        transform: `translate(${place.x},${place.y})`,
        tabindex: 0,
        role: "link",
        "aria-label": `${node.label ?? "no label"}, ${node.name}`,
        "data-name": node.name,
        on: {
          click: choose,
          keydown: (event) => {
            if (event.key === "Enter") choose();
          },
          pointerenter: () => highlight(node.name),
          pointermove: (event) =>
            showTip(
              event.clientX,
              event.clientY,
              el("b", {}, node.label ?? "no label"),
              el("div", { class: "name" }, node.name),
              node.density !== undefined &&
                el("div", {}, `active on ${percent(node.density)} of tokens`),
            ),
          pointerleave: () => {
            hideTip();
            highlight(null);
          },
          focus: () => highlight(node.name),
          blur: () => highlight(null),
        },
      },
      svg("rect", { class: "ground", width: wide, height: HEIGHT, rx: 4 }),
      node.level !== undefined &&
        svg("rect", {
          class: "level",
          width: (wide * Math.min(1, node.level)).toFixed(1),
          height: HEIGHT,
          rx: 4,
        }),
      svg("rect", { width: 4, height: HEIGHT, rx: 1.5, fill: colour }),
      // A nested svg cuts off what is still too wide.
      svg(
        "svg",
        { x: 10, width: wide - 13, height: HEIGHT },
        svg("text", { y: 15 }, clipped(node.label ?? node.name, Math.floor((wide - 12) / 6.1))),
      ),
    );
  });
  const highlight = (name: string | null) => {
    options.entered?.(name);
    const kept = name === null ? null : reach(name, edges);
    for (const box of boxes) {
      box.classList.toggle(
        "faded",
        kept !== null && !kept.has(box.getAttribute("data-name") ?? ""),
      );
    }
    for (const curve of curves) {
      const [a, b] = [curve?.getAttribute("data-a") ?? "", curve?.getAttribute("data-b") ?? ""];
      curve?.classList.toggle("faded", kept !== null && !(kept.has(a) && kept.has(b)));
    }
  };
  const drawing = svg(
    "svg",
    {
      class: "diagram",
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      role: "group",
      "aria-label": "Layers from left to right",
    },
    ...columns.map((c) =>
      svg(
        "text",
        { class: "head", x: x.get(c.key) ?? 0, y: 14 },
        c.title,
        c.note && svg("tspan", { dx: 6, class: "note" }, c.note),
      ),
    ),
    ...curves,
    ...boxes,
  );
  return el("div", { class: "scroll" }, drawing as unknown as Node);
}
