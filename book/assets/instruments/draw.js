// Chapter 7: draw a digit. The VAE with a latent plane encodes it; the map shows where, the bars what it costs in nats.
import { button, handle, make, row, surface } from "./kit.js";
import { drawPixels, pad } from "./draw_pad.js";
import { toPixels } from "./draw_strokes.js";
import { decodedMap, evidence, fromMap, onMap, planeVae, toMap } from "./draw_vae.js";
import { sigmoid } from "./nn.js";
import { bars } from "./draw_bars.js";

const CELLS = 51, TILE = 3; // the map has 51 x 51 cells, and shows every third of them
const RANGE = 40; // nats: cells that fit the drawing this much worse than the best one stay blank

export async function mount(root, { load }) {
  const vae = planeVae(await load("vae2d-mnist"));
  const [low, middle, high] = (await load("draw_reference")).minus_bound.data;
  const parts = Object.fromEntries(["pad", "images", "map", "bars"].map((name) =>
    [name, make("div", { class: `draw-${name}` })]));
  root.append(make("div", { class: "instrument-draw" }, ...Object.values(parts)));
  const now = { x: null, encoder: null, q: null, values: null, exact: null }; // of the drawing
  let map = { images: [], rest: [], side: CELLS }, tiles = null;

  /* What is in the images: the drawing as the network gets it, and the decoded mean of q. */
  const images = surface(parts.images, { ratio: 2.3, heights: [120, 340], describe: "Above, the drawing as the encoder gets it; below, what z decodes to." }, (context, { width, height, colors, font }) => {
    const side = Math.min(width, height / 2 - 22), left = (width - side) / 2;
    [["encoder's input", now.x], ["decoded from z", now.x && sigmoid(vae.logits(now.q.mean))]].forEach(([words, values], i) => {
      const top = i * (height / 2);
      font(12);
      context.fillStyle = colors.muted;
      context.textAlign = "center";
      context.fillText(words, width / 2, top + 13);
      context.strokeStyle = colors.rule;
      context.strokeRect(left + 0.5, top + 18.5, side - 1, side - 1);
      if (values) drawPixels(context, values, left, top + 18, side, colors.ink);
    });
  });

  const view = surface(parts.map, { ratio: 1, heights: [200, 420] }, (context, { width, height, colors }) => {
    const side = Math.min(width, height), left = (width - side) / 2, tile = side / (CELLS / TILE);
    if (tiles?.width !== Math.round(side * 2) || tiles.ink !== colors.ink) tiles = blank(Math.round(side * 2), colors.ink);
    fill(tiles, map.images);
    context.drawImage(tiles, left, 0, side, side);
    context.strokeStyle = colors.rule;
    context.strokeRect(left + 0.5, 0.5, side - 1, side - 1);
    if (!now.x) return;
    if (now.values) {
      const best = Math.max(...now.values), cell = side / CELLS;
      context.fillStyle = colors.data;
      now.values.forEach((value, i) => {
        context.globalAlpha = 0.75 * Math.max(0, 1 - (best - value) / RANGE);
        if (context.globalAlpha > 0.01) context.fillRect(left + (i % CELLS) * cell, Math.floor(i / CELLS) * cell, cell + 0.5, cell + 0.5);
      });
      context.globalAlpha = 1;
    }
    const [x, y] = pixel(now.encoder.mean);
    context.strokeStyle = colors.steps;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(x, y, Math.max(tile / 2, 9), 0, 7);
    context.stroke();
    context.lineWidth = 1;
  });
  const square = () => Math.min(view.canvas.clientWidth, view.canvas.clientHeight);
  const pixel = (z) => {
    const [u, v] = toMap(z), side = square();
    return [(view.canvas.clientWidth - side) / 2 + u * side, (1 - v) * side];
  };
  const inside = (share) => Math.max(0.002, Math.min(0.998, share));
  const knob = handle(view, {
    label: "z, the mean of q, on the map", color: "steps", min: 0, max: 100,
    at: () => (now.q ? pixel(now.q.mean) : [-99, -99]),
    move: (x, y) => {
      const side = square(), u = (x - (view.canvas.clientWidth - side) / 2) / side;
      choose({ ...now.q, mean: fromMap([inside(u), inside(1 - y / side)]) });
    },
    nudge: (right, up) => choose({ ...now.q, mean: fromMap(toMap(now.q.mean).map((u, i) => inside(u + [right, up][i] / 200))) }),
    value: () => (now.q ? Math.round(100 * toMap(now.q.mean)[0]) : 0),
    text: () => (now.q ? `z is ${now.q.mean.map((value) => value.toFixed(2)).join(" and ")}` : "no drawing"),
  });

  const cost = bars(parts.bars, { low, middle, high });
  const status = make("p", { class: "draw-status", role: "status" });
  const buttons = row(parts.bars);
  const back = button(buttons, "Encoder’s q", () => choose(now.encoder));
  const best = button(buttons, "Best q", () => choose(now.exact));
  parts.bars.append(status);

  /** Takes q for the drawing, and shows all that follows from it. */
  function choose(q) {
    now.q = q;
    const terms = q && vae.terms(now.x, q);
    cost.show(terms && { ...terms, evidence: now.exact && now.exact.logEvidence });
    status.textContent = sentence(terms);
    back.disabled = !q || q === now.encoder;
    best.disabled = !now.exact || q === now.exact;
    knob.hidden = !q;
    for (const each of [view, images]) each.redraw();
    view.describe(q ? `The latent plane, decoded; z is at ${q.mean.map((v) => v.toFixed(2)).join(", ")}.` : "The latent plane, decoded.");
  }
  function sentence(terms) {
    if (!terms) return "The pad is empty: draw a digit, or let the page write one.";
    if (!now.exact) return "";
    const gap = terms.bound + now.exact.logEvidence, who = now.q === now.encoder ? "the encoder’s q" : now.q === now.exact ? "the best q" : "this q";
    const place = now.q === now.encoder && terms.bound > high ? " The drawing costs more than 95 of 100 test digits." : "";
    return `With ${who} the bound is ${gap.toFixed(1)} nats below log p(x).${place}`;
  }

  /** A drawing came: encode it at once; the integral over the plane waits until the pen is lifted. */
  let waiting = 0;
  function drawn(strokes, done) {
    now.exact = null;
    now.x = strokes.length ? toPixels(strokes).map((value) => (value > 0.5 ? 1 : 0)) : null;
    now.encoder = now.x && vae.posterior(now.x);
    now.values = now.x && map.images.length === CELLS ** 2 ? onMap(map, now.x) : null;
    choose(now.encoder);
    clearTimeout(waiting);
    if (done && now.values) waiting = setTimeout(() => {
      now.exact = evidence(vae, map, now.x, now.values);
      choose(now.q);
    }, 30);
  }
  let last = [];
  pad(parts.pad, 3, (strokes, done) => { last = strokes; drawn(strokes, done); });

  for (const grown of decodedMap(vae, CELLS)) {
    map = grown;
    view.redraw();
    await new Promise((next) => setTimeout(next));
    if (!root.isConnected) return;
  }
  drawn(last, true);
}

/** An empty sheet for the tiles of the map, which remembers how many it has. */
function blank(side, ink) {
  return Object.assign(document.createElement("canvas"), { width: side, height: side, ink, done: 0 });
}

/** Draws the tiles that are decoded and not yet on the sheet. */
function fill(sheet, images) {
  const context = sheet.getContext("2d"), many = CELLS / TILE, side = sheet.width / many;
  for (; sheet.done < many ** 2; sheet.done++) {
    const column = sheet.done % many, line = Math.floor(sheet.done / many);
    const logits = images[(TILE * line + 1) * CELLS + TILE * column + 1];
    if (!logits) return;
    drawPixels(context, sigmoid(logits), column * side, line * side, side, sheet.ink, 0.55);
  }
}
