// The transformer of chapter 14 that reads: patches of an image attend to each other and to the words of a sentence.
//
// Vectors lie one after the other in one array, and those of a batch of images too; names and formulas are torch's.
import { linear, sequential, sinusoidal } from "./nn.js";

const HEADS = 4, PATCH = 2;

/** y = W x + b for many x; four of them, and two rows of W, at a time, which share what is read. */
export function dense(weights, name) {
  const { shape: [out, size], data: W } = weights[`${name}.weight`], b = weights[`${name}.bias`].data;
  return (x) => {
    const y = new Float64Array((x.length / size) * out);
    for (let o = 0; o < out; o += 2)
      for (let from = 0, to = o; from < x.length; from += 4 * size, to += 4 * out) {
        let a0 = b[o], a1 = a0, a2 = a0, a3 = a0, b0 = b[o + 1], b1 = b0, b2 = b0, b3 = b0;
        for (let i = from, k = o * size, end = from + size; i < end; i++, k++) {
          const one = W[k], two = W[k + size], x0 = x[i], x1 = x[i + size], x2 = x[i + 2 * size], x3 = x[i + 3 * size];
          a0 += one * x0; a1 += one * x1; a2 += one * x2; a3 += one * x3;
          b0 += two * x0; b1 += two * x1; b2 += two * x2; b3 += two * x3;
        }
        y[to] = a0; y[to + out] = a1; y[to + 2 * out] = a2; y[to + 3 * out] = a3;
        y[to + 1] = b0; y[to + out + 1] = b1; y[to + 2 * out + 1] = b2; y[to + 3 * out + 1] = b3;
      }
    return y;
  };
}

/** Each vector of this width with mean 0 and variance 1; then scaled and shifted, where the layer has weights. */
export function normalized(x, width, scale, shift) {
  const y = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += width) {
    let mean = 0, variance = 0;
    for (let i = start; i < start + width; i++) mean += x[i] / width;
    for (let i = start; i < start + width; i++) variance += (x[i] - mean) ** 2 / width;
    const std = Math.sqrt(variance + 1e-5);
    for (let c = 0; c < width; c++) y[start + c] = (x[start + c] - mean) / std;
    if (scale) for (let c = 0; c < width; c++) y[start + c] = scale[c] * y[start + c] + shift[c];
  }
  return y;
}

/** What each query gathers from the `seen` keys and values of its own example, of which there are `num` queries;
    `watch(query, key, share)` is told every share of attention. */
function gather(queries, keyValues, width, num, seen, watch = () => {}) {
  const y = new Float64Array(queries.length), shares = new Float64Array(seen), size = width / HEADS;
  for (let q = 0; q < queries.length / width; q++) {
    const first = Math.floor(q / num) * seen;
    for (let part = 0; part < width; part += size) {
      let top = -Infinity, total = 0;
      for (let s = 0; s < seen; s++) {
        const key = (first + s) * 2 * width + part;
        let product = 0;
        for (let c = 0; c < size; c++) product += queries[q * width + part + c] * keyValues[key + c];
        shares[s] = product / Math.sqrt(size);
        top = Math.max(top, shares[s]);
      }
      for (let s = 0; s < seen; s++) total += shares[s] = Math.exp(shares[s] - top);
      for (let s = 0; s < seen; s++) {
        const share = shares[s] / total, value = ((first + s) * 2 + 1) * width + part;
        for (let c = 0; c < size; c++) y[q * width + part + c] += share * keyValues[value + c];
        watch(q, s, share);
      }
    }
  }
  return y;
}

function silu(x) {
  for (let i = 0; i < x.length; i++) x[i] /= 1 + Math.exp(-x[i]); // in place: it is what a layer just made
  return x;
}

/* h + gate branch, where the gate is one vector for all, or 1. */
function plus(h, branch, gate) {
  for (let i = 0; i < branch.length; i++) branch[i] = h[i] + (gate ? gate[i % gate.length] : 1) * branch[i];
  return branch;
}

const moved = (x, shift, scale) => {
  for (let i = 0, c = 0; i < x.length; i++, c = (c + 1) % shift.length) x[i] = shift[c] + (1 + scale[c]) * x[i];
  return x;
};

const mlp = (weights, name) => sequential(dense(weights, `${name}.0`), silu, dense(weights, `${name}.2`));

/** The layers of an attention. */
const attention = (weights, name) =>
  Object.fromEntries([["query", "query"], ["keyValue", "key_value"], ["out", "out"]].map(([key, part]) => [key, dense(weights, `${name}.${part}`)]));

