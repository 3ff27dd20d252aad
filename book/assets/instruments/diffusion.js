// Samplers of a diffusion model {logLeft, denoise}: log(alpha_bar_t) for t = 0, ..., T, and the estimate of x_0 from x_t.

/** sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t): the scales of the data and of the noise in x_t. */
export const scalesAt = (logLeft, t) => ({ signal: Math.exp(logLeft[t] / 2), noise: Math.sqrt(-Math.expm1(logLeft[t])) });

/** `num` times, spread evenly from T down to 1; halves are rounded to even, as torch does. */
export function evenly(num, T = 1000) {
  return Array.from({ length: num }, (_, k) => {
    const t = 1 + ((T - 1) * (num - 1 - k)) / (num - 1), below = Math.floor(t);
    return t - below === 0.5 ? below + (below % 2) : Math.round(t);
  });
}

/** One step of DDIM from time t to s: the estimate of x_0, noised again to time s. A share eta of the posterior's standard
   deviation is fresh noise, the rest is the noise that was in x_t; eta = 1 is the sampler of DDPM. */
export function step({ logLeft, denoise }, x, t, s, eta, normal) {
  const estimate = denoise(x, t), now = scalesAt(logLeft, t), next = scalesAt(logLeft, s);
  const beta = -Math.expm1(logLeft[t] - logLeft[s]);
  const fresh = eta * Math.sqrt(beta) * (next.noise / now.noise), kept = Math.sqrt(next.noise ** 2 - fresh ** 2) / now.noise;
  const epsilon = fresh > 0 ? x.map(normal) : x;
  const after = x.map((value, i) =>
    next.signal * estimate[i] + kept * (value - now.signal * estimate[i]) + fresh * epsilon[i]);
  return { estimate, after };
}

/** Yields what is at each of `num` times from x_T on, with the estimate of x_0 made there, and x_0 at last. */
export function* sample(model, x, num, eta, normal) {
  const times = evenly(num, model.logLeft.length - 1);
  for (const [k, t] of times.entries()) {
    const { estimate, after } = step(model, x, t, times[k + 1] ?? 0, eta, normal);
    yield { t, x, estimate };
    x = after;
  }
  yield { t: 0, x, estimate: x };
}

/** In-painting by replacement: after each step of DDPM the observed pixels are drawn anew from their noisy truth. Each
   step but the last is taken `repeats` times, with new noise in between, so that the rest settles. */
export function* inpaint(model, x, truth, observed, num, repeats, normal) {
  const { logLeft } = model, times = evenly(num, logLeft.length - 1);
  for (const [k, t] of times.entries()) {
    const s = times[k + 1] ?? 0, { signal, noise } = scalesAt(logLeft, s);
    const kept = Math.exp((logLeft[t] - logLeft[s]) / 2), added = Math.sqrt(-Math.expm1(logLeft[t] - logLeft[s]));
    const before = x;
    let first = null;
    for (let left = s ? repeats - 1 : 0; left >= 0; left--) {
      const { estimate, after } = step(model, x, t, s, 1, normal);
      first ??= estimate;
      const below = after.map((value, i) => (observed[i] ? signal * truth[i] + noise * normal() : value));
      x = left ? below.map((value) => kept * value + added * normal()) : below;
    }
    yield { t, x: before, estimate: first };
  }
  yield { t: 0, x, estimate: x };
}
