/** What fingers, mouse and keys do to the graph, as moves of its viewport. */

import { hideTip } from "../parts/tooltip.ts";
import * as v from "./viewport.ts";

export interface Mover {
  view(): v.Viewport | null;
  /** At once. */
  move(to: v.Viewport): void;
  /** In a short flight. */
  fly(to: v.Viewport): void;
  /** Ends a flight. */
  land(): void;
  pointed(x: number, y: number, event: PointerEvent): void;
  left(): void;
  clicked(x: number, y: number): void;
}

/** A pointer that moves less than so many pixels between down and up has clicked. */
const CLICK = 3;
const STEP = { x: 80, y: 60 };

interface Point {
  x: number;
  y: number;
}

export function listen(box: HTMLElement, mover: Mover): void {
  const down = new Map<number, Point>();
  let travelled = 0;
  const at = (event: MouseEvent): Point => {
    const { left, top } = box.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };

  box.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    mover.land();
    box.setPointerCapture(event.pointerId);
    down.set(event.pointerId, at(event));
    travelled = 0;
    hideTip();
  });

  box.addEventListener("pointermove", (event) => {
    const [before, now, view] = [down.get(event.pointerId), at(event), mover.view()];
    if (!view) return;
    if (!before) {
      mover.pointed(now.x, now.y, event);
      return;
    }
    travelled += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    down.set(event.pointerId, now);
    if (other) {
      const far = (p: Point) => Math.hypot(p.x - other.x, p.y - other.y);
      const factor = far(now) / Math.max(1, far(before));
      mover.move(v.zoomed(view, factor, (now.x + other.x) / 2, (now.y + other.y) / 2));
    } else if (travelled > CLICK) {
      box.classList.add("dragged");
      mover.move(v.panned(view, now.x - before.x, now.y - before.y));
    }
  });

  const up = (event: PointerEvent) => {
    const { x, y } = at(event);
    const clicked = event.type === "pointerup" && travelled <= CLICK;
    if (down.delete(event.pointerId) && clicked) mover.clicked(x, y);
    box.classList.remove("dragged");
  };
  box.addEventListener("pointerup", up);
  box.addEventListener("pointercancel", up);
  box.addEventListener("pointerleave", () => mover.left());

  box.addEventListener("dblclick", (event) => {
    const [{ x, y }, view] = [at(event), mover.view()];
    if (view) mover.fly(v.zoomed(view, 3, x, y));
  });

  box.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const view = mover.view();
      if (!view) return;
      mover.land();
      hideTip();
      const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        mover.move(v.panned(view, -unit * (event.deltaX || event.deltaY), 0));
        return;
      }
      const { x, y } = at(event);
      const amount = Math.min(60, Math.max(-60, unit * event.deltaY));
      // Pinching on a touchpad comes as a wheel with Ctrl, in smaller steps.
      mover.move(v.zoomed(view, (event.ctrlKey ? 1.0135 : 1.0035) ** -amount, x, y));
    },
    { passive: false },
  );
}

/** Moves and zooms by a key; false if it means nothing here. */
export function moveByKey(key: string, mover: Mover): boolean {
  const view = mover.view();
  if (!view) return false;
  const { width, height } = view;
  const zoom = (factor: number) => mover.fly(v.zoomed(view, factor, width / 2, height / 2));
  const pan = (dx: number, dy: number) => mover.move(v.panned(view, dx, dy));
  const moves: Record<string, () => void> = {
    "+": () => zoom(2),
    "=": () => zoom(2),
    "-": () => zoom(0.5),
    "0": () => mover.fly(v.whole(width, height, view.extent)),
    ArrowUp: () => pan(0, STEP.y),
    ArrowDown: () => pan(0, -STEP.y),
    PageUp: () => pan(0, 0.8 * height),
    PageDown: () => pan(0, -0.8 * height),
    ArrowLeft: () => pan(STEP.x, 0),
    ArrowRight: () => pan(-STEP.x, 0),
  };
  const own = Object.hasOwn(moves, key) ? moves[key] : undefined;
  own?.();
  return own !== undefined;
}
