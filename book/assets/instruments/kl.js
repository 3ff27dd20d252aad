// Chapter 2: a mixture p of two Gaussians and a Gaussian q, all to be dragged; the KL divergence in both directions.
import { button, calm, curve, handle, make, player, row, scale, surface } from "./kit.js";

const STEP = 0.01, EDGE = 24; // the grid of the integrals
export const GRID = Float64Array.from({ length: Math.round(2 * EDGE / STEP) + 1 }, (_, i) => -EDGE + STEP * i);
const ROOT = Math.sqrt(2 * Math.PI);

export const logNormal = (x, mean, std) => -0.5 * ((x - mean) / std) ** 2 - Math.log(std * ROOT);

/** log p(x) of p = share N(left, 1) + (1 - share) N(right, 1). */
export function logP(x, { left, right, share }) {
  const a = Math.log(share) + logNormal(x, left, 1), b = Math.log1p(-share) + logNormal(x, right, 1);
  return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
}

/** D(p || q) and D(q || p) in nats, and the gradient of the latter by the mean and the log of q's std. */
export function divergences(p, { mean, std }) {
  let forward = 0, reverse = 0, byMean = 0, byLogStd = 0;
  for (const x of GRID) {
    const log_p = logP(x, p), log_q = logNormal(x, mean, std), q = Math.exp(log_q), z = (x - mean) / std;
    forward += Math.exp(log_p) * (log_p - log_q) * STEP;
    reverse += q * (log_q - log_p) * STEP;
    byMean += q * (log_q - log_p) * z / std * STEP;
    byLogStd += q * (log_q - log_p) * (z * z - 1) * STEP;
  }
  return { forward, reverse, byMean, byLogStd };
}

/** The Gaussian of least D(p || q): it has the mean and the variance of p. */
export function matchMoments({ left, right, share }) {
  const mean = share * left + (1 - share) * right;
  return { mean, std: Math.sqrt(1 + share * (1 - share) * (left - right) ** 2) };
}

/** One step of natural gradient descent on D(q || p), of which `rate` is the length. */
export function descend(p, q, rate) {
  const { byMean, byLogStd } = divergences(p, q);
  return { mean: q.mean - rate * q.std ** 2 * byMean, std: q.std * Math.exp(-rate / 2 * byLogStd) };
}

export function mount(root) { root.append(make("p", {}, "soon")); }
