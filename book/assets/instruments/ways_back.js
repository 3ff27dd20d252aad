// Chapter 12: from noise to points that the reader draws, by the probability-flow ODE and by the reverse SDE, from the same starts.
import { button, calm, choice, make, normal, player, row, scale, slider, surface } from "./kit.js";
import { posterior, step } from "./drawn_score.js";
import { BOX, MOST, SETS, sheet } from "./drawn_points.js";
import { dot, field } from "./drawn_field.js";

const HIGH = 50, LOW = 0.02, NUM = 240, TRAILS = 5, SECONDS = 5; // noise per unit of signal; particles, those with a trail
const A = 0.1, B = 9.95; // of beta(t) = A + 2 B t for t from 0 to 1, so that -r = A t + B t^2
const [LEFT, RIGHT, BOTTOM, TOP] = BOX;

/** The clocks: each as a function of sigma, the noise per unit of signal, and back. */
export const CLOCKS = {
  t: { text: "t of β(t)", of: (sigma) => (Math.sqrt(A * A + 4 * B * Math.log1p(sigma ** 2)) - A) / (2 * B),
    back: (t) => Math.sqrt(Math.expm1(A * t + B * t * t)) },
  r: { text: "r = log ᾱ", of: (sigma) => -Math.log1p(sigma ** 2), back: (r) => Math.sqrt(Math.expm1(-r)) },
  u: { text: "u of the straight line", of: (sigma) => sigma / (1 + sigma), back: (u) => u / (1 - u) },
  sigma: { text: "σ", of: (sigma) => sigma, back: (sigma) => sigma },
};

/** The noise at the calls of the denoiser, at equal steps of a clock, and 0 after the last one. */
export function sigmas(clock, calls) {
  const { of, back } = CLOCKS[clock], high = of(HIGH), low = of(LOW);
  return [...Array.from({ length: calls }, (_, k) => back(high + (low - high) * k / (calls - 1))), 0];
}

/** The level of x_t that has this noise per unit of signal. */
export const levelOf = (sigma) => ({ sigma: sigma / Math.hypot(1, sigma), scale: 1 / Math.hypot(1, sigma) });

/** Moves particles x_1, y_1, ... from one noise to the next; `next` gives normal numbers, eta = 0 uses none. */
export function advance(points, x, sigma, then, next, eta) {
  const from = levelOf(sigma), to = levelOf(then), moved = new Float64Array(x.length);
  for (let i = 0; i < x.length; i += 2)
    moved.set(step(points, x.slice(i, i + 2), from, to, eta ? [next(), next()] : [0, 0], eta), i);
  return moved;
}

/** Of particles: their mean distance from the nearest point, and the fraction that is left of the middle. */
export function report(points, x) {
  let far = 0, left = 0;
  for (let i = 0; i < x.length; i += 2) {
    let nearest = Infinity;
    for (let k = 0; k < points.length; k += 2) nearest = Math.min(nearest, Math.hypot(points[k] - x[i], points[k + 1] - x[i + 1]));
    far += nearest;
    left += x[i] < 0;
  }
  return { far: far / (x.length / 2), left: left / (x.length / 2) };
}

const WAYS = [{ name: "ODE: nothing random", eta: 0 }, { name: "SDE: noise at each step", eta: 1 }];
const number = (value) => (Math.abs(value) < 10 ? value.toFixed(2) : value.toFixed(1)).replace("-", "−");

