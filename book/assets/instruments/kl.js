// Chapter 2: a mixture p of two Gaussians and one Gaussian q, all to be dragged; the KL divergence in both directions.
import { button, calm, clip, curve, handle, make, meter, player, row, scale, segment, surface } from "./kit.js";

const EDGE = 40, STEP = 0.05; // the trapezoidal rule is exact to many digits for curves this smooth
const GRID = Float64Array.from({ length: 2 * EDGE / STEP + 1 }, (_, i) => STEP * i - EDGE);
const ROOT = Math.sqrt(2 * Math.PI);

const logNormal = (x, mean, std) => -0.5 * ((x - mean) / std) ** 2 - Math.log(std * ROOT);

/** log p(x) of p = share N(left, 1) + (1 - share) N(right, 1). */
export function logP(x, { left, right, share }) {
  const a = Math.log(share) + logNormal(x, left, 1), b = Math.log1p(-share) + logNormal(x, right, 1);
  return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
}

/** D(p || q) and D(q || p) in nats, and the gradient of the latter by the mean and the log of the std of q. */
export function divergences(p, { mean, std }) {
  let forward = 0, reverse = 0, byMean = 0, byLogStd = 0;
  for (const x of GRID) {
    const log_p = logP(x, p), log_q = logNormal(x, mean, std), q = Math.exp(log_q), z = (x - mean) / std;
    forward += STEP * Math.exp(log_p) * (log_p - log_q);
    reverse += STEP * q * (log_q - log_p);
    byMean += STEP * q * (log_q - log_p) * z / std;
    byLogStd += STEP * q * (log_q - log_p) * (z * z - 1);
  }
  return { forward, reverse, byMean, byLogStd };
}

/** The Gaussian of least D(p || q): it has the mean and the variance of p. */
export function matchMoments({ left, right, share }) {
  const mean = share * left + (1 - share) * right;
  return { mean, std: Math.sqrt(1 + share * (1 - share) * (left - right) ** 2) };
}

/** One step of natural gradient descent on D(q || p); with rate 1 and a Gaussian p it arrives at once. */
export function descend(p, q, rate) {
  const { byMean, byLogStd } = divergences(p, q);
  return { mean: q.mean - rate * q.std ** 2 * byMean, std: q.std * Math.exp(-rate / 2 * byLogStd) };
}

/** Where the descent from q ends. Long steps are fast near a minimum, short ones stay on the slope where they began. */
export function seekMode(p, q, rate = 0.7) {
  for (let i = 0; i < 1000; i++) {
    const next = descend(p, q, rate);
    if (Math.abs(next.mean - q.mean) + Math.abs(next.std - q.std) < 1e-8) break;
    q = next;
  }
  return q;
}

