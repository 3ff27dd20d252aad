// The VAE of chapter 7 with a latent plane: its two networks, the terms of its bound, and log p(x) itself.
//
// x has 784 pixels, 0 or 1; z two numbers; all results are in nats. On the map the plane has the coordinates u = Phi(z)
// on the unit square, in which the prior is uniform.
import { linear, logSumExp, sequential, softplus, tanh } from "./nn.js";

/** Nodes and weights of Gauss and Hermite for N(0, 1): exact for polynomials up to degree nine. */
const NODES = [-2.8569700138728056, -1.355626179974266, 0, 1.355626179974266, 2.8569700138728056];
const WEIGHTS = [0.011257411327720689, 0.22207592200561266, 0.5333333333333333, 0.22207592200561266, 0.011257411327720689];

export function planeVae(weights) {
  const network = (name) => sequential(...[0, 2, 4].flatMap((k) => [linear(weights, `${name}.${k}`), tanh]).slice(0, -1));
  const encoder = network("encoder.1"), decoder = network("decoder.0");
  const logits = (z) => decoder(Float32Array.from(z));
  /* q(z|x), its two means and standard deviations. */
  const posterior = (x) => {
    const code = encoder(x);
    return { mean: [code[0], code[1]], std: [Math.exp(code[2] / 2), Math.exp(code[3] / 2)] };
  };
  /* Minus the expected log-likelihood, the KL divergence from the prior, and their sum, minus the bound. */
  const terms = (x, { mean, std }) => {
    let reconstruction = 0, kl = 0;
    NODES.forEach((a, i) => NODES.forEach((b, j) => {
      const z = [mean[0] + std[0] * a, mean[1] + std[1] * b];
      reconstruction -= WEIGHTS[i] * WEIGHTS[j] * logLikelihood(x, logits(z));
    }));
    for (const i of [0, 1]) kl += (mean[i] ** 2 + std[i] ** 2 - 1) / 2 - Math.log(std[i]);
    return { reconstruction, kl, bound: reconstruction + kl };
  };
  return { posterior, logits, terms };
}

/** log p(x|z) of black-and-white pixels from their log-odds. */
export function logLikelihood(x, logits) {
  let total = -softplus(logits);
  for (let i = 0; i < x.length; i++) total += x[i] * logits[i];
  return total;
}

/** The decoded map: logits at the middles of side x side cells of equal probability, first row at the top, with what a
   likelihood needs of them. Row by row, so that the page can breathe in between. */
export function* decodedMap(vae, side) {
  const images = [], rest = [];
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const logits = vae.logits(fromMap(place({ side }, row * side + column)));
      images.push(logits);
      rest.push(softplus(logits));
    }
    yield { side, images, rest };
  }
}

/** log p(x | z) at every cell of the map, from the pixels that are 1 alone. */
export function onMap(map, x) {
  const ink = Array.from(x.keys()).filter((i) => x[i]);
  return Float64Array.from(map.images, (logits, cell) => ink.reduce((total, i) => total + logits[i], -map.rest[cell]));
}

/** log p(x), the integral of p(x|z) p(z), and the mean and standard deviations of the posterior's main mode.
 *
 * From the better of two starts, the best cell of the map and the encoder's mean, a search climbs to the mode. A grid of
 * five standard deviations around it is fitted to the mode, and sums it up; the cells of the map outside add the rest. */
export function evidence(vae, map, x, values) {
  const joint = (z) => logLikelihood(x, vae.logits(z)) - (z[0] ** 2 + z[1] ** 2) / 2 - Math.log(2 * Math.PI);
  const places = Array.from(values, (_, cell) => fromMap(place(map, cell)));
  const starts = [places[values.indexOf(values.reduce((a, b) => Math.max(a, b)))], vae.posterior(x).mean];
  let { z: mean } = climb(joint, starts.map((z) => ({ z, value: joint(z) })).reduce((a, b) => (b.value > a.value ? b : a)));
  let std = [0.03, 0.03], logMass = 0;
  const outside = (z) => [0, 1].some((i) => Math.abs(z[i] - mean[i]) > 5 * std[i]);
  for (const num of [7, 9, 13]) {
    const gaps = std.map((s) => (10 * s) / (num - 1)), nodes = Array.from({ length: num }, (_, i) => i - (num - 1) / 2);
    const grid = nodes.flatMap((i) => nodes.map((j) => [mean[0] + i * gaps[0], mean[1] + j * gaps[1]]));
    const logs = grid.map(joint), total = logSumExp(logs), p = logs.map((value) => Math.exp(value - total));
    const expected = (f) => grid.reduce((sum, z, k) => sum + p[k] * f(z), 0);
    logMass = total + Math.log(gaps[0] * gaps[1]);
    if (num === 13) break;
    mean = [0, 1].map((i) => expected((z) => z[i]));
    std = [0, 1].map((i) => Math.max(gaps[i] / 4, Math.sqrt(expected((z) => (z[i] - mean[i]) ** 2))));
  }
  const rest = Array.from(values).filter((_, cell) => outside(places[cell])).map((value) => value - 2 * Math.log(map.side));
  return { logEvidence: logSumExp([logMass, ...rest]), mean, std };
}

/** The coordinates of a cell's middle; cells are counted from the upper left. */
const place = ({ side }, cell) => [((cell % side) + 0.5) / side, 1 - (Math.floor(cell / side) + 0.5) / side];

/** The nearest maximum: the best of eight neighbors, ever closer. */
function climb(f, best) {
  for (let step = 0.1; step > 0.005;) {
    const around = [-step, 0, step].flatMap((dx) => [-step, 0, step].map((dy) => [best.z[0] + dx, best.z[1] + dy]));
    const next = around.map((z) => ({ z, value: f(z) })).reduce((a, b) => (b.value > a.value ? b : a));
    if (next.value > best.value) best = next;
    else step /= 2;
  }
  return best;
}

/** Phi, the distribution function of N(0, 1), by the continued expansion of Marsaglia: exact to the last digits shown. */
export function toMap(z) {
  return z.map((value) => {
    const at = Math.max(-8, Math.min(8, value));
    let sum = at, term = at;
    for (let i = 3; Math.abs(term) > 1e-17 * Math.abs(sum); i += 2) sum += term *= (at * at) / i;
    return 0.5 + (sum * Math.exp((-at * at) / 2)) / Math.sqrt(2 * Math.PI);
  });
}

/** Its inverse, by Newton's method from a start on the inner side, from where it cannot overshoot. */
export function fromMap(u) {
  return u.map((share) => {
    let z = Math.log(share / (1 - share)) / 3;
    for (let i = 0; i < 12; i++) z -= ((toMap([z])[0] - share) * Math.sqrt(2 * Math.PI)) / Math.exp((-z * z) / 2);
    return z;
  });
}
