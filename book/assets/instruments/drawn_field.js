// Paints points in the plane, the density of their noisy versions, and the arrows of the best denoiser.
import { arrows, densities } from "./drawn_score.js";
import { BOX } from "./drawn_points.js";

const [LEFT, RIGHT, BOTTOM, TOP] = BOX, ACROSS = 15, DOWN = 11; // arrows

/** Where the arrows stand, x_1, y_1, ...: in the middles of the cells of a grid. */
export const GRID = Array.from({ length: ACROSS * DOWN }, (_, i) => [LEFT + (RIGHT - LEFT) * (i % ACROSS + 0.5) / ACROSS,
  TOP - (TOP - BOTTOM) * (Math.floor(i / ACROSS) + 0.5) / DOWN]).flat();

export function dot(context, [left, top], radius) {
  context.beginPath();
  context.arc(left, top, radius, 0, 7);
  context.fill();
}

/** What is to be painted at a level; `paint(context, at, unit, colors, weights)` maps the plane by `at`, `unit` pixels to 1. */
export function field(points, level) {
  const [columns, rows] = level.sigma < 0.12 ? [112, 84] : [56, 42]; // as fine as the density is
  const density = densities(points, level, BOX, columns, rows), most = density.reduce((a, b) => Math.max(a, b));
  const found = arrows(points, GRID, level), image = new OffscreenCanvas(columns, rows);
  const brush = image.getContext("2d"), pixels = brush.createImageData(columns, rows);
  density.forEach((value, i) => { pixels.data[4 * i + 3] = 165 * (value / most) ** 0.7; });
  brush.putImageData(pixels, 0, 0);
  brush.globalCompositeOperation = "source-in";

  return function paint(context, at, unit, { steps, data, ink }, weights) {
    brush.fillStyle = steps;
    brush.fillRect(0, 0, columns, rows);
    context.drawImage(image, ...at([LEFT, TOP]), (RIGHT - LEFT) * unit, (TOP - BOTTOM) * unit);
    const disk = (i) => {
      const [left, top] = at([points[2 * i], points[2 * i + 1]]), radius = 1.9 + 0.07 * unit * Math.sqrt(weights[i]);
      context.moveTo(left + radius, top);
      context.arc(left, top, radius, 0, 7);
    };
    context.fillStyle = data;
    for (const [alpha, isIn] of [[0.75, (share) => share <= 0.5], [1, (share) => share > 0.5]]) { // of an even share
      context.globalAlpha = alpha;
      context.beginPath();
      for (let i = 0; i < weights.length; i++) if (isIn(weights[i] * weights.length)) disk(i);
      context.fill();
    }
    const cell = unit * (RIGHT - LEFT) / ACROSS, shafts = new Path2D(), heads = new Path2D();
    for (let i = 0; i < GRID.length; i += 2) {
      const size = Math.hypot(found[i], found[i + 1]) * unit, length = cell * Math.tanh(size / cell); // at most a cell
      if (length < 1) continue;
      const dx = found[i] * unit / size, dy = -found[i + 1] * unit / size, [left, top] = at([GRID[i], GRID[i + 1]]);
      const part = (along, beside) => [left + along * dx + beside * dy, top + along * dy - beside * dx];
      const tip = length / 2, head = Math.min(5, 0.45 * length);
      shafts.moveTo(...part(-tip, 0));
      shafts.lineTo(...part(tip - head, 0));
      heads.moveTo(...part(tip, 0));
      heads.lineTo(...part(tip - head, head / 2));
      heads.lineTo(...part(tip - head, -head / 2));
    }
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = 1.2;
    context.stroke(shafts);
    context.fill(heads);
  };
}
