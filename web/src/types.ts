/** What the server answers. Units and names as in the atlas's SQL; unknown numbers are null. */

export interface SaeInfo {
  sae: string;
  layer: number;
  hook: string;
  variant: string | null;
  architecture: string;
  d_sae: number;
  n_alive: number;
  l0: number | null;
  explained_variance: number | null;
  ce_recovered: number | null;
}

export interface ModelInfo {
  model: string;
  type: string | null;
  n_layers: number;
  d_model: number;
  n_parameters: number | null;
  tokenizer: string | null;
  n_tokens: number | null;
  saes: SaeInfo[];
}

/** SAEs of one model, hook and variant whose features are joined layer by layer. */
export interface GraphInfo {
  model: string;
  hook: string;
  variant: string | null;
  layers: number[];
}

export interface Clustering {
  clustering_id: number;
  model: string;
  hook: string;
  variant: string | null;
  method: string;
  resolution: number | null;
  measure: string | null;
  at_least: number | null;
  n_communities: number;
  quality: number | null;
  stability: number | null;
}

export interface ComparisonInfo {
  model_a: string;
  model_b: string;
  metric: string;
  subspace: string;
  n: number;
}

export interface AtlasInfo {
  path: string;
  name: string;
  format: string;
  corpus: { name: string; n_documents: number; n_words: number; n_characters: number } | null;
  models: ModelInfo[];
  graphs: GraphInfo[];
  clusterings: Clustering[];
  comparisons: ComparisonInfo[];
  measures: string[];
  /** Models whose texts can be run. */
  sentence: string[];
}

export interface SearchResult {
  feature: string;
  feature_id: number;
  label: string | null;
  label_score: number | null;
  score: number | null;
  sae: string;
  model: string;
  layer: number;
  density: number;
}

export interface Piece {
  text: string;
  activation: number;
}

export interface Context {
  rank: number;
  /** 'top', or 'q5' (strongest fifth of the active tokens) to 'q1'. */
  stratum: string;
  split: string;
  activation: number;
  marked: string;
  pieces: Piece[];
  document_id: number;
  source: string;
}

export interface TokenEffect {
  text: string;
  effect: number;
}

export interface TopWord {
  form: string;
  n_active: number;
  n_words: number;
  mean_activation: number;
}

export interface Card {
  name: string;
  feature_id: number;
  sae: string;
  model: string;
  layer: number;
  hook: string;
  index: number;
  reads: string[];
  writes: { site: string; share: number | null }[];
  alive: boolean;
  density: number;
  n_active: number;
  mean_activation: number | null;
  max_activation: number;
  quantiles: Record<string, number>;
  labels: {
    text: string;
    method: string;
    explainer: string;
    score: number | null;
    scored_by: string | null;
  }[];
  promotes: TokenEffect[];
  suppresses: TokenEffect[];
  top_words: TopWord[];
  contexts: Context[];
}

export interface FeatureAnswer {
  card: Card;
  histogram: { edges: number[]; counts: number[] };
  communities: {
    clustering_id: number;
    community: number;
    label: string | null;
    n_features: number;
  }[];
  place: { model: string; hook: string; variant: string | null }[];
}

export interface NeighboursAnswer {
  models: {
    model: string;
    neighbours: {
      feature: string;
      feature_id: number;
      score: number;
      label: string | null;
      sae: string;
      layer: number;
    }[];
  }[];
}

export interface LineageNode {
  feature: string;
  feature_id: number;
  model: string;
  layer: number;
  label: string | null;
  density: number;
  community: number | null;
}

/** `a` upstream of `b`, by name. */
export interface NamedEdge {
  a: string;
  b: string;
  value: number;
  /** Counterparts in two models, found by pairing, rather than relatives of two layers. */
  across?: boolean;
}

export interface LineageAnswer {
  name: string;
  measure: string;
  nodes: LineageNode[];
  edges: NamedEdge[];
  truncated: boolean;
}

export interface GraphLayer {
  layer: number;
  sae: string;
  /** Features with a place in the graph: the live ones. */
  n: number;
  n_features: number;
}

