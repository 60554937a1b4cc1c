/** Communities of the layered graph: a list of them, and the members of one. */

import * as address from "../address.ts";
import { community as colourOf, scheme } from "../colours.ts";
import { el, fill } from "../dom.ts";
import { count, counted, fixed, percent, words } from "../format.ts";
import { select } from "../parts/controls.ts";
import { communityLink, featureLink } from "../parts/links.ts";
import type { Clustering, CommunitiesAnswer, CommunityAnswer } from "../types.ts";
import { byUse, clusteringName } from "./choices.ts";
import { hint, type Page, settled, show, type View } from "../view.ts";

const LISTED = 200;
const MEMBERS = 600;

export const communities: View = (root, page) => {
  const clusterings = byUse(page.atlas.clusterings);
  const [given, id] = page.address.path;
  const graph = page.atlas.graphs[0]; // which the other pages begin with, too
  const clustering =
    clusterings.find((c) => String(c.clustering_id) === given) ??
    clusterings.find(
      (c) => c.model === graph?.model && c.hook === graph.hook && c.variant === graph.variant,
    ) ??
    clusterings[0];
  if (!clustering) {
    root.append(
      hint("There are no communities yet. `atlas link ATLAS` finds them in the layered graph."),
    );
    return;
  }
  if (id !== undefined && /^\d+$/.test(id)) one(root, page, clustering, Number(id));
  else all(root, page, clustering);
};

function described(c: Clustering): string {
  return `${c.model} · ${c.hook}${c.variant ? `-${c.variant}` : ""} · ${clusteringName(c)}`;
}

function all(root: HTMLElement, page: Page, clustering: Clustering): void {
  const place = el("div", {}, hint("Looking …"));
  const load = (q: string) =>
    void show(
      place,
      page.signal,
      (signal) =>
        page.api.communities({ clustering: clustering.clustering_id, limit: LISTED, q }, signal),
      (answer) => fill(place, list(answer)),
    );
  const box = el("input", {
    type: "search",
    id: "search",
    placeholder: "part of a label",
    "aria-label": "Search communities by label",
    on: { input: settled(200, () => load(box.value.trim())) },
  });
  root.append(
    el("h1", {}, "Communities"),
    el(
      "p",
      { class: "hint lead" },
      `Features of all layers that belong together: ${counted(clustering.n_communities, "community", "communities")} by ${words(clustering.method)}`,
      clustering.measure && ` over ${words(clustering.measure)} ≥ ${clustering.at_least}`,
      clustering.quality !== null && `, quality ${fixed(clustering.quality, 3)}`,
      clustering.stability !== null && `, agreement of reruns ${fixed(clustering.stability, 3)}`,
      ".",
    ),
    el(
      "div",
      { class: "controls" },
      select(
        "of",
        byUse(page.atlas.clusterings).map((c) => ({
          value: String(c.clustering_id),
          text: described(c),
        })),
        String(clustering.clustering_id),
        (v) => page.go(address.format("community", [v])),
      ),
      page.api.embedded ? null : box,
    ),
    place,
  );
  load("");
}

function list({ clustering, communities }: CommunitiesAnswer): HTMLElement {
  if (communities.length === 0) return hint("No community's label holds this.");
  const colours = scheme();
  const most = Math.max(...communities.flatMap((c) => c.layers.map((l) => l.n)));
  return el(
    "ol",
    { class: "communities" },
    ...communities.map((c) => {
      const dot = el("i", { class: "dot", "aria-hidden": "true" });
      dot.style.background = colourOf(c.community, colours);
      const layers = el(
        "span",
        { class: "spark", title: c.layers.map((l) => `layer ${l.layer}: ${l.n}`).join(", ") },
        ...c.layers.map((l) => {
          const bar = el("i", {});
          bar.style.height = `${Math.max(l.n > 0 ? 8 : 0, 100 * Math.sqrt(l.n / most))}%`;
          bar.style.background = colourOf(c.community, colours);
          return bar;
        }),
      );
      return el(
        "li",
        {},
        dot,
        el(
          "div",
          {},
          communityLink(clustering.clustering_id, c.community, c.label),
          el("span", { class: "hint" }, ` ${counted(c.n_features, "feature")}`),
          el(
            "p",
            { class: "members" },
            ...c.top.flatMap((t, i) => [
              i > 0 && " | ",
              el("a", { href: address.feature(t.feature), title: t.feature }, t.label ?? t.feature),
            ]),
          ),
        ),
        layers,
      );
    }),
  );
}

function one(root: HTMLElement, page: Page, clustering: Clustering, id: number): void {
  const place = el("div", {}, hint("Looking …"));
  root.append(place);
  void show(
    place,
    page.signal,
    (signal) => page.api.community(clustering.clustering_id, id, MEMBERS, signal),
    (answer) => {
      document.title = `${answer.label ?? `community ${id}`} · community`;
      fill(place, ...members(answer, clustering));
    },
  );
}

function members(answer: CommunityAnswer, clustering: Clustering): HTMLElement[] {
  const layers = [...new Set(answer.members.map((m) => m.layer))].toSorted((a, b) => a - b);
  return [
    el(
      "p",
      {},
      el(
        "a",
        { href: address.format("community", [String(clustering.clustering_id)]) },
        "← all communities",
      ),
    ),
    el("h1", {}, answer.label ?? `community ${answer.community}`),
    el(
      "p",
      { class: "hint" },
      `${counted(answer.n_features, "feature")} of ${described(clustering)}. `,
      el(
        "a",
        {
          href: address.graph(clustering, {
            clustering: clustering.clustering_id,
            community: answer.community,
          }),
        },
        "show in graph",
      ),
    ),
    el(
      "div",
      { class: "layer-columns" },
      ...layers.map((layer) => {
        const own = answer.members.filter((m) => m.layer === layer);
        return el(
          "section",
          {},
          el("h2", {}, `layer ${layer} `, el("span", { class: "hint" }, count(own.length))),
          el(
            "ol",
            { class: "hits compact" },
            ...own.map((m) =>
              el(
                "li",
                {},
                featureLink(m.feature, m.label),
                el("span", { class: "facts" }, percent(m.density)),
              ),
            ),
          ),
        );
      }),
    ),
    ...(answer.members.length < answer.n_features
      ? [hint(`The first ${count(answer.members.length)} are listed.`)]
      : []),
  ];
}
