/** One feature: label, statistics, words, logit lens, contexts, neighbours, lineage. */

import * as address from "../address.ts";
import { scheme } from "../colours.ts";
import { el, fill } from "../dom.ts";
import { count, counted, fixed, number, percent, words } from "../format.ts";
import { effects, histogram, topWords } from "../parts/charts.ts";
import { checkbox, select, slider } from "../parts/controls.ts";
import { diagram } from "../parts/diagram.ts";
import { communityLink, featureLink, saeName } from "../parts/links.ts";
import { contextList } from "../parts/tokens.ts";
import type { Card, FeatureAnswer, LineageAnswer, NeighboursAnswer } from "../types.ts";
import { hint, type Page, show, type View } from "../view.ts";

export const feature: View = (root, page) => {
  const name = page.address.path.join("/");
  const main = el("article", { class: "card" });
  root.append(main);
  const lineage = lineageStrip(name, page);
  void show(
    main,
    page.signal,
    async (signal) => {
      const answer = await page.api.feature(name, signal);
      // The lineage stands above the contexts: a moment's patience spares them a jump.
      await Promise.race([lineage.load(), new Promise((done) => setTimeout(done, 400))]);
      return answer;
    },
    (answer) => {
      document.title = `${answer.card.labels[0]?.text ?? "no label"} · ${answer.card.name}`;
      fill(main, ...drawn(answer, page, lineage.element));
      lineage.redraw(); // now that its width is known
    },
  );
  return { restyle: lineage.redraw };
};

function drawn(answer: FeatureAnswer, page: Page, lineage: HTMLElement): HTMLElement[] {
  const { card } = answer;
  return [
    header(answer, !page.api.embedded),
    lineage,
    el(
      "div",
      { class: "columns feature-columns" },
      el(
        "div",
        {},
        el("h2", {}, "Contexts"),
        card.contexts.length > 0
          ? contextList(card.contexts, card.max_activation)
          : hint("It was never active on the corpus."),
        neighbours(card.name, page),
      ),
      el(
        "aside",
        { "aria-label": "Statistics" },
        statistics(answer, !page.api.embedded),
        card.top_words.length > 0 && folded("Words", topWords(card.top_words.slice(0, 12))),
        card.promotes.length > 0 &&
          folded(
            "Logit lens",
            el(
              "div",
              { class: "two" },
              el("div", {}, el("h3", {}, "promotes"), effects(card.promotes.slice(0, 12), "up")),
              el(
                "div",
                {},
                el("h3", {}, "suppresses"),
                effects(card.suppresses.slice(0, 12), "down"),
              ),
            ),
          ),
      ),
    ),
  ];
}

function folded(title: string, content: HTMLElement): HTMLElement {
  return el("details", { open: true }, el("summary", {}, title), content);
}

function header({ card, place }: FeatureAnswer, whole: boolean): HTMLElement {
  const [best, ...others] = card.labels;
  const copied = el("span", { class: "hint", "aria-live": "polite" });
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(card.name);
      copied.textContent = "copied";
    } catch {
      copied.textContent = "the browser does not let the page copy";
    }
    setTimeout(() => fill(copied), 1500);
  };
  return el(
    "header",
    { class: "feature-header" },
    el("h1", {}, best?.text ?? "no label"),
    el(
      "p",
      {},
      el("code", { class: "name" }, card.name),
      el(
        "button",
        { type: "button", class: "quiet", title: "copy the name", on: { click: copy } },
        "copy",
      ),
      copied,
      ...place.map((graph) =>
        el(
          "a",
          { href: address.graph(graph, { select: card.name, id: card.feature_id }) },
          "show in graph",
        ),
      ),
      ...(whole ? siblings(card) : []), // an export may not have them
    ),
    best && el("p", { class: "hint" }, described(best)),
    others.length > 0 &&
      el(
        "ul",
        { class: "labels" },
        ...others.map((label) =>
          el("li", {}, label.text, el("span", { class: "hint" }, ` ${described(label)}`)),
        ),
      ),
  );
}

function described(label: Card["labels"][number]): string {
  const score = label.score === null ? "not scored" : `score ${fixed(label.score)}`;
  return `${score}${label.scored_by ? ` (${label.scored_by})` : ""} · from ${label.method} by ${label.explainer}`;
}

/** The features before and after it in its SAE. */
function siblings(card: Card): (HTMLElement | null)[] {
  return [
    card.index > 0
      ? el(
          "a",
          { class: "quiet", rel: "prev", href: address.feature(`${card.sae}/${card.index - 1}`) },
          "← previous",
        )
      : null,
    el(
      "a",
      { class: "quiet", rel: "next", href: address.feature(`${card.sae}/${card.index + 1}`) },
      "next →",
    ),
  ];
}