export interface GraphNode {
  id: number;
  feature: string;
  layer: number;
  /** Place in its layer, in [0, 1). */
  y: number;
  label: string | null;
  label_score: number | null;
  density: number;
  community: number | null;
  passed: boolean | null;
  appearing: boolean | null;
  disappearing: boolean | null;
}

/** `a` and `b` are ids; the ends' places come along, since one of them may lie out of view. */
export interface GraphEdge {
  a: number;
  b: number;
  layer_a: number;
  layer_b: number;
  ya: number;
  yb: number;
  value: number;
}

/** One of `bins` equal parts of [y0, y1) in a layer, where there are too many nodes to draw. */
export interface Band {
  layer: number;
  bin: number;
  n: number;
  density: number;
  appearing: number;
  disappearing: number;
  community: number | null;
  share: number | null;
}

/** Edges between two bands. */
export interface BandFlow {
  layer_a: number;
  bin_a: number;
  layer_b: number;
  bin_b: number;
  n: number;
  value: number;
}

export interface Found {
  id: number;
  feature: string;
  layer: number;
  y: number;
  label: string | null;
}

export interface GraphAnswer {
  model: string;
  hook: string;
  variant: string | null;
  measure: string;
  at_least: number;
  clustering: number | null;
  from_layer: number;
  to_layer: number;
  y0: number;
  y1: number;
  /** All layers of the graph, whatever the window. */
  layers: GraphLayer[];
  totals: { nodes: number; edges: number };
  /** The whole graph is in this answer. */
  complete: boolean;
  /** Parts that [y0, y1) is divided into, where there are bands. */
  bins?: number;
  nodes: GraphNode[];
  edges: GraphEdge[];
  bands: Band[];
  flows: BandFlow[];
  found: Found[];
}

export interface EdgeAnswer {
  feature_a: string;
  feature_b: string;
  over: string;
  n: number;
  n_a: number;
  n_b: number;
  n_both: number;
  [measure: string]: number | string | null;
}

export interface FlowAnswer {
  model: string;
  hook: string;
  variant: string | null;
  measure: string;
  at_least: number;
  layers: { layer: number; sae: string; n_features: number; n_alive: number }[];
  steps: {
    layer_a: number;
    layer_b: number;
    /** Features of a with a successor in b. */
    passed_a: number;
    /** Features of b with a predecessor in a. */
    passed_b: number;
    appearing: number;
    disappearing: number;
  }[];
}

export interface HeatmapRow {
  sae_a: string;
  sae_b: string;
  layer_a: number;
  layer_b: number;
  subspace: string;
  metric: string;
  value: number | null;
  calibrated: number | null;
  null_mean: number | null;
  null_sd: number | null;
  p: number | null;
  q: number | null;
  n: number;
  ceiling: number | null;
  floor: number | null;
  method: string;
  pairing_id: number;
}

export interface PairsAnswer {
  sae_a: string;
  sae_b: string;
  method: string;
  n_pairs: number;
  pairs: {
    feature_a: string;
    label_a: string | null;
    feature_b: string;
    label_b: string | null;
    r: number | null;
    q: number | null;
  }[];
}

export interface CommunitiesAnswer {
  clustering: Clustering;
  communities: {
    community: number;
    label: string | null;
    n_features: number;
    layers: { layer: number; n: number }[];
    top: { feature: string; label: string | null }[];
  }[];
}

export interface CommunityAnswer {
  community: number;
  label: string | null;
  n_features: number;
  members: {
    feature: string;
    feature_id: number;
    layer: number;
    label: string | null;
    density: number;
  }[];
}

export interface SentenceAnswer {
  model: string;
  text: string;
  tokens: string[];
  layers: {
    layer: number;
    sae: string;
    features: {
      feature: string;
      feature_id: number;
      label: string | null;
      density: number;
      max_activation: number;
      /** (index of the token, activation) */
      activations: [number, number][];
    }[];
  }[];
  edges: NamedEdge[];
  measure: string;
}

export interface SqlAnswer {
  columns: { name: string; type: string }[];
  rows: unknown[][];
  truncated: boolean;
  seconds: number;
}
