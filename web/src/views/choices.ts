/** Which layered graph a view is about. */

import { select } from "../parts/controls.ts";
import type { GraphInfo } from "../types.ts";
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
