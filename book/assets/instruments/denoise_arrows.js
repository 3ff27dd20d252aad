// Chapter 1: the best denoiser of a data set that the reader draws. Its arrows are sigma^2 times the score of noisy data.
import { button, calm, clip, handle, make, normal, player, scale, segment, slider, surface } from "./kit.js";
import { arrows, follow, posterior, slope, step } from "./drawn_score.js";
import { BOX, MOST, SETS, sheet } from "./drawn_points.js";
import { dot, field } from "./drawn_field.js";

const LOWEST = 0.03, FINE = 40; // noise levels, FINE of them to a factor of ten
const STEPS = 40, SECONDS = 2.4, KEPT = 8; // of denoising and renoising; of a film; paths that stay
const [LEFT, RIGHT, BOTTOM, TOP] = BOX;

/** The noise level at a place of the slider. */
export const levelAt = (place) => ({ sigma: LOWEST * 10 ** (place / FINE) });

/** Denoises and renoises from x and a place of the slider down to the lowest noise: {path, places}. */
export function renoise(points, x, place, next, steps = STEPS) {
  const path = [...x], places = Array.from({ length: steps + 1 }, (_, k) => place * (1 - k / steps));
  for (let k = 0; k < steps; k++)
    path.push(...step(points, path.slice(-2), levelAt(places[k]), levelAt(places[k + 1]), [next(), next()]));
  return { path, places };
}

/** What the arrow at the noisy point is, in a sentence. */
export function meaning(carriers, n) {
  if (!n) return "There are no data yet.";
  if (carriers < 1.5) return "One data point carries the mean: here the denoiser copies it.";
  if (carriers > 0.9 * n) return `All ${n} points count alike: x̂ is near the mean of the data.`;
  return `About ${Math.round(carriers)} of ${n} data points, the nearest ones, carry the mean.`;
}

const shown = (value, digits = 2) => value.toFixed(digits).replace("-", "−").replace(/^−(0\.0+)$/, "$1");
const pair = (x, digits) => `(${shown(x[0], digits)}, ${shown(x[1], digits)})`;

