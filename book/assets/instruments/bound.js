// Chapter 3: the ring model, whose posterior has several modes; log p(x), the bound for a Gaussian q, and the gap.
import { button, calm, clip, curve, handle, make, player, row, scale, segment, surface } from "./kit.js";

const NOISE = 0.2, PHASE = 3, ROOT = Math.sqrt(2 * Math.PI), STEP = 0.01;
const GRID = Float64Array.from({ length: 16 / STEP + 1 }, (_, i) => STEP * i - 8);

const logNormal = (x, mean, std) => -0.5 * ((x - mean) / std) ** 2 - Math.log(std * ROOT);
export const ring = (z) => [Math.cos(2 * z + PHASE), Math.sin(2 * z + PHASE)];

/** log p(x, z) of z from N(0, 1) and x from N(ring(z), NOISE^2). */
export function logJoint(x, z) {
  const [a, b] = ring(z);
  return logNormal(x[0], a, NOISE) + logNormal(x[1], b, NOISE) + logNormal(z, 0, 1);
}

/** log p(x), an integral over the line of latents. */
export function logEvidence(x) {
  return Math.log(GRID.reduce((sum, z) => sum + STEP * Math.exp(logJoint(x, z)), 0));
}

/** Reconstruction and KL to the prior of q = N(mean, std^2), closed forms, and the gradient of the bound. */
export function bound(x, { mean, std }) {
  const [a, b] = ring(mean), shrink = Math.exp(-2 * std ** 2); // E cos(2z + PHASE) = shrink cos(2 mean + PHASE)
  const along = shrink * (x[0] * a + x[1] * b), across = shrink * (x[1] * a - x[0] * b);
  const square = x[0] ** 2 + x[1] ** 2 + 1 - 2 * along;
  const reconstruction = -square / (2 * NOISE ** 2) - 2 * Math.log(NOISE * ROOT);
  const toPrior = (mean ** 2 + std ** 2 - 1) / 2 - Math.log(std);
  return { reconstruction, toPrior, elbo: reconstruction - toPrior, byMean: 2 * across / NOISE ** 2 - mean,
    byLogStd: 1 - std ** 2 - 4 * std ** 2 * along / NOISE ** 2 };
}

/** One step of natural gradient ascent on the bound, no further than q is wide. */
export function climb(x, q, rate) {
  const { byMean, byLogStd } = bound(x, q);
  return { mean: q.mean + clip(rate * q.std ** 2 * byMean, -0.3 * q.std, 0.3 * q.std),
    std: q.std * Math.exp(clip(rate / 2 * byLogStd, -0.3, 0.3)) };
}

const nats = (value) => value.toFixed(2).replace("-", "−");

