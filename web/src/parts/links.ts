/** Names of features, SAEs and communities as links. */

import * as address from "../address.ts";
import { el } from "../dom.ts";

/** A feature's name, by which its page is found. */
export function featureName(name: string): HTMLElement {
  return el("a", { class: "name", href: address.feature(name) }, name);
}

/** A feature's label as the link, with its name below or after it. */
export function featureLink(name: string, label: string | null): HTMLElement {
  return el(
    "a",
    { class: "feature", href: address.feature(name) },
    el("span", { class: label ? "label" : "label none" }, label ?? "no label"),
    el("span", { class: "name" }, name),
  );
}

/** An SAE's name, or the part of it that is `shown`; where there is SQL, a link to its features. */
export function saeName(
  sae: string,
  { shown = sae, sql }: { shown?: string; sql: boolean },
): HTMLElement {
  if (!sql) return el("span", { class: "name" }, shown);
  const query = `select feature, label, label_score, density, max_activation
from feature_cards
where sae = '${sae.replaceAll("'", "''")}' and alive
order by label_score desc nulls last
limit 200`;
  return el(
    "a",
    {
      class: "name",
      href: address.format("sql", [], { query }),
      title: `the features of ${sae}, in SQL`,
    },
    shown,
  );
}

export function communityLink(
  clustering: number,
  community: number,
  label: string | null,
): HTMLElement {
  return el(
    "a",
    { href: address.format("community", [String(clustering), String(community)]) },
    label ?? `community ${community}`,
  );
}
