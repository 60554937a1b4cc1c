/** Every request of the page: answered by embedded data in a static export, else by the server. */

import { type Embedded, embeddedIn, find, held, missing, type Params, search } from "./embedded.ts";
import type * as t from "./types.ts";

type Given = Record<string, string | number | boolean | null | undefined>;

/** A sentence for the reader. */
export class Told extends Error {}

export class Api {
  readonly embedded: Embedded | null;

  constructor(page: Document) {
    this.embedded = embeddedIn(page);
  }

  atlas = async (signal: AbortSignal) => {
    const atlas = await this.#get<t.AtlasInfo>("/api/atlas", {}, signal);
    return this.embedded ? held(this.embedded, atlas) : atlas;
  };

  search = async (
    given: { q: string; within?: string; limit?: number },
    signal: AbortSignal,
  ): Promise<t.SearchResult[]> => {
    if (this.embedded) {
      return search(this.embedded, given.q, given.within ?? "", given.limit ?? 50);
    }
    return (await this.#get<{ results: t.SearchResult[] }>("/api/search", given, signal)).results;
  };

  feature = (name: string, signal: AbortSignal) =>
    this.#get<t.FeatureAnswer>("/api/feature", { name }, signal);

  neighbours = (name: string, k: number, signal: AbortSignal) =>
    this.#get<t.NeighboursAnswer>("/api/neighbours", { name, k }, signal);

  lineage = (
    given: {
      name: string;
      up: number;
      down: number;
      measure: string;
      at_least: number;
      across: boolean;
    },
    signal: AbortSignal,
  ) =>
    this.#get<t.LineageAnswer>(
      "/api/lineage",
      { ...given, across: given.across ? 1 : null },
      signal,
    );

  graph = (given: Given, signal: AbortSignal) =>
    this.#get<t.GraphAnswer>("/api/graph", given, signal);

  edge = (a: string, b: string, signal: AbortSignal) =>
    this.#get<t.EdgeAnswer>("/api/edge", { a, b }, signal);

  flow = (given: Given, signal: AbortSignal) => this.#get<t.FlowAnswer>("/api/flow", given, signal);

  heatmap = async (
    given: { a: string; b: string; metric: string; subspace: string },
    signal: AbortSignal,
  ) => (await this.#get<{ rows: t.HeatmapRow[] }>("/api/heatmap", given, signal)).rows;

  pairs = (pairing_id: number, limit: number, signal: AbortSignal) =>
    this.#get<t.PairsAnswer>("/api/pairs", { pairing_id, limit }, signal);

  communities = (given: { clustering: number; limit: number; q: string }, signal: AbortSignal) =>
    this.#get<t.CommunitiesAnswer>("/api/communities", given, signal);

  community = (clustering: number, id: number, limit: number, signal: AbortSignal) =>
    this.#get<t.CommunityAnswer>("/api/community", { clustering, id, limit }, signal);

  sentence = (model: string, text: string, signal: AbortSignal) =>
    this.#post<t.SentenceAnswer>("/api/sentence", { model, text }, signal);

  sql = (query: string, limit: number, signal: AbortSignal) =>
    this.#post<t.SqlAnswer>("/api/sql", { query, limit }, signal);

  async #get<T>(path: string, given: Given, signal: AbortSignal): Promise<T> {
    const params: Params = {};
    for (const [key, value] of Object.entries(given)) {
      if (value !== null && value !== undefined && value !== "") params[key] = String(value);
    }
    if (this.embedded) return this.#stored<T>(path, params);
    const query = new URLSearchParams(params).toString();
    return this.#answer<T>(await this.#reach(query ? `${path}?${query}` : path, { signal }));
  }

  async #post<T>(path: string, body: Record<string, string | number>, signal: AbortSignal) {
    if (this.embedded) {
      const params = Object.entries(body).map(([key, value]) => [key, String(value)]);
      return this.#stored<T>(path, Object.fromEntries(params) as Params);
    }
    return this.#answer<T>(
      await this.#reach(path, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal,
      }),
    );
  }

  #stored<T>(path: string, params: Params): T {
    const data = this.embedded as Embedded;
    const found = find(data, path, params);
    if (found === undefined) {
      throw new Told(missing(path, find(data, "/api/atlas", {}) as t.AtlasInfo | undefined));
    }
    return found as T;
  }

  async #reach(address: string, init: RequestInit): Promise<Response> {
    try {
      return await fetch(address, init);
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw new Told("The server does not answer any more; start it again with `atlas view`.");
    }
  }

  async #answer<T>(response: Response): Promise<T> {
    let body: unknown;
    try {
      body = await response.json();
    } catch {
      throw new Told(`The server's answer cannot be read (status ${response.status}).`);
    }
    if (!response.ok) {
      const sentence = (body as { error?: unknown }).error;
      throw new Told(
        typeof sentence === "string" ? sentence : `The server refused (status ${response.status}).`,
      );
    }
    return body as T;
  }
}
