/** Draws a scene on a canvas: density bands from afar, nodes, edges and labels from near. */

import { cividis, community, type Scheme } from "../colours.ts";
import { clipped } from "../format.ts";
import type { Band, Found } from "../types.ts";
import { type Edge, lowerBound, type Node, type Scene } from "./scene.ts";
import { fromY, pitch, spacing, toX, toY, type Viewport } from "./viewport.ts";

export type Colouring = "community" | "kind" | "density";

export const BAND_WIDTH = 16;
const LEVELS = 5;
const TEXT = 11;
const FONT = `${TEXT}px system-ui, sans-serif`;

export interface Look {
  scheme: Scheme;
  colouring: Colouring;
}

type Pen = CanvasRenderingContext2D;

/** Colours by what becomes of a feature; blue, green and orange of Okabe & Ito. */
export function kindColour(of: { appearing: unknown; disappearing: unknown }, scheme: Scheme) {
  if (of.appearing && of.disappearing) return scheme.none;
  if (of.appearing) return scheme.communities[2] as string;
  if (of.disappearing) return scheme.communities[1] as string;
  return scheme.communities[0] as string;
}

function densityColour(density: number): string {
  // 10⁻⁴ to 10⁻⁰·⁵ of the tokens
  return `rgb(${cividis((Math.log10(Math.max(density, 1e-9)) + 4) / 3.5).join(",")})`;
}

export function nodeColour(node: Node, { scheme, colouring }: Look): string {
  if (colouring === "community") return community(node.community, scheme);
  return colouring === "kind" ? kindColour(node, scheme) : densityColour(node.density);
}

function bandColour(band: Band, { scheme, colouring }: Look): string {
  if (colouring === "community") return community(band.community, scheme);
  if (colouring === "density") return densityColour(band.density);
  const half = band.n / 2;
  return kindColour(
    { appearing: band.appearing > half, disappearing: band.disappearing > half },
    scheme,
  );
}

export function radius(node: Node, view: Viewport): number {
  const size = 2.2 + 0.9 * Math.max(0, Math.log10(Math.max(node.density, 1e-5)) + 4);
  return Math.max(1.4, Math.min(size, 0.75 * pitch(view) + 1));
}

interface Bundle {
  path: Path2D;
  colour: string;
  /** 0 … LEVELS − 1 by value. */
  level: number;
  /** How far up or down its edges lead, in y, within a factor of two. */
  rise: number;
}

/** Paths of a scene's edges in world coordinates, which every frame only transforms. */
export class Edges {
  readonly #bundles = new Map<string, Bundle>();

  constructor(scene: Scene, look: Look) {
    const least = scene.answer.at_least;
    for (const edge of scene.edges) {
      const share = (edge.value - least) / Math.max(1e-6, 1 - least);
      const level = Math.min(LEVELS - 1, Math.max(0, Math.floor(share * LEVELS)));
      const colour = edgeColour(edge, scene, look);
      const rise = 2 ** Math.ceil(Math.log2(Math.abs(edge.yb - edge.ya) + 1e-5));
      const key = `${colour}/${level}/${rise}`;
      let found = this.#bundles.get(key);
      if (!found) this.#bundles.set(key, (found = { path: new Path2D(), colour, level, rise }));
      curve(found.path, edge);
    }
  }

  draw(pen: Pen, view: Viewport): void {
    const matrix = matrixOf(view);
    const weight = Math.min(1, 0.35 + pitch(view) / 14);
    for (const { path, colour, level, rise } of this.#bundles.values()) {
      const placed = new Path2D();
      placed.addPath(path, matrix);
      // Edges that only cross the view on their way elsewhere step back.
      const near = Math.min(1, (0.5 * (view.y1 - view.y0)) / rise) ** 0.7;
      pen.strokeStyle = colour;
      pen.globalAlpha = (0.16 + (0.6 * level) / (LEVELS - 1)) * weight * near;
      pen.lineWidth = 0.6 + (1.7 * level * weight) / (LEVELS - 1);
      pen.stroke(placed);
    }
    pen.globalAlpha = 1;
  }
}

