/** Labelled inputs. */

import { el } from "../dom.ts";

export interface Choice {
  value: string;
  text: string;
}

export function select(
  label: string,
  choices: Choice[],
  value: string,
  changed: (value: string) => void,
): HTMLElement {
  const box = el(
    "select",
    { on: { change: () => changed(box.value) } },
    ...choices.map((c) => el("option", { value: c.value, selected: c.value === value }, c.text)),
  );
  return el("label", { class: "control" }, el("span", {}, label), box);
}

export function slider(
  label: string,
  range: { min: number; max: number; step: number },
  value: number,
  changed: (value: number) => void,
): HTMLElement {
  const decimals = String(range.step).split(".")[1]?.length ?? 0;
  const shown = el("output", {}, value.toFixed(decimals));
  const box = el("input", {
    type: "range",
    ...range,
    value,
    on: {
      input: () => {
        shown.textContent = Number(box.value).toFixed(decimals);
      },
      change: () => changed(Number(box.value)),
    },
  });
  return el("label", { class: "control" }, el("span", {}, label), box, shown);
}

/** A few choices of which one holds, side by side. */
export function segments(
  label: string,
  choices: Choice[],
  value: string,
  changed: (value: string) => void,
): HTMLElement {
  const name = `choice-${serial++}`;
  return el(
    "fieldset",
    { class: "segments" },
    el("legend", { class: "hidden" }, label),
    ...choices.map((c) =>
      el(
        "label",
        {},
        el("input", {
          type: "radio",
          name,
          value: c.value,
          checked: c.value === value,
          on: { change: () => changed(c.value) },
        }),
        el("span", {}, c.text),
      ),
    ),
  );
}

let serial = 0;

export function checkbox(
  label: string,
  value: boolean,
  changed: (value: boolean) => void,
): HTMLElement {
  const box = el("input", {
    type: "checkbox",
    checked: value,
    on: { change: () => changed(box.checked) },
  });
  return el("label", { class: "control check" }, box, el("span", {}, label));
}
