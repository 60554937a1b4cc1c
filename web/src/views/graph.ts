/** The layered graph: controls, canvas and side panel. */

import * as address from "../address.ts";
import { cividis, scheme } from "../colours.ts";
import { el, fill, svg } from "../dom.ts";
import { words } from "../format.ts";
import { GraphCanvas } from "../graph/canvas.ts";
import { type Colouring, kindColour } from "../graph/draw.ts";
import { Panel } from "../graph/panel.ts";
import { select, slider } from "../parts/controls.ts";
import type { GraphInfo, SearchResult } from "../types.ts";
import { type Page, sentenceOf, settled, type View } from "../view.ts";
import { byUse, chosenGraph, clusteringName, graphChoices, noGraph } from "./choices.ts";

const COLOURINGS: { value: Colouring; text: string }[] = [
  { value: "community", text: "community" },
  { value: "kind", text: "what becomes of it" },
  { value: "density", text: "density" },
];
/** Search results and members of a community that are marked. */
const MARKED = 250;

export const graph: View = (root, page) => {
  const of = chosenGraph(page);
  if (!of) {
    root.append(noGraph());
    return;
  }
  root.classList.add("full");
  const { atlas, address: here } = page;
  const fixed = page.api.embedded !== null; // an export holds one graph of each kind
  const clusterings = byUse(
    atlas.clusterings.filter(
      (c) => c.model === of.model && c.hook === of.hook && (c.variant ?? "") === (of.variant ?? ""),
    ),
  );
  const settings = {
    measure: here.params.measure ?? atlas.measures[0] ?? "pearson",
    at_least: Number(here.params.at_least ?? 0.5),
    top: Number(here.params.top ?? 3),
    clustering: here.params.clustering ?? String(clusterings[0]?.clustering_id ?? ""),
  };
  const colourings = COLOURINGS.filter((c) => c.value !== "community" || clusterings.length > 0);
  const usual = colourings[0]?.value ?? "kind";
  let colouring = colourings.find((c) => c.value === here.params.colour)?.value ?? usual;
  let place = { y0: here.params.y0, y1: here.params.y1, x: here.params.x };
  let selected: { name: string; id: string } | null = here.params.select
    ? { name: here.params.select, id: here.params.id ?? "" }
    : null;

  const link = (graphInfo: GraphInfo = of) =>
    address.graph(graphInfo, {
      ...settings,
      clustering: graphInfo === of ? settings.clustering : "",
      colour: colouring === usual ? "" : colouring,
      ...(graphInfo === of
        ? { ...place, select: selected?.name, id: selected?.id, q: box.value.trim() }
        : {}),
    });
  const remember = settled(250, () => {
    if (!page.signal.aborted) page.go(link(), true);
  });

  const signs = el("p", { class: "legend" }, ...legend(colouring));
  const status = el("p", { class: "graph-status", role: "status" });
  const panel = new Panel(page, {
    walked: (to) => choose(to, false),
    closed: () => choose(null),
  });
  const canvas = new GraphCanvas(page, of, {
    status: (text, failed) => {
      status.textContent = text;
      status.classList.toggle("failed", failed);
    },
    moved: (y0, y1, x) => {
      place = { y0: y0.toFixed(6), y1: y1.toFixed(6), x: x.toFixed(2) };
      remember();
    },
    walked: (to) => {
      const next = panel.relatives[to][0];
      if (next) choose(next, false);
    },
    opened: (name) => page.go(address.feature(name)),
    chosen: (node) => choose(node && { name: node.feature, id: String(node.id) }, false),
  });

  /** Selects a feature; `fly` also brings it into view. */
  function choose(next: { name: string; id: string } | null, fly = true): void {
    if (next?.name === selected?.name && next !== null) return;
    selected = next && { name: next.name, id: next.id };
    page.go(link(), true);
    panel.show(next?.name ?? null, settings);
    void canvas.select(next ? Number(next.id) : null, fly);
  }

  const hits = el("ol", { class: "hits compact graph-hits", hidden: true });
  const find = async () => {
    const q = box.value.trim();
    remember();
    if (!q) {
      fill(hits);
      hits.hidden = true;
      await canvas.mark([]);
      return;
    }
    try {
      const results = await page.api.search({ q, within: of.model, limit: MARKED }, page.signal);
      const found = new Set(
        (await canvas.mark(results.map((hit) => hit.feature_id))).map((f) => f.id),
      );
      hits.hidden = false;
      fill(
        hits,
        ...listed(
          results.filter((hit) => found.has(hit.feature_id)),
          choose,
        ),
      );
    } catch (error) {
      if (!page.signal.aborted) status.textContent = sentenceOf(error);
    }
  };
  const box = el("input", {
    type: "search",
    placeholder: "highlight …",
    "aria-label": "Highlight features by label or word",
    autocomplete: "off",
    value: here.params.q ?? "",
    on: { input: settled(250, () => void find()) },
  });

  const reload = () => {
    page.go(link(), true);
    if (selected) panel.show(selected.name, settings);
    void canvas.load({ ...settings });
  };
  const controls = el(
    "div",
    { class: "controls graph-controls" },
    graphChoices(page, of, (chosen) => page.go(link(chosen))),
    !fixed &&
      select(
        "measure",
        atlas.measures.map((m) => ({ value: m, text: words(m) })),
        settings.measure,
        (v) => {
          settings.measure = v;
          reload();
        },
      ),
    !fixed &&
      slider("at least", { min: 0.05, max: 1, step: 0.05 }, settings.at_least, (v) => {
        settings.at_least = v;
        reload();
      }),
    !fixed &&
      select(
        "edges each",
        [1, 2, 3, 5, 10].map((n) => ({ value: String(n), text: String(n) })),
        String(settings.top),
        (v) => {
          settings.top = Number(v);
          reload();
        },
      ),
    select("colour", colourings, colouring, (v) => {
      colouring = v as Colouring;
      canvas.colour(colouring);
      fill(signs, ...legend(colouring));
      remember();
    }),
    !fixed &&
      clusterings.length > 1 &&
      select(
        "by",
        clusterings.map((c) => ({
          value: String(c.clustering_id),
          text: clusteringName(c),
        })),
        settings.clustering,
        (v) => {
          settings.clustering = v;
          reload();
        },
      ),
    el("div", { class: "graph-search" }, box, hits),
  );
  root.append(
    el("h1", { class: "hidden" }, `Graph of ${of.model}, ${of.hook}`),
    controls,
    el("div", { class: "graph-area" }, canvas.element, panel.element),
    el("div", { class: "graph-foot" }, status, signs),
  );
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      box.value = "";
      void find();
      canvas.focus();
    }
  });

  canvas.colour(colouring);
  void canvas
    .load({ ...settings })
    .then(async () => {
      if (selected && !selected.id) {
        // an address written by hand
        const { card } = await page.api.feature(selected.name, page.signal);
        selected.id = String(card.feature_id);
      }
      if (place.y0 && place.y1)
        canvas.look(Number(place.y0), Number(place.y1), Number(place.x ?? 0));
      if (selected) {
        panel.show(selected.name, settings);
        await canvas.select(Number(selected.id), !place.y0);
      }
      if (box.value) await find();
      else if (here.params.community && settings.clustering)
        await markCommunity(page, canvas, settings.clustering);
    })
    .catch((error: unknown) => {
      if (!page.signal.aborted) status.textContent = sentenceOf(error);
    });
  return {
    restyle: () => {
      canvas.restyle();
      fill(signs, ...legend(colouring));
    },
  };
};

