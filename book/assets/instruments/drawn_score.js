// Points in the plane as the whole data set: posterior mean, density and score of a noisy point, exactly, and steps along them.
// Points are x_1, y_1, x_2, y_2, ... in one flat array. A level is {sigma, scale}: a noisy point is scale x_i + sigma noise for
// any point x_i, all equally probable. Where noise is only added, the scale is 1; in diffusion it is sqrt(alpha_bar).

/**
 * What a noisy point says of the points: their probabilities given it (`weights`), the `mean` that the best denoiser
 * answers, how many points carry it (1 / sum of squared weights), and the log-density of the noisy point.
 */
export function posterior(points, [x, y], { sigma, scale = 1 }, weights = new Float64Array(points.length / 2)) {
  const n = weights.length, sharpness = 1 / (2 * sigma * sigma);
  let nearest = Infinity, total = 0, squares = 0, a = 0, b = 0;
  for (let i = 0; i < n; i++) {
    weights[i] = (x - scale * points[2 * i]) ** 2 + (y - scale * points[2 * i + 1]) ** 2;
    if (weights[i] < nearest) nearest = weights[i];
  }
  for (let i = 0; i < n; i++) {
    const weight = weights[i] = Math.exp((nearest - weights[i]) * sharpness);
    total += weight;
    squares += weight * weight;
    a += weight * points[2 * i];
    b += weight * points[2 * i + 1];
  }
  for (let i = 0; i < n; i++) weights[i] /= total;
  return { weights, mean: [a / total, b / total], carriers: total * total / squares,
    logDensity: Math.log(total * sharpness / (Math.PI * n)) - nearest * sharpness };
}

/** From each noisy point to its posterior mean, times the scale: sigma^2 times the score, by Tweedie's formula. */
export function arrows(points, places, level) {
  const weights = new Float64Array(points.length / 2), scale = level.scale ?? 1, found = new Float64Array(places.length);
  for (let i = 0; i < places.length; i += 2) {
    const { mean } = posterior(points, [places[i], places[i + 1]], level, weights);
    for (const k of [0, 1]) found[i + k] = scale * mean[k] - places[i + k];
  }
  return found;
}

/** The score by differences of the log-density, which know nothing of the posterior mean. */
export function slope(points, [x, y], level, h = 1e-5) {
  const log = (...at) => posterior(points, at, level).logDensity;
  return [log(x + h, y) - log(x - h, y), log(x, y + h) - log(x, y - h)].map((rise) => rise / (2 * h));
}

/** The density of noisy points at the middles of the cells of a box [left, right, bottom, top], row by row from the top. */
export function densities(points, { sigma, scale = 1 }, [left, right, bottom, top], columns, rows) {
  const n = points.length / 2, found = new Float64Array(columns * rows), sharpness = 1 / (2 * sigma * sigma);
  const near = new Int32Array(n), bell = (offset) => Math.exp(-offset * offset * sharpness); // along each axis
  const across = new Float64Array(columns * n), down = new Float64Array(n);
  for (let column = 0; column < columns; column++)
    for (let i = 0; i < n; i++)
      across[column * n + i] = bell(left + (right - left) * (column + 0.5) / columns - scale * points[2 * i]);
  for (let row = 0; row < rows; row++) {
    let count = 0; // of the points that matter in this row
    for (let i = 0; i < n; i++) {
      down[i] = bell(top - (top - bottom) * (row + 0.5) / rows - scale * points[2 * i + 1]) * sharpness / (Math.PI * n);
      if (down[i] > 1e-12) near[count++] = i;
    }
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let k = 0; k < count; k++) sum += across[column * n + near[k]] * down[near[k]];
      found[row * columns + column] = sum;
    }
  }
  return found;
}

/** Small steps along the arrows of one level, x_1, y_1, ..., until the arrow is shorter than `within`. */
export function follow(points, start, level, { part = 0.1, within = 0.002, most = 400 } = {}) {
  const path = [...start];
  for (let k = 0; k < most; k++) {
    const x = path.slice(-2), arrow = arrows(points, x, level);
    if (Math.hypot(...arrow) < within) break;
    path.push(x[0] + part * arrow[0], x[1] + part * arrow[1]);
  }
  return path;
}

/**
 * One step from a level to a less noisy one: denoise, and renoise with the noise that is left there. With eta = 1 as much of
 * it is new as in the exact reverse of adding noise; with eta = 0 none is, which follows the probability flow.
 */
export function step(points, x, { sigma, scale = 1 }, { sigma: now, scale: signal = 1 }, noise, eta = 1) {
  const { mean } = posterior(points, x, { sigma, scale });
  const fresh = eta * Math.sqrt(now ** 2 - (scale * now ** 2 / (signal * sigma)) ** 2);
  const kept = Math.sqrt(now ** 2 - fresh ** 2) / sigma;
  return mean.map((value, k) => signal * value + kept * (x[k] - scale * value) + fresh * noise[k]);
}
