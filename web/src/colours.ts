/**
 * Colours, all of them told apart with the common kinds of colour blindness.
 *
 * Communities: Okabe & Ito's set (2008) without black and yellow, and lighter and darker forms of
 * it; sequences: cividis (Nuñez, Anderton & Renslow 2018), sampled.
 */

export interface Scheme {
  dark: boolean;
  ink: string;
  muted: string;
  line: string;
  panel: string;
  accent: string;
  mark: string;
  communities: string[];
  none: string;
}

const LIGHT = [
  "#0072b2",
  "#d55e00",
  "#009e73",
  "#cc79a7",
  "#56b4e9",
  "#b8860b",
  "#5b4b9a",
  "#8c564b",
  "#4f8f3a",
  "#a63a6b",
  "#2f7f8f",
  "#7a7a3a",
];
const DARK = [
  "#4aa8e0",
  "#f08a3c",
  "#2fc79a",
  "#e29cc3",
  "#8fd0f5",
  "#e0b84a",
  "#a08fe0",
  "#c58f82",
  "#8cc97a",
  "#dd7aa6",
  "#6bbccc",
  "#bcbc74",
];

/** The scheme that the page shows now, as the style sheet's variables give it. */
export function scheme(): Scheme {
  const style = getComputedStyle(document.documentElement);
  const get = (name: string) => style.getPropertyValue(name).trim();
  const dark = get("color-scheme") === "dark";
  return {
    dark,
    ink: get("--ink"),
    muted: get("--muted"),
    line: get("--line"),
    panel: get("--panel"),
    accent: get("--accent"),
    mark: get("--mark"),
    communities: dark ? DARK : LIGHT,
    none: dark ? "#6b747d" : "#9aa1a8",
  };
}

export function community(of: number | null, scheme: Scheme): string {
  if (of === null) return scheme.none;
  return scheme.communities[of % scheme.communities.length] ?? scheme.none;
}

const CIVIDIS: [number, number, number][] = [
  [0, 34, 78],
  [18, 53, 112],
  [59, 73, 108],
  [87, 93, 109],
  [112, 113, 115],
  [138, 134, 120],
  [165, 156, 116],
  [195, 180, 106],
  [225, 204, 85],
  [254, 232, 56],
];

/** cividis at `share` of the way, as (red, green, blue) of 0 to 255. */
export function cividis(share: number): [number, number, number] {
  const place = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const below = Math.min(CIVIDIS.length - 2, Math.floor(place));
  const [from, to] = [CIVIDIS[below], CIVIDIS[below + 1]] as [number[], number[]];
  const at = (i: number) => Math.round(from[i]! + (to[i]! - from[i]!) * (place - below));
  return [at(0), at(1), at(2)];
}

/** Black or white, whichever reads better on a colour (relative luminance of WCAG 2). */
export function readableOn([r, g, b]: [number, number, number]): string {
  const linear = (v: number) =>
    v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  return luminance > 0.179 ? "#000" : "#fff";
}

/** Opacity of the shade behind a token; the root makes weak activations visible. */
export function shade(activation: number, max: number): number {
  return activation > 0 && max > 0 ? 0.08 + 0.72 * Math.min(1, activation / max) ** 0.8 : 0;
}