/** Words look at each other, and think. */
function wordBlock(weights, name, width, num) {
  const layer = attention(weights, `${name}.attend`), think = mlp(weights, `${name}.mlp`);
  const norms = [0, 1].map((k) => ["weight", "bias"].map((part) => weights[`${name}.norms.${k}.${part}`].data));
  return (h) => {
    const seen = normalized(h, width, ...norms[0]);
    const after = plus(h, layer.out(gather(layer.query(seen), layer.keyValue(seen), width, num, num)));
    return plus(after, think(normalized(after, width, ...norms[1])));
  };
}

/** Patches look at each other and at the words, and think; six vectors of the time scale and shift what goes in and out. */
function patchBlock(weights, name, width, num) {
  const [attend, read] = ["attend", "read"].map((part) => attention(weights, `${name}.${part}`));
  const think = mlp(weights, `${name}.mlp`), table = weights[`${name}.table`].data;
  return {
    keysOf: read.keyValue, // the same at all times
    run(h, keys, numWords, e, watch) {
      const part = (k) => Float64Array.from({ length: width }, (_, c) => e[k * width + c] + table[k * width + c]);
      const [shift, scale, gate, lastShift, lastScale, lastGate] = [0, 1, 2, 3, 4, 5].map(part);
      const seen = moved(normalized(h, width), shift, scale);
      h = plus(h, attend.out(gather(attend.query(seen), attend.keyValue(seen), width, num, num)), gate);
      h = plus(h, read.out(gather(read.query(normalized(h, width)), keys, width, num, numWords, watch)));
      return plus(h, think(moved(normalized(h, width), lastShift, lastScale)), lastGate);
    },
  };
}

/** Vectors of the patches of an image of channels, row by row, or back: where value `c` of patch `p` lies in the image. */
function patchIndex(channels, side) {
  const across = side / PATCH, size = channels * PATCH ** 2;
  return Int32Array.from({ length: channels * side * side }, (_, k) => {
    const p = Math.floor(k / size), channel = Math.floor((k % size) / PATCH ** 2), inside = k % PATCH ** 2;
    const row = Math.floor(p / across) * PATCH + Math.floor(inside / PATCH), column = (p % across) * PATCH + (inside % PATCH);
    return (channel * side + row) * side + column;
  });
}

/**
 * The network: `read(sentences)`, lists of numbers of words, gives what it needs of them, for `run(x, t, read)`: what it
 * predicts of the image x for each sentence, and the attention that each patch gives to each word of the last one, the
 * mean over blocks and heads.
 */
export function textTransformer(weights, path = "denoiser.network.", [channels, side] = [4, 8]) {
  const data = (name) => weights[path + name].data, part = (make, name, ...sizes) => make(weights, path + name, ...sizes);
  const count = (name) => Array.from({ length: 99 }, (_, k) => k).filter((k) => `${path}${name}.${k}.mlp.0.bias` in weights);
  const [maxWords, wordWidth] = weights[`${path}word_places`].shape, [num, width] = weights[`${path}places`].shape;
  const wordBlocks = count("word_blocks").map((k) => part(wordBlock, `word_blocks.${k}`, wordWidth, maxWords));
  const blocks = count("blocks").map((k) => part(patchBlock, `blocks.${k}`, width, num));
  const time = [part(linear, "time.1"), silu, part(linear, "time.3")];
  const enter = part(dense, "enter"), exit = part(dense, "exit.1"), index = patchIndex(channels, side);

  function read(sentences) {
    const vectors = data("words.weight"), places = data("word_places");
    const words = sentences.flatMap((numbers) => numbers.flatMap((number, place) =>
      Array.from({ length: wordWidth }, (_, c) => vectors[number * wordWidth + c] + places[place * wordWidth + c])));
    const h = sequential(...wordBlocks)(Float64Array.from(words));
    const seen = normalized(h, wordWidth, data("word_norm.weight"), data("word_norm.bias"));
    return { words: seen, keys: blocks.map(({ keysOf }) => keysOf(seen)), many: sentences.length };
  }
  function run(x, t, { keys, many }) {
    const e = sequential(...time)(sinusoidal(t, width)), places = data("places");
    const attended = new Float64Array(num * maxWords), last = (many - 1) * num;
    const watch = (q, word, share) => { if (q >= last) attended[(q - last) * maxWords + word] += share / (HEADS * blocks.length); };
    const patches = Float64Array.from({ length: many * x.length }, (_, k) => x[index[k % x.length]]);
    let h = enter(patches).map((value, i) => value + places[i % places.length]);
    blocks.forEach((block, k) => { h = block.run(h, keys[k], maxWords, e, watch); });
    const made = exit(normalized(h, width, data("exit.0.weight"), data("exit.0.bias")));
    const images = Array.from({ length: many }, () => new Float64Array(x.length));
    made.forEach((value, k) => { images[Math.floor(k / x.length)][index[k % x.length]] = value; });
    return { images, attended };
  }
  return { read, run };
}
