// Chapter 4: ten samples of a Gaussian, and what they say of another one: reweighted where they are, or moved along.
import { button, choice, clip, curve, handle, make, meter, normals, row, scale, segment, surface } from "./kit.js";

export const MEAN = 0.4, STD = 1.3, NUM = 10; // of the chapter
const ROOT = Math.sqrt(2 * Math.PI), STEP = 0.005;
const GRID = Float64Array.from({ length: 32 / STEP + 1 }, (_, i) => STEP * i - 16); // zero, the jump, is in it
const WIDTH = 0.1, logistic = (z) => 1 / (1 + Math.exp(-z / WIDTH));

/** What is averaged: its name, its values, its slope, and the range of its expectation over the new means. */
export const FUNCTIONS = {
  square: { name: "z², a parabola", f: (z) => z * z, slope: (z) => 2 * z, range: [-1, 10] },
  cosine: { name: "cos z", f: Math.cos, slope: (z) => -Math.sin(z), range: [-1.3, 1.3] },
  steep: { name: "a steep slope at 0", f: logistic, slope: (z) => logistic(z) * logistic(-z) / WIDTH, range: [-0.4, 1.6] },
  step: { name: "a jump at 0", f: (z) => (1 + Math.sign(z)) / 2, slope: () => 0, range: [-0.4, 1.6] },
};

const density = (z, mean) => Math.exp(-0.5 * ((z - mean) / STD) ** 2) / (STD * ROOT);
const average = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const expectation = (h, mean) => STEP * GRID.reduce((sum, z) => sum + h(z) * density(z, mean), 0);

/** E f(z) for z from N(mean, STD^2). */
export const truth = (name, mean) => expectation(FUNCTIONS[name].f, mean);

/** The true slope of E f in the mean at MEAN, and the standard deviation of both estimates of it by NUM samples. */
export function spread(name) {
  const { f, slope } = FUNCTIONS[name], score = (z) => (z - MEAN) / STD ** 2;
  const deviation = (h) => {
    const first = expectation(h, MEAN);
    return Math.sqrt(Math.max(0, expectation((z) => h(z) ** 2, MEAN) - first ** 2) / NUM);
  };
  const weighted = (z) => f(z) * score(z);
  return { slope: expectation(weighted, MEAN), moved: deviation(slope), reweighted: deviation(weighted) };
}

/** The estimates of E f at a new mean by the samples MEAN + STD noise. */
export function estimates(name, noise, mean) {
  const { f } = FUNCTIONS[name], each = Array.from(noise);
  return { moved: average(each.map((e) => f(mean + STD * e))),
    reweighted: average(each.map((e) => f(MEAN + STD * e) * weight(e, mean))) };
}

/** The new density over the old one, at the sample of a noise. */
export function weight(e, mean) {
  return Math.exp((e * e - ((MEAN + STD * e - mean) / STD) ** 2) / 2);
}

/** The slopes of both estimates at the old mean: the path-wise and the score-function gradient. */
export function slopes(name, noise) {
  const { f, slope } = FUNCTIONS[name], each = Array.from(noise);
  return { moved: average(each.map((e) => slope(MEAN + STD * e))),
    reweighted: average(each.map((e) => f(MEAN + STD * e) * e / STD)) };
}

const LEFT = -2, RIGHT = 3, MEANS = Float64Array.from({ length: 101 }, (_, i) => LEFT + (RIGHT - LEFT) * i / 100);
const WAYS = { reweighted: ["data", [6, 4]], moved: ["steps", []] };
const shown = (value) => value.toFixed(2).replace("-", "−");

