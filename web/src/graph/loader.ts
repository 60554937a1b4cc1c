/** Keeps the loaded window of a graph around what is in view. */

import type { Found, GraphAnswer, GraphInfo } from "../types.ts";
import { type Page, sentenceOf, settled } from "../view.ts";
import type { Viewport } from "./viewport.ts";
import { MOST_NODES, suffices, windowOf } from "./windows.ts";

export interface Settings {
  measure: string;
  at_least: number;
  top: number;
  clustering: string;
}

/** Answers kept for moves back. */
const CACHED = 24;
/** Milliseconds for which the view has to rest before a window is asked for. */
const REST = 70;

interface Told {
  arrived: (answer: GraphAnswer) => void;
  busy: (busy: boolean) => void;
  failed: (sentence: string) => void;
}

export class Loader {
  readonly #page: Page;
  readonly #of: GraphInfo;
  readonly #told: Told;
  readonly #cache = new Map<string, GraphAnswer>();
  #settings: Settings | null = null;
  #answer: GraphAnswer | null = null;
  /** The request that was made last. */
  #asked = "";
  #asking: AbortController | null = null;

  constructor(page: Page, of: GraphInfo, told: Told) {
    this.#page = page;
    this.#of = of;
    this.#told = told;
  }

  /** Loads what is in view (everything at first) under other settings. */
  async load(settings: Settings, view: Viewport | null): Promise<void> {
    this.#settings = settings;
    this.#cache.clear();
    this.#asked = "";
    await this.#fetch(view);
  }

  /** Loads what has come into view, once it rests there. */
  ask(view: Viewport): void {
    if (!this.#answer || !this.#asked || !suffices(this.#answer, view)) this.#fetchSoon(view);
  }

  /** Places of features in the graph, wherever they are. */
  async locate(ids: number[]): Promise<Found[]> {
    if (ids.length === 0 || !this.#settings) return [];
    const loaded = new Map(this.#answer?.nodes.map((node) => [node.id, node]));
    const here = ids.flatMap((id) => loaded.get(id) ?? []);
    if (here.length === ids.length || this.#answer?.complete) return here;
    const request = { ...this.#request(), limit: 1, bins: 1, find: ids.join(",") };
    try {
      return (await this.#page.api.graph(request, this.#page.signal)).found;
    } catch (error) {
      if (!this.#page.signal.aborted) this.#told.failed(sentenceOf(error));
      return here;
    }
  }

  readonly #fetchSoon = settled(REST, (view: Viewport) => void this.#fetch(view));

  #request() {
    const { model, hook, variant } = this.#of;
    return { model, hook, variant, ...this.#settings };
  }

  async #fetch(view: Viewport | null): Promise<void> {
    if (!this.#settings || this.#page.signal.aborted) return;
    const request = { ...this.#request(), limit: MOST_NODES, ...(view && this.#window(view)) };
    const key = JSON.stringify(request);
    if (key === this.#asked) return;
    this.#asked = key;
    this.#asking?.abort();
    const cached = this.#cache.get(key);
    if (cached) {
      this.#arrived(cached);
      return;
    }
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#page.signal, this.#asking.signal]);
    this.#told.busy(true);
    try {
      const answer = await this.#page.api.graph(request, signal);
      this.#keep(key, answer);
      this.#arrived(answer);
    } catch (error) {
      if (signal.aborted) return;
      this.#asked = "";
      this.#told.busy(false);
      this.#told.failed(sentenceOf(error));
    }
  }

  #window(view: Viewport) {
    const { from, to, ...window } = windowOf(view);
    const { layers } = this.#of;
    return { ...window, from_layer: layers[from], to_layer: layers[to] };
  }

  #keep(key: string, answer: GraphAnswer): void {
    this.#cache.set(key, answer);
    const oldest = this.#cache.keys().next().value;
    if (this.#cache.size > CACHED && oldest !== undefined) this.#cache.delete(oldest);
  }

  #arrived(answer: GraphAnswer): void {
    this.#answer = answer;
    this.#told.busy(false);
    this.#told.arrived(answer);
  }
}
