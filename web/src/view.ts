/** What every view is given, and the states all of them share: waiting, failed, empty. */

import type { Address } from "./address.ts";
import { type Api, Told } from "./api.ts";
import { type Child, el, fill } from "./dom.ts";
import type { AtlasInfo } from "./types.ts";

export interface Page {
  api: Api;
  atlas: AtlasInfo;
  address: Address;
  /** Aborted when the reader goes elsewhere. */
  signal: AbortSignal;
  /** Goes to a link of this page; `replace` leaves no step to go back to. */
  go(link: string, replace?: boolean): void;
}

/** Draws into `root`; a view that draws by itself on a change of scheme says so by what it returns. */
export type View = (root: HTMLElement, page: Page) => void | { restyle(): void };

export function sentenceOf(error: unknown): string {
  if (error instanceof Told) return error.message;
  return `The page has a fault: ${error instanceof Error ? error.message : String(error)}`;
}

export function failure(error: unknown, again?: () => void): HTMLElement {
  return el(
    "p",
    { class: "failure", role: "alert" },
    sentenceOf(error),
    again && el("button", { type: "button", on: { click: again } }, "Try again"),
  );
}

export function hint(...children: Child[]): HTMLElement {
  return el("p", { class: "hint" }, ...children);
}

/**
 * Shows what `load` brings in `place`: the old content stays, dimmed, until the new is there; the
 * error's sentence if it fails. A later call for the same place wins over an earlier one.
 */
export async function show<T>(
  place: HTMLElement,
  signal: AbortSignal,
  load: (signal: AbortSignal) => Promise<T>,
  draw: (answer: T) => void,
): Promise<void> {
  running.get(place)?.abort();
  const own = new AbortController();
  running.set(place, own);
  const either = AbortSignal.any([signal, own.signal]);
  place.setAttribute("aria-busy", "true");
  try {
    const answer = await load(either);
    if (either.aborted) return;
    draw(answer);
  } catch (error) {
    if (either.aborted) return;
    fill(
      place,
      failure(error, () => void show(place, signal, load, draw)),
    );
  }
  place.removeAttribute("aria-busy");
}

const running = new WeakMap<HTMLElement, AbortController>();

/** Calls `f` once, `ms` after the last call. */
export function settled<A extends unknown[]>(ms: number, f: (...args: A) => void) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  return (...args: A) => {
    clearTimeout(timer);
    timer = setTimeout(() => f(...args), ms);
  };
}
