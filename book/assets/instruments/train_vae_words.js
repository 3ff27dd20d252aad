// What the VAE that trains in the page says: the steps of an update with their numbers, and the state of the model.
import { BATCH } from "./vae_training.js";

export const STEPS = ["batch", "encode", "sample z", "decode", "loss", "Adam"];
export const number = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
export const counted = (count) => `${count.toLocaleString("en")} update${count === 1 ? "" : "s"}`;
export const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

/** What happened in a step of the update, with its numbers. */
export const TOLD = [
  () => `${BATCH} points, chosen at random.`,
  ({ code }) => {
    const means = code.y.filter((_, i) => i % 2 === 0), stds = code.y.filter((_, i) => i % 2).map((v) => Math.exp(v / 2));
    return `For each point a mean, from ${number(Math.min(...means))} to ${number(Math.max(...means))}, and a standard deviation, `
      + `from ${number(Math.min(...stds))} to ${number(Math.max(...stds))}.`;
  },
  () => "z = μ + σ ε, one ε from N(0, 1) for each point (squares): a sample, and yet a smooth function of μ and σ.",
  ({ decoded, x }) => `For each z the mean of p(x | z) (squares), a line to its x: ${number(Math.sqrt(
    decoded.y.reduce((sum, mean, k) => sum + (mean - x[k]) ** 2, 0) / BATCH))} apart, root mean square.`,
  ({ terms }) => `Reconstruction ${number(terms.reconstruction)}, KL ${number(terms.kl)}: the loss is β KL − reconstruction = `
    + `${number(terms.loss)} nats.`,
  () => "Backpropagation from the loss through decoder, sample and encoder; Adam moves every weight. Dashed: the curve before.",
];

/** The state of a model in words. */
export function summary({ bound, reconstruction, kl, evidence, covered }, count, beta) {
  const aim = beta === 1 ? "" : beta < 1
    ? ` Training maximizes reconstruction − ${beta} KL, which need not be a bound on log p(x).`
    : ` Training maximizes reconstruction − ${beta} KL, a looser bound.`;
  const state = kl < 0.05 ? "Collapsed: q(z | x) is nearly the prior for every x, and the decoder returns nearly one point."
    : `The aggregate posterior covers ${percent(covered)} of the prior${covered < 0.6
      ? ": the decoder was not trained on many of the latents that the prior draws." : "."}`;
  return `After ${counted(count)}: bound ${number(bound)} nats, which is reconstruction ${number(reconstruction)} less `
    + `KL ${number(kl)}; the gap to log p(x) is ${number(evidence - bound)}. ${state}${aim}`;
}
