// Strokes of a pen: ten digits to begin with, and the 28 x 28 pixels that MNIST would make of a drawing.

/** Points that a pen passes for each digit, one list for each stroke; across and down, in a square of side 1. */
const WRITTEN = [
  [[[0.6, 0.05], [0.36, 0.12], [0.2, 0.38], [0.18, 0.66], [0.32, 0.9], [0.56, 0.94], [0.76, 0.74], [0.82, 0.44], [0.74, 0.16], [0.54, 0.06]]],
  [[[0.58, 0.03], [0.52, 0.35], [0.47, 0.68], [0.42, 0.97]]],
  [[[0.2, 0.24], [0.34, 0.07], [0.6, 0.06], [0.73, 0.24], [0.62, 0.5], [0.38, 0.76], [0.15, 0.94]], [[0.15, 0.94], [0.5, 0.9], [0.86, 0.93]]],
  [[[0.24, 0.12], [0.5, 0.03], [0.74, 0.13], [0.7, 0.33], [0.44, 0.46]], [[0.44, 0.46], [0.72, 0.54], [0.79, 0.76], [0.6, 0.95], [0.32, 0.96], [0.16, 0.85]]],
  [[[0.26, 0.08], [0.2, 0.34], [0.24, 0.52], [0.5, 0.53], [0.76, 0.44]], [[0.76, 0.06], [0.71, 0.45], [0.64, 0.96]]],
  [[[0.8, 0.06], [0.56, 0.06], [0.36, 0.1]], [[0.36, 0.1], [0.28, 0.42], [0.52, 0.42], [0.74, 0.56], [0.7, 0.82], [0.46, 0.95], [0.2, 0.9]]],
  [[[0.64, 0.03], [0.42, 0.24], [0.28, 0.54], [0.3, 0.84], [0.5, 0.96], [0.72, 0.84], [0.72, 0.66], [0.54, 0.58], [0.33, 0.72]]],
  [[[0.18, 0.12], [0.5, 0.1], [0.8, 0.1]], [[0.8, 0.1], [0.64, 0.38], [0.52, 0.66], [0.44, 0.97]]],
  [[[0.7, 0.14], [0.5, 0.05], [0.32, 0.18], [0.38, 0.38], [0.6, 0.56], [0.7, 0.78], [0.5, 0.95], [0.3, 0.8], [0.42, 0.56], [0.64, 0.36], [0.72, 0.16]]],
  [[[0.72, 0.2], [0.52, 0.06], [0.32, 0.2], [0.34, 0.4], [0.54, 0.45], [0.7, 0.3]], [[0.73, 0.16], [0.7, 0.55], [0.6, 0.96]]],
];

/** The strokes of a digit, curved between its points. */
export const written = (digit) => WRITTEN[digit].map(smooth);

/** A curve through all points, after Catmull and Rom, as a fine polygon. */
function smooth(points) {
  const at = (k) => points[Math.max(0, Math.min(points.length - 1, k))];
  const between = (k, s) => [0, 1].map((i) => {
    const [a, b, c, d] = [at(k - 1)[i], at(k)[i], at(k + 1)[i], at(k + 2)[i]];
    return b + (s * (c - a + s * (2 * a - 5 * b + 4 * c - d + s * (3 * (b - c) + d - a)))) / 2;
  });
  return points.flatMap((_, k) => (k < points.length - 1 ? [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875].map((s) => between(k, s)) : [at(k)]));
}

export const SIDE = 28;
const BOX = 20, PEN = 2.4; // pixels: the square that MNIST fits a digit into, and the width of its strokes

/** Gray levels of a drawing: scaled into a square of 20 x 20 pixels, with its center of mass in the middle. */
export function toPixels(strokes) {
  const points = strokes.flat(), [low, high] = [Math.min, Math.max].map((f) => [0, 1].map((i) => f(...points.map((p) => p[i]))));
  const extent = Math.max(high[0] - low[0], high[1] - low[1]), zoom = extent ? (BOX - PEN) / extent : 0;
  const paths = strokes.map((stroke) => stroke.map((p) => [0, 1].map((i) => SIDE / 2 + zoom * (p[i] - (low[i] + high[i]) / 2))));
  const first = ink(paths, [0, 0]), mass = first.reduce((a, b) => a + b);
  const off = [(k) => k % SIDE, (k) => Math.floor(k / SIDE)].map(
    (place) => SIDE / 2 - 0.5 - first.reduce((total, value, k) => total + value * place(k), 0) / mass);
  return ink(paths, off.map(Math.round)); // by whole pixels, as MNIST does
}

/** How much of each pixel lies under the pen, from its distance to the nearest line. */
function ink(paths, [right, down]) {
  const lines = paths.flatMap((path) => path.map((p, k) => [p, path[Math.min(k + 1, path.length - 1)]]));
  return Float32Array.from({ length: SIDE ** 2 }, (_, k) => {
    const x = (k % SIDE) + 0.5 - right, y = Math.floor(k / SIDE) + 0.5 - down;
    const nearest = Math.min(...lines.map(([a, b]) => distance(x, y, a, b)));
    return Math.max(0, Math.min(1, PEN / 2 + 0.5 - nearest));
  });
}

/** The distance of a point to the line from a to b. */
function distance(x, y, a, b) {
  const dx = b[0] - a[0], dy = b[1] - a[1], square = dx * dx + dy * dy;
  const share = square ? Math.max(0, Math.min(1, ((x - a[0]) * dx + (y - a[1]) * dy) / square)) : 0;
  return Math.hypot(x - a[0] - share * dx, y - a[1] - share * dy);
}
