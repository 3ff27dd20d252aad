// The latent diffusion of the last chapter: a denoiser of 16 latents, its sampler, and the decoder that draws them.
import { deconv, layerNorm, linear, sequential, sigmoid, silu, sinusoidal, sum } from "./nn.js";
import { logLeft, scales, T } from "./noise_schedule.js";

export const DIM = 16;

export function latentModel(ddpm, vae) {
  const width = 128, name = (part) => `denoiser.network.${part}`;
  const time = linear(ddpm, name("time.1")), enter = linear(ddpm, name("enter"));
  const branches = [0, 1, 2, 3].map((k) => sequential(layerNorm(ddpm, name(`branches.${k}.0`)),
    linear(ddpm, name(`branches.${k}.1`)), silu, linear(ddpm, name(`branches.${k}.3`))));
  const exit = sequential(layerNorm(ddpm, name("exit.0")), silu, linear(ddpm, name("exit.2")));
  const embedded = new Map();
  /* The network's estimate of v; the embedding of a time is the same for all digits. */
  const v = (z, t) => {
    if (!embedded.has(t)) embedded.set(t, time(sinusoidal(t, width)));
    return exit(branches.reduce((h, branch) => sum(h, branch(sum(h, embedded.get(t)))), enter(z)));
  };
  /* The estimate of the clean latents: sqrt(alpha_bar_t) z_t - sqrt(1 - alpha_bar_t) v. */
  const denoise = (z, t) => {
    const { signal, noise } = scales(t), estimate = v(z, t);
    return z.map((value, i) => signal * value - noise * estimate[i]);
  };
  return { denoise, decode: decoder(vae) };
}

/** Sixteen latents to the probabilities of 28 x 28 pixels. */
const decoder = (weights) => sequential(
  linear(weights, "decoder.0"), silu, deconv(weights, "decoder.3", 2, 4), silu, deconv(weights, "decoder.5", 4, 7), silu,
  deconv(weights, "decoder.7", 7, 14), silu, deconv(weights, "decoder.9", 14, 28), sigmoid);

/** `num` times, spread evenly from T down to 1; halves are rounded to even, as torch does. */
export function evenly(num) {
  return Array.from({ length: num }, (_, k) => {
    const t = 1 + ((T - 1) * (num - 1 - k)) / (num - 1), below = Math.floor(t);
    return t - below === 0.5 ? below + (below % 2) : Math.round(t);
  });
}

/** One step of DDIM from time t to s: the estimate of z_0, noised again to time s. A share eta of the posterior's standard
   deviation is fresh noise, the rest is the noise that was in z_t; eta = 1 is the sampler of DDPM. */
export function step(model, z, t, s, eta, normal) {
  const estimate = model.denoise(z, t), now = scales(t), next = scales(s);
  const beta = -Math.expm1(logLeft[t] - logLeft[s]);
  const fresh = eta * Math.sqrt(beta) * (next.noise / now.noise), kept = Math.sqrt(next.noise ** 2 - fresh ** 2) / now.noise;
  const epsilon = fresh > 0 ? z.map(normal) : z;
  const after = z.map((value, i) =>
    next.signal * estimate[i] + kept * (value - now.signal * estimate[i]) + fresh * epsilon[i]);
  return { estimate, after };
}

/** All steps from z_T: what is at each time, and the estimate of the clean latents made there. */
export function sample(model, z, num, eta, normal) {
  const times = evenly(num), film = [];
  times.forEach((t, k) => {
    const { estimate, after } = step(model, z, t, times[k + 1] ?? 0, eta, normal);
    film.push({ t, z, estimate });
    z = after;
  });
  return [...film, { t: 0, z, estimate: z }];
}
