// Points to train on, and what is said of a trained model: the exact bound, log p(x), and the aggregate posterior.
import { normal, uniform } from "./kit.js";
import { decode, encode } from "./vae_training.js";

const ROOT = Math.sqrt(2 * Math.PI), LOG_2PI = Math.log(2 * Math.PI);
export const LINE = Float64Array.from({ length: 501 }, (_, i) => (i - 250) / 50); // latents from -5 to 5
const STEP = 0.02, NODES = Float64Array.from({ length: 25 }, (_, i) => 0.4 * (i - 12)); // nodes of the noise
export const priorDensity = (z) => Math.exp(-z * z / 2) / ROOT;

/* Points ------------------------------------------------------------------------------------------------------- */

const NUM = 200;
const SHAPES = {
  ring: (t, noise) => [t * 2 * Math.PI, 1 + 0.08 * noise()],
  spiral: (t, noise) => [1 + 7.5 * Math.sqrt(t), 0.1 + 1.2 * Math.sqrt(t) + 0.05 * noise()],
};

/** The points of a preset: a ring, two clusters or a spiral. */
export function preset(name) {
  const noise = normal(1), u = uniform(2), points = new Float64Array(2 * NUM);
  for (let i = 0; i < NUM; i++) {
    if (name === "clusters") points.set([0.25 * noise() + (i % 2 ? 0.75 : -0.75), 0.25 * noise() + (i % 2 ? 0.45 : -0.45)], 2 * i);
    else {
      const [angle, radius] = SHAPES[name]((i + u()) / NUM, noise);
      points.set([radius * Math.cos(angle), radius * Math.sin(angle)], 2 * i);
    }
  }
  return points;
}

/* Measures ----------------------------------------------------------------------------------------------------- */

/** The mean of log p(x) in nats, an integral over the line of latents, where the decoder's means on it are `curve`. */
export function logEvidence(model, points, curve) {
  const precision = Math.exp(-2 * model.logStd[0]) / 2, constant = Math.log(STEP) - LOG_2PI - 2 * model.logStd[0];
  const prior = LINE.map((z) => Math.log(priorDensity(z))), each = new Float64Array(LINE.length);
  let total = 0;
  for (let i = 0; i < points.length; i += 2) {
    let top = -Infinity, sum = 0;
    for (let k = 0; k < each.length; k++) {
      const a = points[i] - curve[2 * k], b = points[i + 1] - curve[2 * k + 1];
      each[k] = prior[k] - precision * (a * a + b * b);
      if (each[k] > top) top = each[k];
    }
    for (let k = 0; k < each.length; k++) if (each[k] > top - 30) sum += Math.exp(each[k] - top);
    total += top + Math.log(sum);
  }
  return total / (points.length / 2) + constant;
}

/** The mean over points of the expected log p(x|z) under q(z|x): the noise is integrated out. */
export function reconstruction(model, points, code) {
  const n = points.length / 2, m = NODES.length, z = new Float64Array(n * m), precision = Math.exp(-2 * model.logStd[0]) / 2;
  for (let i = 0; i < n; i++)
    for (let k = 0; k < m; k++) z[i * m + k] = code[2 * i] + Math.exp(code[2 * i + 1] / 2) * NODES[k];
  const means = decode(model, z).y, weights = NODES.map((e) => 0.4 * priorDensity(e));
  let square = 0;
  for (let i = 0, at = 0; i < n; i++)
    for (let k = 0; k < m; k++, at += 2)
      square += weights[k] * ((points[2 * i] - means[at]) ** 2 + (points[2 * i + 1] - means[at + 1]) ** 2);
  return -precision * square / n - 2 * model.logStd[0] - LOG_2PI;
}

/** The aggregate posterior on the line: the average of q(z|x) over the points; none is taken narrower than a step. */
export function aggregate(code) {
  const density = new Float64Array(LINE.length), n = code.length / 2;
  for (let i = 0; i < n; i++) {
    const mean = code[2 * i], std = Math.max(STEP, Math.exp(code[2 * i + 1] / 2)), scale = 1 / (n * std * ROOT);
    const first = Math.max(0, Math.ceil((mean - 5 * std + 5) / STEP)), last = Math.min(LINE.length - 1, (mean + 5 * std + 5) / STEP);
    for (let k = first; k <= last; k++) density[k] += scale * Math.exp(-0.5 * ((LINE[k] - mean) / std) ** 2);
  }
  return density;
}

/** What is drawn of a model: means and log-variances of q(z|x), the decoder's means along the line, and the aggregate posterior. */
export function look(model, points) {
  const code = encode(model, points).y;
  return { code, curve: decode(model, LINE).y, density: aggregate(code) };
}

/** Bound, its two terms, log p(x), and the share of the prior that the aggregate posterior covers. */
export function measure(model, points, { code, curve, density } = look(model, points)) {
  let kl = 0, covered = 0;
  for (let i = 0; i < code.length; i += 2) kl += (code[i] ** 2 + Math.exp(code[i + 1]) - 1 - code[i + 1]) / code.length;
  LINE.forEach((z, k) => { covered += STEP * Math.min(priorDensity(z), density[k]); });
  const fit = reconstruction(model, points, code);
  return { bound: fit - kl, reconstruction: fit, kl, evidence: logEvidence(model, points, curve), covered };
}