function edgeColour(edge: Edge, scene: Scene, look: Look): string {
  if (look.colouring !== "community") return look.scheme.muted;
  const [a, b] = [scene.byId.get(edge.a)?.community, scene.byId.get(edge.b)?.community];
  const of = a ?? b;
  if (of === undefined || of === null || (a !== undefined && b !== undefined && a !== b)) {
    return look.scheme.none;
  }
  return community(of, look.scheme);
}

function curve(path: Path2D, { xa, ya, xb, yb }: Pick<Edge, "xa" | "ya" | "xb" | "yb">): void {
  const middle = (xa + xb) / 2;
  path.moveTo(xa, ya);
  path.bezierCurveTo(middle, ya, middle, yb, xb, yb);
}

function matrixOf(view: Viewport): DOMMatrix {
  const [x, y] = [toX(view, 0), toY(view, 0)];
  return new DOMMatrix([toX(view, 1) - x, 0, 0, toY(view, 1) - y, x, y]);
}

/** The scene, without what the reader points at. */
export function draw(pen: Pen, view: Viewport, scene: Scene, edges: Edges, look: Look): void {
  pen.clearRect(0, 0, view.width, view.height);
  if (scene.answer.bands.length > 0 && scene.nodes.length === 0) {
    drawFlows(pen, view, scene, look);
    drawBands(pen, view, scene, look);
  } else {
    edges.draw(pen, view);
    drawNodes(pen, view, scene, look);
    drawLabels(pen, view, scene, look);
  }
  drawHeads(pen, view, scene, look);
}

function drawHeads(pen: Pen, view: Viewport, scene: Scene, { scheme }: Look): void {
  pen.fillStyle = scheme.panel;
  pen.globalAlpha = 0.9;
  pen.fillRect(0, 0, view.width, 32);
  pen.globalAlpha = 1;
  pen.textAlign = "center";
  scene.answer.layers.forEach((layer, i) => {
    const x = toX(view, i);
    pen.fillStyle = scheme.ink;
    pen.font = `600 ${FONT}`;
    pen.fillText(spacing(view) > 58 ? `layer ${layer.layer}` : String(layer.layer), x, 13);
    pen.fillStyle = scheme.muted;
    pen.font = FONT;
    if (spacing(view) > 40) pen.fillText(layer.n.toLocaleString("en-US"), x, 26);
  });
  pen.textAlign = "left";
}

/** Edges between bands; in the bands' colour where both have the same. */
function drawFlows(pen: Pen, view: Viewport, scene: Scene, look: Look): void {
  const { flows, bands } = scene.answer;
  const most = Math.max(1, ...flows.map((flow) => flow.n));
  const colours = new Map(
    bands.map((band) => [`${band.layer}/${band.bin}`, bandColour(band, look)]),
  );
  const paths = new Map<string, { path: Path2D; colour: string; level: number }>();
  const centre = binCentre(scene);
  for (const flow of flows) {
    const level = Math.min(LEVELS - 1, Math.floor(Math.sqrt(flow.n / most) * LEVELS));
    const from = colours.get(`${flow.layer_a}/${flow.bin_a}`);
    const same = from !== undefined && from === colours.get(`${flow.layer_b}/${flow.bin_b}`);
    const colour = same ? from : look.scheme.none;
    const key = `${colour}${level}`;
    let found = paths.get(key);
    if (!found) paths.set(key, (found = { path: new Path2D(), colour, level }));
    curve(found.path, {
      xa: scene.layerIndex.get(flow.layer_a) ?? 0,
      ya: centre(flow.bin_a),
      xb: scene.layerIndex.get(flow.layer_b) ?? 0,
      yb: centre(flow.bin_b),
    });
  }
  const matrix = matrixOf(view);
  const band = bandHeight(view, scene);
  for (const { path, colour, level } of paths.values()) {
    const placed = new Path2D();
    placed.addPath(path, matrix);
    pen.strokeStyle = colour;
    pen.globalAlpha = 0.09 + (0.4 * level) / (LEVELS - 1);
    pen.lineWidth = 0.5 + Math.min(band, 9) * (level / (LEVELS - 1)) ** 1.5;
    pen.stroke(placed);
  }
  pen.globalAlpha = 1;
}

