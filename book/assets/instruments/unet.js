// The U-Net of chapter 10 for one image at a time: an image, a time and a class to an image.
//
// Feature maps are arrays of channels, each row by row; names, shapes and formulas are torch's. Sums are of 64 bits.
import { linear, sequential, sinusoidal } from "./nn.js";

const NONE = 10; // the null label

/** A convolution with kernels of 3 x 3 and padding 1, two channels of the result at a time: they share what is read. */
export function conv(weights, name, side, stride = 1) {
  const { shape: [out, num], data: W } = weights[`${name}.weight`], b = weights[`${name}.bias`].data;
  const wide = side + 2, small = side / stride, bordered = new Float64Array(num * wide * wide);
  return (x) => {
    for (let i = 0; i < num; i++)
      for (let r = 0; r < side; r++)
        bordered.set(x.subarray((i * side + r) * side, (i * side + r + 1) * side), (i * wide + r + 1) * wide + 1);
    const y = new Float64Array(out * small * small);
    for (let o = 0; o < out; o += 2) {
      const one = o * small * small, two = o + 1 < out ? one + small * small : one, shared = two === one;
      y.fill(b[o], one, one + small * small);
      if (!shared) y.fill(b[o + 1], two, two + small * small);
      for (let i = 0; i < num; i++) {
        const k = (o * num + i) * 9, l = shared ? k : k + num * 9;
        const k0 = W[k], k1 = W[k + 1], k2 = W[k + 2], k3 = W[k + 3], k4 = W[k + 4], k5 = W[k + 5], k6 = W[k + 6], k7 = W[k + 7], k8 = W[k + 8];
        const l0 = W[l], l1 = W[l + 1], l2 = W[l + 2], l3 = W[l + 3], l4 = W[l + 4], l5 = W[l + 5], l6 = W[l + 6], l7 = W[l + 7], l8 = W[l + 8];
        for (let r = 0; r < small; r++) {
          let a = (i * wide + r * stride) * wide, at = one + r * small, also = two + r * small;
          for (let c = 0; c < small; c++, a += stride, at++, also++) {
            const x0 = bordered[a], x1 = bordered[a + 1], x2 = bordered[a + 2];
            const x3 = bordered[a + wide], x4 = bordered[a + wide + 1], x5 = bordered[a + wide + 2];
            const x6 = bordered[a + 2 * wide], x7 = bordered[a + 2 * wide + 1], x8 = bordered[a + 2 * wide + 2];
            y[at] += k0 * x0 + k1 * x1 + k2 * x2 + k3 * x3 + k4 * x4 + k5 * x5 + k6 * x6 + k7 * x7 + k8 * x8;
            if (!shared) y[also] += l0 * x0 + l1 * x1 + l2 * x2 + l3 * x3 + l4 * x4 + l5 * x5 + l6 * x6 + l7 * x7 + l8 * x8;
          }
        }
      }
    }
    return y;
  };
}

const divisor = (a, b) => (b ? divisor(b, a % b) : a);

/** A normalization in groups of channels, scaled and shifted. */
export function groupNorm(weights, name) {
  const scale = weights[`${name}.weight`].data, shift = weights[`${name}.bias`].data;
  const groups = divisor(scale.length / 4, 32);
  return (x) => {
    const y = new Float64Array(x.length), size = x.length / groups, pixels = x.length / scale.length;
    for (let start = 0; start < x.length; start += size) {
      let mean = 0, variance = 0;
      for (let i = start; i < start + size; i++) mean += x[i] / size;
      for (let i = start; i < start + size; i++) variance += (x[i] - mean) ** 2 / size;
      const std = Math.sqrt(variance + 1e-5);
      for (let i = start; i < start + size; i++) {
        const channel = Math.floor(i / pixels);
        y[i] = (scale[channel] * (x[i] - mean)) / std + shift[channel];
      }
    }
    return y;
  };
}

export function silu(x) {
  for (let i = 0; i < x.length; i++) x[i] /= 1 + Math.exp(-x[i]); // in place: it is what a layer just made
  return x;
}

export function add(x, y) {
  const total = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) total[i] = x[i] + y[i];
  return total;
}

function beside(x, y) {
  const both = new Float64Array(x.length + y.length);
  both.set(x);
  both.set(y, x.length);
  return both;
}