export function mount(root) {
  let name = "square", mean = 1.4, seed = 1, noise = normals(NUM, seed), past = [], known, exact, fans;
  const panels = make("div", { class: "instrument-split" });
  root.append(panels);

  let x; // the map of the samples
  const left = surface(panels, { ratio: 0.9, heights: [230, 300] }, (context, { width, height, colors, font }) => {
    x = scale([-5, 6], [6, width - 6]);
    Object.entries(WAYS).forEach(([way, [color]], at) => {
      const foot = height / 2 * (at + 1) - 16, y = scale([0, 6], [foot, foot - height / 2 + 42]);
      segment(context, [0, foot], [width, foot], { color: colors.rule });
      const zs = MEANS.map((_, i) => -5 + 11 * i / 100);
      curve(context, zs, zs.map((z) => 12 * density(z, mean)), x, y, { color: colors.prior, width: 1.5, dash: [2, 3] });
      for (const e of noise) {
        const z = way === "moved" ? mean + STD * e : MEAN + STD * e, high = way === "moved" ? 1 : weight(e, mean);
        segment(context, [x(z), foot], [x(z), y(Math.min(6.5, high))], { color: colors[color], width: 2 });
        context.beginPath();
        context.arc(x(z), y(Math.min(6.5, high)), 3.5, 0, 7);
        context.fillStyle = colors[color];
        context.fill();
      }
      context.fillStyle = colors[color];
      context.textAlign = "left";
      font(13);
      context.fillText(way === "moved" ? "moved, all of weight 1" : "reweighted, in their old places", 8, foot - height / 2 + 32);
    });
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    font(12);
    for (let tick = -4; tick <= 6; tick += 2) context.fillText(shown(tick).replace(".00", ""), x(tick), height - 2);
  });

  let across, up; // maps of new means and expectations
  const right = surface(panels, { ratio: 0.9, heights: [230, 300] }, (context, { width, height, colors, font }) => {
    const { range } = FUNCTIONS[name];
    across = scale([LEFT, RIGHT], [8, width - 8]);
    up = scale(range, [height - 22, 8]);
    context.save();
    context.beginPath();
    context.rect(0, 0, width, height - 20);
    context.clip();
    segment(context, [across(MEAN), 0], [across(MEAN), height - 20], { color: colors.muted });
    segment(context, [across(mean), 0], [across(mean), height - 20], { color: colors.rule });
    curve(context, MEANS, exact, across, up, { color: colors.prior, width: 4 });
    fans.forEach((fan, age) => {
      const newest = age === fans.length - 1;
      for (const [way, [color, dash]] of Object.entries(WAYS))
        curve(context, MEANS, fan[way], across, up, { color: newest ? colors[color] : `${colors[color]}55`, dash,
          width: newest ? 2.25 : 1 });
    });
    context.restore();
    context.fillStyle = colors.muted;
    context.textAlign = "center";
    font(12);
    for (let tick = -2; tick <= 3; tick++) context.fillText(String(tick).replace("-", "−"), across(tick), height - 5);
    context.textAlign = "left";
    font(13);
    [["prior", "truth"], ["data", "reweighted"], ["steps", "moved"]].forEach(([color, text], i) => {
      context.fillStyle = colors[color];
      context.fillText(text, 10, 18 + 17 * i);
    });
  });

  const controls = row(root);
  choice(controls, "f(z)", Object.entries(FUNCTIONS).map(([key, { name: text }]) => [key, text]), name, (value) => {
    name = value;
    refresh();
  });
  button(controls, "New samples", () => {
    past = [...past, noise].slice(-7);
    noise = normals(NUM, ++seed);
    refresh();
  });
  const bars = { reweighted: meter(root, "score", "data"), moved: meter(root, "path", "steps") };
  const sums = make("p", { class: "instrument-sums", role: "status" });
  root.append(sums);

  /** What changes with f or the samples. */
  function refresh() {
    known = spread(name);
    exact = MEANS.map((at) => truth(name, at));
    fans = [...past, noise].map((each) => {
      const both = Array.from(MEANS, (at) => estimates(name, each, at));
      return { moved: both.map((e) => e.moved), reweighted: both.map((e) => e.reweighted) };
    });
    update();
  }

  /** What changes with the new mean. */
  function update() {
    const here = slopes(name, noise), there = estimates(name, noise, mean), most = Math.max(known.moved, known.reweighted);
    for (const way of Object.keys(WAYS))
      bars[way].set(known[way] / most, `s.d. ${shown(known[way])}`);
    sums.textContent = `Gradient at ${MEAN}: true ${shown(known.slope)}, score function ${shown(here.reweighted)}, path-wise `
      + `${shown(here.moved)}. Expectation at ${shown(mean)}: true ${shown(truth(name, mean))}, reweighted `
      + `${shown(there.reweighted)}, moved ${shown(there.moved)}.`;
    left.describe(`Ten samples, twice: in their old places with weights from ${shown(Math.min(...weights()))} to `
      + `${shown(Math.max(...weights()))}, and moved to the new mean ${shown(mean)}.`);
    right.describe(`The expectation of f over the new mean, with both estimates by ten samples. Their slopes at the old mean, `
      + `${MEAN}, are ${shown(here.reweighted)} for reweighted and ${shown(here.moved)} for moved samples; the true slope is `
      + `${shown(known.slope)}.`);
    left.redraw();
    right.redraw();
  }
  const weights = () => Array.from(noise, (e) => weight(e, mean));

  function change(value) {
    mean = clip(value, LEFT, RIGHT);
    update();
  }
  refresh();
  handle(left, { label: "new mean", color: "prior", min: LEFT, max: RIGHT, value: () => mean.toFixed(1),
    at: () => [x(mean), left.canvas.clientHeight - 16], move: (to) => change(x.back(to)), nudge: (dx) => change(mean + 0.1 * dx),
    text: () => `${shown(mean)}: reweighted ${shown(estimates(name, noise, mean).reweighted)}, `
      + `moved ${shown(estimates(name, noise, mean).moved)}` });
}
