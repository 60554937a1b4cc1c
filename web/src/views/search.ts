/** The start page: a search over labels and words, beside what the atlas holds. */

import * as address from "../address.ts";
import { el, fill } from "../dom.ts";
import { count, counted, fixed, number, percent, short, words } from "../format.ts";
import { featureLink, saeName } from "../parts/links.ts";
import { select } from "../parts/controls.ts";
import type { AtlasInfo, ModelInfo, SearchResult } from "../types.ts";
import { hint, settled, show, type View } from "../view.ts";

export const search: View = (root, page) => {
  const { atlas, address: here } = page;
  let within = here.params.within ?? "";
  const results = el("section", {
    class: "results",
    "aria-label": "Results",
    "aria-live": "polite",
  });
  const run = () => {
    const q = box.value.trim();
    if (page.signal.aborted) return;
    page.go(address.format("search", [], { q, within }), true);
    void show(
      results,
      page.signal,
      (signal) => page.api.search({ q, within, limit: 60 }, signal),
      (found) => fill(results, !q && keys(), !q && el("h2", {}, "Best labels"), listed(found, q)),
    );
  };
  const box = el("input", {
    id: "search",
    type: "search",
    placeholder: "a word, a label, a concept …",
    "aria-label": "Search features by label and top words",
    autocomplete: "off",
    spellcheck: false,
    value: here.params.q ?? "",
    on: { input: settled(160, run) },
  });
  const scopes = [
    { value: "", text: "all models" },
    ...atlas.models.flatMap((model) => [
      { value: model.model, text: model.model },
      ...model.saes.map((sae) => ({ value: sae.sae, text: `\u2003${sae.sae}` })),
    ]),
  ];
  const form = el(
    "form",
    {
      class: "searchbar",
      role: "search",
      on: {
        submit: (event) => {
          event.preventDefault();
          run();
        },
        keydown: (event) => {
          if (event.key === "ArrowDown") {
            event.preventDefault();
            root.querySelector<HTMLElement>(".results a")?.focus();
          }
        },
      },
    },
    box,
    select("in", scopes, within, (value) => {
      within = value;
      run();
    }),
  );
  results.addEventListener("keydown", walk);
  root.append(
    el(
      "div",
      { class: "columns" },
      el("div", {}, el("h1", { class: "hidden" }, "Search"), form, results),
      el("aside", { "aria-label": "The atlas" }, overview(atlas, !page.api.embedded)),
    ),
  );
  run();
  box.focus({ preventScroll: true });
};

function listed(found: SearchResult[], q: string): HTMLElement {
  if (found.length === 0)
    return hint(`No label or top word holds “${q}”. Fewer or other words may.`);
  return el(
    "ol",
    { class: "hits" },
    ...found.map((hit) =>
      el(
        "li",
        {},
        featureLink(hit.feature, hit.label),
        el(
          "span",
          { class: "facts" },
          el(
            "span",
            { title: "how well the label predicts the feature's activations" },
            `score ${fixed(hit.label_score)}`,
          ),
          el(
            "span",
            { title: "share of the corpus's tokens on which it is active" },
            percent(hit.density),
          ),
        ),
      ),
    ),
  );
}

/** Arrow keys go through the results. */
function walk(event: KeyboardEvent): void {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const links = [...(event.currentTarget as Element).querySelectorAll<HTMLElement>("a.feature")];
  const at = links.indexOf(document.activeElement as HTMLElement);
  if (at < 0) return;
  event.preventDefault();
  const next = links[at + (event.key === "ArrowDown" ? 1 : -1)];
  if (next) next.focus();
  else if (event.key === "ArrowUp") document.getElementById("search")?.focus();
}

function keys(): HTMLElement {
  return hint(
    "Features are found by their labels and by the words on which they are the most active. ",
    el("kbd", {}, "/"),
    " comes back here from everywhere, ",
    el("kbd", {}, "?"),
    " lists the other keys.",
  );
}

function overview(atlas: AtlasInfo, sql: boolean): HTMLElement {
  const features = atlas.models.flatMap((m) => m.saes).reduce((n, sae) => n + sae.d_sae, 0);
  const alive = atlas.models.flatMap((m) => m.saes).reduce((n, sae) => n + sae.n_alive, 0);
  return el(
    "div",
    {},
    el("h2", {}, `${atlas.name}.atlas`),
    el(
      "p",
      { class: "hint" },
      `${counted(features, "feature")} of ${counted(
        atlas.models.reduce((n, m) => n + m.saes.length, 0),
        "SAE",
      )}, ${count(alive)} alive`,
      atlas.corpus &&
        `, on ${counted(atlas.corpus.n_words, "word")} of ${counted(atlas.corpus.n_documents, "document")} (${atlas.corpus.name})`,
      ".",
    ),
    ...atlas.models.map((model) => modelTable(model, atlas, sql)),
  );
}

function modelTable(model: ModelInfo, atlas: AtlasInfo, sql: boolean): HTMLElement {
  const graphs = atlas.graphs.filter((graph) => graph.model === model.model);
  const facts = [
    model.type,
    counted(model.n_layers, "layer"),
    `d_model ${count(model.d_model)}`,
    model.n_parameters && `${short(model.n_parameters)} parameters`,
  ].filter(Boolean);
  return el(
    "section",
    { class: "model" },
    el(
      "h3",
      {},
      model.model,
      ...graphs.map((graph) =>
        el(
          "a",
          { class: "small", href: address.graph(graph) },
          `graph of ${words(graph.hook)}${graph.variant ? `-${graph.variant}` : ""} →`,
        ),
      ),
    ),
    el("p", { class: "hint" }, facts.join(" · ")),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "table" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            el("th", { scope: "col" }, "SAE"),
            el("th", { scope: "col" }, "kind"),
            el("th", { scope: "col", class: "right" }, "alive"),
            el("th", { scope: "col", class: "right", title: "active features per token" }, "L0"),
            el("th", { scope: "col", class: "right", title: "explained variance" }, "EV"),
            el("th", { scope: "col", class: "right", title: "cross entropy recovered" }, "CE"),
          ),
        ),
        el(
          "tbody",
          {},
          ...model.saes.map((sae) =>
            el(
              "tr",
              {},
              el("td", {}, saeName(sae.sae, { shown: sae.sae.slice(model.model.length + 1), sql })),
              el("td", {}, sae.architecture),
              el(
                "td",
                { class: "right", title: `${count(sae.n_alive)} of ${count(sae.d_sae)}` },
                count(sae.n_alive),
              ),
              el("td", { class: "right" }, number(sae.l0)),
              el("td", { class: "right" }, fixed(sae.explained_variance, 3)),
              el("td", { class: "right" }, fixed(sae.ce_recovered, 3)),
            ),
          ),
        ),
      ),
    ),
  );
}