function binCentre(scene: Scene): (bin: number) => number {
  const { y0, y1 } = scene.answer;
  return (bin) => y0 + ((bin + 0.5) / scene.bins) * (y1 - y0);
}

function bandHeight(view: Viewport, scene: Scene): number {
  const { y0, y1 } = scene.answer;
  return (toY(view, y1) - toY(view, y0)) / scene.bins;
}

function drawBands(pen: Pen, view: Viewport, scene: Scene, look: Look): void {
  const centre = binCentre(scene);
  const height = bandHeight(view, scene);
  const width = Math.min(BAND_WIDTH, spacing(view) / 4);
  for (const band of scene.answer.bands) {
    const x = toX(view, scene.layerIndex.get(band.layer) ?? 0) - width / 2;
    const y = toY(view, centre(band.bin)) - height / 2;
    if (y > view.height || y + height < 0) continue;
    pen.globalAlpha = look.colouring === "community" ? 0.4 + 0.6 * (band.share ?? 0) : 0.9;
    pen.fillStyle = bandColour(band, look);
    pen.fillRect(x, y + 0.25, width, Math.max(0.5, height - 0.5));
    pen.globalAlpha = 0.9;
    pen.fillStyle = look.scheme.communities[2] as string;
    const born = (6 * band.appearing) / band.n;
    pen.fillRect(x - 2 - born, y, born, height);
    pen.fillStyle = look.scheme.communities[1] as string;
    pen.fillRect(x + width + 2, y, (6 * band.disappearing) / band.n, height);
  }
  pen.globalAlpha = 1;
}

function drawNodes(pen: Pen, view: Viewport, scene: Scene, look: Look): void {
  const [top, bottom] = [fromY(view, 20), fromY(view, view.height + 10)];
  scene.columns.forEach((column, i) => {
    const x = toX(view, i);
    if (x < -20 || x > view.width + 20) return;
    for (let k = lowerBound(column, top); k < column.length; k++) {
      const node = column[k] as Node;
      if (node.y > bottom) break;
      drawNode(pen, node, x, toY(view, node.y), radius(node, view), look);
    }
  });
}

/** Disc: passes; ring: appears here; a bar behind it: nothing continues it. */
function drawNode(pen: Pen, node: Node, x: number, y: number, r: number, look: Look): void {
  const colour = nodeColour(node, look);
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  if (node.appearing && r >= 2) {
    pen.fillStyle = look.scheme.panel;
    pen.fill();
    pen.lineWidth = 1.5;
    pen.strokeStyle = colour;
    pen.stroke();
  } else {
    pen.fillStyle = colour;
    pen.fill();
  }
  if (node.disappearing && r >= 2) {
    pen.fillStyle = colour;
    pen.fillRect(x + r + 1.5, y - r, 1.8, 2 * r);
  }
}

/** Labels where there is room, those with the strongest edges first. */
function drawLabels(pen: Pen, view: Viewport, scene: Scene, look: Look): void {
  if (spacing(view) < 66) return;
  const [top, bottom] = [fromY(view, 30), fromY(view, view.height)];
  const line = TEXT + 1.5;
  pen.font = FONT;
  scene.columns.forEach((column, i) => {
    const x = toX(view, i);
    const letters = lettersAt(x, view);
    if (x < -spacing(view) || letters < 6) return;
    const seen = column.slice(lowerBound(column, top), lowerBound(column, bottom));
    if (pitch(view) < line) seen.sort((a, b) => b.strength - a.strength);
    const taken = new Map<number, number>(); // at most one line begins in each slot of a line's height
    for (const node of seen) {
      if (!node.label) continue;
      const y = toY(view, node.y);
      const slot = Math.floor(y / line);
      if ([slot - 1, slot, slot + 1].some((s) => Math.abs((taken.get(s) ?? -1e9) - y) < line))
        continue;
      taken.set(slot, y);
      label(pen, clipped(node.label, letters), x + beside(node, view), y, look.scheme);
    }
  });
}

/** How many letters have room beside a layer: as far as the next one, or the edge of the picture. */
function lettersAt(x: number, view: Viewport): number {
  return Math.floor((Math.min(spacing(view), view.width - x) - 26) / 5.8);
}

