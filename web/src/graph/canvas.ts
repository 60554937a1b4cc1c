/**
 * The layered graph on two canvases: the scene, and what is pointed at above it.
 *
 * Draws what is loaded, wherever the reader has moved meanwhile, and lets the loader fetch the rest.
 */

import { scheme } from "../colours.ts";
import { type Child, el } from "../dom.ts";
import { counted, words } from "../format.ts";
import { hideTip, showTip } from "../parts/tooltip.ts";
import type { EdgeAnswer, Found, GraphAnswer, GraphInfo } from "../types.ts";
import { type Page, settled } from "../view.ts";
import { type Colouring, draw, drawMarks, Edges } from "./draw.ts";
import { listen, moveByKey, type Mover } from "./input.ts";
import { Loader, type Settings } from "./loader.ts";
import { type Edge, type Node, Scene } from "./scene.ts";
import { ofBand, ofEdge, ofNode } from "./tips.ts";
import * as v from "./viewport.ts";

interface Told {
  status: (text: string, failed: boolean) => void;
  moved: (y0: number, y1: number, middle: number) => void;
  chosen: (node: Node | null) => void;
  /** An arrow key leads from the selected feature along its strongest edge. */
  walked: (to: "up" | "down") => void;
  opened: (feature: string) => void;
}

/** Milliseconds of a flight, and of resting on an edge before its other measures are fetched. */
const FLIGHT = 350;
const REST = 220;

export class GraphCanvas implements Mover {
  readonly element: HTMLElement;

  readonly #page: Page;
  readonly #told: Told;
  readonly #loader: Loader;
  readonly #base = el("canvas", { class: "scene" });
  readonly #above = el("canvas", { class: "marks" });
  #view: v.Viewport | null = null;
  #scene: Scene | null = null;
  #edges: Edges | null = null;
  #look = { scheme: scheme(), colouring: "community" as Colouring };
  #focus: Node | null = null;
  #edge: Edge | null = null;
  #selected: Found | null = null;
  #found: Found[] = [];
  #frame = 0;
  #dirty = { scene: false, marks: false };
  #flight = 0;

