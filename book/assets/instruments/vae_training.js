// A VAE of points in the plane with one latent, and its update in six steps; the backward pass is written out.
//
// Arrays are flat, row by row: points are x_1, y_1, x_2, y_2, ... A network is y = V tanh(W x + b) + c. The likelihood is
// N(decoder(z), noise^2), the prior N(0, 1), and q(z|x) has the mean and the log-variance that the encoder returns.

export const HIDDEN = 32, BATCH = 32, RATE = 0.01;
const LOG_2PI = Math.log(2 * Math.PI);

/* The networks ------------------------------------------------------------------------------------------------- */

/** A network as torch starts it, uniform within 1 / sqrt(inputs), but with three times as many bends in reach of the data. */
function network(inputs, outputs, uniform) {
  const start = (count, reach) => Float64Array.from({ length: count }, () => reach * (2 * uniform() - 1));
  const first = 3 / Math.sqrt(inputs), last = 1 / Math.sqrt(HIDDEN);
  return { W: start(HIDDEN * inputs, first), b: start(HIDDEN, first), V: start(outputs * HIDDEN, last), c: start(outputs, last) };
}

/** A model before its first update. */
export function newModel(std, uniform) {
  return { encoder: network(2, 2, uniform), decoder: network(1, 2, uniform), logStd: Float64Array.of(Math.log(std)) };
}

/** W x + b for each row of x. */
function linear(W, b, x) {
  const outputs = b.length, inputs = W.length / outputs, n = x.length / inputs, y = new Float64Array(n * outputs);
  for (let i = 0; i < n; i++)
    for (let o = 0; o < outputs; o++) {
      let sum = b[o];
      for (let j = 0; j < inputs; j++) sum += W[o * inputs + j] * x[i * inputs + j];
      y[i * outputs + o] = sum;
    }
  return y;
}

/** The gradients of a linear layer in W, b and x, from that in its output y. */
function linearBackward(W, b, x, dy) {
  const outputs = b.length, inputs = W.length / outputs, n = x.length / inputs;
  const dW = new Float64Array(W.length), db = new Float64Array(outputs), dx = new Float64Array(x.length);
  for (let i = 0; i < n; i++)
    for (let o = 0; o < outputs; o++) {
      const slope = dy[i * outputs + o];
      db[o] += slope;
      for (let j = 0; j < inputs; j++) {
        dW[o * inputs + j] += slope * x[i * inputs + j];
        dx[i * inputs + j] += slope * W[o * inputs + j];
      }
    }
  return [dW, db, dx];
}

function forward({ W, b, V, c }, x) {
  const hidden = linear(W, b, x).map(Math.tanh);
  return { x, hidden, y: linear(V, c, hidden) };
}

/** The gradients of a network in its weights and in x; the slope of tanh is 1 - tanh^2. */
function backward({ W, b, V, c }, { x, hidden }, dy) {
  const [dV, dc, dHidden] = linearBackward(V, c, hidden, dy);
  const [dW, db, dx] = linearBackward(W, b, x, dHidden.map((slope, k) => slope * (1 - hidden[k] ** 2)));
  return { of: { W: dW, b: db, V: dV, c: dc }, dx };
}

/* One update, step by step ------------------------------------------------------------------------------------- */

/** 1. A batch of points, each chosen at random. */
export function takeBatch(points, size, uniform) {
  const x = new Float64Array(2 * size);
  for (let i = 0; i < 2 * size; i += 2) x.set(points.slice(2 * Math.floor(uniform() * points.length / 2)).slice(0, 2), i);
  return x;
}

/** 2. The encoder: mean and log-variance of q(z|x), side by side in y. */
export const encode = (model, x) => forward(model.encoder, x);

/** 3. The reparameterized sample: z = mean + std * noise. */
export const draw = ({ y }, noise) => noise.map((e, i) => y[2 * i] + Math.exp(y[2 * i + 1] / 2) * e);

/** 4. The decoder: the mean of p(x|z) in y. */
export const decode = (model, z) => forward(model.decoder, z);

/** 5. Reconstruction, KL and loss in nats, averaged over the batch. */
export function lossTerms(model, x, code, decoded, beta) {
  const n = x.length / 2, logStd = model.logStd[0], precision = Math.exp(-2 * logStd);
  let square = 0, kl = 0;
  for (let k = 0; k < 2 * n; k++) square += (x[k] - decoded.y[k]) ** 2 / n;
  for (let i = 0; i < 2 * n; i += 2) kl += (code.y[i] ** 2 + Math.exp(code.y[i + 1]) - 1 - code.y[i + 1]) / (2 * n);
  const reconstruction = -precision * square / 2 - 2 * logStd - LOG_2PI;
  return { square, reconstruction, kl, loss: beta * kl - reconstruction };
}

/** 6a. The gradient of the loss: from the loss back through decoder, sample and encoder. */
export function gradient(model, { x, code, noise, decoded, terms }, beta) {
  const n = x.length / 2, precision = Math.exp(-2 * model.logStd[0]);
  const decoder = backward(model.decoder, decoded, decoded.y.map((mean, k) => precision * (mean - x[k]) / n));
  const dCode = new Float64Array(2 * n), dz = decoder.dx;
  for (let i = 0; i < n; i++) {
    const mean = code.y[2 * i], logVar = code.y[2 * i + 1];
    dCode[2 * i] = dz[i] + beta * mean / n;
    dCode[2 * i + 1] = dz[i] * noise[i] * Math.exp(logVar / 2) / 2 + beta * (Math.exp(logVar) - 1) / (2 * n);
  }
  return { encoder: backward(model.encoder, code, dCode).of, decoder: decoder.of,
    logStd: Float64Array.of(2 - precision * terms.square) };
}

/** All arrays of a model or of a gradient, in one order. */
export const arrays = ({ encoder, decoder, logStd }) => [...Object.values(encoder), ...Object.values(decoder), logStd];

/** Adam before its first step. */
export const newAdam = (model) => ({ count: 0, first: arrays(model).map((a) => a.map(() => 0)),
  second: arrays(model).map((a) => a.map(() => 0)) });

/** 6b. Adam's step: running means of the gradient and of its square, corrected for their start at zero. */
export function adamStep(model, adam, slopes, learned, rate = RATE) {
  const by = arrays(slopes), t = ++adam.count, root = Math.sqrt(1 - 0.999 ** t), size = rate / (1 - 0.9 ** t);
  arrays(model).forEach((values, k) => {
    if (values === model.logStd && !learned) return;
    const first = adam.first[k], second = adam.second[k];
    for (let i = 0; i < values.length; i++) {
      first[i] = 0.9 * first[i] + 0.1 * by[k][i];
      second[i] = 0.999 * second[i] + 0.001 * by[k][i] ** 2;
      values[i] -= size * first[i] / (Math.sqrt(second[i]) / root + 1e-8);
    }
  });
}

/** One update of `run`, {model, adam, points, uniform, normal, beta, learned}; it stops after each of the six steps. */
export function* update(run) {
  const { model, beta } = run, now = {};
  now.x = takeBatch(run.points, BATCH, run.uniform);
  yield now;
  now.code = encode(model, now.x);
  yield now;
  now.noise = Float64Array.from({ length: BATCH }, run.normal);
  now.z = draw(now.code, now.noise);
  yield now;
  now.decoded = decode(model, now.z);
  yield now;
  now.terms = lossTerms(model, now.x, now.code, now.decoded, beta);
  yield now;
  now.gradient = gradient(model, now, beta);
  adamStep(model, run.adam, now.gradient, run.learned);
  yield now;
}
