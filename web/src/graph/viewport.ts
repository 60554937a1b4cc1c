/**
 * What part of a layered graph is in view, and where it lies on the canvas. Pure arithmetic.
 *
 * World: x is the index of a layer, 0 … n_layers − 1; y the place in it, 0 … 1. The two zoom
 * differently: y by any factor, while layers only move apart until labels fit between them.
 */

export interface Extent {
  n_layers: number;
  /** Features of the largest layer. */
  n_features: number;
}

export interface Viewport {
  width: number;
  height: number;
  extent: Extent;
  y0: number;
  y1: number;
  /** Index of the layer (with a fraction) in the middle. */
  middle: number;
}

export const MARGIN = { top: 40, bottom: 10 };
/** Layers stand at most so far apart, in pixels, unless all of them fit at more. */
const WIDE = 290;
/** Features of a layer in view where it cannot be zoomed any further. */
const CLOSEST = 14;
/** Empty space that may show above and below, as a share of what is in view. */
const SLACK = 0.15;

/** The whole graph. */
export function whole(width: number, height: number, extent: Extent): Viewport {
  return settle({ width, height, extent, y0: 0, y1: 1, middle: (extent.n_layers - 1) / 2 });
}

function closest({ extent }: Viewport): number {
  return Math.min(1, CLOSEST / Math.max(1, extent.n_features));
}

/** How far y is zoomed in: 0 where all is in view, 1 from where labels are read. */
function depth(view: Viewport): number {
  const least = closest(view);
  const share = least < 1 ? Math.log(view.y1 - view.y0) / Math.log(least) : 1;
  return Math.min(1, Math.max(0, share * 1.6));
}

/** Distance of two layers in pixels: from "all fit" to WIDE as y is zoomed in. */
export function spacing(view: Viewport): number {
  const fit = view.width / Math.max(1, view.extent.n_layers);
  return fit >= WIDE ? fit : fit * (WIDE / fit) ** depth(view);
}

/** A layer stands in the middle of its strip, and more to the left where labels follow on its right. */
function offset(view: Viewport): number {
  return -0.32 * depth(view) * spacing(view);
}

export function toX(view: Viewport, layer: number): number {
  return view.width / 2 + offset(view) + (layer - view.middle) * spacing(view);
}

export function toY(view: Viewport, y: number): number {
  return MARGIN.top + ((y - view.y0) / (view.y1 - view.y0)) * inner(view);
}

export function fromX(view: Viewport, x: number): number {
  return view.middle + (x - view.width / 2 - offset(view)) / spacing(view);
}

export function fromY(view: Viewport, y: number): number {
  return view.y0 + ((y - MARGIN.top) / inner(view)) * (view.y1 - view.y0);
}

/** Pixels between two neighbouring features of the largest layer. */
export function pitch(view: Viewport): number {
  return inner(view) / ((view.y1 - view.y0) * Math.max(1, view.extent.n_features));
}

export function panned(view: Viewport, dx: number, dy: number): Viewport {
  const shift = (dy / inner(view)) * (view.y1 - view.y0);
  const middle = view.middle - dx / spacing(view);
  return settle({ ...view, y0: view.y0 - shift, y1: view.y1 - shift, middle });
}

/** Zoomed by `factor` (> 1: closer) about a point of the canvas, which keeps its place. */
export function zoomed(view: Viewport, factor: number, x: number, y: number): Viewport {
  const span = Math.min(1, Math.max(closest(view), (view.y1 - view.y0) / factor));
  const [atY, atX] = [fromY(view, y), fromX(view, x)];
  const share = (y - MARGIN.top) / inner(view);
  const next = { ...view, y0: atY - share * span, y1: atY + (1 - share) * span };
  next.middle = atX - (x - view.width / 2 - offset(next)) / spacing(next);
  return settle(next);
}

/** So close to a place that about `n` features of its layer are in view. */
export function around(view: Viewport, layer: number, y: number, n = 44): Viewport {
  const span = Math.min(view.y1 - view.y0, Math.max(closest(view), n / view.extent.n_features), 1);
  return settle({ ...view, y0: y - span / 2, y1: y + span / 2, middle: layer });
}

export function resized(view: Viewport, width: number, height: number): Viewport {
  return settle({ ...view, width, height });
}

/** Between two viewports of one graph, for a flight: the span in equal ratios, the place with it. */
export function between(from: Viewport, to: Viewport, share: number): Viewport {
  const [a, b] = [from.y1 - from.y0, to.y1 - to.y0];
  const span = a * (b / a) ** share;
  const moved = Math.abs(a - b) < 1e-9 ? share : (a - span) / (a - b);
  const centre = (from.y0 + from.y1) / 2 + ((to.y0 + to.y1 - from.y0 - from.y1) / 2) * moved;
  const middle = from.middle + (to.middle - from.middle) * share;
  return { ...to, y0: centre - span / 2, y1: centre + span / 2, middle };
}

/** Keeps the graph in view. */
export function settle(view: Viewport): Viewport {
  const span = Math.min(1, Math.max(closest(view), view.y1 - view.y0));
  const slack = span < 1 ? SLACK * span : 0;
  const y0 = Math.min(1 - span + slack, Math.max(-slack, view.y0));
  const last = view.extent.n_layers - 1;
  const half = view.width / spacing({ ...view, y0, y1: y0 + span }) / 2;
  const [least, most] = [half - 0.5, last - half + 0.5];
  const middle = least >= most ? last / 2 : Math.min(most, Math.max(least, view.middle));
  return { ...view, y0, y1: y0 + span, middle };
}

function inner(view: Viewport): number {
  return Math.max(1, view.height - MARGIN.top - MARGIN.bottom);
}
