/** A small layered graph as SVG: layers as columns, features as labelled boxes, edges as curves. */

import {
  coordGreedy,
  decrossTwoLayer,
  graphStratify,
  type MutGraphNode,
  sugiyama,
} from "d3-dag";
import { el, svg } from "../dom.ts";
import { clipped, fixed, percent } from "../format.ts";
import { community, type Scheme } from "../colours.ts";
import { hideTip, showTip } from "./tooltip.ts";

export interface DiagramNode {
  name: string;
  label: string | null;
  /** Which column; equal for features of one layer (of one model). */
  column: string;
  density?: number;
  community: number | null;
  /** 0 to 1: how much of the box is filled. */
  level?: number;
}

export interface DiagramEdge {
  a: string;
  b: string;
  value: number;
}

const ROW = 30;
const BOX = { width: 168, height: 22 };
const GAP = 72;
const HEAD = 26;

/** Row of each node in its column, from d3-dag's crossing minimisation with columns as layers. */
export function rows(
  columns: string[],
  nodes: DiagramNode[],
  edges: DiagramEdge[],
): Map<string, number> {
  const place = new Map(columns.map((column, i) => [column, i]));
  const column = new Map(nodes.map((node) => [node.name, place.get(node.column) ?? 0]));
  const parents = new Map<string, string[]>(nodes.map((node) => [node.name, []]));
  for (const { a, b } of edges) {
    if ((column.get(a) ?? 0) < (column.get(b) ?? 0)) parents.get(b)?.push(a);
  }
  const graph = graphStratify()([...parents].map(([id, parentIds]) => ({ id, parentIds })));
  const layers = (dag: { nodes(): Iterable<MutGraphNode<{ id: string }, unknown>> }) => {
    for (const node of dag.nodes()) node.y = column.get(node.data.id) ?? 0;
    return columns.length - 1;
  };
  sugiyama()
    .layering(layers as never)
    .decross(decrossTwoLayer())
    .coord(coordGreedy())
    .nodeSize([1, 1])
    .gap([0, 0])(graph as never);
  const found: { id: string; column: number; x: number }[] = [];
  for (const node of graph.nodes()) {
    found.push({ id: node.data.id, column: column.get(node.data.id) ?? 0, x: node.x });
  }
  const tallest = Math.max(0, ...columns.map((_, i) => found.filter((n) => n.column === i).length));
  const result = new Map<string, number>();
  for (let i = 0; i < columns.length; i++) {
    const own = found.filter((n) => n.column === i).sort((a, b) => a.x - b.x);
    own.forEach((n, k) => result.set(n.id, k + (tallest - own.length) / 2));
  }
  return result;
}

export function diagram(
  columns: { key: string; title: string; note?: string }[],
  nodes: DiagramNode[],
  edges: DiagramEdge[],
  options: {
    scheme: Scheme;
    focus?: string;
    measure: string;
    chosen: (name: string) => void;
    entered?: (name: string | null) => void;
  },
): HTMLElement {
  const row = rows(columns.map((c) => c.key), nodes, edges);
  const x = new Map(columns.map((c, i) => [c.key, i * (BOX.width + GAP)]));
  const tallest = Math.max(1, ...[...row.values()].map((r) => r + 1));
  const [width, height] = [columns.length * (BOX.width + GAP) - GAP, HEAD + tallest * ROW];
  const at = new Map(
    nodes.map((node) => [
      node.name,
      { x: x.get(node.column) ?? 0, y: HEAD + (row.get(node.name) ?? 0) * ROW + (ROW - BOX.height) / 2 },
    ]),
  );
  const label = new Map(nodes.map((node) => [node.name, node.label ?? node.name]));
  const curves = edges.map((edge) => {
    const [from, to] = [at.get(edge.a), at.get(edge.b)];
    if (!from || !to) return null;
    const [x0, y0, x1, y1] = [from.x + BOX.width, from.y + BOX.height / 2, to.x, to.y + BOX.height / 2];
    const middle = (x0 + x1) / 2;
    return svg("path", {
      class: "edge",
      d: `M${x0},${y0} C${middle},${y0} ${middle},${y1} ${x1},${y1}`,
      "stroke-width": (0.6 + 3.4 * Math.max(0, edge.value) ** 2).toFixed(2),
      "data-a": edge.a,
      "data-b": edge.b,
      on: {
        pointermove: (event) =>
          showTip(
            event.clientX,
            event.clientY,
            el("b", {}, `${options.measure} ${fixed(edge.value)}`),
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
              node.density !== undefined && el("div", {}, `active on ${percent(node.density)} of tokens`),
            ),
          pointerleave: () => {
            hideTip();
            highlight(null);
          },
          focus: () => highlight(node.name),
          blur: () => highlight(null),
        },
      },
      svg("rect", { class: "ground", width: BOX.width, height: BOX.height, rx: 4 }),
      node.level !== undefined &&
        svg("rect", { class: "level", width: (BOX.width * Math.min(1, node.level)).toFixed(1), height: BOX.height, rx: 4, fill: colour }),
      svg("rect", { width: 4, height: BOX.height, rx: 1.5, fill: colour }),
      svg("text", { x: 10, y: 15 }, clipped(node.label ?? node.name, 25)),
    );
  });
  const highlight = (name: string | null) => {
    options.entered?.(name);
    const kept = name === null ? null : reach(name, edges);
    for (const box of boxes) {
      box.classList.toggle("faded", kept !== null && !kept.has(box.getAttribute("data-name") ?? ""));
    }
    for (const curve of curves) {
      const [a, b] = [curve?.getAttribute("data-a") ?? "", curve?.getAttribute("data-b") ?? ""];
      curve?.classList.toggle("faded", kept !== null && !(kept.has(a) && kept.has(b)));
    }
  };
  const drawing = svg(
    "svg",
    { class: "diagram", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Layers from left to right" },
    ...columns.map((c) =>
      svg("text", { class: "head", x: x.get(c.key) ?? 0, y: 14 }, c.title, c.note && svg("tspan", { dx: 6, class: "note" }, c.note)),
    ),
    ...curves,
    ...boxes,
  );
  return el("div", { class: "scroll" }, drawing as unknown as Node);
}

/** What lies upstream or downstream of `name`, itself included. */
export function reach(name: string, edges: DiagramEdge[]): Set<string> {
  const reached = new Set([name]);
  for (const [from, to] of [["a", "b"], ["b", "a"]] as const) {
    const todo = [name];
    const seen = new Set(todo);
    for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
      for (const edge of edges) {
        if (edge[from] === next && !seen.has(edge[to])) {
          seen.add(edge[to]);
          reached.add(edge[to]);
          todo.push(edge[to]);
        }
      }
    }
  }
  return reached;
}
