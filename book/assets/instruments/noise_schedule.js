// The linear noise schedule of 1,000 steps, and the forward process of an image, one step after the other.
import { scalesAt } from "./diffusion.js";

export const T = 1000;
const betas = Array.from({ length: T }, (_, i) => 1e-4 + ((0.02 - 1e-4) * i) / (T - 1));

/** log(alpha_bar_t) for t = 0, ..., T (Ho et al. 2020). */
export const logLeft = new Float64Array(T + 1);
betas.forEach((beta, i) => { logLeft[i + 1] = logLeft[i] + Math.log1p(-beta); });

/** sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): the scales of the image and of the noise in x_t. */
export const scales = (t) => scalesAt(logLeft, t);

/** One path x_0, ..., x_T of the forward process: each step shrinks the image a little and adds fresh noise. */
export function forward(x, normal) {
  const film = [x];
  for (const beta of betas) {
    const kept = Math.sqrt(1 - beta), std = Math.sqrt(beta);
    film.push(film.at(-1).map((value) => kept * value + std * normal()));
  }
  return film;
}

/** KL(q(x_t|x) || N(0, I)) in nats: what x_t still says about x. */
export function toPrior(x, t) {
  const { signal, noise } = scales(t);
  return x.reduce((total, value) => total + signal ** 2 * (value ** 2 - 1), -2 * x.length * Math.log(noise)) / 2;
}
