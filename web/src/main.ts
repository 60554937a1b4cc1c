/** Start: reads the address, draws its view, and keeps both in step. */

import * as address from "./address.ts";
import { Api, Told } from "./api.ts";
import { el, fill } from "./dom.ts";
import { hideTip } from "./parts/tooltip.ts";
import type { AtlasInfo } from "./types.ts";
import { failure, hint, type View } from "./view.ts";
import { communities } from "./views/communities.ts";
import { feature } from "./views/feature.ts";
import { flow } from "./views/flow.ts";
import { graph } from "./views/graph.ts";
import { heatmap } from "./views/heatmap.ts";
import { search } from "./views/search.ts";
import { sentence } from "./views/sentence.ts";
import { sql } from "./views/sql.ts";

declare const SOURCES: string;

const VIEWS: Record<string, { view: View; title: string; tab: string | null }> = {
  search: { view: search, title: "Search", tab: "Search" },
  feature: { view: feature, title: "Feature", tab: null },
  graph: { view: graph, title: "Graph", tab: "Graph" },
  flow: { view: flow, title: "Flow", tab: "Flow" },
  community: { view: communities, title: "Communities", tab: "Communities" },
  heatmap: { view: heatmap, title: "Similarity", tab: "Similarity" },
  sentence: { view: sentence, title: "Sentence", tab: "Sentence" },
  sql: { view: sql, title: "SQL", tab: "SQL" },
};
const KEYS: [string, string][] = [
  ["/", "search"],
  ["g", "graph"],
  ["f", "flow"],
  ["c", "communities"],
  ["h", "similarity of layers"],
  ["s", "sentence"],
  ["q", "SQL"],
  ["d", "light or dark"],
  ["Esc", "close, leave a box"],
  ["?", "this list"],
];
const GOES: Record<string, string> = {
  g: "graph",
  f: "flow",
  c: "community",
  h: "heatmap",
  s: "sentence",
  q: "sql",
};
/** Views that an export may not have anything for. */
const NEEDS: Record<string, string> = {
  graph: "/api/graph",
  flow: "/api/flow",
  community: "/api/communities",
  heatmap: "/api/heatmap",
  sentence: "/api/sentence",
  sql: "/api/sql",
};

document.documentElement.dataset.sources = SOURCES;

const api = new Api(document);
const main = el("main", { id: "main", tabindex: -1 });
const tabs = el("nav", { "aria-label": "Views" });
const title = el("a", { class: "atlas-name", href: "#/search" }, "feature atlas");
const help = keyList();
let atlas: AtlasInfo | undefined;
let current: { abort: AbortController; restyle: () => void } | undefined;
/** The address that is drawn; null before the first. */
let shown: string | null = null;

function start(): void {
  setScheme(remembered());
  fill(
    document.body,
    el(
      "a",
      {
        class: "skip",
        href: "#main",
        on: {
          click: (event) => {
            event.preventDefault();
            main.focus();
          },
        },
      },
      "To the content",
    ),
    el(
      "header",
      { class: "top" },
      title,
      tabs,
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "keys (?)",
          "aria-label": "Keys",
          on: { click: () => help.showModal() },
        },
        "?",
      ),
      el(
        "button",
        {
          type: "button",
          class: "quiet",
          title: "light or dark (d)",
          "aria-label": "Light or dark",
          on: { click: toggleScheme },
        },
        "◐",
      ),
    ),
    api.embedded && el("p", { class: "exported" }, api.embedded.note),
    main,
    help,
  );
  fill(main, hint("Opening the atlas …"));
  api.atlas(new AbortController().signal).then(
    (answer) => {
      atlas = answer;
      title.textContent = answer.name;
      for (const [name, { tab }] of Object.entries(VIEWS)) {
        const held =
          !api.embedded || !NEEDS[name] || api.embedded.answers.some((a) => a.path === NEEDS[name]);
        if (tab && held)
          tabs.append(el("a", { href: address.format(name), "data-view": name }, tab));
      }
      draw();
    },
    (error: unknown) => fill(main, failure(error, start)),
  );
}

/** Draws the view of the address, unless it is the one that is shown. */
function draw(): void {
  if (!atlas || location.hash === shown) return;
  shown = location.hash;
  hideTip();
  current?.abort.abort();
  const here = address.parse(location.hash);
  const entry = VIEWS[here.view];
  const abort = new AbortController();
  current = { abort, restyle: () => undefined };
  main.replaceChildren();
  main.className = "";
  main.dataset.view = here.view;
  for (const tab of tabs.querySelectorAll("a")) {
    if (tab.dataset.view === here.view) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (!entry) {
    main.append(
      failure(new Told(`There is no page “${here.view}” here.`)),
      el("p", {}, el("a", { href: "#/search" }, "to the search")),
    );
    return;
  }
  document.title = `${entry.title} · ${atlas.name}`;
  scrollTo(0, places.get(history.state?.place) ?? 0);
  try {
    const drawn = entry.view(main, { api, atlas, address: here, signal: abort.signal, go });
    if (drawn) current.restyle = drawn.restyle;
  } catch (error) {
    fill(main, failure(error));
  }
}

function go(link: string, replace = false): void {
  if (replace) {
    if (link === location.hash) return;
    shown = link;
    history.replaceState(history.state, "", link);
  } else location.hash = link;
}

// Where each step of the history was scrolled to, so that going back leads to the same lines.
const places = new Map<unknown, number>();
let step = 0;

function rememberPlace(): void {
  if (!history.state?.place) history.replaceState({ place: ++step }, "");
  places.set(history.state.place, scrollY);
}

// ---------- scheme

type SchemeName = "light" | "dark";

function remembered(): SchemeName {
  try {
    const stored = localStorage.getItem("atlas-scheme");
    if (stored === "light" || stored === "dark") return stored;
  } catch {
    // a page from a file may have no storage
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

function setScheme(name: SchemeName): void {
  document.documentElement.dataset.scheme = name;
}

function toggleScheme(): void {
  const next = document.documentElement.dataset.scheme === "dark" ? "light" : "dark";
  setScheme(next);
  try {
    localStorage.setItem("atlas-scheme", next);
  } catch {
    // then it holds until the page is closed
  }
  current?.restyle();
}

// ---------- keys

function keyList(): HTMLDialogElement {
  const dialog = el(
    "dialog",
    { "aria-label": "Keys" },
    el("h2", {}, "Keys"),
    el(
      "dl",
      { class: "facts-list" },
      ...KEYS.flatMap(([key, does]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, does)]),
    ),
    el("form", { method: "dialog" }, el("button", { type: "submit" }, "Close")),
  );
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}

function keyed(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const target = event.target as HTMLElement;
  const typing = target.matches(
    "input:not([type=radio], [type=checkbox], [type=range]), textarea, select",
  );
  if (event.key === "Escape") {
    hideTip();
    if (typing) target.blur();
    return;
  }
  if (typing || help.open) return;
  if (event.key === "/") {
    const box = document.querySelector<HTMLElement>("#search, main input[type=search]");
    if (box) box.focus();
    else location.hash = "#/search";
  } else if (event.key === "?") help.showModal();
  else if (event.key === "d") toggleScheme();
  else if (GOES[event.key] && tabs.querySelector(`[data-view="${GOES[event.key]}"]`)) {
    location.hash = address.format(GOES[event.key] as string);
  } else return;
  event.preventDefault();
}

addEventListener("hashchange", draw);
addEventListener("keydown", keyed);
addEventListener("scroll", rememberPlace, { passive: true });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  setScheme(remembered());
  current?.restyle();
});
start();