/** Where a node's label begins, from its middle. */
function beside(node: Node, view: Viewport): number {
  return Math.max(3, radius(node, view)) + (node.disappearing ? 8 : 5);
}

/** Widths of the labels seen so far, which takes longer to measure than to remember. */
const widths = new Map<string, number>();

function label(pen: Pen, text: string, x: number, y: number, scheme: Scheme): void {
  let width = widths.get(text);
  if (width === undefined) widths.set(text, (width = pen.measureText(text).width));
  pen.fillStyle = scheme.panel;
  pen.globalAlpha = 0.85;
  pen.fillRect(x - 2, y - TEXT / 2 - 1, width + 4, TEXT + 2);
  pen.globalAlpha = 1;
  pen.fillStyle = scheme.ink;
  pen.fillText(text, x, y + TEXT / 3);
}

/** What is pointed at, selected or searched for, on a layer above the scene. */
export function drawMarks(
  pen: Pen,
  view: Viewport,
  scene: Scene,
  look: Look,
  marks: { focus: Node | null; edge: Edge | null; found: Found[]; selected: Found | null },
): void {
  pen.clearRect(0, 0, view.width, view.height);
  if (marks.focus) drawLineage(pen, view, scene, look, marks.focus);
  if (marks.edge) {
    strokeEdges(pen, view, [marks.edge], look.scheme.accent, 2.5, 1);
  }
  for (const found of marks.found) ring(pen, view, scene, found, look.scheme.mark, 2);
  if (marks.selected) ring(pen, view, scene, marks.selected, look.scheme.ink, 2);
}

function drawLineage(pen: Pen, view: Viewport, scene: Scene, look: Look, focus: Node): void {
  const { nodes, edges } = scene.lineage(focus.id);
  const own = [...edges].filter((edge) => edge.a === focus.id || edge.b === focus.id);
  strokeEdges(pen, view, edges, look.scheme.accent, 1.2, 0.55);
  strokeEdges(pen, view, own, look.scheme.accent, 2.2, 1);
  pen.font = FONT;
  const taken = new Map<number, number[]>();
  const ordered = [...nodes].map((id) => scene.byId.get(id)).filter((node) => node !== undefined);
  ordered.sort((a, b) => Number(b === focus) - Number(a === focus) || b.strength - a.strength);
  for (const node of ordered) {
    const [x, y] = [toX(view, node.x), toY(view, node.y)];
    drawNode(pen, node, x, y, Math.max(3, radius(node, view)), look);
    const column = taken.get(node.x) ?? [];
    const letters = lettersAt(x, view);
    if (!node.label || letters < 6 || column.some((other) => Math.abs(other - y) < TEXT + 2))
      continue;
    taken.set(node.x, [...column, y]);
    label(pen, clipped(node.label, letters), x + beside(node, view), y, look.scheme);
  }
  pen.beginPath();
  pen.arc(
    toX(view, focus.x),
    toY(view, focus.y),
    Math.max(3, radius(focus, view)) + 3,
    0,
    2 * Math.PI,
  );
  pen.lineWidth = 2;
  pen.strokeStyle = look.scheme.accent;
  pen.stroke();
}

function strokeEdges(
  pen: Pen,
  view: Viewport,
  edges: Iterable<Edge>,
  colour: string,
  width: number,
  alpha: number,
): void {
  const path = new Path2D();
  for (const edge of edges) curve(path, edge);
  const placed = new Path2D();
  placed.addPath(path, matrixOf(view));
  pen.strokeStyle = colour;
  pen.lineWidth = width;
  pen.globalAlpha = alpha;
  pen.stroke(placed);
  pen.globalAlpha = 1;
}

function ring(
  pen: Pen,
  view: Viewport,
  scene: Scene,
  at: Found,
  colour: string,
  width: number,
): void {
  const [x, y] = [toX(view, scene.layerIndex.get(at.layer) ?? 0), toY(view, at.y)];
  if (y < 0 || y > view.height) return;
  pen.beginPath();
  pen.arc(x, y, 6.5, 0, 2 * Math.PI);
  pen.lineWidth = width + 2;
  pen.strokeStyle = "rgb(255 255 255 / 0.7)";
  if (scene.nodes.length === 0) pen.stroke();
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.stroke();
}
