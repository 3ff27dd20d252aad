// The three pictures of the VAE that trains in the page: the plane, the line of latents, and the course of the bound.
import { clip, curve, normals, scale, segment } from "./kit.js";
import { LINE, priorDensity } from "./vae_measures.js";
import { decode } from "./vae_training.js";

export const BOX = 1.6, SAMPLES = 120; // the plane from -BOX to BOX, and how many samples of the prior it shows
const LATENTS = normals(SAMPLES, 7), NOISE = normals(2 * SAMPLES, 8), SEEN = [...LINE.keys()].filter((k) => Math.abs(LINE[k]) <= 2.5);
const minus = (text) => String(text).replace("-", "−");
const rgb = (color) => [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));

/** The color of a latent: blue below zero, gray at zero, orange above. */
function latentColors(colors) {
  const [low, middle, high] = [colors.steps, colors.muted, colors.data].map(rgb);
  return (z) => {
    const share = clip(Math.abs(z) / 1.8, 0, 1), end = z < 0 ? low : high;
    return `rgb(${middle.map((value, k) => Math.round(value + share * (end[k] - value)))})`;
  };
}

/** The plane: noise around the decoder's curve, samples from the prior, the points, the curve, and the batch of a step. */
export function drawPlane(context, { width, height, colors, font }, { model, points, seen, before, step, now }, maps) {
  const half = Math.min(width, height) / 2, color = latentColors(colors), std = Math.exp(model.logStd[0]);
  const x = maps.x = scale([-BOX, BOX], [width / 2 - half, width / 2 + half]);
  const y = maps.y = scale([-BOX, BOX], [height / 2 + half, height / 2 - half]);
  const dot = (a, b, radius) => { context.beginPath(); context.arc(x(a), y(b), radius, 0, 7); };
  const trace = (means, indices) => {
    context.beginPath();
    for (const k of indices) context.lineTo(x(means[2 * k]), y(means[2 * k + 1]));
  };
  context.strokeStyle = colors.rule;
  context.strokeRect(x(-BOX) + 0.5, y(BOX) + 0.5, 2 * half - 1, 2 * half - 1);
  context.beginPath();
  context.rect(x(-BOX) + 1, y(BOX) + 1, 2 * half - 2, 2 * half - 2);
  context.clip();
  context.lineCap = context.lineJoin = "round";
  for (const [reach, alpha] of [[2, "16"], [1, "22"]]) { // one and two standard deviations on each side
    trace(seen.curve, SEEN);
    context.lineWidth = 2 * reach * std * (x(1) - x(0));
    context.strokeStyle = colors.muted + alpha;
    context.stroke();
  }
  const means = decode(model, LATENTS).y;
  context.strokeStyle = colors.prior;
  context.lineWidth = 1.4;
  context.globalAlpha = step > 0 && step < 6 ? 0.3 : 1;
  context.beginPath();
  for (let i = 0; i < 2 * SAMPLES; i += 2) {
    const a = x(means[i] + std * NOISE[i]), b = y(means[i + 1] + std * NOISE[i + 1]);
    context.moveTo(a - 3, b);
    context.lineTo(a + 3, b);
    context.moveTo(a, b - 3);
    context.lineTo(a, b + 3);
  }
  context.stroke();
  context.globalAlpha = 0.7;
  context.fillStyle = colors.ink;
  for (let i = 0; i < points.length; i += 2) {
    dot(points[i], points[i + 1], 1.8);
    context.fill();
  }
  context.globalAlpha = 1;
  if (before) {
    trace(before, SEEN);
    context.strokeStyle = colors.gap;
    context.lineWidth = 1.25;
    context.setLineDash([4, 4]);
    context.stroke();
    context.setLineDash([]);
  }
  for (let i = 2; i < SEEN.length; i += 2) { // thick where the prior is dense
    const k = SEEN[i];
    trace(seen.curve, [k - 2, k]);
    context.strokeStyle = color(LINE[k]);
    context.lineWidth = 1.5 + 9 * priorDensity(LINE[k]);
    context.stroke();
  }
  drawBatch(context, x, y, colors, step, now);
  font(11, "600");
  context.textAlign = "center";
  for (const z of [-2, -1, 0, 1, 2]) { // marks on the curve, as on a ruler
    const k = 2 * LINE.indexOf(z), a = seen.curve[k], b = seen.curve[k + 1];
    dot(a, b, 9);
    context.fillStyle = colors.page;
    context.fill();
    context.strokeStyle = color(z);
    context.lineWidth = 1.5;
    context.stroke();
    context.fillStyle = colors.ink;
    context.fillText(minus(z), x(a), y(b) + 4);
  }
}

/** The points of a batch, and from step 4 on the lines from each to what is decoded for it. */
function drawBatch(context, x, y, colors, step, now) {
  if (!step || step === 6) return;
  context.strokeStyle = colors.ink;
  context.lineWidth = 1.5;
  for (let i = 0; i < now.x.length; i += 2) {
    const from = [x(now.x[i]), y(now.x[i + 1])];
    context.beginPath();
    context.arc(...from, 4.5, 0, 7);
    context.stroke();
    if (step < 4) continue;
    const to = [x(now.decoded.y[i]), y(now.decoded.y[i + 1])];
    segment(context, from, to, { color: colors.gap, width: 1.5 });
    context.fillStyle = colors.gap;
    context.fillRect(to[0] - 2.5, to[1] - 2.5, 5, 5);
  }
}