export function mount(root) {
  let point = ring(1.2).map((value) => 0.9 * value), q = { mean: 0.95, std: 0.2 }; // the x of the chapter
  let evidence, terms, posterior;

  const seen = Array.from(GRID.keys()).filter((i) => Math.abs(GRID[i]) <= 3.2);
  const panels = make("div", { class: "instrument-split" });
  root.append(panels);
  let across, up; // maps of the plane
  const plane = surface(panels, { ratio: 1, heights: [230, 320] }, (context, { width, height, colors, font }) => {
    const half = Math.min(width, height) / 2;
    across = scale([-1.6, 1.6], [width / 2 - half, width / 2 + half]);
    up = scale([-1.6, 1.6], [height / 2 + half, height / 2 - half]);
    const band = (base, direction, density, color) => { // a density of z, laid along the ring
      const edge = (i, height) => {
        const [a, b] = ring(GRID[i]), radius = base + direction * height;
        context.lineTo(across(radius * a), up(radius * b));
      };
      context.beginPath();
      seen.forEach((i) => edge(i, Math.min(0.3, 0.08 * density(i))));
      seen.toReversed().forEach((i) => edge(i, 0));
      context.fillStyle = color;
      context.fill();
    };
    context.beginPath();
    context.arc(across(0), up(0), across(1) - across(0), 0, 7);
    context.lineWidth = 2 * NOISE * (across(1) - across(0));
    context.strokeStyle = `${colors.prior}22`;
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = colors.prior;
    context.stroke();
    band(0.98, -1, (i) => Math.exp(posterior[i]), `${colors.data}cc`);
    band(1.02, 1, (i) => Math.exp(logNormal(GRID[i], q.mean, q.std)), `${colors.steps}cc`);
    context.fillStyle = colors.ink;
    font(16, "italic 600");
    context.fillText("x", across(point[0]) - 26, up(point[1]) + 2);
  });

  let x, y; // maps of latents and densities
  const peak = () => 1 / (ROOT * q.std), side = () => y(Math.exp(-0.5) * peak());
  const line = surface(panels, { ratio: 0.72, heights: [230, 320] }, (context, { width, height, colors, font }) => {
    const foot = height - 20, zs = seen.map((i) => GRID[i]);
    x = scale([-3.2, 3.2], [6, width - 6]);
    y = scale([0, Math.max(3, 1.1 * peak())], [foot, 10]);
    segment(context, [0, foot], [width, foot], { color: colors.rule });
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    for (let tick = -3; tick <= 3; tick++) context.fillText(String(tick).replace("-", "−"), x(tick), height - 4);
    curve(context, zs, zs.map((z) => Math.exp(logNormal(z, 0, 1))), x, y, { color: colors.prior, width: 1.75, dash: [2, 3] });
    curve(context, zs, seen.map((i) => Math.exp(posterior[i])), x, y, { color: colors.data, fill: `${colors.data}33` });
    curve(context, zs, zs.map((z) => Math.exp(logNormal(z, q.mean, q.std))), x, y, { color: colors.steps, dash: [7, 4] });
    segment(context, [x(q.mean), side()], [x(q.mean + q.std), side()], { color: colors.steps, dash: [2, 3] });
    context.textAlign = "left";
    font(13);
    [["data", "posterior p(z | x)"], ["steps", "q(z | x)"], ["prior", "prior p(z)"]].forEach(([name, text], i) => {
      context.fillStyle = colors[name];
      context.fillText(text, 8, 18 + 17 * i);
    });
  });

  const sums = surface(root, { ratio: 0.2, heights: [142, 142] }, (context, { width, height, colors, font }) => {
    const low = [-6, -12, -30, -60, -200].find((edge) => edge < 1.05 * terms.elbo) ?? -600;
    const at = scale([low, Math.max(2, -0.1 * low)], [104, width - 4]), place = (value) => at(Math.max(low, value));
    const rows = [["log p(x)", "ink", 0, evidence], ["gap", "gap", evidence, terms.elbo], ["bound", "steps", 0, terms.elbo],
      ["reconstruction", "data", 0, terms.reconstruction], ["KL to the prior", "prior", terms.reconstruction, terms.elbo]];
    rows.forEach(([name, color, from, to], i) => {
      const [left, right] = [place(from), place(to)].sort((a, b) => a - b), top = 2 + 24 * i;
      context.fillStyle = colors[color];
      context.fillRect(left, top, Math.max(1.5, right - left), 18);
      font(12.5);
      context.fillText(name, 0, top + 13);
    });
    segment(context, [at(0), 0], [at(0), 122], { color: colors.muted });
    for (const [value, from, to] of [[evidence, 2, 44], [terms.elbo, 26, 116]])
      segment(context, [place(value), from], [place(value), to], { color: colors.ink, dash: [3, 2] });
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    font(12);
    for (const tick of [low, low / 2, 0]) context.fillText(`${tick}`.replace("-", "−"), at(tick), height - 4);
    context.textAlign = "right";
    context.fillText("nats", width - 2, height - 4);
  });
  const words = make("p", { class: "instrument-sums" });
  root.append(words);
  const span = (color, text) => make("span", { style: `color: var(--instrument-${color})` }, text);

  function update() {
    evidence = logEvidence(point);
    terms = bound(point, q);
    posterior = GRID.map((z) => logJoint(point, z) - evidence);
    const gap = evidence - terms.elbo;
    words.replaceChildren(make("span", {}, span("ink", `log p(x) ${nats(evidence)}`), " = ", span("steps", `bound ${nats(terms.elbo)}`),
      " + ", span("gap", `gap ${nats(gap)}`)), make("span", {}, span("steps", `bound ${nats(terms.elbo)}`), " = ",
      span("data", `reconstruction ${nats(terms.reconstruction)}`), " − ", span("prior", `KL to the prior ${nats(terms.toPrior)}`)));
    sums.describe(words.textContent);
    plane.describe(`The ring, and the data point at ${nats(point[0])}, ${nats(point[1])}.`);
    line.describe(`The posterior, q with mean ${nats(q.mean)} and standard deviation ${nats(q.std)}, and the prior.`);
    for (const view of [plane, line, sums]) view.redraw();
  }

  const motion = player(line.box, (seconds) => {
    const before = terms.elbo;
    for (let i = 0; i < (calm() ? 500 : 1); i++) q = climb(point, q, calm() ? 0.2 : Math.min(0.3, 4 * seconds));
    update();
    return seconds === 0 || terms.elbo - before > 1e-5;
  });
  function change(changed) {
    motion.pause();
    q = { mean: clip(changed.mean ?? q.mean, -3, 3), std: clip(changed.std ?? q.std, 0.05, 2) };
    point = (changed.point ?? point).map((value) => clip(value, -1.5, 1.5));
    update();
  }
  const result = () => `bound ${nats(terms.elbo)}, gap ${nats(evidence - terms.elbo)} nats`;
  handle(plane, { label: "data point x", color: "ink", min: -1.5, max: 1.5, value: () => point[0].toFixed(2),
    at: () => [across(point[0]), up(point[1])], move: (left, top) => change({ point: [across.back(left), up.back(top)] }),
    nudge: (dx, dy) => change({ point: [point[0] + 0.05 * dx, point[1] + 0.05 * dy] }),
    text: () => `${nats(point[0])}, ${nats(point[1])}; log p ${nats(evidence)}, ${result()}` });
  handle(line, { label: "mean of q", color: "steps", min: -3, max: 3, value: () => q.mean.toFixed(2),
    at: () => [x(q.mean), y(peak())], move: (left) => change({ mean: x.back(left) }),
    nudge: (dx) => change({ mean: q.mean + 0.05 * dx }), text: () => `${nats(q.mean)}; ${result()}` });
  handle(line, { label: "standard deviation of q", color: "steps", min: 0.05, max: 2, value: () => q.std.toFixed(2),
    at: () => [x(q.mean + q.std), side()], move: (left) => change({ std: x.back(left) - q.mean }),
    nudge: (dx, dy) => change({ std: q.std * 1.05 ** (dx + dy) }), text: () => `${nats(q.std)}; ${result()}` });
  button(row(root), "Raise the bound from here", () => motion.play());
  update();
}
