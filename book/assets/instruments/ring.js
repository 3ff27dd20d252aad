// Chapter 12: points come from noise to a ring of eight modes; sampler, steps, score and fresh noise are the reader's.
import { button, calm, choice, make, normal, player, row, scale, slider, surface, toggle } from "./kit.js";
import { EVEN, LEVELS, LOPSIDED, SAMPLERS, STD, density, evenly, exactScore, judge, learnedScore } from "./ring_model.js";

const NUM = 2000, NUM_LEARNED = 800, SECONDS = 5, TRAILS = 24, CELLS = 90, BOX = 2.4;
const NAMES = [["ddpm", "DDPM, noise added"], ["mean", "DDPM, noise left out"], ["ddim", "DDIM"],
  ["heun", "Probability flow, Heun"], ["annealed", "Langevin, annealed"], ["langevin", "Langevin, last level only"]];

export function mount(root, { load }) {
  const state = { sampler: "ddpm", eta: 0.5, steps: 50, learned: false, weights: EVEN, seed: 1, trails: false };
  let tensors = null, times, film, noise, shown = 0; // shown: the step on the screen, between two while it plays

  const panels = make("div", { class: "instrument-lab" }), side = make("div", { class: "instrument-column" });
  const shade = new OffscreenCanvas(CELLS, CELLS);
  root.append(panels);

  /** The noisy density that the points should have at this step, as a picture. */
  function shadeDensity(s, color) {
    const context = shade.getContext("2d"), pixels = context.createImageData(CELLS, CELLS);
    const at = (cell) => BOX * (2 * (cell + 0.5) / CELLS - 1), values = [];
    for (let i = 0; i < CELLS; i++) for (let j = 0; j < CELLS; j++) values.push(density(state.weights, at(j), -at(i), s));
    const top = values.reduce((a, b) => Math.max(a, b)), rgb = [1, 3, 5].map((k) => parseInt(color.slice(k, k + 2), 16));
    values.forEach((value, i) => pixels.data.set([...rgb, 120 * Math.sqrt(value / top)], 4 * i));
    context.putImageData(pixels, 0, 0);
  }

  const view = surface(panels, { ratio: 1, heights: [300, 460] }, (context, { width, height, colors }) => {
    const half = Math.min(width, height) / 2, step = Math.floor(shown), part = shown - step;
    const x = scale([-BOX, BOX], [width / 2 - half, width / 2 + half]), y = scale([-BOX, BOX], [height / 2 + half, height / 2 - half]);
    shadeDensity(LEVELS[timeOf(step)], colors.data);
    context.drawImage(shade, x(-BOX), y(BOX), 2 * half, 2 * half);
    const now = film[step], next = film[Math.min(step + 1, film.length - 1)], place = (i) => now[i] + part * (next[i] - now[i]);
    if (state.trails) {
      context.strokeStyle = colors.muted;
      context.globalAlpha = 0.6;
      for (let i = 0; i < 2 * TRAILS; i += 2) {
        context.beginPath();
        for (let k = 0; k <= step; k++) context.lineTo(x(film[k][i]), y(film[k][i + 1]));
        context.lineTo(x(place(i)), y(place(i + 1)));
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    for (const [color, isMine] of [["steps", (start) => start < 0], ["ink", (start) => start >= 0]]) {
      context.fillStyle = colors[color];
      for (let i = 0; i < now.length; i += 2)
        if (isMine(film[0][i])) context.fillRect(x(place(i)) - 1.1, y(place(i + 1)) - 1.1, 2.2, 2.2);
    }
  });
  panels.append(side);

  const timeOf = (step) => state.sampler === "langevin" && step < times.length - 1 ? 1 : times[step];
  const score = (x, t) => state.learned && t > 0 ? learnedScore(tensors, x, t) : exactScore(state.weights, x, LEVELS[t]);

  /** Computes the film up to a step. */
  function reach(step) {
    for (let k = film.length; k <= step; k++)
      film.push(SAMPLERS[state.sampler](score, film[k - 1], times[k - 1], times[k], noise, state.eta));
  }
  function show(step) {
    shown = Math.min(step, times.length - 1);
    reach(Math.min(Math.ceil(shown), times.length - 1));
    const at = Math.floor(shown), isLast = at === times.length - 1;
    scrub.set(at);
    if (isLast) {
      const { distance, wrong, chance } = judge(state.weights, film[at]), percent = (share) => `${(100 * share).toFixed(1)} %`;
      words.textContent = `The points are ${distance.toFixed(3)} off the nearest center along each axis (data: ${STD}); `
        + `${percent(wrong)} are in a wrong mode (by chance alone about ${percent(chance)}).`;
    } else words.textContent = "";
    view.describe(`${film[0].length / 2} points at time ${timeOf(at)}, and the density that they should have there. ${words.textContent}`);
    view.redraw();
  }

  const motion = player(view.box, (seconds) => {
    show(shown + seconds * (times.length - 1) / SECONDS);
    return shown < times.length - 1;
  }, (playing) => {
    play.textContent = playing ? "Pause" : "Play";
    if (!playing) show(Math.round(shown));
  });
  function restart(changed = {}) {
    Object.assign(state, changed);
    times = evenly(state.steps);
    const count = 2 * (state.learned ? NUM_LEARNED : NUM), next = normal(state.seed);
    noise = () => Float64Array.from({ length: count }, next);
    film = [noise()];
    scrub.input.max = state.steps;
    eta.element.hidden = state.sampler !== "ddim";
    if (state.learned && state.weights !== EVEN) Object.assign(state, { weights: EVEN });
    lopsided.checked = state.weights === LOPSIDED;
    lopsided.disabled = state.learned; // the network has learned the even ring
    const wasPlaying = motion.playing;
    motion.pause();
    show(0);
    if (!calm() || wasPlaying) motion.play();
  }

  const buttons = row(side);
  const play = button(buttons, "Play", () => {
    if (shown >= times.length - 1) show(0);
    motion.toggle();
  });
  play.classList.add("primary");
  button(buttons, "Step", () => { motion.pause(); show(Math.floor(shown) + 1); });
  button(buttons, "New noise", () => restart({ seed: state.seed + 1 }));
  const scrub = slider(side, { label: "time", min: 0, max: 50, step: 1, value: 0, text: (k) => `t = ${times ? timeOf(k) : ""}` },
    (step) => { motion.pause(); show(step); });
  choice(side, "sampler", NAMES, state.sampler, (sampler) => restart({ sampler }));
  const eta = slider(side, { label: "η", min: 0, max: 1, step: 0.05, value: state.eta, text: (value) => value.toFixed(2) },
    (value) => restart({ eta: value }));
  slider(side, { label: "steps", min: 5, max: 100, step: 1, value: state.steps }, (steps) => restart({ steps }));
  const kinds = choice(side, "score", [["exact", "exact"], ["learned", "learned by a network"]], "exact", async (kind) => {
    failure.textContent = "";
    try {
      if (kind === "learned") tensors ??= await load("ddpm-toy2d");
      restart({ learned: kind === "learned" });
    } catch {
      kinds.value = "exact";
      failure.textContent = "The weights of the network could not be loaded; the score stays exact.";
    }
  });
  const lopsided = toggle(side, "lopsided ring", false, (isOn) => restart({ weights: isOn ? LOPSIDED : EVEN }));
  toggle(side, "trails", false, (trails) => { state.trails = trails; view.redraw(); });
  const words = make("p", { class: "instrument-result" });
  const failure = make("p", { role: "status" });
  side.append(words, failure);
  restart();
}
