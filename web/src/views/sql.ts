/** A read-only query, its rows, and links from the features among them. */

import * as address from "../address.ts";
import { el, fill } from "../dom.ts";
import { counted, fixed, number } from "../format.ts";
import { featureName } from "../parts/links.ts";
import type { SqlAnswer } from "../types.ts";
import { hint, type Page, show, type View } from "../view.ts";

const LIMIT = 500;
/** The last answer, for the way back from a feature's page. */
let last: { query: string; answer: SqlAnswer } | undefined;

export const sql: View = (root, page) => {
  const results = el("section", { class: "results", "aria-label": "Rows", "aria-live": "polite" });
  const box = el("textarea", {
    class: "query",
    rows: 7,
    spellcheck: false,
    autocomplete: "off",
    autocapitalize: "off",
    "aria-label": "SQL query",
    placeholder: "select feature, label from feature_cards limit 20",
    on: {
      keydown: (event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
          event.preventDefault();
          run();
        }
      },
    },
  });
  box.value = page.address.params.query ?? last?.query ?? "";
  const run = () => {
    const query = box.value.trim();
    if (!query) return;
    page.go(address.format("sql", [], { query }), true);
    if (!results.hasChildNodes()) fill(results, hint("Running …"));
    void show(
      results,
      page.signal,
      (signal) => page.api.sql(query, LIMIT, signal),
      (answer) => {
        last = { query, answer };
        fill(results, rows(answer));
      },
    );
  };
  const offered = examples(page).map(({ text, query }) =>
    el(
      "button",
      {
        type: "button",
        class: "quiet",
        on: {
          click: () => {
            box.value = query;
            run();
          },
        },
      },
      text,
    ),
  );
  root.append(
    el("h1", {}, "SQL"),
    el(
      "p",
      { class: "hint lead" },
      "Every view and macro of the atlas, for reading: ",
      el("code", {}, "atlas macros"),
      " explains them. Features in the answer are links.",
    ),
    el(
      "form",
      {
        on: {
          submit: (event) => {
            event.preventDefault();
            run();
          },
        },
      },
      box,
      el(
        "div",
        { class: "controls" },
        el("button", { type: "submit" }, "Run"),
        el("kbd", {}, "Ctrl + Enter"),
        ...offered,
      ),
    ),
    results,
  );
  if (last && last.query === box.value.trim()) fill(results, rows(last.answer));
  else box.focus({ preventScroll: true });
};

/** Queries to begin with, of what this atlas has. */
function examples({ atlas }: Page): { text: string; query: string }[] {
  const sae = atlas.models[0]?.saes[0]?.sae.replaceAll("'", "''");
  const of = (there: unknown, text: string, query: string) => (there ? [{ text, query }] : []);
  return [
    ...of(
      sae,
      "SAEs",
      "select sae, architecture, l0, explained_variance, ce_recovered, dead_share\nfrom sae_cards",
    ),
    ...of(
      sae,
      "best labels",
      `select feature, label, label_score, density\nfrom feature_cards\nwhere sae = '${sae}'\norder by label_score desc nulls last\nlimit 50`,
    ),
    ...of(
      atlas.graphs.length,
      "passed on",
      "select feature, successor, value, mutual\nfrom passed_through(at_least := 0.7)\norder by value desc\nlimit 50",
    ),
    ...of(
      atlas.graphs.length,
      "specialised",
      "select parent, child, necessity, sufficiency, lift\nfrom specialised\norder by lift desc\nlimit 50",
    ),
    ...of(
      atlas.comparisons.length,
      "counterparts",
      "select feature, counterpart, r, r_held_out, q\nfrom counterparts\nwhere model <> counterpart_model\norder by r desc\nlimit 50",
    ),
    {
      text: "views",
      query:
        "select view_name, comment\nfrom duckdb_views()\nwhere not internal and not starts_with(view_name, '_')\norder by view_name",
    },
  ];
}

function rows(answer: SqlAnswer): HTMLElement {
  const numeric = answer.columns.map(
    (column) =>
      /INT|DOUBLE|FLOAT|DECIMAL/i.test(column.type) && !/\[\]|STRUCT|MAP/i.test(column.type),
  );
  const told = `${counted(answer.rows.length, "row")}${answer.truncated ? " (there are more)" : ""} in ${fixed(answer.seconds, 2)} s`;
  return el(
    "div",
    {},
    hint(told),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        { class: "table sql" },
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            ...answer.columns.map((column, i) =>
              el(
                "th",
                { scope: "col", title: column.type, class: numeric[i] ? "right" : "" },
                column.name,
              ),
            ),
          ),
        ),
        el(
          "tbody",
          {},
          ...answer.rows.map((row) =>
            el(
              "tr",
              {},
              ...row.map((value, i) =>
                el("td", { class: numeric[i] ? "right" : "" }, shown(value)),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

function shown(value: unknown): Node | string {
  if (value === null || value === undefined) return el("span", { class: "null" }, "null");
  if (typeof value === "string") return address.namesFeature(value) ? featureName(value) : value;
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : number(value, 6);
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