/** Each pixel becomes 2 x 2 equal ones. */
export function double(x, side) {
  const y = new Float64Array(4 * x.length), wide = 2 * side;
  for (let at = 0; at < y.length; at++) {
    const column = at % wide, line = Math.floor(at / wide); // of all channels
    y[at] = x[(line >> 1) * side + (column >> 1)];
  }
  return y;
}

/** h + attention(h): every pixel looks at all others. */
function attention(weights, name, pixels) {
  const norm = groupNorm(weights, `${name}.norm`), qkv = linear(weights, `${name}.qkv`), out = linear(weights, `${name}.out.0`);
  return (h) => {
    const width = h.length / pixels, seen = norm(h);
    const parts = Array.from({ length: pixels }, (_, p) => qkv(Float64Array.from({ length: width }, (_, c) => seen[c * pixels + p])));
    const after = Float64Array.from(h);
    parts.forEach((own, p) => {
      const likeness = parts.map((other) => {
        let product = 0;
        for (let c = 0; c < width; c++) product += own[c] * other[width + c];
        return product / Math.sqrt(width);
      });
      const top = Math.max(...likeness), shares = likeness.map((value) => Math.exp(value - top));
      const total = shares.reduce((a, b) => a + b), mixed = new Float64Array(width);
      shares.forEach((share, other) => { for (let c = 0; c < width; c++) mixed[c] += (share / total) * parts[other][2 * width + c]; });
      out(mixed).forEach((value, c) => { after[c * pixels + p] += value; });
    });
    return after;
  };
}

/** h + branch(h, skip, e), then attention if the block has it. */
function block(weights, name, side) {
  const first = sequential(groupNorm(weights, `${name}.first.0`), silu, conv(weights, `${name}.first.2`, side));
  const shift = linear(weights, `${name}.norm.shift`), norm = groupNorm(weights, `${name}.norm.norm`);
  const second = sequential(silu, conv(weights, `${name}.second.1`, side));
  const attend = `${name}.attend.qkv.weight` in weights ? attention(weights, `${name}.attend`, side * side) : (h) => h;
  return (h, e, skip) => {
    const inner = first(skip ? beside(h, skip) : h), moved = shift(e);
    for (let i = 0; i < inner.length; i++) inner[i] += moved[Math.floor(i / (side * side))];
    return attend(add(h, second(norm(inner))));
  };
}

/** The network of three levels with one block each: (x, t, label) to what it predicts, here v; label 10 is none. */
export function unet(weights, side = 28) {
  const path = (part) => `denoiser.network.${part}`, sides = [side, side / 2, side / 4];
  const part = (make, name, ...sizes) => make(weights, path(name), ...sizes);
  const time = [part(linear, "time.1"), part(linear, "time.3")], label = weights[path("label.weight")];
  const size = label.shape[1];
  const enter = part(conv, "enter", side);
  const down = sides.map((each, i) => part(block, `down.${i}.0`, each));
  const shrink = [part(conv, "shrink.0", sides[0], 2), part(conv, "shrink.1", sides[1], 2), (h) => h];
  const middle = [0, 1].map((i) => part(block, `middle.${i}`, sides[2]));
  const up = [2, 1, 0].map((level, i) => part(block, `up.${i}.0`, sides[level]));
  const enlarge = (i, each) => sequential(part(conv, `grow.${i}.0`, each), (h) => double(h, each));
  const grow = [enlarge(0, sides[2]), enlarge(1, sides[1]), (h) => h];
  const exit = sequential(part(groupNorm, "exit.0"), silu, part(conv, "exit.2", side));
  const waves = weights[path("time.1.weight")].shape[1];

  function embed(t, name) {
    const e = time[1](silu(time[0](sinusoidal(t, waves))));
    return silu(e.map((value, i) => value + label.data[name * size + i]));
  }
  return (x, t, name = NONE) => {
    const e = embed(t, name), skips = [];
    let h = enter(x);
    down.forEach((each, i) => {
      h = each(h, e);
      skips.push(h);
      h = shrink[i](h);
    });
    for (const each of middle) h = each(h, e);
    up.forEach((each, i) => { h = grow[i](each(h, e, skips.pop())); });
    return exit(h);
  };
}
