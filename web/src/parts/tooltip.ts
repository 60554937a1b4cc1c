/** One tooltip for the whole page, beside the pointer. */

import { type Child, el, fill } from "../dom.ts";

const box = el("div", { class: "tooltip", role: "tooltip", hidden: true });

export function showTip(x: number, y: number, ...children: Child[]): void {
  if (!box.isConnected) document.body.append(box);
  fill(box, ...children);
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const left = x + 14 + width > innerWidth ? x - 14 - width : x + 14;
  const top = y + 16 + height > innerHeight ? y - 12 - height : y + 16;
  box.style.left = `${Math.max(4, left)}px`;
  box.style.top = `${Math.max(4, top)}px`;
}

export function hideTip(): void {
  box.hidden = true;
}

/** Shows what `tell` says of the element of `selector` under the pointer within `area`. */
export function tips(
  area: Element,
  selector: string,
  tell: (element: Element) => Child[] | null,
): void {
  area.addEventListener("pointermove", (event) => {
    const { target, clientX, clientY } = event as PointerEvent;
    const element = (target as Element).closest(selector);
    const children = element && tell(element);
    if (children) showTip(clientX, clientY, ...children);
    else hideTip();
  });
  area.addEventListener("pointerleave", hideTip);
}
