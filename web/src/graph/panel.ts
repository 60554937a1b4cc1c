/** The selected feature beside the graph: a short card, and its edges in the graph to walk along. */

import * as address from "../address.ts";
import { el, fill } from "../dom.ts";
import { fixed, number, percent } from "../format.ts";
import { contextList } from "../parts/tokens.ts";
import type { FeatureAnswer } from "../types.ts";
import { hint, type Page, show } from "../view.ts";
import type { GraphCanvas, Relative } from "./canvas.ts";

export function sidePanel(
  page: Page,
  told: { walked: (name: string, id: string) => void; closed: () => void },
) {
  const body = el("div", {});
  const element = el(
    "aside",
    { class: "panel", "aria-label": "Selected feature", hidden: true },
    el(
      "button",
      { type: "button", class: "close", "aria-label": "Close", on: { click: told.closed } },
      "×",
    ),
    body,
  );
  const show_ = (name: string | null, canvas: GraphCanvas) => {
    element.hidden = name === null;
    if (name === null) return;
    const relatives = el("div", { class: "relatives" });
    canvas.whenSelected = (up, down) =>
      fill(
        relatives,
        ...related("from the layer before", up),
        ...related("to the next layer", down),
      );
    const card = el("div", {}, hint("Looking …"));
    fill(
      body,
      el("p", {}, el("a", { class: "name", href: address.feature(name) }, name)),
      card,
      relatives,
    );
    void show(
      card,
      page.signal,
      (signal) => page.api.feature(name, signal),
      (answer) => fill(card, ...brief(answer, relatives)),
    );
  };
  const related = (title: string, relatives: Relative[]) =>
    relatives.length === 0
      ? []
      : [
          el("h3", {}, title),
          el(
            "ol",
            { class: "hits compact" },
            ...relatives.map((relative) =>
              el(
                "li",
                {},
                el(
                  "button",
                  {
                    type: "button",
                    class: "plain",
                    on: { click: () => told.walked(relative.name, String(relative.id)) },
                  },
                  el("span", { class: "label" }, relative.label ?? "no label"),
                ),
                el("span", { class: "facts" }, fixed(relative.value)),
              ),
            ),
          ),
        ];
  return { element, show: show_ };
}

function brief({ card }: FeatureAnswer, relatives: HTMLElement): HTMLElement[] {
  const label = card.labels[0];
  return [
    el("h2", {}, label?.text ?? "no label"),
    el(
      "p",
      { class: "hint" },
      `${label ? `score ${fixed(label.score)} · ` : ""}active on ${percent(card.density)} of tokens · at most ${number(card.max_activation)}`,
    ),
    relatives,
    contextList(card.contexts.slice(0, 5), card.max_activation),
    el("p", {}, el("a", { href: address.feature(card.name) }, "all of it →")),
  ];
}
