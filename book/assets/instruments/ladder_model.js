// The ladder of chapter 8: five levels of latents, whose posterior is the prior times a message from the image.
//
// Arrays over levels start with level 1, the one next to the image; all results are in nats.
import { batchNorm, linear, sequential, sigmoid, silu } from "./nn.js";

export const DIMS = [64, 32, 16, 8, 4]; // latents of levels 1 to 5
const TOP = DIMS.length - 1;

export function ladderModel(weights) {
  const hidden = (name) => [0, 3].flatMap((k) => [linear(weights, `${name}.${k}`), batchNorm(weights, `${name}.${k + 1}`), silu]);
  const down = (name) => sequential(...hidden(name), linear(weights, `${name}.6`));
  const up = DIMS.map((_, i) => sequential(...hidden(i ? `bottom_up.${i}` : "bottom_up.0.1")));
  const evidence = DIMS.map((_, i) => linear(weights, `evidence.${i}`));
  const priors = DIMS.slice(1).map((_, i) => down(`priors.${i}`));

  /* p(z_i | z_above), at the top N(0, I): means and standard deviations. */
  function prior(i, above) {
    if (i === TOP) return { mean: new Float64Array(DIMS[i]), std: new Float64Array(DIMS[i]).fill(1) };
    const [mean, logVariance] = halves(priors[i](above));
    return { mean, std: logVariance.map((value) => Math.exp(bounded(value) / 2)) };
  }
  /* What an image says on each level, whatever is drawn above: means and the logarithms of precisions. */
  function messages(x) {
    let features = x;
    return DIMS.map((_, i) => {
      features = up[i](features);
      const [mean, logPrecision] = halves(evidence[i](features));
      return { mean, logPrecision: logPrecision.map(bounded) };
    });
  }
  /* One way down: a level that sees the image is drawn from q, another from p; `noise` has one array for each level.
     KL(q || p) is that of every level, seen or not. */
  function walk(said, sees, noise) {
    const z = [], kl = [];
    for (let i = TOP; i >= 0; i--) {
      const p = prior(i, z[i + 1]), q = product(p, said[i]), from = sees[i] ? q : p;
      kl[i] = divergence(q, p);
      z[i] = from.mean.map((value, k) => value + from.std[k] * noise[i][k]);
    }
    return { z, kl };
  }
  return { messages, walk, decode: sequential(down("decoder"), sigmoid) };
}

const bounded = (value) => 10 * Math.tanh(value / 10);
const halves = (code) => [code.slice(0, code.length / 2), code.slice(code.length / 2)].map((part) => Float64Array.from(part));

/** The normal proportional to p times a message: precisions add up, and each mean counts by its precision. */
export function product(p, { mean, logPrecision }) {
  const weight = p.std.map((std, k) => 1 / (1 + Math.exp(-logPrecision[k] - 2 * Math.log(std))));
  return {
    mean: p.mean.map((value, k) => value + weight[k] * (mean[k] - value)),
    std: p.std.map((std, k) => std * Math.sqrt(1 - weight[k])),
  };
}

/** KL(q || p) of normals with independent coordinates. */
export const divergence = (q, p) => q.mean.reduce((total, mean, k) => {
  const ratio = q.std[k] / p.std[k], shift = (mean - p.mean[k]) / p.std[k];
  return total + (ratio ** 2 + shift ** 2 - 1) / 2 - Math.log(ratio);
}, 0);