export function mount(root) {
  const state = { clock: "t", calls: 40, seed: 1 };
  let points, chosen, noise, films, next, shown = 0, painted = {}; // shown: the step on the screen, between two while it plays
  let boxes = [];

  const view = surface(root, { ratio: (width) => width < 480 ? 1.62 : 0.4, heights: [180, 640] }, (context, { width, height, colors }) => {
    const stacked = width < 480, head = 18, gap = 12;
    const unit = stacked ? Math.min(width / 4, (height - gap) / 2 / 3 - head / 3) : Math.min((width - gap) / 8, (height - head) / 3);
    boxes = WAYS.map((_, k) => {
      const left = stacked ? (width - 4 * unit) / 2 : width / 2 + (k ? gap / 2 : -gap / 2 - 4 * unit);
      const top = head + (stacked ? k * (3 * unit + head + gap) : 0);
      return { x: scale([LEFT, RIGHT], [left, left + 4 * unit]), y: scale([BOTTOM, TOP], [top + 3 * unit, top]) };
    });
    const at = Math.floor(shown), part = shown - at;
    if (painted.at !== at && points.length) painted = { at, paint: field(points, levelOf(Math.max(LOW, noise[at]))) };
    WAYS.forEach(({ name, eta }, k) => {
      const { x, y } = boxes[k], place = ([a, b]) => [x(a), y(b)], film = films[k];
      context.fillStyle = colors.muted;
      context.fillText(name, x(LEFT), y(TOP) - 5);
      context.save();
      context.beginPath();
      context.rect(x(LEFT), y(TOP), 4 * unit, 3 * unit);
      context.clip();
      if (points.length) {
        painted.paint(context, place, unit, colors, new Float64Array(points.length / 2).fill(2 / points.length));
        const now = film[at], then = film[Math.min(at + 1, film.length - 1)];
        const here = (i) => place([0, 1].map((c) => now[i + c] + part * (then[i + c] - now[i + c])));
        context.strokeStyle = context.fillStyle = colors.gap;
        context.lineWidth = 1.5;
        for (let i = 0; i < 2 * TRAILS; i += 2) {
          context.beginPath();
          for (let j = 0; j <= at; j++) context.lineTo(...place(film[j].slice(i, i + 2)));
          context.lineTo(...here(i));
          context.globalAlpha = eta ? 0.4 : 1; // a jagged path would hide the rest
          context.stroke();
          context.globalAlpha = 1;
          dot(context, here(i), 3.5);
        }
        context.globalAlpha = 0.75;
        for (let i = 2 * TRAILS; i < now.length; i += 2) dot(context, here(i), 1.5);
      } else context.fillText("Draw data here.", x(-0.6), y(0));
      context.restore();
      context.strokeStyle = colors.rule;
      context.strokeRect(x(LEFT), y(TOP), 4 * unit, 3 * unit);
    });
  });

  /** Computes both films up to a step. */
  function reach(to) {
    films.forEach((film, k) => {
      for (let j = film.length; j <= to; j++) film.push(advance(points, film[j - 1], noise[j - 1], noise[j], next, WAYS[k].eta));
    });
  }
  function show(to) {
    const last = state.calls;
    shown = Math.min(to, last);
    if (points.length) reach(Math.min(Math.ceil(shown), last));
    const at = Math.floor(shown), sigma = noise[at];
    scrub.set(at);
    clocks.textContent = `t = ${number(CLOCKS.t.of(sigma))}, r = ${number(CLOCKS.r.of(sigma))}, u = ${number(CLOCKS.u.of(sigma))}, σ = ${number(sigma)}`;
    if (at === last && points.length) {
      const [ode, sde] = films.map((film) => report(points, film[last])), percent = (part) => `${Math.round(100 * part)} %`;
      words.textContent = `At the end the particles are on average ${number(ode.far)} (ODE) and ${number(sde.far)} (SDE) from the nearest data point; `
        + `${percent(ode.left)} and ${percent(sde.left)} are in the left half, of the data ${percent(report(points, points).left)}.`;
    } else words.textContent = points.length ? "Both ways start from the same noise, and at each time both should have the same distribution, the shaded one."
      : `Press and move to draw: at most ${MOST} points.`;
    view.describe(points.length ? `${NUM} particles by the ODE, beside as many by the SDE, at ${clocks.textContent}, with the density of the noisy `
      + `data (${keys[chosen].textContent}) and their score. ${words.textContent}` : "Two empty planes, to draw data on.");
    view.redraw();
  }

  const motion = player(view.box, (seconds) => {
    show(shown + seconds * state.calls / SECONDS);
    return shown < state.calls;
  }, (playing) => {
    play.textContent = playing ? "Pause" : "Play";
    if (!playing) show(Math.round(shown));
  });
  /** Starts anew, with other settings: at rest, or with motion if it moved or `moves`. */
  function restart(changed = {}, moves = motion.playing) {
    Object.assign(state, changed);
    motion.pause();
    next = normal(state.seed);
    const start = Float64Array.from({ length: 2 * NUM }, next);
    films = WAYS.map(() => [start]);
    noise = sigmas(state.clock, state.calls);
    painted = {};
    scrub.input.max = state.calls;
    if (points.length && calm() && chosen !== "drawn") return show(state.calls);
    show(0);
    if (moves && points.length && !calm()) motion.play();
  }
  function choose(name, set, moves) {
    for (const [key, each] of Object.entries(keys)) each.setAttribute("aria-pressed", String(key === name));
    chosen = name;
    points = Float64Array.from(set);
    for (const each of [play, again]) each.disabled = !points.length;
    restart({}, moves);
  }
  const sets = make("div", { class: "instrument-row", role: "group", "aria-label": "Data" });
  const keys = Object.fromEntries(Object.entries(SETS).map(([name, [text, set]]) =>
    [name, button(sets, text, () => { pen.draw(false); choose(name, set, true); })]));
  keys.drawn = button(sets, "Draw your own", () => { pen.draw(true); choose("drawn", [], false); });
  root.append(sets);
  const buttons = row(root);
  const play = button(buttons, "Play", () => {
    if (shown >= state.calls) show(0);
    motion.toggle();
  });
  play.classList.add("primary");
  const again = button(buttons, "New noise", () => restart({ seed: state.seed + 1 }, true));
  choice(buttons, "equal steps of", Object.entries(CLOCKS).map(([key, { text }]) => [key, text]), state.clock, (clock) => restart({ clock }, true));
  slider(root, { label: "calls of the denoiser", min: 4, max: 100, step: 1, value: state.calls }, (calls) => restart({ calls }));
  const scrub = slider(root, { label: "step", min: 0, max: state.calls, step: 1, value: 0 }, (to) => { motion.pause(); show(to); });
  const clocks = make("p", {}), words = make("p", { class: "instrument-result", role: "status" });
  root.append(clocks, words);
  const pen = sheet(view, {
    place: (left, top) => {
      const { x, y } = boxes.find(({ x, y }) => left <= x(RIGHT) + 6 && top <= y(BOTTOM) + 9) ?? boxes[1];
      return [x.back(left), y.back(top)];
    },
    onPoints: (set) => choose("drawn", set, false),
    onTap: () => {},
  });
  choose("clusters", SETS.clusters[1], !calm());
}
