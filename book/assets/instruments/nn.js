// The layers of the book's small networks, for one example at a time: functions from one array to another.
//
// They are made from the tensors of kit.js; names, shapes and formulas are torch's.

export const sequential = (...layers) => (x) => layers.reduce((h, layer) => layer(h), x);

/** y = W x + b, the sum in four parts: a processor adds them side by side. */
export function linear(weights, name) {
  const { shape: [rows, columns], data: W } = weights[`${name}.weight`], b = weights[`${name}.bias`].data;
  return (x) => {
    const y = new Float32Array(rows), whole = columns - (columns % 4);
    for (let row = 0, k = 0; row < rows; row++) {
      let s0 = b[row], s1 = 0, s2 = 0, s3 = 0, j = 0;
      for (; j < whole; j += 4, k += 4) {
        s0 += W[k] * x[j];
        s1 += W[k + 1] * x[j + 1];
        s2 += W[k + 2] * x[j + 2];
        s3 += W[k + 3] * x[j + 3];
      }
      for (; j < columns; j++, k++) s0 += W[k] * x[j];
      y[row] = s0 + s1 + s2 + s3;
    }
    return y;
  };
}

/** A transposed convolution with kernels of 3 x 3, stride 2 and padding 1, from maps of `side` x `side` pixels to maps
   of `target` x `target`: each input pixel adds a multiple of the kernel around its place in the larger map. */
export function deconv(weights, name, side, target) {
  const { shape: [num, out], data: W } = weights[`${name}.weight`], b = weights[`${name}.bias`].data;
  return (x) => {
    const y = new Float32Array(out * target * target);
    for (let o = 0; o < out; o++) y.fill(b[o], o * target * target, (o + 1) * target * target);
    for (let i = 0; i < num; i++)
      for (let o = 0; o < out; o++)
        for (let row = 0; row < 9; row += 3) {
          const k = (i * out + o) * 9 + row;
          for (let r = 0; r < side; r++) {
            const below = 2 * r - 1 + row / 3;
            if (below < 0 || below >= target) continue;
            const from = (i * side + r) * side, to = (o * target + below) * target;
            for (let c = 0; c < side; c++) {
              const value = x[from + c], at = to + 2 * c;
              if (c) y[at - 1] += W[k] * value;
              y[at] += W[k + 1] * value;
              if (2 * c + 1 < target) y[at + 1] += W[k + 2] * value;
            }
          }
        }
    return y;
  };
}

export function layerNorm(weights, name) {
  const scale = weights[`${name}.weight`].data, shift = weights[`${name}.bias`].data;
  return (x) => {
    const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
    return x.map((value, i) => scale[i] * (value - mean) / Math.sqrt(variance + 1e-5) + shift[i]);
  };
}

/** Batch normalization in evaluation mode, with the means and variances that training left. */
export function batchNorm(weights, name) {
  const part = (last) => weights[`${name}.${last}`].data, shift = part("bias"), mean = part("running_mean"), variance = part("running_var");
  const scale = part("weight").map((value, i) => value / Math.sqrt(variance[i] + 1e-5));
  return (x) => x.map((value, i) => scale[i] * (value - mean[i]) + shift[i]);
}

export const tanh = (x) => x.map(Math.tanh);
export const silu = (x) => x.map((value) => value / (1 + Math.exp(-value)));
export const sigmoid = (x) => x.map((value) => 1 / (1 + Math.exp(-value)));

/** The sum of log(1 + exp(value)): one logarithm of a product, whose factors lie between 1 and 2, so up to 1,000 fit. */
export function softplus(values) {
  let positive = 0, product = 1;
  for (const value of values) {
    positive += Math.max(value, 0);
    product *= 1 + Math.exp(-Math.abs(value));
  }
  return positive + Math.log(product);
}

export const sum = (...parts) => parts[0].map((_, i) => parts.reduce((total, part) => total + part[i], 0));

/** log sum exp: the logarithm of a sum of probabilities from their logarithms. */
export function logSumExp(values) {
  const top = values.reduce((a, b) => Math.max(a, b), -Infinity);
  return top + Math.log(values.reduce((total, value) => total + Math.exp(value - top), 0));
}

/** Sines, then cosines, of the time at geometrically growing wavelengths. */
export function sinusoidal(t, dim) {
  const half = dim / 2;
  const phase = (j) => t * Math.exp((-Math.log(10_000) * j) / (half - 1));
  return Float32Array.from({ length: dim }, (_, j) => (j < half ? Math.sin(phase(j)) : Math.cos(phase(j - half))));
}
