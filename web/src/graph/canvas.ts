/**
 * The layered graph on two canvases: the scene, and what is pointed at above it.
 *
 * Keeps the window that is loaded around what is in view: asks /api/graph while the reader pans and
 * zooms, and draws what it has until the answer is there.
 */

import { scheme } from "../colours.ts";
import { el } from "../dom.ts";
import { count, counted, fixed, percent, words } from "../format.ts";
import { hideTip, showTip } from "../parts/tooltip.ts";
import type { EdgeAnswer, Found, GraphAnswer, GraphInfo } from "../types.ts";
import { type Page, sentenceOf, settled } from "../view.ts";
import { BAND_WIDTH, type Colouring, draw, drawMarks, Edges } from "./draw.ts";
import { type Edge, type Node, onColumn, Scene } from "./scene.ts";
import * as v from "./viewport.ts";
import { MOST_NODES, suffices, type Window, windowOf } from "./windows.ts";

export interface Settings {
  measure: string;
  at_least: number;
  top: number;
  clustering: string;
}

/** A feature at the other end of an edge. */
export interface Relative {
  id: number;
  name: string;
  label: string | null;
  value: number;
}

interface Told {
  status: (text: string, failed: boolean) => void;
  moved: (y0: number, y1: number, middle: number) => void;
  chosen: (node: Node | null) => void;
}

const CACHED = 24;
const FLIGHT = 350;

/** The confidence interval of a measure, where there is one. */
function interval(edge: EdgeAnswer | undefined, measure: string): HTMLElement | null {
  const [low, high] = [edge?.[`${measure}_low`], edge?.[`${measure}_high`]];
  if (typeof low !== "number" || typeof high !== "number") return null;
  return el("span", { class: "hint" }, ` [${fixed(low)}, ${fixed(high)}]`);
}

export class GraphCanvas {
  readonly element: HTMLElement;
  whenSelected: (up: Relative[], down: Relative[]) => void = () => undefined;

  readonly #page: Page;
  readonly #of: GraphInfo;
  readonly #told: Told;
  readonly #base = el("canvas", { class: "scene" });
  readonly #above = el("canvas", { class: "marks" });
  #settings: Settings | null = null;
  #view: v.Viewport | null = null;
  #scene: Scene | null = null;
  #edges: Edges | null = null;
  #look = { scheme: scheme(), colouring: "community" as Colouring };
  #focus: Node | null = null;
  #edge: Edge | null = null;
  #selected: Found | null = null;
  #found: Found[] = [];
  #cache = new Map<string, GraphAnswer>();
  #asked = "";
  #asking: AbortController | null = null;
  #frame = 0;
  #dirty = { scene: false, marks: false };
  #flight = 0;