/** The line of latents: the prior, the aggregate posterior, and the codes of a batch. */
export function drawLatents(context, { width, height, colors, font }, { seen, step, now }) {
  const foot = height - 26, x = scale([-4, 4], [6, width - 6]), color = latentColors(colors);
  const top = Math.max(...seen.density), y = scale([0, [0.75, 1.25, 2.5].find((edge) => edge > top) ?? 5], [foot, 24]);
  const prior = LINE.map(priorDensity);
  context.save();
  context.beginPath();
  context.rect(0, 20, width, foot - 20);
  context.clip();
  curve(context, LINE, seen.density, x, y, { color: colors.steps, width: 2, fill: `${colors.steps}2b` });
  curve(context, LINE, prior, x, y, { color: colors.prior, width: 2, dash: [2, 3] });
  context.restore();
  if (step > 1 && step < 6) {
    for (let i = 0; i < now.x.length / 2; i++) {
      const high = foot - 5 - (foot - 34) * i / (now.x.length / 2), mean = now.code.y[2 * i], std = Math.exp(now.code.y[2 * i + 1] / 2);
      segment(context, [x(mean - std), high], [x(mean + std), high], { color: colors.ink, width: 1.25 });
      context.fillStyle = colors.ink;
      context.beginPath();
      context.arc(x(mean), high, 2, 0, 7);
      context.fill();
      if (step < 3) continue;
      context.fillStyle = colors.gap;
      context.fillRect(x(now.z[i]) - 2.5, high - 2.5, 5, 5);
    }
  }
  for (let pixel = x(-4); pixel < x(4); pixel += 2) { // the colors of the curve in the plane
    context.fillStyle = color(x.back(pixel));
    context.fillRect(pixel, foot, 2, 5);
  }
  font(12);
  context.textAlign = "center";
  context.fillStyle = colors.muted;
  for (let tick = -3; tick <= 3; tick++) context.fillText(minus(tick), x(tick), height - 6);
  context.fillText("z", x(3.7), height - 6);
  const beyond = seen.code.filter((mean, i) => i % 2 === 0 && Math.abs(mean) > 4).length / (seen.code.length / 2);
  if (beyond > 0.005) {
    context.textAlign = "right";
    context.fillText(`${Math.round(100 * beyond)} % of the points beyond ±4`, width - 4, 30);
  }
  legend(context, [["aggregate posterior", "steps", []], ["prior", "prior", [2, 3]]], colors);
}

/** Names in a row at the top, each with a piece of its line. */
function legend(context, entries, colors) {
  context.textAlign = "left";
  let at = 6;
  for (const [text, color, dash] of entries) {
    segment(context, [at, 9], [at + 18, 9], { color: colors[color], width: 2.25, dash });
    context.fillStyle = colors[color];
    context.fillText(text, at + 22, 13);
    at += 34 + context.measureText(text).width;
  }
}

const LINES = [["log p(x)", "evidence", "ink", [1, 2]], ["bound", "bound", "steps", []], ["reconstruction", "reconstruction", "data", [7, 4]],
  ["KL", "kl", "prior", [2, 3]]];

/** The course of log p(x), the bound and its two terms over the updates, in nats. */
export function drawChart(context, { width, height, colors, font }, { history, count }) {
  const foot = height - 20, late = history.slice(Math.floor(history.length / 4));
  const least = Math.min(...late.map((entry) => Math.min(entry.bound, entry.reconstruction))), most = Math.max(...late.map((entry) => entry.kl));
  const low = [-4, -8, -16, -32].find((edge) => edge < least) ?? -64, high = [4, 8, 16].find((edge) => edge > most) ?? 32;
  const x = scale([0, Math.max(100, count)], [34, width - 6]), y = scale([low, high], [foot, 26]);
  font(12);
  context.textAlign = "right";
  for (const tick of [low, low / 2, 0, high]) {
    segment(context, [34, y(tick)], [width, y(tick)], { color: colors.rule, width: tick ? 0.5 : 1.25 });
    context.fillStyle = colors.muted;
    context.fillText(minus(tick), 28, y(tick) + 4);
  }
  context.fillText(`${count.toLocaleString("en")} updates`, width - 4, height - 4);
  context.textAlign = "left";
  context.fillText("nats", 34, height - 4);
  context.save();
  context.beginPath();
  context.rect(34, 22, width, foot - 22);
  context.clip();
  const xs = history.map((entry) => entry.count);
  for (const [, key, color, dash] of LINES)
    curve(context, xs, history.map((entry) => entry[key]), x, y, { color: colors[color], width: 2, dash });
  context.restore();
  legend(context, LINES.map(([text, , color, dash]) => [text, color, dash]), colors);
}
