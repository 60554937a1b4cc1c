/**
 * Addresses within the page: `#/VIEW/PATH…?KEY=VALUE…`.
 *
 * Names of features stay readable: `#/feature/stories260k/3-resid_post/12`.
 */

export interface Address {
  view: string;
  /** Decoded segments behind the view. */
  path: string[];
  params: Record<string, string>;
}

const START: Address = { view: "search", path: [], params: {} };

export function parse(hash: string): Address {
  const [route = "", query = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const [view, ...path] = route.split("/").filter(Boolean).map(decoded);
  if (!view) return START;
  return { view, path, params: Object.fromEntries(new URLSearchParams(query)) };
}

type Param = string | number | boolean | null | undefined;

/** The address as a link; parameters without a value are left out. */
export function format(view: string, path: string[] = [], params: Record<string, Param> = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, String(value));
  }
  const route = [view, ...path].map(encodeURIComponent).join("/");
  return query.size ? `#/${route}?${query}` : `#/${route}`;
}

/** The page of a feature given by name. */
export function feature(name: string): string {
  return format("feature", name.split("/"));
}

/** The layered graph of a model, hook and variant. */
export function graph(
  of: { model: string; hook: string; variant: string | null },
  params: Record<string, Param> = {},
): string {
  return format("graph", series(of), params);
}

/** MODEL, HOOK and, where there is one, VARIANT as segments of a path. */
export function series(of: { model: string; hook: string; variant: string | null }): string[] {
  return of.variant ? [of.model, of.hook, of.variant] : [of.model, of.hook];
}

/** Whether a text has the form of a feature's name: `model/layer-hook[-variant]/index`. */
export function namesFeature(text: string): boolean {
  return /^[^\s/][^\s]*\/\d+-[^\s/]+\/\d+$/.test(text);
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment; // a stray percent sign, typed by hand
  }
}