  constructor(page: Page, of: GraphInfo, told: Told) {
    this.#page = page;
    this.#told = told;
    this.#loader = new Loader(page, of, {
      arrived: (answer) => this.#arrived(answer),
      busy: (busy) => this.element.setAttribute("aria-busy", String(busy)),
      failed: (sentence) => told.status(sentence, true),
    });
    this.element = el(
      "div",
      {
        class: "graph",
        tabindex: 0,
        role: "application",
        "aria-label":
          `Layered graph of ${of.model}. Arrow keys move, plus and minus zoom, 0 shows all; on a ` +
          "selected feature the arrows walk along its strongest edges, Enter opens its page, " +
          "Escape lets go.",
      },
      this.#base,
      this.#above,
    );
    listen(this.element, this);
    // Keys work without a click into the graph, as nothing else on this page wants them.
    const keyed = (event: KeyboardEvent) => {
      if (event.target === document.body || event.target === this.element) this.#key(event);
    };
    addEventListener("keydown", keyed, { signal: page.signal });
    const observer = new ResizeObserver(() => this.#resized());
    observer.observe(this.element);
    page.signal.addEventListener("abort", () => {
      observer.disconnect();
      cancelAnimationFrame(this.#frame);
      this.land();
      hideTip();
    });
  }

  focus(): void {
    this.element.focus({ preventScroll: true });
  }

  /** Loads anew under other settings; the view stays where it is. */
  async load(settings: Settings): Promise<void> {
    await this.#loader.load(settings, this.#view);
  }

  colour(colouring: Colouring): void {
    this.#look = { ...this.#look, colouring };
    this.#restroke();
  }

  restyle(): void {
    this.#look = { ...this.#look, scheme: scheme() };
    this.#restroke();
  }

  /** Shows a part of the graph at once. */
  look(y0: number, y1: number, middle: number): void {
    if (this.#view && y1 > y0) this.move(v.settle({ ...this.#view, y0, y1, middle }));
  }

  /** Flies to where all of `found` are in view. */
  frame(found: Found[]): void {
    if (!this.#view || !this.#scene) return;
    const ys = found.map((f) => f.y);
    const [low, high] = [Math.min(...ys), Math.max(...ys)];
    const room = Math.max(0.1 * (high - low), 10 / this.#view.extent.n_features);
    const xs = found.map((f) => this.#scene?.layerIndex.get(f.layer) ?? 0);
    const middle = xs.reduce((a, b) => a + b, 0) / xs.length;
    this.fly(v.settle({ ...this.#view, y0: low - room, y1: high + room, middle }));
  }

  /** Marks features wherever they are; those that have a place in the graph come back. */
  async mark(ids: number[]): Promise<Found[]> {
    this.#found = await this.#loader.locate(ids);
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
    const [found] = await this.#loader.locate([id]);
    this.#selected = found ?? null;
    if (found && this.#view) {
      const x = this.#scene?.layerIndex.get(found.layer) ?? 0;
      const [px, py] = [v.toX(this.#view, x), v.toY(this.#view, found.y)];
      const { width, height } = this.#view;
      const away = px < 0 || px > width || py < v.MARGIN.top || py > height;
      if (fly || away) this.fly(v.around(this.#view, x, found.y));
    }
    this.#changed("marks");
  }

  // ---------- loading

  #arrived(answer: GraphAnswer): void {
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
    this.#loader.ask(this.#view);
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
    if (this.#view) this.move(v.resized(this.#view, width, height));
  }

  view(): v.Viewport | null {
    return this.#view;
  }

  move(view: v.Viewport): void {
    this.#view = view;
    this.#changed("scene");
    this.#told.moved(view.y0, view.y1, view.middle);
    this.#loader.ask(view);
  }

  fly(to: v.Viewport): void {
    const from = this.#view;
    if (!from) return;
    this.land();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.move(to);
      return;
    }
    const start = performance.now();
    const step = (now: number) => {
      const share = Math.min(1, Math.max(0, (now - start) / FLIGHT));
      const eased = share * share * (3 - 2 * share);
      this.move(share < 1 ? v.between(from, to, eased) : to);
      if (share < 1) this.#flight = requestAnimationFrame(step);
    };
    this.#flight = requestAnimationFrame(step);
  }

  land(): void {
    cancelAnimationFrame(this.#flight);
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

  clicked(x: number, y: number): void {
    const node = this.#view && this.#scene?.nodeAt(this.#view, x, y);
    this.#selected = node ?? null;
    this.#told.chosen(node ?? null);
  }

  #key(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const beside = this.#beside(event.key);
    if (beside) {
      this.#told.chosen(beside);
      void this.select(beside.id, false);
    } else if (this.#selected && event.key === "ArrowLeft") this.#told.walked("up");
    else if (this.#selected && event.key === "ArrowRight") this.#told.walked("down");
    else if (this.#selected && event.key === "Enter") this.#told.opened(this.#selected.feature);
    else if (event.key === "Escape") this.#told.chosen(null);
    else if (!moveByKey(event.key, this)) return;
    event.preventDefault();
  }

  /** The feature of the same layer to which an arrow key leads from the selected one. */
  #beside(key: string): Node | null {
    const node = this.#selected && this.#scene?.byId.get(this.#selected.id);
    if (!node || (key !== "ArrowUp" && key !== "ArrowDown")) return null;
    const column = this.#scene?.columns[node.x] ?? [];
    return column[column.indexOf(node) + (key === "ArrowUp" ? -1 : 1)] ?? null;
  }

  left(): void {
    hideTip();
    if (this.#focus || this.#edge) {
      this.#focus = null;
      this.#edge = null;
      this.#changed("marks");
    }
  }

  pointed(x: number, y: number, { clientX, clientY }: PointerEvent): void {
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
    const tell = (children: Child[] | null) => {
      if (children) showTip(clientX, clientY, ...children);
      else hideTip();
    };
    if (node) tell(ofNode(node, scene));
    else if (edge) {
      const { measures } = this.#page.atlas;
      tell(ofEdge(edge, scene, measures));
      this.#fetchEdge(edge, scene, (all) => tell(ofEdge(edge, scene, measures, all)));
    } else tell(ofBand(view, scene, x, y));
  }

  readonly #fetchEdge = settled(
    REST,
    (edge: Edge, scene: Scene, tell: (all: EdgeAnswer) => void) => {
      const [a, b] = [scene.byId.get(edge.a), scene.byId.get(edge.b)];
      if (!a || !b || this.#edge !== edge) return;
      this.#page.api.edge(a.feature, b.feature, this.#page.signal).then(
        (all) => {
          if (this.#edge === edge) tell(all);
        },
        () => undefined, // the tip stays as it is
      );
    },
  );
}
