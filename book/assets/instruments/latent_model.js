// The latent diffusion of the last chapter: a denoiser of 16 latents, its sampler, and the decoder that draws them.
import { sample as steps } from "./diffusion.js";
import { deconv, layerNorm, linear, sequential, sigmoid, silu, sinusoidal, sum } from "./nn.js";
import { logLeft, scales } from "./noise_schedule.js";

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
  return { logLeft, denoise, decode: decoder(vae) };
}

/** Sixteen latents to the probabilities of 28 x 28 pixels. */
const decoder = (weights) => sequential(
  linear(weights, "decoder.0"), silu, deconv(weights, "decoder.3", 2, 4), silu, deconv(weights, "decoder.5", 4, 7), silu,
  deconv(weights, "decoder.7", 7, 14), silu, deconv(weights, "decoder.9", 14, 28), sigmoid);

/** All steps from z_T: what is at each time, and the estimate of the clean latents made there. */
export const sample = (model, z, num, eta, normal) =>
  Array.from(steps(model, z, num, eta, normal), ({ t, x, estimate }) => ({ t, z: x, estimate }));
