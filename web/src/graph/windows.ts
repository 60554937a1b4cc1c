/** Which window of the graph to ask the server for, so that a view is filled with room to move. */

import type { GraphAnswer } from "../types.ts";
import { fromX, type Viewport } from "./viewport.ts";

/** Nodes above which the server answers with bands; a canvas draws as many in a few milliseconds. */
export const MOST_NODES = 4000;
/** Pixels of one band. */
const BAND = 7;

export interface Window {
  y0: number;
  y1: number;
  /** Indices of layers. */
  from: number;
  to: number;
  bins: number;
}

/**
 * The window around a view: its height is a power of two and its place a multiple of an eighth of
 * it, so that small moves ask nothing new and moves back are answered from the cache.
 */
export function windowOf(view: Viewport): Window {
  const span = view.y1 - view.y0;
  const height = Math.min(1, 2 ** Math.ceil(Math.log2(1.25 * span)));
  const step = height / 8;
  const start = Math.round(((view.y0 + view.y1) / 2 - height / 2) / step) * step;
  const y0 = Math.min(1 - height, Math.max(0, start));
  const last = view.extent.n_layers - 1;
  return {
    y0,
    y1: y0 + height,
    from: Math.max(0, Math.floor(fromX(view, 0)) - 1),
    to: Math.min(last, Math.ceil(fromX(view, view.width)) + 1),
    bins: Math.min(320, Math.max(32, Math.ceil((view.height * height) / span / BAND / 32) * 32)),
  };
}

/** Whether what is loaded already shows all there is to see in a view. */
export function suffices(answer: GraphAnswer, view: Viewport): boolean {
  if (answer.complete) return true;
  if (answer.nodes.length === 0 && answer.bands.length > 0) return false; // closer may show nodes
  const first = answer.layers.findIndex((layer) => layer.layer === answer.from_layer);
  const last = answer.layers.findIndex((layer) => layer.layer === answer.to_layer);
  return (
    answer.y0 <= Math.max(0, view.y0) &&
    answer.y1 >= Math.min(1, view.y1) &&
    first <= Math.max(0, Math.floor(fromX(view, 0))) &&
    last >= Math.min(view.extent.n_layers - 1, Math.ceil(fromX(view, view.width)))
  );
}
