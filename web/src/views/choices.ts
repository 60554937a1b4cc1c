/** Which layered graph, and which communities, a view is about. */

import { select } from "../parts/controls.ts";
import { number, words } from "../format.ts";
import type { Clustering, GraphInfo } from "../types.ts";
import { hint, type Page } from "../view.ts";

export function chosenGraph({ atlas, address }: Page): GraphInfo | undefined {
  const [model, hook, variant] = address.path;
  return (
    atlas.graphs.find(
      (graph) =>
        graph.model === model &&
        (!hook || graph.hook === hook) &&
        (graph.variant ?? "") === (variant ?? ""),
    ) ?? (model ? undefined : atlas.graphs[0])
  );
}

export function graphChoices(
  { atlas }: Page,
  now: GraphInfo,
  changed: (graph: GraphInfo) => void,
): HTMLElement {
  const choices = atlas.graphs.map((graph, i) => ({
    value: String(i),
    text: `${graph.model} · ${graph.hook}${graph.variant ? `-${graph.variant}` : ""}`,
  }));
  return select("of", choices, String(atlas.graphs.indexOf(now)), (value) => {
    const graph = atlas.graphs[Number(value)];
    if (graph) changed(graph);
  });
}

export function noGraph(): HTMLElement {
  return hint(
    "No layers of this model are joined yet. `atlas link ATLAS` computes which features of neighbouring layers are active together.",
  );
}

/** Methods by how telling their communities are as colours; components are mostly one. */
const METHODS = ["leiden_modularity", "louvain", "leiden_cpm", "components"];

/** The clusterings, those first that are shown unless one is chosen. */
export function byUse(clusterings: Clustering[]): Clustering[] {
  const place = (c: Clustering) =>
    (METHODS.indexOf(c.method) + METHODS.length + 1) % (METHODS.length + 1);
  return clusterings.toSorted((a, b) => place(a) - place(b) || b.clustering_id - a.clustering_id);
}

export function clusteringName(c: Clustering): string {
  const resolution = c.resolution === null ? "" : ` ${number(c.resolution, 2)}`;
  const over = c.measure ? `, ${words(c.measure)} ≥ ${c.at_least}` : "";
  return `${words(c.method)}${resolution}${over} (${c.n_communities})`;
}
