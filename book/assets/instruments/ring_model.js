// Eight Gaussians on a ring, as chapters 11 and 12 sample them: their noise, their exact score, a learned one, five samplers.
// Points are x_1, y_1, x_2, y_2, ... in one Float64Array; s is log(alpha_bar).

export const T = 100, RADIUS = 1.25, STD = 0.125; // the ring of toy_density("mixture"), halved
export const CENTERS = Array.from({ length: 8 }, (_, k) => [RADIUS * Math.cos(k * Math.PI / 4), RADIUS * Math.sin(k * Math.PI / 4)]);
export const EVEN = Array(8).fill(1 / 8), LOPSIDED = [8, 4, 2, 1, 1, 2, 4, 8].map((share) => share / 30);

/** log(alpha_bar_t) for t = 0, ..., T, where beta grows evenly from 0.001 to 0.2. */
export const LEVELS = [0];
for (let t = 1; t <= T; t++) LEVELS.push(LEVELS[t - 1] + Math.log1p(-(0.001 + 0.199 * (t - 1) / (T - 1))));

const noiseVar = (s) => -Math.expm1(s);
/** The variance of one Gaussian of x_t, in each direction. */
const modeVar = (s) => Math.exp(s) * STD ** 2 + noiseVar(s);

/** `num` times, evenly from T to 1, and last 0; a half is rounded to the even neighbor, as torch does. */
export function evenly(num) {
  const times = [0];
  for (let i = 0; i < num; i++) {
    const value = 1 + (T - 1) * i / (num - 1), low = Math.floor(value);
    times.unshift(Math.abs(value - low - 0.5) < 1e-9 ? low + low % 2 : Math.round(value));
  }
  return times;
}

/** The score of x_t, the gradient of the log-density of the noisy mixture with these weights. */
export function exactScore(weights, x, s) {
  const signal = Math.exp(s / 2), variance = modeVar(s), score = new Float64Array(x.length), shares = new Float64Array(8);
  for (let i = 0; i < x.length; i += 2) {
    let top = -Infinity, total = 0, a = 0, b = 0;
    for (let k = 0; k < 8; k++) {
      const square = (x[i] - signal * CENTERS[k][0]) ** 2 + (x[i + 1] - signal * CENTERS[k][1]) ** 2;
      shares[k] = Math.log(weights[k]) - square / (2 * variance);
      if (shares[k] > top) top = shares[k];
    }
    for (let k = 0; k < 8; k++) {
      const share = Math.exp(shares[k] - top);
      total += share;
      a += share * CENTERS[k][0];
      b += share * CENTERS[k][1];
    }
    score[i] = (signal * a / total - x[i]) / variance;
    score[i + 1] = (signal * b / total - x[i + 1]) / variance;
  }
  return score;
}

/** The density of x_t at one point. */
export function density(weights, a, b, s) {
  const signal = Math.exp(s / 2), variance = modeVar(s);
  return CENTERS.reduce((sum, [c, d], k) => sum + weights[k]
    * Math.exp(-((a - signal * c) ** 2 + (b - signal * d) ** 2) / (2 * variance)), 0) / (2 * Math.PI * variance);
}

/* The learned score: a TimeMlp, here for many points at once. */

/** Two points and two rows at a time, so that each number read is used twice; `n` and the rows are even, or n is 1. */
function linear(tensors, name, x, n) {
  const { data: W, shape: [rows, columns] } = tensors[`${name}.weight`], b = tensors[`${name}.bias`].data;
  const y = new Float32Array(n * rows);
  for (let i = 0; i < n; i += 2)
    for (let row = 0; row < rows; row += 2) {
      const here = i * columns, there = n > 1 ? here + columns : here, w = row * columns, out = i * rows + row;
      let aa = b[row], ab = aa, ba = b[row + 1], bb = ba;
      for (let j = 0; j < columns; j++) {
        const p = x[here + j], q = x[there + j], u = W[w + j], v = W[w + columns + j];
        aa += u * p;
        ab += u * q;
        ba += v * p;
        bb += v * q;
      }
      y[out] = aa;
      y[out + 1] = ba;
      if (n > 1) y[out + rows] = ab, y[out + rows + 1] = bb;
    }
  return y;
}

const silu = (x) => x.map((value) => value / (1 + Math.exp(-value)));

function layerNorm(tensors, name, x) {
  const scale = tensors[`${name}.weight`].data, shift = tensors[`${name}.bias`].data, width = scale.length;
  const y = new Float32Array(x.length);
  for (let from = 0; from < x.length; from += width) {
    let mean = 0, variance = 0;
    for (let j = 0; j < width; j++) mean += x[from + j] / width;
    for (let j = 0; j < width; j++) variance += (x[from + j] - mean) ** 2 / width;
    const std = Math.sqrt(variance + 1e-5);
    for (let j = 0; j < width; j++) y[from + j] = scale[j] * (x[from + j] - mean) / std + shift[j];
  }
  return y;
}

