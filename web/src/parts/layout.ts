/** Where the features of a small layered graph stand, and which of them belong together. */

import { coordGreedy, decrossTwoLayer, graphStratify, type MutGraphNode, sugiyama } from "d3-dag";

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
  /** Counterparts in two models rather than relatives of two layers. */
  across?: boolean;
}

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
    const [from, to] = [column.get(a) ?? 0, column.get(b) ?? 0];
    if (from < to) parents.get(b)?.push(a);
    else if (from > to) parents.get(a)?.push(b); // to a counterpart in an earlier column
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

/** What lies upstream or downstream of `name`, itself included. */
export function reach(name: string, edges: DiagramEdge[]): Set<string> {
  const reached = new Set([name]);
  for (const [from, to] of [
    ["a", "b"],
    ["b", "a"],
  ] as const) {
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
