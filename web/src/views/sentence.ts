/** The features that are active on a sentence of the reader's, as a graph over the layers. */

import * as address from "../address.ts";
import { scheme, shade } from "../colours.ts";
import { el, fill } from "../dom.ts";
import { counted, number, words } from "../format.ts";
import { select } from "../parts/controls.ts";
import { diagram } from "../parts/diagram.ts";
import { tips } from "../parts/tooltip.ts";
import type { SentenceAnswer } from "../types.ts";
import { hint, type Page, show, type View } from "../view.ts";

const PER_LAYER = 14;

export const sentence: View = (root, page) => {
  const models = page.atlas.sentence;
  if (models.length === 0 && !page.api.embedded) {
    root.append(
      hint("No model of this atlas can be run here, as their files are not found where they were."),
    );
    return;
  }
  let model = page.address.path[0] ?? models[0] ?? "";
  let drawing: Drawing | undefined;
  const place = el("div", { class: "figure" });
  const box = el("input", {
    type: "text",
    class: "sentence",
    "aria-label": "Sentence",
    placeholder: "Once upon a time, there was a little girl.",
    autocomplete: "off",
    value: page.address.params.text ?? "",
  });
  const run = () => {
    const text = box.value;
    if (!text.trim()) return;
    page.go(address.format("sentence", [model], { text }), true);
    if (!place.hasChildNodes()) fill(place, hint("The model reads …"));
    void show(
      place,
      page.signal,
      (signal) => page.api.sentence(model, text, signal),
      (answer) => {
        drawing = new Drawing(answer, page);
        fill(place, drawing.element);
        drawing.redraw(); // in the width that it has now
      },
    );
  };
  root.append(
    el("h1", {}, "A sentence"),
    el(
      "p",
      { class: "hint lead" },
      "The model reads it, the stored SAEs read the model: what is active, where, and which of it passes from layer to layer.",
    ),
    el(
      "form",
      {
        class: "searchbar",
        on: {
          submit: (event) => {
            event.preventDefault();
            run();
          },
        },
      },
      box,
      models.length > 1 &&
        select(
          "read by",
          models.map((m) => ({ value: m, text: m })),
          model,
          (v) => {
            model = v;
            run();
          },
        ),
      el("button", { type: "submit" }, "Run"),
    ),
    place,
  );
  if (box.value) run();
  else box.focus({ preventScroll: true });
  return { restyle: () => drawing?.redraw() };
};

/** A token that shares its character with the next one has no text of its own. */
function shownToken(text: string): string {
  return text === "" ? "⋯" : text.replaceAll("\n", "⏎").replace(/^ /, "\u00a0");
}

type Active = SentenceAnswer["layers"][number]["features"][number];

/** Tokens as chips that choose, and the features active on the chosen ones. */
class Drawing {
  readonly element = el("div", {});
  readonly #answer: SentenceAnswer;
  readonly #page: Page;
  readonly #chosen = new Set<number>();
  readonly #features = new Map<string, Active>();
  readonly #chips: HTMLElement[];
  readonly #graph = el("div", {});
  readonly #told = el("p", { class: "hint", "aria-live": "polite" });

  constructor(answer: SentenceAnswer, page: Page) {
    this.#answer = answer;
    this.#page = page;
    for (const layer of answer.layers) {
      for (const feature of layer.features) this.#features.set(feature.feature, feature);
    }
    this.#chips = answer.tokens.map((text, i) =>
      el(
        "button",
        {
          type: "button",
          class: "chip",
          "aria-pressed": "false",
          "data-token": i,
          on: { click: () => this.#toggle(i) },
        },
        shownToken(text),
      ),
    );
    const chips = el(
      "div",
      {
        class: "chips",
        role: "group",
        "aria-label": "Tokens; choose some to see only what is active on them",
      },
      ...this.#chips,
    );
    tips(chips, ".chip.on", (chip) => [
      `activation ${number(Number(chip.getAttribute("data-activation")))}`,
    ]);
    fill(this.element, chips, this.#told, this.#graph);
  }

  #toggle(token: number): void {
    if (!this.#chosen.delete(token)) this.#chosen.add(token);
    this.#chips[token]?.setAttribute("aria-pressed", String(this.#chosen.has(token)));
    this.redraw();
  }

  /** Activation of a feature on the chosen tokens (on all if none is), as a share of its maximum. */
  #level(feature: Active): number {
    const on = feature.activations.filter(
      ([token]) => this.#chosen.size === 0 || this.#chosen.has(token),
    );
    return on.length === 0
      ? 0
      : Math.max(...on.map(([, value]) => value)) / (feature.max_activation || 1);
  }

  redraw(): void {
    const { layers, edges, measure } = this.#answer;
    let hidden = 0;
    const nodes = layers.flatMap((layer) => {
      const active = layer.features
        .map((feature) => ({ feature, level: this.#level(feature) }))
        .filter(({ level }) => level > 0)
        .toSorted((a, b) => b.level - a.level);
      hidden += Math.max(0, active.length - PER_LAYER);
      return active.slice(0, PER_LAYER).map(({ feature, level }) => ({
        name: feature.feature,
        label: feature.label,
        column: layer.sae,
        density: feature.density,
        community: null,
        level,
      }));
    });
    const names = new Set(nodes.map((node) => node.name));
    fill(
      this.#told,
      this.#chosen.size > 0
        ? `Active on ${counted(this.#chosen.size, "chosen token")}.`
        : "Choose tokens to see only what is active on them; point at a feature to see where it is active.",
      hidden > 0 && ` The ${PER_LAYER} strongest of each layer are drawn.`,
    );
    fill(
      this.#graph,
      nodes.length === 0
        ? hint("Nothing is active there.")
        : diagram(
            layers.map((layer) => ({ key: layer.sae, title: `layer ${layer.layer}` })),
            nodes,
            edges.filter((edge) => names.has(edge.a) && names.has(edge.b)),
            {
              scheme: scheme(),
              measure: words(measure),
              width: this.element.clientWidth || 1000,
              chosen: (name) => this.#page.go(address.feature(name)),
              entered: (name) => this.#light(name),
            },
          ),
    );
  }

  /** Shades the chips by a feature's activations. */
  #light(name: string | null): void {
    const feature = name === null ? undefined : this.#features.get(name);
    const on = new Map(feature?.activations ?? []);
    this.#chips.forEach((chip, i) => {
      const value = on.get(i) ?? 0;
      chip.classList.toggle("on", value > 0);
      chip.setAttribute("data-activation", String(value));
      chip.style.setProperty("--shade", shade(value, feature?.max_activation ?? 1).toFixed(3));
    });
  }
}
