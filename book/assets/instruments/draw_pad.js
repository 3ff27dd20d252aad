// A pad to draw a digit on, by mouse, finger or pen; without them the page writes one of ten digits.
import { button, make, surface } from "./kit.js";
import { SIDE, written } from "./draw_strokes.js";

const STEP = 0.012; // points nearer than that, as a share of the pad, say nothing new

/**
 * A pad and its buttons. `onChange(strokes, done)` is called with every stretch of a stroke, and once when the pen is lifted;
 * `first` is the digit to begin with. Returns `show(values)`, which puts an image of 28 x 28 values in the place of strokes.
 */
export function pad(root, first, onChange) {
  let strokes = [], image = null, pen = null, fresh = true; // the first stroke wipes out what the page wrote
  const view = surface(root, { ratio: 1, heights: [120, 300] }, (context, { width, height, colors, font }) => {
    const side = Math.min(width, height), left = (width - side) / 2;
    context.lineWidth = 1;
    context.strokeStyle = colors.muted;
    context.strokeRect(left + 0.5, 0.5, side - 1, side - 1);
    if (image) drawPixels(context, image, left, 0, side, colors.ink);
    else if (!strokes.length) {
      font(15);
      context.fillStyle = colors.muted;
      context.textAlign = "center";
      context.fillText("Draw a digit here.", left + side / 2, side / 2);
    }
    context.strokeStyle = colors.ink;
    context.lineWidth = side * 0.075;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes) {
      context.beginPath();
      for (const [x, y] of [...stroke, stroke.at(-1)]) context.lineTo(left + x * side, y * side);
      context.stroke();
    }
  });
  view.canvas.classList.add("instrument-pad");

  function changed(done) {
    image = null;
    view.describe(strokes.length ? "The pad with a drawing." : "The pad, empty.");
    view.redraw();
    onChange(strokes, done);
  }
  function write(digit) {
    strokes = written(digit).map((stroke) => stroke.map(([x, y]) => [0.2 + 0.6 * x, 0.14 + 0.72 * y]));
    changed(true);
  }
  const at = ({ clientX, clientY }) => {
    const box = view.canvas.getBoundingClientRect(), side = Math.min(box.width, box.height);
    return [(clientX - box.left - (box.width - side) / 2) / side, (clientY - box.top) / side];
  };
  view.canvas.addEventListener("pointerdown", (event) => {
    view.canvas.setPointerCapture(event.pointerId);
    if (pen === null && fresh) strokes = [];
    fresh = false;
    pen = event.pointerId;
    strokes = [...strokes, [at(event)]];
    changed(false);
  });
  view.canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pen) return;
    const stroke = strokes.at(-1), before = stroke.length;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const point = at(each), last = stroke.at(-1);
      if (Math.hypot(point[0] - last[0], point[1] - last[1]) > STEP) stroke.push(point);
    }
    if (stroke.length > before) changed(false);
  });
  for (const end of ["pointerup", "pointercancel"])
    view.canvas.addEventListener(end, (event) => {
      if (event.pointerId !== pen) return;
      pen = null;
      changed(true);
    });

  const keys = make("div", { class: "instrument-keys", role: "group", "aria-label": "Let the page write a digit" });
  for (let digit = 0; digit < 10; digit++) button(keys, String(digit), () => { fresh = true; write(digit); });
  button(keys, "Clear", () => { strokes = []; changed(true); });
  root.append(keys);
  write(first);
  return (values) => {
    [strokes, image, fresh] = [[], values, true];
    view.describe("The pad with an image.");
    view.redraw();
  };
}

/** Draws an image of 28 x 28 values, from 0, the page, to 1, the ink; `faded` shares of them where it is below 1. */
export function drawPixels(context, values, x, y, side, color, faded = 1) {
  const tile = drawPixels.tile ??= Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
  const brush = tile.getContext("2d", { willReadFrequently: true }), pixels = brush.createImageData(SIDE, SIDE);
  values.forEach((value, i) => { pixels.data[4 * i + 3] = 255 * faded * Math.max(0, Math.min(1, value)); });
  brush.globalCompositeOperation = "copy";
  brush.putImageData(pixels, 0, 0);
  brush.globalCompositeOperation = "source-in";
  brush.fillStyle = color;
  brush.fillRect(0, 0, SIDE, SIDE);
  context.imageSmoothingEnabled = false;
  context.drawImage(tile, x, y, side, side);
}