/** The noise that the network sees in the points at time t. */
export function predictNoise(tensors, x, t) {
  const name = "denoiser.network", n = x.length / 2, width = tensors[`${name}.time.1.bias`].shape[0], half = width / 2;
  const phase = (j) => t * Math.exp(-Math.log(10_000) * j / (half - 1));
  const waves = Float32Array.from({ length: width }, (_, j) => j < half ? Math.sin(phase(j)) : Math.cos(phase(j - half)));
  const e = linear(tensors, `${name}.time.1`, waves, 1);
  let h = linear(tensors, `${name}.enter`, Float32Array.from(x), n);
  for (const branch of ["0", "1", "2"].map((k) => `${name}.branches.${k}`)) {
    const inner = layerNorm(tensors, `${branch}.0`, h.map((value, k) => value + e[k % width]));
    const more = linear(tensors, `${branch}.3`, silu(linear(tensors, `${branch}.1`, inner, n)), n);
    h = h.map((value, k) => value + more[k]);
  }
  return linear(tensors, `${name}.exit.2`, silu(layerNorm(tensors, `${name}.exit.0`, h)), n);
}

/** The learned score at time t > 0. */
export function learnedScore(tensors, x, t) {
  const std = Math.sqrt(noiseVar(LEVELS[t]));
  return Float64Array.from(predictNoise(tensors, x, t), (noise) => -noise / std);
}

/* The samplers. A step leads from time t to u < t; `score(x, t)` is exact or learned, `noise()` gives fresh noise. */

const STEP_SIZE = 0.2; // of Langevin dynamics, in variances of a mode: its samples are some 3 % too wide
const PER_LEVEL = 4; // steps of annealed Langevin dynamics at each time

/** A step of DDIM, where eta is the share of the noise's standard deviation that is fresh; 1 is DDPM. */
export function ddim(score, x, t, u, noise, eta, isNoisy = true) {
  const s = LEVELS[t], signal = Math.exp(s / 2), before = noiseVar(s), after = noiseVar(LEVELS[u]);
  const variance = eta ** 2 * noiseVar(s - LEVELS[u]) * after / before, at = score(x, t);
  const of_x_t = Math.sqrt((after - variance) / before), of_x_0 = Math.exp(LEVELS[u] / 2) - of_x_t * signal;
  const mean = x.map((value, i) => of_x_0 * (value + before * at[i]) / signal + of_x_t * value);
  if (!isNoisy || variance === 0) return mean;
  const xi = noise();
  return mean.map((value, i) => value + Math.sqrt(variance) * xi[i]);
}

/** Heun's step along the probability flow dx/ds = (x + score) / 2; Euler's to the data, where no score was learned. */
export function heun(score, x, t, u) {
  const size = LEVELS[u] - LEVELS[t], slope = (x, t) => score(x, t).map((value, i) => (x[i] + value) / 2);
  const first = slope(x, t), there = x.map((value, i) => value + size * first[i]);
  if (u === 0) return there;
  const second = slope(there, u);
  return x.map((value, i) => value + size * (first[i] + second[i]) / 2);
}

/** Steps of Langevin dynamics with the score at time t. */
export function langevin(score, x, t, noise, num = 1) {
  const size = STEP_SIZE * modeVar(LEVELS[t]);
  for (let k = 0; k < num; k++) {
    const at = score(x, t), xi = noise();
    x = x.map((value, i) => value + size / 2 * at[i] + Math.sqrt(size) * xi[i]);
  }
  return x;
}

/** The samplers by name: `step(score, x, t, u, noise, eta)`. */
export const SAMPLERS = {
  ddpm: (score, x, t, u, noise) => ddim(score, x, t, u, noise, 1),
  mean: (score, x, t, u, noise) => ddim(score, x, t, u, noise, 1, false),
  ddim,
  heun,
  annealed: (score, x, t, u, noise) => langevin(score, x, t, noise, PER_LEVEL),
  langevin: (score, x, t, u, noise) => langevin(score, x, 1, noise, PER_LEVEL),
};

/** How far the points are from the nearest center, per axis, and which share of the points is in a wrong mode, beside what chance makes of it. */
export function judge(weights, x) {
  const counts = Array(8).fill(0), n = x.length / 2;
  let square = 0;
  for (let i = 0; i < x.length; i += 2) {
    const squares = CENTERS.map(([a, b]) => (x[i] - a) ** 2 + (x[i + 1] - b) ** 2), least = Math.min(...squares);
    counts[squares.indexOf(least)]++;
    square += least;
  }
  const wrong = counts.reduce((sum, count, k) => sum + Math.abs(count / n - weights[k]), 0) / 2;
  const chance = weights.reduce((sum, w) => sum + Math.sqrt(w * (1 - w) / (2 * Math.PI * n)), 0);
  return { distance: Math.sqrt(square / (2 * n)), wrong, chance };
}
