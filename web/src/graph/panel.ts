/** The selected feature beside the graph: a short card, and its edges to walk along. */

import * as address from "../address.ts";
import { el, fill } from "../dom.ts";
import { fixed, number, percent } from "../format.ts";
import { contextList } from "../parts/tokens.ts";
import type { FeatureAnswer, LineageAnswer } from "../types.ts";
import { hint, type Page, show } from "../view.ts";
import type { Settings } from "./loader.ts";

/** A feature at the other end of an edge. */
export interface Relative {
  name: string;
  id: string;
  label: string | null;
  value: number;
}

interface Told {
  walked: (to: Relative) => void;
  closed: () => void;
}

const CONTEXTS = 5;

export class Panel {
  readonly element: HTMLElement;
  /** Strongest first, of the feature that is shown. */
  relatives: { up: Relative[]; down: Relative[] } = { up: [], down: [] };
  readonly #page: Page;
  readonly #told: Told;
  readonly #body = el("div", {});

  constructor(page: Page, told: Told) {
    this.#page = page;
    this.#told = told;
    this.element = el(
      "aside",
      { class: "panel", "aria-label": "Selected feature", hidden: true },
      el(
        "button",
        { type: "button", class: "close", "aria-label": "Close", on: { click: told.closed } },
        "×",
      ),
      this.#body,
    );
  }

  /** Shows a feature by name, with its edges under the graph's settings; null hides the panel. */
  show(name: string | null, { measure, at_least }: Settings): void {
    this.element.hidden = name === null;
    this.relatives = { up: [], down: [] };
    if (name === null) return;
    const { api, signal } = this.#page;
    const [card, edges, contexts] = [
      el("div", {}, hint("Looking …")),
      el("div", {}),
      el("div", {}),
    ];
    fill(
      this.#body,
      el("p", {}, el("a", { class: "name", href: address.feature(name) }, name)),
      card,
      edges,
      contexts,
      el("p", {}, el("a", { href: address.feature(name) }, "all of it →")),
    );
    void show(
      card,
      signal,
      (signal) => api.feature(name, signal),
      (answer) => {
        fill(card, ...brief(answer));
        const { contexts: all, max_activation } = answer.card;
        fill(contexts, contextList(all.slice(0, CONTEXTS), max_activation));
      },
    );
    const asked = { name, up: 1, down: 1, measure, at_least, across: false };
    void show(
      edges,
      signal,
      (signal) => api.lineage(asked, signal),
      (answer) => {
        this.relatives = { up: related(answer, "a", "b"), down: related(answer, "b", "a") };
        fill(
          edges,
          ...this.#listed("from the layer before", this.relatives.up),
          ...this.#listed("to the next layer", this.relatives.down),
        );
      },
    );
  }

  #listed(title: string, relatives: Relative[]): HTMLElement[] {
    if (relatives.length === 0) return [];
    const items = relatives.map((relative) =>
      el(
        "li",
        {},
        el(
          "button",
          { type: "button", class: "plain", on: { click: () => this.#told.walked(relative) } },
          el("span", { class: "label" }, relative.label ?? "no label"),
        ),
        el("span", { class: "facts" }, fixed(relative.value)),
      ),
    );
    return [el("h3", {}, title), el("ol", { class: "hits compact" }, ...items)];
  }
}

/** Features at the end `theirs` of the edges whose other end is the one that was asked for. */
function related(answer: LineageAnswer, theirs: "a" | "b", own: "a" | "b"): Relative[] {
  const nodes = new Map(answer.nodes.map((node) => [node.feature, node]));
  return answer.edges
    .filter((edge) => edge[own] === answer.name)
    .flatMap((edge) => {
      const node = nodes.get(edge[theirs]);
      if (!node) return [];
      const { feature: name, feature_id, label } = node;
      return [{ name, id: String(feature_id), label, value: edge.value }];
    })
    .toSorted((a, b) => b.value - a.value);
}

function brief({ card }: FeatureAnswer): HTMLElement[] {
  const label = card.labels[0];
  const facts = [
    label && `score ${fixed(label.score)}`,
    `active on ${percent(card.density)} of tokens`,
    `at most ${number(card.max_activation)}`,
  ];
  return [
    el("h2", {}, label?.text ?? "no label"),
    el("p", { class: "hint" }, facts.filter(Boolean).join(" · ")),
  ];
}