function statistics(
  { card, histogram: bins, communities }: FeatureAnswer,
  sql: boolean,
): HTMLElement {
  const rows: [string, HTMLElement | string][] = [
    ["SAE", saeName(card.sae, { sql })],
    ["active on", `${percent(card.density)} of tokens (${count(card.n_active)})`],
    [
      "activation",
      `max ${number(card.max_activation)}, mean ${number(card.mean_activation)}, median ${number(card.quantiles["0.5"])}`,
    ],
    ...communities.map((c): [string, HTMLElement] => [
      "community",
      el(
        "span",
        {},
        communityLink(c.clustering_id, c.community, c.label),
        ` (${counted(c.n_features, "feature")})`,
      ),
    ]),
  ];
  const written = card.writes.map((w) => w.site);
  if (written.join() !== card.reads.join()) {
    rows.push(["reads", card.reads.join(", ")], ["writes", written.join(", ")]);
  }
  return el(
    "section",
    {},
    el(
      "dl",
      { class: "facts-list" },
      ...rows.flatMap(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]),
    ),
    bins.counts.length > 0 &&
      el(
        "figure",
        {},
        histogram(bins.edges, bins.counts) as unknown as Node,
        el("figcaption", {}, "tokens by activation"),
      ),
  );
}

function neighbours(name: string, page: Page): HTMLElement {
  const place = el(
    "div",
    { class: "neighbours" },
    hint("Looking … (the first search of an atlas builds its index, which can take a minute)"),
  );
  void show(
    place,
    page.signal,
    (signal) => page.api.neighbours(name, 5, signal),
    (answer: NeighboursAnswer) => {
      const found = answer.models.filter((m) => m.neighbours.length > 0);
      fill(
        place,
        ...(found.length > 0
          ? found.map((m) =>
              el(
                "section",
                {},
                el("h3", {}, m.model),
                el(
                  "ol",
                  { class: "hits compact" },
                  ...m.neighbours.map((n) =>
                    el(
                      "li",
                      {},
                      featureLink(n.feature, n.label),
                      el("span", { class: "facts" }, `r ${fixed(n.score)}`),
                    ),
                  ),
                ),
              ),
            )
          : [hint("No other feature fires like it.")]),
      );
    },
  );
  return folded("Nearest features by activation", place);
}

/** Ancestors ← feature → descendants, with its controls. */
function lineageStrip(name: string, page: Page) {
  const { atlas } = page;
  let measure = atlas.measures[0] ?? "pearson";
  let at_least = 0.5;
  let depth = 12;
  let across = false;
  let shown: LineageAnswer | undefined;
  const place = el("div", { class: "lineage" }, hint("Looking …"));
  const load = () =>
    show(
      place,
      page.signal,
      (signal) =>
        page.api.lineage({ name, up: depth, down: depth, measure, at_least, across }, signal),
      (answer) => {
        shown = answer;
        redraw();
      },
    );
  const redraw = () => {
    if (shown) fill(place, ...lineageDrawn(shown, page, place.clientWidth || 1200));
  };
  const controls = el(
    "div",
    { class: "controls" },
    select(
      "measure",
      atlas.measures.map((m) => ({ value: m, text: words(m) })),
      measure,
      (v) => {
        measure = v;
        void load();
      },
    ),
    slider("at least", { min: 0.05, max: 1, step: 0.05 }, at_least, (v) => {
      at_least = v;
      void load();
    }),
    select(
      "as far as",
      [1, 2, 3, 12].map((n) => ({
        value: String(n),
        text: n === 12 ? "any layer" : counted(n, "layer"),
      })),
      String(depth),
      (v) => {
        depth = Number(v);
        void load();
      },
    ),
    atlas.models.length > 1 &&
      checkbox("across models", across, (v) => {
        across = v;
        void load();
      }),
  );
  const element = el(
    "section",
    { "aria-label": "Lineage" },
    el(
      "div",
      { class: "lineage-head" },
      el("h2", {}, "Lineage"),
      page.api.embedded ? null : controls,
    ),
    place,
  );
  return { element, load, redraw };
}

function lineageDrawn(answer: LineageAnswer, page: Page, width: number): HTMLElement[] {
  const own = answer.nodes.find((node) => node.feature === answer.name);
  if (answer.edges.length === 0) {
    return [
      hint(
        "No feature of another layer reaches this threshold: it begins and ends here. A lower one may find relatives.",
      ),
    ];
  }
  const key = (node: { model: string; layer: number }) => `${node.model}/${node.layer}`;
  const columns = new Map(
    answer.nodes
      .toSorted(
        (a, b) =>
          a.layer - b.layer ||
          Number(b.model === own?.model) - Number(a.model === own?.model) ||
          a.model.localeCompare(b.model),
      )
      .map((node) => [
        key(node),
        {
          key: key(node),
          title: `layer ${node.layer}`,
          ...(node.model === own?.model ? {} : { note: node.model }),
        },
      ]),
  );
  return [
    diagram(
      [...columns.values()],
      answer.nodes.map((node) => ({
        name: node.feature,
        label: node.label,
        column: key(node),
        density: node.density,
        community: node.community,
      })),
      answer.edges,
      {
        scheme: scheme(),
        focus: answer.name,
        measure: words(answer.measure),
        width,
        chosen: (name) => page.go(address.feature(name)),
      },
    ),
    ...(answer.truncated ? [hint("Only the strongest relatives are drawn.")] : []),
  ];
}