  constructor(page: Page, of: GraphInfo, told: Told) {
    this.#page = page;
    this.#of = of;
    this.#told = told;
    this.element = el(
      "div",
      {
        class: "graph",
        tabindex: 0,
        role: "application",
        "aria-label": `Layered graph of ${of.model}. Arrow keys move, plus and minus zoom, 0 shows all; on a selected feature the arrows walk along its strongest edges, Enter opens its page, Escape lets go.`,
      },
      this.#base,
      this.#above,
    );
    this.#listen();
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(this.element);
    page.signal.addEventListener("abort", () => {
      observer.disconnect();
      cancelAnimationFrame(this.#frame);
      hideTip();
    });
  }

  focus(): void {
    this.element.focus({ preventScroll: true });
  }

  /** Loads anew under other settings; the view stays where it is. */
  async load(settings: Settings): Promise<void> {
    this.#settings = settings;
    this.#cache.clear();
    this.#asked = "";
    await this.#ask(true);
  }

  colour(colouring: Colouring): void {
    this.#look = { ...this.#look, colouring };
    this.#restroke();
  }

  restyle(): void {
    this.#look = { ...this.#look, scheme: scheme() };
    this.#restroke();
  }

  look(y0: number, y1: number, middle: number): void {
    if (this.#view && y1 > y0) this.#move(v.settle({ ...this.#view, y0, y1, middle }));
  }

  /** Flies to where all of `found` are in view. */
  frame(found: Found[]): void {
    if (!this.#view || !this.#scene) return;
    const ys = found.map((f) => f.y);
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const room = Math.max(0.1 * (high - low), 10 / this.#view.extent.n_features);
    const xs = found.map((f) => this.#scene?.layerIndex.get(f.layer) ?? 0);
    const middle = xs.reduce((a, b) => a + b, 0) / xs.length;
    this.#fly(v.settle({ ...this.#view, y0: low - room, y1: high + room, middle }));
  }

  /** Marks features wherever they are; those that have a place in the graph come back. */
  async mark(ids: number[]): Promise<Found[]> {
    this.#found = await this.#locate(ids);
    this.#changed("marks");
    return this.#found;
  }

  /** Selects a feature by id, or lets go; `fly` brings it into view. */
  async select(id: number | null, fly: boolean): Promise<void> {
    if (id === null) {
      this.#selected = null;
      this.#focus = null;
      this.#changed("marks");
      return;
    }
    const [found] = await this.#locate([id]);
    this.#selected = found ?? null;
    if (found && this.#view) {
      const x = this.#scene?.layerIndex.get(found.layer) ?? 0;
      const away = found.y < this.#view.y0 || found.y > this.#view.y1;
      if (fly || away) this.#fly(v.around(this.#view, x, found.y));
    }
    this.#changed("marks");
    this.#tellRelatives();
  }

  // ---------- loading

  async #locate(ids: number[]): Promise<Found[]> {
    if (ids.length === 0 || !this.#settings) return [];
    const loaded = ids.map((id) => this.#scene?.byId.get(id)).filter((node) => node !== undefined);
    if (loaded.length === ids.length || this.#scene?.answer.complete) return loaded;
    try {
      const request = { ...this.#request(), limit: 1, bins: 1, find: ids.join(",") };
      return (await this.#page.api.graph(request, this.#page.signal)).found;
    } catch {
      return loaded;
    }
  }

  #request() {
    const { model, hook, variant } = this.#of;
    return { model, hook, variant, ...this.#settings };
  }

  #ask(now = false): Promise<void> | void {
    if (this.#scene && this.#view && this.#asked && suffices(this.#scene.answer, this.#view)) return;
    return now ? this.#fetch() : this.#fetchSoon();
  }

  readonly #fetchSoon = settled(70, () => void this.#fetch());

  async #fetch(): Promise<void> {
    if (!this.#settings || this.#page.signal.aborted) return;
    const window: Window | null = this.#view && windowOf(this.#view);
    const layers = this.#of.layers;
    const request = {
      ...this.#request(),
      limit: MOST_NODES,
      ...(window && {
        y0: window.y0,
        y1: window.y1,
        from_layer: layers[window.from],
        to_layer: layers[window.to],
        bins: window.bins,
      }),
    };
    const key = JSON.stringify(request);
    if (key === this.#asked) return;
    this.#asked = key;
    const cached = this.#cache.get(key);
    if (cached) {
      this.#arrived(cached);
      return;
    }
    this.#asking?.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#page.signal, this.#asking.signal]);
    this.element.setAttribute("aria-busy", "true");
    try {
      const answer = await this.#page.api.graph(request, signal);
      this.#cache.set(key, answer);
      const oldest = this.#cache.keys().next().value;
      if (this.#cache.size > CACHED && oldest !== undefined) this.#cache.delete(oldest);
      if (this.#asked === key) this.#arrived(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.#asked = "";
      this.#told.status(sentenceOf(error), true);
    }
    this.element.removeAttribute("aria-busy");
  }

  #arrived(answer: GraphAnswer): void {
    this.element.removeAttribute("aria-busy");
    this.#scene = new Scene(answer);
    const extent = {
      n_layers: answer.layers.length,
      n_features: Math.max(1, ...answer.layers.map((layer) => layer.n)),
    };
    if (!this.#view) {
      const { width, height } = this.element.getBoundingClientRect();
      this.#view = v.whole(width, height, extent);
    }
    this.#focus = this.#focus && (this.#scene.byId.get(this.#focus.id) ?? null);
    this.#edge = null;
    this.#restroke();
    this.#tellStatus();
    this.#tellRelatives();
    void this.#ask();
  }

  #tellStatus(): void {
    const answer = this.#scene?.answer;
    if (!answer) return;
    const { nodes, edges } = answer.totals;
    const what = answer.complete ? "the whole graph" : "in and around the view";
    const drawn = answer.nodes.length > 0 || nodes === 0 ? "" : "; zoom in for single features";
    this.#told.status(
      `${counted(nodes, "feature")}, ${counted(edges, "edge")} with ${words(answer.measure)} ≥ ${answer.at_least} ${what}${drawn}`,
      false,
    );
    this.element.dataset.mode = answer.nodes.length > 0 ? "nodes" : "bands";
    this.element.dataset.nodes = String(answer.nodes.length);
  }

  #tellRelatives(): void {
    const [scene, id] = [this.#scene, this.#selected?.id];
    if (!scene || id === undefined || !scene.byId.has(id)) return;
    const relatives = (end: "a" | "b", other: "a" | "b"): Relative[] =>
      scene
        .edgesOf(id)
        .filter((edge) => edge[end] === id)
        .flatMap((edge) => {
          const node = scene.byId.get(edge[other]);
          return node ? [{ id: node.id, name: node.feature, label: node.label, value: edge.value }] : [];
        });
    this.whenSelected(relatives("b", "a"), relatives("a", "b"));
  }

  // ---------- moving

  #resized(): void {
    const { width, height } = this.element.getBoundingClientRect();
    if (width === 0 || height === 0) return;
    const ratio = devicePixelRatio || 1;
    for (const canvas of [this.#base, this.#above]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.getContext("2d")?.setTransform(ratio, 0, 0, ratio, 0, 0);
    }
    if (this.#view) this.#move(v.resized(this.#view, width, height));
  }

  #move(view: v.Viewport): void {
    this.#view = view;
    this.#changed("scene");
    this.#told.moved(view.y0, view.y1, view.middle);
    void this.#ask();
  }

  #fly(to: v.Viewport): void {
    const from = this.#view;
    if (!from) return;
    cancelAnimationFrame(this.#flight);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.#move(to);
      return;
    }
    const start = performance.now();
    const step = (now: number) => {
      const share = Math.min(1, Math.max(0, (now - start) / FLIGHT));
      const eased = share * share * (3 - 2 * share);
      this.#move(share < 1 ? v.between(from, to, eased) : to);
      if (share < 1) this.#flight = requestAnimationFrame(step);
    };
    this.#flight = requestAnimationFrame(step);
  }

  // ---------- drawing

  #restroke(): void {
    if (!this.#scene) return;
    this.#edges = new Edges(this.#scene, this.#look);
    this.#changed("scene");
  }

  #changed(what: "scene" | "marks"): void {
    this.#dirty.marks = true;
    if (what === "scene") this.#dirty.scene = true;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#frame = 0;
    const [view, scene, edges] = [this.#view, this.#scene, this.#edges];
    const [base, above] = [this.#base.getContext("2d"), this.#above.getContext("2d")];
    if (!view || !scene || !edges || !base || !above) return;
    if (this.#dirty.scene) draw(base, view, scene, edges, this.#look);
    const selected = this.#selected && (scene.byId.get(this.#selected.id) ?? null);
    const focus = this.#focus ?? selected;
    this.#base.classList.toggle("dimmed", focus !== null);
    drawMarks(above, view, scene, this.#look, {
      focus,
      edge: this.#edge,
      found: this.#found,
      selected: this.#selected,
    });
    this.#dirty = { scene: false, marks: false };
  }

  // ---------- pointing

  #listen(): void {
    const box = this.element;
    const down = new Map<number, { x: number; y: number }>();
    let travelled = 0;
    const at = (event: MouseEvent) => {
      const { left, top } = box.getBoundingClientRect();
      return { x: event.clientX - left, y: event.clientY - top };
    };
    box.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      cancelAnimationFrame(this.#flight);
      box.setPointerCapture(event.pointerId);
      down.set(event.pointerId, at(event));
      travelled = 0;
      hideTip();
    });
    box.addEventListener("pointermove", (event) => {
      const before = down.get(event.pointerId);
      const now = at(event);
      if (!before) {
        this.#point(now.x, now.y, event);
        return;
      }
      if (!this.#view) return;
      travelled += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
      down.set(event.pointerId, now);
      if (other) {
        const distance = (p: { x: number; y: number }) => Math.hypot(p.x - other.x, p.y - other.y);
        const factor = distance(now) / Math.max(1, distance(before));
        this.#move(v.zoomed(this.#view, factor, (now.x + other.x) / 2, (now.y + other.y) / 2));
      } else if (travelled > 3) {
        box.classList.add("dragged");
        this.#move(v.panned(this.#view, now.x - before.x, now.y - before.y));
      }
    });
    const up = (event: PointerEvent) => {
      if (down.delete(event.pointerId) && event.type === "pointerup" && travelled <= 3) {
        const { x, y } = at(event);
        const node = this.#view && this.#scene?.nodeAt(this.#view, x, y);
        this.#selected = node ?? null;
        this.#told.chosen(node ?? null);
      }
      box.classList.remove("dragged");
    };
    box.addEventListener("pointerup", up);
    box.addEventListener("pointercancel", up);
    box.addEventListener("pointerleave", () => this.#unpoint());
    box.addEventListener("dblclick", (event) => {
      const { x, y } = at(event);
      if (this.#view) this.#fly(v.zoomed(this.#view, 3, x, y));
    });
    box.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        if (!this.#view) return;
        cancelAnimationFrame(this.#flight);
        hideTip();
        const unit = event.deltaMode === 1 ? 16 : 1;
        if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
          this.#move(v.panned(this.#view, -unit * (event.deltaX || event.deltaY), 0));
          return;
        }
        const { x, y } = at(event);
        const amount = Math.min(60, Math.max(-60, unit * event.deltaY));
        this.#move(v.zoomed(this.#view, 1.0035 ** -amount * (event.ctrlKey ? 1.01 ** -amount : 1), x, y));
      },
      { passive: false },
    );
    // Keys work without a click into the graph, as nothing else on this page wants them.
    addEventListener(
      "keydown",
      (event) => {
        if (event.target === document.body || event.target === box) this.#key(event);
      },
      { signal: this.#page.signal },
    );
  }

  #key(event: KeyboardEvent): void {
    if (!this.#view || event.ctrlKey || event.metaKey || event.altKey) return;
    const { width, height } = this.#view;
    const walked = this.#walked(event.key);
    if (walked) {
      this.#told.chosen(walked);
      void this.select(walked.id, false);
    } else if (event.key === "Enter" && this.#selected) {
      this.element.dispatchEvent(new CustomEvent("atlas-open", { bubbles: true, detail: this.#selected.feature }));
    } else if (event.key === "Escape") this.#told.chosen(null);
    else if (event.key === "+" || event.key === "=") this.#fly(v.zoomed(this.#view, 2, width / 2, height / 2));
    else if (event.key === "-") this.#fly(v.zoomed(this.#view, 0.5, width / 2, height / 2));
    else if (event.key === "0") this.#fly(v.whole(width, height, this.#view.extent));
    else if (event.key === "ArrowUp" || event.key === "PageUp") this.#move(v.panned(this.#view, 0, event.key === "PageUp" ? 0.8 * height : 60));
    else if (event.key === "ArrowDown" || event.key === "PageDown") this.#move(v.panned(this.#view, 0, event.key === "PageDown" ? -0.8 * height : -60));
    else if (event.key === "ArrowLeft") this.#move(v.panned(this.#view, 80, 0));
    else if (event.key === "ArrowRight") this.#move(v.panned(this.#view, -80, 0));
    else return;
    event.preventDefault();
  }

  /** Where an arrow key leads from the selected feature: along its strongest edge, or next to it. */
  #walked(key: string): Node | null {
    const scene = this.#scene;
    const node = this.#selected && scene?.byId.get(this.#selected.id);
    if (!scene || !node) return null;
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const [own, other] = key === "ArrowLeft" ? (["b", "a"] as const) : (["a", "b"] as const);
      const edge = scene.edgesOf(node.id).find((e) => e[own] === node.id && scene.byId.has(e[other]));
      return edge ? (scene.byId.get(edge[other]) ?? null) : null;
    }
    if (key === "ArrowUp" || key === "ArrowDown") {
      const column = scene.columns[node.x] ?? [];
      return column[column.indexOf(node) + (key === "ArrowUp" ? -1 : 1)] ?? null;
    }
    return null;
  }

  #unpoint(): void {
    hideTip();
    if (this.#focus || this.#edge) {
      this.#focus = null;
      this.#edge = null;
      this.#changed("marks");
    }
  }

  #point(x: number, y: number, event: PointerEvent): void {
    const [view, scene] = [this.#view, this.#scene];
    if (!view || !scene) return;
    const node = scene.nodeAt(view, x, y);
    const edge = node ? null : scene.edgeAt(view, x, y);
    if (node !== this.#focus || edge !== this.#edge) {
      this.#focus = node;
      this.#edge = edge;
      this.#changed("marks");
    }
    this.element.classList.toggle("over", node !== null);
    if (node) this.#tellNode(node, event);
    else if (edge) this.#tellEdge(edge, event);
    else if (!this.#tellBand(x, y, event)) hideTip();
  }

  #tellNode(node: Node, { clientX, clientY }: PointerEvent): void {
    const scene = this.#scene as Scene;
    const kind = [node.appearing && "appears here", node.disappearing && "not continued"];
    const relatives = scene.edgesOf(node.id).slice(0, 6).flatMap((edge) => {
      const other = scene.byId.get(edge.a === node.id ? edge.b : edge.a);
      if (!other) return [];
      return [el("div", {}, edge.a === node.id ? "→ " : "← ", fixed(edge.value), " ", other.label ?? other.feature)];
    });
    showTip(
      clientX,
      clientY,
      el("b", {}, node.label ?? "no label"),
      el("div", { class: "name" }, node.feature),
      el("div", {}, `active on ${percent(node.density)} of tokens${node.label_score === null ? "" : `, score ${fixed(node.label_score)}`}`),
      kind.some(Boolean) && el("div", {}, kind.filter(Boolean).join(", ")),
      ...relatives,
    );
  }

  #tellEdge(edge: Edge, event: PointerEvent): void {
    const scene = this.#scene as Scene;
    const [a, b] = [scene.byId.get(edge.a), scene.byId.get(edge.b)];
    const tell = (all?: EdgeAnswer) => {
      if (this.#edge !== edge) return;
      const values = Object.entries(all ?? {}).filter(([key, value]) => typeof value === "number" && this.#isOtherMeasure(key));
      showTip(
        event.clientX,
        event.clientY,
        el("b", {}, `${words(scene.answer.measure)} ${fixed(edge.value, 3)}`),
        interval(all, scene.answer.measure),
        el("div", {}, `${a?.label ?? a?.feature ?? "out of view"} → ${b?.label ?? b?.feature ?? "out of view"}`),
        ...values.map(([key, value]) => el("div", {}, `${words(key)} ${fixed(value as number, 3)}`, interval(all, key))),
        all && el("div", {}, `together on ${count(all.n_both)} of ${count(all.n_a)} and ${count(all.n_b)}`),
      );
    };
    tell();
    if (a && b) this.#fetchEdge(a.feature, b.feature, tell);
  }

  /** Whether a column of an edge is a measure other than the one that is drawn. */
  #isOtherMeasure(key: string): boolean {
    if (key === this.#scene?.answer.measure) return false; // told already
    return this.#page.atlas.measures.includes(key) || key === "decoder_cosine";
  }

  readonly #fetchEdge = settled(220, (a: string, b: string, tell: (all: EdgeAnswer) => void) => {
    this.#page.api.edge(a, b, this.#page.signal).then(tell, () => undefined); // the tip stays as it is
  });

  #tellBand(x: number, y: number, { clientX, clientY }: PointerEvent): boolean {
    const [view, scene] = [this.#view as v.Viewport, this.#scene as Scene];
    const index = onColumn(view, x, BAND_WIDTH / 2 + 4);
    const { answer } = scene;
    if (index === null || answer.bands.length === 0) return false;
    const layer = answer.layers[index];
    const bins = answer.bins ?? 1 + Math.max(...answer.bands.map((band) => band.bin));
    const bin = Math.floor(((v.fromY(view, y) - answer.y0) / (answer.y1 - answer.y0)) * bins);
    const band = answer.bands.find((b) => b.layer === layer?.layer && b.bin === bin);
    if (!band) return false;
    showTip(
      clientX,
      clientY,
      el("b", {}, `${counted(band.n, "feature")} of layer ${band.layer}`),
      el("div", {}, `${count(band.appearing)} appear, ${count(band.disappearing)} are not continued`),
      band.community !== null && el("div", {}, `most in community ${band.community} (${percent(band.share)})`),
      el("div", { class: "hint" }, "zoom in to see them"),
    );
    return true;
  }
}
