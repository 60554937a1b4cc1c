/** What the tooltip says of nodes, edges and bands of the graph. */

import { type Child, el } from "../dom.ts";
import { count, counted, fixed, percent, words } from "../format.ts";
import type { EdgeAnswer } from "../types.ts";
import { BAND_WIDTH } from "./draw.ts";
import { type Edge, type Node, onColumn, type Scene } from "./scene.ts";
import { fromY, type Viewport } from "./viewport.ts";

const RELATIVES = 6;

export function ofNode(node: Node, scene: Scene): Child[] {
  const kind = [node.appearing && "appears here", node.disappearing && "not continued"];
  const score = node.label_score === null ? "" : `, score ${fixed(node.label_score)}`;
  const relatives = scene
    .edgesOf(node.id)
    .slice(0, RELATIVES)
    .flatMap((edge) => {
      const other = scene.byId.get(edge.a === node.id ? edge.b : edge.a);
      if (!other) return [];
      const arrow = edge.a === node.id ? "→" : "←";
      return [el("div", {}, `${arrow} ${fixed(edge.value)} ${other.label ?? other.feature}`)];
    });
  return [
    el("b", {}, node.label ?? "no label"),
    el("div", { class: "name" }, node.feature),
    el("div", {}, `active on ${percent(node.density)} of tokens${score}`),
    kind.some(Boolean) && el("div", {}, kind.filter(Boolean).join(", ")),
    ...relatives,
  ];
}

/** `all`: the edge's other measures of `measures`, once they are known. */
export function ofEdge(edge: Edge, scene: Scene, measures: string[], all?: EdgeAnswer): Child[] {
  const drawn = scene.answer.measure;
  const named = (id: number) => {
    const node = scene.byId.get(id);
    return node ? (node.label ?? node.feature) : "out of view";
  };
  const others = [...measures, "decoder_cosine"].filter(
    (measure) => measure !== drawn && typeof all?.[measure] === "number",
  );
  return [
    el("b", {}, `${words(drawn)} ${fixed(edge.value, 3)}`),
    interval(drawn, all),
    el("div", {}, `${named(edge.a)} → ${named(edge.b)}`),
    ...others.map((measure) => {
      const value = fixed(all?.[measure] as number, 3);
      return el("div", {}, `${words(measure)} ${value}`, interval(measure, all));
    }),
    all &&
      el("div", {}, `together on ${count(all.n_both)} of ${count(all.n_a)} and ${count(all.n_b)}`),
  ];
}

/** The confidence interval of a measure, where there is one. */
function interval(measure: string, edge?: EdgeAnswer): HTMLElement | null {
  const [low, high] = [edge?.[`${measure}_low`], edge?.[`${measure}_high`]];
  if (typeof low !== "number" || typeof high !== "number") return null;
  return el("span", { class: "hint" }, ` [${fixed(low)}, ${fixed(high)}]`);
}

/** Of the band under a point of the canvas; null if there is none. */
export function ofBand(view: Viewport, scene: Scene, x: number, y: number): Child[] | null {
  const index = onColumn(view, x, BAND_WIDTH / 2 + 4);
  const { answer } = scene;
  if (index === null || answer.bands.length === 0) return null;
  const share = (fromY(view, y) - answer.y0) / (answer.y1 - answer.y0);
  const bin = Math.floor(share * scene.bins);
  const layer = answer.layers[index]?.layer;
  const band = answer.bands.find((one) => one.layer === layer && one.bin === bin);
  if (!band) return null;
  const most = `most in community ${band.community} (${percent(band.share)})`;
  return [
    el("b", {}, `${counted(band.n, "feature")} of layer ${band.layer}`),
    el("div", {}, `${count(band.appearing)} appear, ${count(band.disappearing)} are not continued`),
    band.community !== null && el("div", {}, most),
    el("div", { class: "hint" }, "zoom in to see them"),
  ];
}
