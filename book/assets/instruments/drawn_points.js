// A data set in the plane that the reader draws with mouse, finger or pen, or chooses: at most MOST points.
import { clip, normal, normals } from "./kit.js";

export const BOX = [-2, 2, -1.5, 1.5], MOST = 400;
const GAP = 0.05, SPRAY = 0.055; // between two dabs of the pen; its width, a standard deviation
const cluster = (count, [x, y], std, seed) => normals(2 * count, seed).map((e, i) => (i % 2 ? y : x) + std * e);
const along = (count, place) => Array.from({ length: count }, (_, i) => place(i / count)).flat();

/** Names and points, x_1, y_1, ..., of the data sets to choose from. */
export const SETS = {
  ring: ["Ring", along(60, (t) => [Math.cos(2 * Math.PI * t), Math.sin(2 * Math.PI * t)])],
  clusters: ["Two clusters", [...cluster(40, [-1, 0.4], 0.2, 3), ...cluster(60, [0.9, -0.3], 0.28, 4)]],
  spiral: ["Spiral", along(110, (t) => [Math.cos(11 * t - 0.6), Math.sin(11 * t - 0.6)].map((u) => (0.2 + 1.1 * t) * u))],
};

/**
 * Makes a surface a sheet to draw points on. `place(x, y)` maps pixels to the plane; `onPoints(points)` gets all of them
 * with every dab of the pen, and `onTap(x, y)` a place that was only pressed. A finger draws after `draw(true)` alone, for
 * it also scrolls the page; a mouse draws at once, and its first stroke wipes out what was chosen.
 */
export function sheet(view, { place, onPoints, onTap }) {
  const next = normal(7), canvas = view.canvas;
  let points = [], drawing = false, pen = null, last = null, moved = false;
  canvas.classList.add("instrument-sheet");

  function draw(isOn) {
    drawing = isOn;
    points = [];
    canvas.classList.toggle("instrument-pad", isOn);
  }
  function dab([x, y]) {
    for (let i = 0; i < 2 && points.length < 2 * MOST; i++)
      points.push(clip(x + SPRAY * next(), BOX[0], BOX[1]), clip(y + SPRAY * next(), BOX[2], BOX[3]));
  }
  const at = ({ clientX, clientY }) => {
    const box = canvas.getBoundingClientRect();
    return place(clientX - box.left, clientY - box.top);
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (pen !== null || event.button) return;
    pen = event.pointerId;
    last = at(event);
    moved = false;
    if (drawing || event.pointerType !== "touch") canvas.setPointerCapture(pen);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen || (!drawing && event.pointerType === "touch")) return;
    const before = points.length;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const now = at(each), far = Math.hypot(now[0] - last[0], now[1] - last[1]), dabs = Math.floor(far / GAP);
      if (!dabs) continue;
      if (!drawing) draw(true);
      if (!moved) dab(last);
      moved = true;
      const from = last;
      for (let i = 1; i <= dabs; i++) dab(last = from.map((value, k) => value + (now[k] - value) * i * GAP / far));
    }
    if (moved && points.length >= before) onPoints(points);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (event.pointerId !== pen) return;
    pen = null;
    if (moved) return;
    if (drawing) {
      dab(at(event));
      onPoints(points);
    } else onTap(...at(event));
  });
  canvas.addEventListener("pointercancel", () => { pen = null; });
  return { draw };
}
