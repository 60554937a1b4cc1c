/** Texts whose tokens are shaded by activation. */

import { shade } from "../colours.ts";
import { el } from "../dom.ts";
import { number } from "../format.ts";
import type { Context, Piece } from "../types.ts";
import { tips } from "./tooltip.ts";

export function piece(text: string, activation: number, max: number): HTMLElement {
  const shown = text.replaceAll("\n", "⏎");
  if (activation <= 0) return el("span", { class: "piece" }, shown);
  const element = el("span", { class: "piece on", "data-activation": activation }, shown);
  element.style.setProperty("--shade", shade(activation, max).toFixed(3));
  return element;
}

/** One context; `max` is the feature's largest activation on the corpus. */
export function contextLine(context: Context, max: number): HTMLElement {
  const peak = context.pieces.reduce<Piece | null>(
    (best, p) => (!best || p.activation > best.activation ? p : best),
    null,
  );
  return el(
    "li",
    { class: "context", title: `${context.source} · document ${context.document_id}` },
    el("span", { class: "activation" }, number(context.activation)),
    el(
      "span",
      { class: "text" },
      ...context.pieces.map((p) => {
        const element = piece(p.text, p.activation, max);
        if (p === peak) element.classList.add("peak");
        return element;
      }),
    ),
  );
}

const STRATA: Record<string, string> = {
  top: "Strongest",
  q5: "From the strongest fifth of its activations",
  q4: "Second fifth",
  q3: "Middle fifth",
  q2: "Fourth fifth",
  q1: "From the weakest fifth",
};

/** Contexts, grouped by how strong they are; hovering a token tells its activation. */
export function contextList(contexts: Context[], max: number): HTMLElement {
  const groups = new Map<string, Context[]>();
  for (const context of contexts) {
    groups.set(context.stratum, [...(groups.get(context.stratum) ?? []), context]);
  }
  const order = Object.keys(STRATA);
  const sorted = [...groups].sort(([a], [b]) => order.indexOf(a) - order.indexOf(b));
  const list = el(
    "div",
    { class: "contexts" },
    ...sorted.flatMap(([stratum, group]) => [
      el("h3", {}, STRATA[stratum] ?? stratum),
      el("ol", {}, ...group.map((context) => contextLine(context, max))),
    ]),
  );
  tips(list, ".piece.on", (token) => [
    el("b", {}, number(Number(token.getAttribute("data-activation")))),
    ` of at most ${number(max)}`,
  ]);
  return list;
}
