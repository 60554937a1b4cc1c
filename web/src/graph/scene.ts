/** An answer of /api/graph made ready to be drawn and pointed at. */

import type { GraphAnswer, GraphEdge, GraphNode } from "../types.ts";
import { fromX, fromY, spacing, toX, toY, type Viewport } from "./viewport.ts";

export type Node = GraphNode & {
  /** Index of its layer. */
  x: number;
  /** Of its strongest loaded edge; what is labelled first. */
  strength: number;
};

export type Edge = GraphEdge & { xa: number; xb: number };

export class Scene {
  readonly answer: GraphAnswer;
  readonly nodes: Node[];
  readonly edges: Edge[];
  readonly byId = new Map<number, Node>();
  /** Per layer, by y. */
  readonly columns: Node[][];
  readonly layerIndex: Map<number, number>;
  /** Into how many bands [y0, y1) is divided. */
  readonly bins: number;
  readonly #edgesOf = new Map<number, Edge[]>();

  constructor(answer: GraphAnswer) {
    this.answer = answer;
    this.layerIndex = new Map(answer.layers.map((layer, i) => [layer.layer, i]));
    this.bins = answer.bins ?? Math.max(1, ...answer.bands.map((band) => band.bin + 1));
    const index = (layer: number) => this.layerIndex.get(layer) ?? 0;
    this.nodes = answer.nodes.map((node) => ({ ...node, x: index(node.layer), strength: 0 }));
    for (const node of this.nodes) this.byId.set(node.id, node);
    this.edges = answer.edges.map((e) => ({ ...e, xa: index(e.layer_a), xb: index(e.layer_b) }));
    for (const edge of this.edges) {
      for (const id of [edge.a, edge.b]) {
        const own = this.#edgesOf.get(id);
        if (own) own.push(edge);
        else this.#edgesOf.set(id, [edge]);
        const node = this.byId.get(id);
        if (node) node.strength = Math.max(node.strength, edge.value);
      }
    }
    this.columns = answer.layers.map((_, i) =>
      this.nodes.filter((node) => node.x === i).sort((a, b) => a.y - b.y),
    );
  }

  /** Loaded edges of a feature, strongest first. */
  edgesOf(id: number): Edge[] {
    return (this.#edgesOf.get(id) ?? []).toSorted((a, b) => b.value - a.value);
  }

  /**
   * A feature's ancestors and descendants among what is loaded, with the edges between: all of
   * them, or where these are more than `most`, along each feature's strongest edge only.
   */
  lineage(id: number, most = 400): { nodes: Set<number>; edges: Set<Edge> } {
    const found = this.#follow(id, Number.POSITIVE_INFINITY, most);
    return found.nodes.size <= most ? found : this.#follow(id, 1, Number.POSITIVE_INFINITY);
  }

  #follow(id: number, each: number, most: number) {
    const nodes = new Set([id]);
    const edges = new Set<Edge>();
    for (const [from, to] of [
      ["a", "b"],
      ["b", "a"],
    ] as const) {
      const todo = [id];
      const seen = new Set(todo);
      for (let now = todo.pop(); now !== undefined && nodes.size <= most; now = todo.pop()) {
        // The feature itself shows all its edges.
        const own = this.edgesOf(now).filter((edge) => edge[from] === now);
        for (const edge of own.slice(0, now === id ? undefined : each)) {
          edges.add(edge);
          nodes.add(edge[to]);
          if (!seen.has(edge[to])) {
            seen.add(edge[to]);
            todo.push(edge[to]);
          }
        }
      }
    }
    return { nodes, edges };
  }

  /** The node under a point of the canvas, within `reach` pixels. */
  nodeAt(view: Viewport, px: number, py: number, reach = 9): Node | null {
    const column = this.columns[Math.round(fromX(view, px))];
    if (!column || Math.abs(toX(view, Math.round(fromX(view, px))) - px) > reach) return null;
    let best: Node | null = null;
    let least = reach;
    for (let i = lowerBound(column, fromY(view, py - reach)); i < column.length; i++) {
      const node = column[i] as Node;
      const far = Math.abs(toY(view, node.y) - py);
      if (toY(view, node.y) > py + reach) break;
      if (far < least) [best, least] = [node, far];
    }
    return best;
  }

  /** The edge under a point of the canvas, within `reach` pixels. */
  edgeAt(view: Viewport, px: number, py: number, reach = 5): Edge | null {
    const x = fromX(view, px);
    let best: Edge | null = null;
    let least = reach;
    for (const edge of this.edges) {
      if (x <= edge.xa || x >= edge.xb) continue;
      const far = Math.abs(toY(view, along(edge, (x - edge.xa) / (edge.xb - edge.xa))) - py);
      if (far < least) [best, least] = [edge, far];
    }
    return best;
  }
}

/** y of an edge's curve at a share of its way across: the curve of `curve()` in draw.ts. */
export function along(edge: { ya: number; yb: number }, share: number): number {
  // x(t) = 1.5·t(1−t) + t³ … is inverted by bisection: t is the same for all edges of one gap.
  let [low, high] = [0, 1];
  for (let i = 0; i < 20; i++) {
    const t = (low + high) / 2;
    const x = 1.5 * (1 - t) * (1 - t) * t + 1.5 * (1 - t) * t * t + t * t * t;
    if (x < share) low = t;
    else high = t;
  }
  const t = (low + high) / 2;
  return edge.ya + (edge.yb - edge.ya) * (3 * t * t - 2 * t * t * t);
}

/** Index of the first node with a place of at least `y`. */
export function lowerBound(column: { y: number }[], y: number): number {
  let [low, high] = [0, column.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((column[middle] as { y: number }).y < y) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Whether a point lies on a column of nodes or bands. */
export function onColumn(view: Viewport, px: number, width: number): number | null {
  const index = Math.round(fromX(view, px));
  if (index < 0 || index >= view.extent.n_layers) return null;
  return Math.abs(toX(view, index) - px) <= Math.min(width, spacing(view) / 2) ? index : null;
}
