/** Answers that a static export carries in its own page, in place of a server. */

import type { AtlasInfo, FeatureAnswer, SearchResult } from "./types.ts";

export type Params = Record<string, string>;

/** One stored answer: of a request to `path` whose parameters agree with all of `params`. */
export interface Answer {
  path: string;
  /** null or "": the request has no such parameter. */
  params: Record<string, string | number | null>;
  body: unknown;
}

export interface Embedded {
  exported_at: string;
  /** What was chosen, in a sentence. */
  note: string;
  answers: Answer[];
}

/** The page's embedded data, or null where a server answers. */
export function embeddedIn(page: Document): Embedded | null {
  const holder = page.getElementById("atlas-data");
  return holder?.textContent ? (JSON.parse(holder.textContent) as Embedded) : null;
}

/** The most specific stored answer to a request, or undefined. */
export function find(data: Embedded, path: string, params: Params): unknown {
  let best: Answer | undefined;
  let most = -1;
  for (const answer of data.answers) {
    if (answer.path !== path) continue;
    const asked = Object.entries(answer.params);
    if (
      asked.length > most &&
      asked.every(([key, value]) => (params[key] ?? "") === String(value ?? ""))
    ) {
      best = answer;
      most = asked.length;
    }
  }
  return best?.body;
}

/**
 * Features of the export whose labels or top words hold every word of `q`, those first whose labels
 * do. Without a word, all of them, best labels first.
 */
export function search(data: Embedded, q: string, within: string, limit: number): SearchResult[] {
  const wanted = q.toLowerCase().split(/\s+/).filter(Boolean);
  const results: SearchResult[] = [];
  for (const answer of data.answers) {
    if (answer.path !== "/api/feature") continue;
    const { card } = answer.body as FeatureAnswer;
    if (within && !card.name.startsWith(within)) continue;
    const label = card.labels[0]?.text ?? "";
    const inLabel = label.toLowerCase();
    const words = card.top_words.map((word) => word.form.toLowerCase());
    let score = 0;
    const all = wanted.every((word) => {
      const found = inLabel.includes(word) ? 2 : words.some((form) => form.includes(word)) ? 1 : 0;
      score += found;
      return found > 0;
    });
    if (!all) continue;
    results.push({
      feature: card.name,
      feature_id: card.feature_id,
      label: label || null,
      label_score: card.labels[0]?.score ?? null,
      score,
      sae: card.sae,
      model: card.model,
      layer: card.layer,
      density: card.density,
    });
  }
  results.sort(
    (a, b) =>
      (b.score ?? 0) - (a.score ?? 0) ||
      (b.label_score ?? -1) - (a.label_score ?? -1) ||
      a.feature_id - b.feature_id,
  );
  return results.slice(0, limit);
}

/** The overview without what the export holds no answers of. */
export function held(data: Embedded, atlas: AtlasInfo): AtlasInfo {
  const has = (path: string, params: Params) => find(data, path, params) !== undefined;
  const measure = atlas.measures[0] ?? "";
  const series = ({
    model,
    hook,
    variant,
  }: {
    model: string;
    hook: string;
    variant: string | null;
  }) => ({
    model,
    hook,
    ...(variant ? { variant } : {}),
    measure,
  });
  return {
    ...atlas,
    graphs: atlas.graphs.filter((g) => has("/api/graph", series(g)) || has("/api/flow", series(g))),
    clusterings: atlas.clusterings.filter((c) =>
      has("/api/communities", { clustering: String(c.clustering_id) }),
    ),
    comparisons: atlas.comparisons.filter((c) =>
      has("/api/heatmap", { a: c.model_a, b: c.model_b, metric: c.metric, subspace: c.subspace }),
    ),
  };
}

/** What an export cannot answer, in a sentence that says what can. */
export function missing(path: string, atlas: AtlasInfo | undefined): string {
  const name = atlas ? `${atlas.name}.atlas` : "ATLAS";
  switch (path) {
    case "/api/sql":
      return `An exported page holds no database; open the atlas with \`atlas view ${name}\` to ask it.`;
    case "/api/sentence":
      return `An exported page runs no model; open the atlas with \`atlas view ${name}\` to try a sentence.`;
    default:
      return `This is not part of the exported page; open the atlas with \`atlas view ${name}\` to see it.`;
  }
}
