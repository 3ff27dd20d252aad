// Chapter 13: in-painting by the reader. A digit is drawn, a part of it hidden, and a diffusion model fills that in.
import { button, calm, choice, make, row, surface } from "./kit.js";
import { drawPixels, pad } from "./draw_pad.js";
import { SIDE, toPixels } from "./draw_strokes.js";
import { thread } from "./thread.js";

const MANY = 3, BRUSH = 2.2; // completions; radius of the brush in pixels of the digit
export const HALVES = {
  "lower half": (k) => k >= (SIDE * SIDE) / 2,
  "right half": (k) => k % SIDE >= SIDE / 2,
  nothing: () => false,
};

export async function mount(root, { load }) {
  const ask = await thread("digit_worker.js", await load("ddpm-mnist-long"));
  const parts = Object.fromEntries(["pad", "board", "results"].map((name) => [name, make("div", { class: `fill-${name}` })]));
  root.append(make("div", { class: "instrument-fill" }, ...Object.values(parts)));
  const wish = { repeats: 1, seed: 1 }, hidden = new Uint8Array(SIDE * SIDE);
  let x = null, found = [];

  const board = surface(parts.board, { ratio: 1, heights: [120, 300] }, (context, { width, height, colors }) => {
    const side = Math.min(width, height), left = (width - side) / 2, cell = side / SIDE;
    if (x) drawPixels(context, x, left, 0, side, colors.ink);
    context.fillStyle = colors.prior;
    hidden.forEach((is, k) => {
      if (is) context.fillRect(left + (k % SIDE) * cell, Math.floor(k / SIDE) * cell, cell + 0.5, cell + 0.5);
    });
    context.strokeStyle = colors.muted;
    context.strokeRect(left + 0.5, 0.5, side - 1, side - 1);
  });
  board.canvas.classList.add("instrument-pad");
  const paint = (event) => {
    if (event.type === "pointerdown") board.canvas.setPointerCapture(event.pointerId);
    else if (!board.canvas.hasPointerCapture(event.pointerId)) return;
    const box = board.canvas.getBoundingClientRect(), side = Math.min(box.width, box.height);
    const place = [event.clientX - box.left - (box.width - side) / 2, event.clientY - box.top].map((at) => (at / side) * SIDE);
    hidden.forEach((_, k) => {
      if (Math.hypot((k % SIDE) + 0.5 - place[0], Math.floor(k / SIDE) + 0.5 - place[1]) < BRUSH) hidden[k] = 1;
    });
    changed();
  };
  for (const name of ["pointerdown", "pointermove"]) board.canvas.addEventListener(name, paint);

  const results = surface(parts.results, { ratio: 0.36, heights: [90, 240] }, (context, { width, height, colors }) => {
    const gap = 10, side = Math.min(height - 2, (width - (MANY - 1) * gap) / MANY);
    for (let i = 0; i < MANY; i++) {
      const left = i * (side + gap);
      context.strokeStyle = colors.rule;
      context.strokeRect(left + 0.5, 0.5, side - 1, side - 1);
      if (found[i]) drawPixels(context, found[i].map((value) => (value + 1) / 2), left, 0, side, colors.ink);
    }
  });
  const status = make("p", { role: "status", class: "fill-status" });

  /** The drawing or what is hidden changed, so what was filled in does not belong to it. */
  function changed() {
    ask(null);
    found = [];
    const many = hidden.reduce((a, b) => a + b);
    board.describe(x ? `The digit, ${many} of ${SIDE * SIDE} pixels hidden.` : "No digit.");
    fill.disabled = !x || !many;
    status.textContent = !x ? "The pad is empty: draw a digit, or let the page write one."
      : many ? "" : "Nothing is hidden: paint over the digit, or hide a half.";
    for (const each of [board, results]) each.redraw();
  }
  async function start() {
    found = [];
    const truth = Float64Array.from(x, (value) => 2 * value - 1), observed = hidden.map((is) => 1 - is);
    for (let i = 0; i < MANY; i++) {
      status.textContent = `Digit ${i + 1} of ${MANY} forms, by 20 steps.`;
      const job = { film: "filled", truth, observed, num: 20, repeats: wish.repeats, seed: 100 * wish.seed + i };
      const whole = await ask(job, (frame) => {
        found[i] = frame.x;
        results.describe(`${i + 1} of ${MANY} completions, time ${frame.t}.`);
        results.redraw();
      });
      if (!whole) return;
    }
    status.textContent = "The pixels in view are yours, to the last bit; the others are drawn.";
  }

  const masks = row(parts.board);
  for (const [name, is] of Object.entries(HALVES))
    button(masks, name === "nothing" ? "Hide nothing" : `Hide ${name}`, () => {
      hidden.forEach((_, k) => { hidden[k] = is(k) ? 1 : 0; });
      changed();
    });
  const controls = row(parts.results);
  const fill = button(controls, "Fill in", start);
  fill.classList.add("primary");
  button(controls, "Other noise", () => {
    wish.seed += 1;
    if (!fill.disabled) start();
  });
  choice(controls, "each step", [["1", "once"], ["4", "four times"]], "1", (repeats) => { wish.repeats = Number(repeats); });
  parts.results.append(status);
  hidden.forEach((_, k) => { hidden[k] = HALVES["lower half"](k) ? 1 : 0; });
  pad(parts.pad, 9, (strokes) => {
    x = strokes.length ? toPixels(strokes) : null;
    changed();
  });
  if (!calm()) start();
}