export function mount(root) {
  const next = normal(11);
  let points, chosen, place = FINE, x = [0.3, 0.2], paint, here, arrow;
  let paths = [], origin = null, film = null; // what was walked, from where, and what is being walked

  let across = scale([LEFT, RIGHT], [0, 400]), up = scale([BOTTOM, TOP], [300, 0]);
  const panels = make("div", { class: "instrument-lab arrows-lab" }), side = make("div", { class: "instrument-column" });
  root.append(panels);

  const view = surface(panels, { ratio: 0.79, heights: [220, 440] }, (context, { width, height, colors, font }) => {
    const { gap, page, muted, rule } = colors, unit = Math.min(width / 4, (height - 18) / 3), middle = width / 2;
    across = scale([LEFT, RIGHT], [middle - 2 * unit, middle + 2 * unit]);
    up = scale([BOTTOM, TOP], [3 * unit, 0]);
    const at = (point) => [across(point[0]), up(point[1])];
    context.fillStyle = muted;
    context.textAlign = "center";
    for (let tick = -1; tick <= 1; tick++) {
      segment(context, at([tick, BOTTOM]), [across(tick), 3 * unit + 4], { color: muted });
      context.fillText(shown(tick, 0), across(tick), 3 * unit + 16);
    }
    context.beginPath();
    context.rect(...at([LEFT, TOP]), 4 * unit, 3 * unit);
    context.clip();
    if (here) {
      paint(context, at, unit, colors, here.weights);
      context.fillStyle = context.strokeStyle = gap;
      context.lineWidth = 1.5;
      paths.forEach((path, age) => {
        context.globalAlpha = age === paths.length - 1 ? 1 : 0.4;
        context.beginPath();
        for (let i = 0; i < path.length; i += 2) context.lineTo(...at([path[i], path[i + 1]]));
        context.stroke();
        for (const end of [0, path.length - 2]) dot(context, at(path.slice(end, end + 2)), 3);
      });
      context.globalAlpha = 1;
      context.setLineDash([3, 4]);
      context.beginPath();
      context.arc(...at(x), levelAt(place).sigma * unit, 0, 7);
      context.stroke();
      const from = at(x), to = at(here.mean), far = Math.hypot(to[0] - from[0], to[1] - from[1]);
      segment(context, from, to, { color: page, width: 5 });
      segment(context, from, to, { color: gap, width: 2.5 });
      context.beginPath();
      for (const [dx, dy] of [[6, 0], [0, 6], [-6, 0], [0, -6]]) context.lineTo(to[0] + dx, to[1] + dy);
      context.closePath();
      context.fillStyle = page;
      context.fill();
      context.lineWidth = 2.5;
      context.strokeStyle = gap;
      context.stroke();
      font(15, "italic");
      context.fillStyle = gap;
      context.strokeStyle = page;
      context.lineWidth = 3;
      context.lineJoin = "round";
      for (const [name, [left, top], away] of far > 14 ? [["x̃", from, -20], ["x̂", to, 18]] : []) {
        const spot = [left + away * (to[0] - from[0]) / far, top + away * (to[1] - from[1]) / far + 5];
        context.strokeText(name, ...spot);
        context.fillText(name, ...spot);
      }
    } else {
      font(15);
      context.fillText("Draw data here.", middle, 1.5 * unit);
    }
    context.strokeStyle = rule;
    context.lineWidth = 2;
    context.strokeRect(...at([LEFT, TOP]), 4 * unit, 3 * unit);
  });
  panels.append(side);

  const sets = make("div", { class: "instrument-keys arrows-sets", role: "group", "aria-label": "Data" });
  const keys = Object.fromEntries(Object.entries(SETS).map(([name, [text, set]]) =>
    [name, button(sets, text, () => { pen.draw(false); choose(name, set); })]));
  keys.drawn = button(sets, "Draw your own", () => { pen.draw(true); choose("drawn", []); });
  side.append(sets);
  const noise = slider(side, { label: "noise σ", min: 0, max: 2 * FINE, step: 1, value: place,
    text: (at) => levelAt(at).sigma.toPrecision(2) }, (value) => { halt(); place = value; refresh(); });
  const cells = {}, numbers = make("p", { class: "instrument-sums arrows-numbers" });
  for (const [key, ...name] of [["arrow", "x̂ − x̃"], ["slope", "σ² ∇ log p", make("sub", {}, "σ")], ["carriers", "carried by"]])
    numbers.append(make("span", {}, ...name), make("span", {}, cells[key] = make("span")));
  const words = make("p", { class: "arrows-words" }), status = make("p", { class: "arrows-status", role: "status" });
  side.append(numbers, words);
  const runs = [button(side, "Follow the arrows", () => run("follow")), button(side, "Denoise and renoise", () => run("renoise"))];
  root.append(status);

  /** What changes with data or noise. */
  function refresh() {
    if (points.length) paint = field(points, levelAt(place));
    update();
  }
  /** What changes with the noisy point. */
  function update() {
    const level = levelAt(place), n = points.length / 2;
    here = n ? posterior(points, x, level) : null;
    arrow = n ? arrows(points, x, level) : [0, 0];
    for (const each of runs) each.disabled = !n;
    cells.arrow.textContent = n ? pair(arrow, 4) : "–";
    cells.slope.textContent = n ? pair(slope(points, x, level).map((value) => level.sigma ** 2 * value), 4) : "–";
    cells.carriers.textContent = n ? `${here.carriers.toFixed(1)} of ${n} points` : "–";
    words.textContent = meaning(here?.carriers, n);
    view.describe(n ? `${n} data points (${keys[chosen].textContent}), the density of noisy data at sigma ${level.sigma.toPrecision(2)}, and `
      + `the arrows of the best denoiser on a grid. The noisy point is ${pair(x)}, its posterior mean ${pair(here.mean)}. ${words.textContent}`
      : "An empty plane, to draw data on.");
    view.redraw();
  }
  function choose(name, set) {
    halt();
    for (const [key, each] of Object.entries(keys)) each.setAttribute("aria-pressed", String(key === name));
    chosen = name;
    points = Float64Array.from(set);
    if (name === "drawn") status.textContent = points.length < 2 * MOST ? `Press and move to draw: ${points.length / 2} of at most ${MOST} points.`
      : `All ${MOST} points are used up. “Draw your own” empties the plane.`;
    refresh();
  }
  function move(to) {
    halt();
    x = [clip(to[0], LEFT, RIGHT), clip(to[1], BOTTOM, TOP)];
    update();
  }
  const pen = sheet(view, { place: (left, top) => [across.back(left), up.back(top)], onPoints: (set) => choose("drawn", set),
    onTap: (...to) => move(to) });

  /** Ends a film and forgets the paths: what they were computed for has changed. */
  function halt() {
    motion.pause();
    paths = [];
    origin = film = null;
    status.textContent = "";
  }
  function run(kind) {
    origin ??= { x, place };
    ({ x, place } = origin); // once more from where the last path began
    noise.set(place);
    refresh();
    status.textContent = kind === "renoise" && !place ? "This is the lowest noise: raise σ first." : "";
    if (status.textContent) return;
    film = { kind, shown: 0, ...(kind === "follow" ? { path: follow(points, x, levelAt(place)) } : renoise(points, x, place, next)) };
    paths = [...paths, []].slice(-KEPT);
    if (calm()) seek(film.path.length / 2 - 1);
    else motion.play();
  }
  /** Goes to a step of the film, and at the last one says so and returns false. */
  function seek(to) {
    const { kind, path, places } = film, last = path.length / 2 - 1, at = Math.min(last, Math.floor(to));
    film.shown = to;
    x = path.slice(2 * at, 2 * at + 2);
    paths[paths.length - 1] = path.slice(0, 2 * at + 2);
    if (places && place !== places[at]) {
      noise.set(place = places[at]);
      refresh();
    } else update();
    if (at < last) return true;
    const off = Math.min(...Array.from(here.weights, (_, i) => Math.hypot(points[2 * i] - x[0], points[2 * i + 1] - x[1])));
    status.textContent = kind === "follow" ? `After ${last} small steps the arrow is ${shown(Math.hypot(...arrow), 3)} long: log p is nearly flat here.`
      : `After ${last} steps x̃ is ${shown(off)} from a data point, drawn by chance, about with the weights at the start.`;
    return false;
  }
  const motion = player(view.box, (seconds) => seek(film.shown + seconds * (film.path.length / 2 - 1) / SECONDS));

  choose("ring", SETS.ring[1]);
  handle(view, { label: "noisy point x̃", color: "gap", min: LEFT, max: RIGHT, value: () => x[0].toFixed(2), at: () => [across(x[0]), up(x[1])],
    move: (left, top) => move([across.back(left), up.back(top)]), nudge: (dx, dy) => move([x[0] + 0.05 * dx, x[1] + 0.05 * dy]),
    text: () => `${pair(x)}${here ? `: arrow ${pair(arrow)}, carried by ${here.carriers.toFixed(1)} points` : ""}` });
}