async function markCommunity(page: Page, canvas: GraphCanvas, clustering: string): Promise<void> {
  const id = Number(page.address.params.community);
  const { members } = await page.api.community(Number(clustering), id, MARKED, page.signal);
  const found = await canvas.mark(members.map((member) => member.feature_id));
  if (found.length > 0) canvas.frame(found);
}

function listed(results: SearchResult[], choose: (of: { name: string; id: string }) => void) {
  if (results.length === 0) return [el("li", { class: "hint" }, "nothing in this graph")];
  return results.slice(0, 30).map((hit) =>
    el(
      "li",
      {},
      el(
        "button",
        {
          type: "button",
          class: "plain",
          on: { click: () => choose({ name: hit.feature, id: String(hit.feature_id) }) },
        },
        el("span", { class: "label" }, hit.label ?? "no label"),
        el("span", { class: "name" }, hit.feature),
      ),
    ),
  );
}

/** What the signs mean, and the colours where they mean something. */
function legend(colouring: Colouring): Node[] {
  const colours = scheme();
  const of = (appearing: boolean, disappearing: boolean) =>
    colouring === "kind" ? kindColour({ appearing, disappearing }, colours) : "currentColor";
  const sign = (...shapes: SVGElement[]) =>
    svg("svg", { width: 18, height: 12, "aria-hidden": "true" }, ...shapes);
  const disc = (fill: string) => svg("circle", { cx: 7, cy: 6, r: 4, fill });
  const [passes, born, gone] = [of(false, false), of(true, false), of(false, true)];
  const steps = 24;
  const density = el(
    "span",
    {},
    "active on 0.01 %",
    svg(
      "svg",
      { width: 96, height: 10, "aria-hidden": "true" },
      ...Array.from({ length: steps }, (_, i) =>
        svg("rect", {
          x: (96 * i) / steps,
          width: 96 / steps + 0.5,
          height: 10,
          fill: `rgb(${cividis(i / (steps - 1)).join(",")})`,
        }),
      ),
    ),
    "30 % of tokens",
  );
  return [
    ...(colouring === "density" ? [density] : []),
    el("span", {}, sign(disc(passes)), "passes"),
    el(
      "span",
      {},
      sign(
        svg("circle", { cx: 7, cy: 6, r: 3.5, fill: "none", stroke: born, "stroke-width": 1.5 }),
      ),
      "appears",
    ),
    el(
      "span",
      {},
      sign(disc(gone), svg("rect", { x: 13, y: 2, width: 2, height: 8, fill: gone })),
      "disappears",
    ),
    el(
      "span",
      { class: "keys" },
      "drag, wheel · ",
      el("kbd", {}, "+"),
      el("kbd", {}, "−"),
      el("kbd", {}, "0"),
      el("kbd", {}, "arrows"),
    ),
  ];
}
