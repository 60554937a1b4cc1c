/** Numbers and texts as one reads them. */

const GROUPED = new Intl.NumberFormat("en-US");

export function count(n: number | null | undefined): string {
  return n === null || n === undefined ? "–" : GROUPED.format(n);
}

/** 1,234 features; 1 feature. */
export function counted(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** Three significant digits, without an exponent where one reads better without. */
export function number(x: number | null | undefined, digits = 3): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(digits - 1).replace("-", "−");
  const text = size >= 1000 ? GROUPED.format(Math.round(x)) : x.toPrecision(digits);
  return text.replace("-", "−");
}

/** Fixed decimals, for columns whose numbers are compared; a true minus sign. */
export function fixed(x: number | null | undefined, decimals = 2): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  return x.toFixed(decimals).replace("-", "−");
}

/** A share as per cent. */
export function percent(x: number | null | undefined): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  const value = 100 * x;
  if (value === 0) return "0 %";
  return `${value >= 99.95 ? value.toFixed(0) : number(value, value < 0.1 ? 2 : 3)} %`;
}

/** A parameter count: 1.07M. */
export function short(n: number | null | undefined): string {
  if (n === null || n === undefined) return "–";
  for (const [size, unit] of [
    [1e9, "B"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const) {
    if (n >= size) return `${(n / size).toPrecision(3)}${unit}`;
  }
  return String(n);
}

/** A token's text with its white space visible. */
export function visible(token: string): string {
  return token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}

/** At most `length` characters, the rest as an ellipsis. */
export function clipped(text: string, length: number): string {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, length - 1).join("")}…`;
}

/** A column or measure as words: 'activation_cosine' → 'activation cosine'. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