export function mount(root) {
  const p = { left: -3, right: 3, share: 0.5 };
  let q = { mean: 1.2, std: 1.2 }, now = divergences(p, q), least = null, target = null;

  let x, y, below; // maps to pixels: the line, densities, integrands
  const side = () => y(Math.exp(-0.5) / (ROOT * q.std)); // the height of q one standard deviation from its peak
  const view = surface(root, { ratio: 0.48, heights: [280, 360] }, (context, { width, height, colors, font }) => {
    const middle = Math.round(height * 0.62), foot = height - 20, xs = GRID.filter((v) => Math.abs(v) <= 9);
    x = scale([-9, 9], [6, width - 6]);
    y = scale([0, 0.5], [middle, 14]);
    const log_p = xs.map((v) => logP(v, p)), log_q = xs.map((v) => logNormal(v, q.mean, q.std));
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    for (const line of [middle, foot]) segment(context, [0, line], [width, line], { color: colors.rule });
    for (let tick = -8; tick <= 8; tick += 4) context.fillText(String(tick).replace("-", "−"), x(tick), height - 4);

    // Where the nats come from: with q - p added, which integrates to zero, no place counts negative.
    const forward = log_p.map((l, i) => Math.exp(l) * (l - log_q[i] - 1) + Math.exp(log_q[i]));
    const reverse = log_q.map((l, i) => Math.exp(l) * (l - log_p[i] - 1) + Math.exp(log_p[i]));
    below = scale([0, Math.max(0.35, ...forward, ...reverse)], [foot, middle + 26]);
    curve(context, xs, forward, x, below, { color: colors.data, width: 1.5, fill: `${colors.data}44` });
    curve(context, xs, reverse, x, below, { color: colors.steps, width: 1.5, dash: [5, 3], fill: `${colors.steps}44` });
    curve(context, xs, log_p.map(Math.exp), x, y, { color: colors.data, width: 2.5, fill: `${colors.data}22` });
    curve(context, xs, log_q.map(Math.exp), x, y, { color: colors.steps, width: 2.5, dash: [7, 4] });

    context.textAlign = "left";
    context.fillStyle = colors.muted;
    context.fillText("the areas below are the two divergences", 6, middle + 17);
    font(17, "italic 600");
    context.fillStyle = colors.data;
    context.fillText("p", x(p.left) - 26, y(p.share / ROOT) + 4);
    context.fillStyle = colors.steps;
    context.fillText("q", x(q.mean) + 19, y(1 / (ROOT * q.std)) + 4);
    segment(context, [x(q.mean), side()], [x(q.mean + q.std), side()], { color: colors.steps, dash: [2, 3] });
  });
  const meters = { forward: meter(root, "D(p ‖ q)", "data"), reverse: meter(root, "D(q ‖ p)", "steps") };

  function update() {
    now = divergences(p, q);
    least ??= { forward: divergences(p, matchMoments(p)).forward,
      reverse: Math.min(...[p.left, p.right].map((mean) => divergences(p, seekMode(p, { mean, std: 1 })).reverse)) };
    const most = Math.max(3, now.forward, now.reverse);
    for (const [name, bar] of Object.entries(meters))
      bar.set(now[name] / most, `${now[name].toFixed(3)} nats`, least[name] / most);
    view.describe(`Density p with modes at ${p.left.toFixed(1)} and ${p.right.toFixed(1)}; Gaussian q with mean `
      + `${q.mean.toFixed(2)} and standard deviation ${q.std.toFixed(2)}. D(p, q) is ${now.forward.toFixed(2)} nats, `
      + `D(q, p) ${now.reverse.toFixed(2)} nats.`);
    view.redraw();
  }

  const motion = player(view.box, (seconds) => {
    const before = q, rate = calm() ? 1 : 1 - Math.exp(-5 * seconds), goal = matchMoments(p);
    if (target === "reverse") q = calm() ? seekMode(p, q, 0.05) : descend(p, q, rate);
    else q = { mean: q.mean + rate * (goal.mean - q.mean), std: q.std * (goal.std / q.std) ** rate };
    update();
    if (seconds === 0 || Math.abs(q.mean - before.mean) + Math.abs(q.std - before.std) > 1e-5) return true;
    if (target === "reverse" && now.reverse > least.reverse + 0.001)
      note.textContent = "This is a local minimum. From another q it goes down further.";
    return false;
  });
  function go(direction) {
    target = direction;
    note.textContent = "";
    motion.play();
  }

  function change(changed) {
    motion.pause();
    note.textContent = "";
    if ("mean" in changed || "std" in changed) q = { ...q, ...changed };
    else Object.assign(p, changed), least = null;
    q.mean = clip(q.mean, -7, 7);
    q.std = clip(q.std, 0.8, 4.5);
    p.left = clip(p.left, -7, 7);
    p.right = clip(p.right, -7, 7);
    p.share = clip(p.share, 0.05, 0.95);
    update();
  }
  const heights = { left: () => p.share, right: () => 1 - p.share };
  for (const [name, height] of Object.entries(heights)) {
    const share = (value) => ({ share: name === "left" ? value : 1 - value });
    handle(view, { label: `${name} mode of p`, color: "data", min: -7, max: 7, value: () => p[name].toFixed(1),
      at: () => [x(p[name]), y(height() / ROOT)],
      move: (left, top) => change({ [name]: x.back(left), ...share(y.back(top) * ROOT) }),
      nudge: (dx, dy) => change({ [name]: p[name] + 0.1 * dx, ...share(height() + 0.02 * dy) }),
      text: () => `at ${p[name].toFixed(1)} with weight ${height().toFixed(2)}` });
  }
  const nats = () => `D of p and q ${now.forward.toFixed(2)}, D of q and p ${now.reverse.toFixed(2)} nats`;
  handle(view, { label: "mean of q", color: "steps", min: -7, max: 7, value: () => q.mean.toFixed(1),
    at: () => [x(q.mean), y(1 / (ROOT * q.std))], move: (left) => change({ mean: x.back(left) }),
    nudge: (dx) => change({ mean: q.mean + 0.1 * dx }), text: () => `${q.mean.toFixed(1)}; ${nats()}` });
  handle(view, { label: "standard deviation of q", color: "steps", min: 0.8, max: 4.5, value: () => q.std.toFixed(2),
    at: () => [x(q.mean + q.std), side()], move: (left) => change({ std: x.back(left) - q.mean }),
    nudge: (dx, dy) => change({ std: q.std + 0.05 * (dx + dy) }), text: () => `${q.std.toFixed(2)}; ${nats()}` });

  const controls = row(root);
  button(controls, "Least D(p ‖ q): cover both modes", () => go("forward"));
  button(controls, "Least D(q ‖ p): downhill from here", () => go("reverse"));
  const note = make("p", { role: "status" });
  root.append(note);
  update();
}
