// Chapter 6: a VAE that trains in the page, on points in the plane that the reader draws; its update goes in six steps.
import { button, choice, clip, handle, make, normal, player, row, slider, surface, toggle, uniform } from "./kit.js";
import { drawChart, drawLatents, drawPlane } from "./train_vae_drawing.js";
import { STEPS, TOLD, counted, number, percent, summary } from "./train_vae_words.js";
import { look, measure, preset } from "./vae_measures.js";
import { newAdam, newModel, update } from "./vae_training.js";

const MOST = 400, LEAST = 10, SCATTER = 0.05, BUDGET = 5, RECORDS = 200; // points; milliseconds of updates in a frame
const SHAPES = [["ring", "ring"], ["clusters", "two clusters"], ["spiral", "spiral"], ["own", "your own points"]];

export function mount(root) {
  const state = { shape: "ring", points: preset("ring"), seed: 0, std: 0.2, beta: 1, learned: false, pace: 8 };
  const maps = {}, scatter = normal(5), pen = [0, 0];
  let run, running = null, saidAt = 0, measuredAt = 0; // the model and what trains it; an update on its way

  const buttons = row(root), steps = make("ol", { class: "train-steps" }, ...STEPS.map((text) => make("li", {}, text)));
  const told = make("p", { class: "train-told", role: "status" });
  const panels = make("div", { class: "instrument-train" }), right = make("div");
  root.append(steps, told, panels);
  const plane = surface(panels, { ratio: 1, heights: [260, 400] }, (context, space) => {
    drawPlane(context, space, state, maps);
    if (state.points.length) return;
    space.font(15);
    context.fillStyle = space.colors.muted;
    context.textAlign = "center";
    context.fillText("Draw points here.", space.width / 2, space.height / 4);
  });
  panels.append(right);
  const latents = surface(right, { ratio: 0.42, heights: [150, 175] }, (context, space) => drawLatents(context, space, state));
  const chart = surface(right, { ratio: 0.52, heights: [180, 220] }, (context, space) => drawChart(context, space, state));

  /* The update */

  function restart() {
    const draw = uniform(state.seed), model = newModel(state.std, draw);
    run = { model, adam: newAdam(model), uniform: draw, normal: normal(1000 + state.seed) };
    Object.assign(state, { model, step: 0, now: null, before: null, count: 0, history: [], every: 4 });
    running = null;
    refresh(true);
  }
  /** The next of the six steps. */
  function advance() {
    if (!running) {
      Object.assign(run, { points: state.points, beta: state.beta, learned: state.learned });
      running = update(run);
      state.step = 0;
      state.before = null;
    }
    state.now = running.next().value;
    if (++state.step < 6) return;
    running = null;
    state.count++;
  }
  function finish() {
    do advance(); while (running);
  }

  /* What is seen and said */

  function refresh(all) {
    if (state.points.length) state.seen = look(run.model, state.points);
    else state.seen = { ...look(run.model, Float64Array.of(0, 0)), density: new Float64Array(501), code: [] };
    const due = state.count >= (state.history.at(-1)?.count ?? -1) + state.every && (all || performance.now() > measuredAt + 50);
    if (state.points.length && (due || all)) {
      state.measured = measure(run.model, state.points, state.seen);
      measuredAt = performance.now();
      if (due) state.history.push({ count: state.count, ...state.measured });
      if (state.history.length > RECORDS) {
        state.history = state.history.filter((_, i) => i % 2 === 0);
        state.every *= 2;
      }
    }
    if (all || performance.now() > saidAt + 500) say();
    plane.redraw();
    latents.redraw();
    chart.redraw();
  }
  function say() {
    saidAt = performance.now();
    const { points, step, now, measured, beta, count } = state, num = points.length / 2, few = num < LEAST;
    for (const one of [play, whole, next]) one.disabled = few;
    steps.querySelectorAll("li").forEach((item, k) => {
      if (k + 1 === step && !motion.playing) item.setAttribute("aria-current", "step");
      else item.removeAttribute("aria-current");
    });
    if (state.learned) std.set(clip(Math.exp(run.model.logStd[0]), 0.05, 1.2));
    limit.textContent = few ? `${num} points so far; training takes ${LEAST} at least. Space adds one at the pen.`
      : num >= MOST ? `${MOST} points are the most that fit here.` : "";
    if (few) {
      words.textContent = told.textContent = "";
      plane.describe(`${num} points. ${limit.textContent}`);
      latents.describe("The density of the prior.");
      chart.describe("No updates so far.");
      return;
    }
    told.textContent = step && !motion.playing ? `${step}. ${TOLD[step - 1](now)}`
      : "Each update takes these six steps: train, or take them one by one.";
    words.textContent = summary(measured, count, beta);
    plane.describe(`${num} points, the curve of the decoder, and samples from the prior. ${told.textContent} ${words.textContent}`);
    latents.describe(`The density of the prior, and the aggregate posterior, which covers ${percent(measured.covered)} of it.`);
    chart.describe(`After ${counted(count)}: log p(x) ${number(measured.evidence)}, bound ${number(measured.bound)}, reconstruction `
      + `${number(measured.reconstruction)}, KL ${number(measured.kl)} nats.`);
  }

  /* Controls */

  const motion = player(panels, () => {
    const end = performance.now() + BUDGET;
    let left = state.pace;
    do finish(); while (--left && performance.now() < end);
    refresh(false);
  }, (playing) => {
    play.textContent = playing ? "Pause" : "Train";
    words.setAttribute("aria-live", playing ? "off" : "polite");
    if (running) finish();
    state.step = 0;
    refresh(true);
  });
  const play = button(buttons, "Train", () => motion.toggle());
  play.classList.add("primary");
  const stepwise = (act) => () => {
    motion.pause();
    const before = state.seen.curve;
    act();
    if (state.step === 6) state.before = before;
    refresh(true);
  };
  const next = button(buttons, "Next step", stepwise(advance));
  const whole = button(buttons, "One update", stepwise(finish));
  button(buttons, "Restart", restart);
  const shapes = choice(buttons, "data", SHAPES, state.shape, (shape) => {
    setPoints(shape, shape === "own" ? new Float64Array() : preset(shape));
    if (shape === "own") motion.pause();
    restart();
  });
  const sliders = make("div", { class: "train-sliders" });
  root.append(sliders);
  slider(sliders, { label: "weight β of the KL", min: 0, max: 4, step: 0.1, value: state.beta, text: (value) => value.toFixed(1) },
    (beta) => { state.beta = beta; refresh(true); });
  const std = slider(sliders, { label: "noise σ of p(x | z)", min: 0.05, max: 1.2, step: 0.01, value: state.std, text: (v) => v.toFixed(2) },
    (value) => {
      state.std = value;
      run.model.logStd[0] = Math.log(value);
      refresh(true);
    });
  slider(sliders, { label: "updates per frame", min: 0, max: 6, step: 1, value: 3, text: (power) => 2 ** power },
    (power) => { state.pace = 2 ** power; });
  toggle(sliders, "learn σ", false, (learned) => {
    state.learned = std.input.disabled = learned;
    state.std = Number(std.input.value);
    if (!learned) run.model.logStd[0] = Math.log(state.std);
    refresh(true);
  });
  slider(sliders, { label: "seed", min: 0, max: 20, step: 1, value: state.seed }, (seed) => {
    state.seed = seed;
    restart();
  });
  const limit = make("p", { class: "instrument-status", role: "status" });
  const words = make("p", { class: "train-words", "aria-live": "polite" });
  root.append(limit, words);

  /* Points by mouse, finger or key */

  function setPoints(shape, points) {
    Object.assign(state, { shape, points, before: null });
    if (running) { running = null; state.step = 0; }
    shapes.value = shape;
    plane.canvas.classList.toggle("instrument-pad", shape === "own"); // a finger on a preset scrolls the page
  }
  function add(x, y) {
    if (state.points.length >= 2 * MOST) return refresh(true);
    setPoints("own", Float64Array.of(...state.points, x + SCATTER * scatter(), y + SCATTER * scatter()));
    refresh(true);
  }
  let last = null;
  const place = ({ clientX, clientY }) => {
    const box = plane.canvas.getBoundingClientRect();
    return [maps.x.back(clientX - box.left), maps.y.back(clientY - box.top)];
  };
  plane.canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" && state.shape !== "own") return;
    plane.canvas.setPointerCapture(event.pointerId);
    last = place(event);
    add(...last);
  });
  plane.canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const each of event.getCoalescedEvents?.() ?? [event]) {
      const at = place(each);
      if (Math.hypot(at[0] - last[0], at[1] - last[1]) < SCATTER) continue;
      last = at;
      add(...at);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) plane.canvas.addEventListener(end, () => { last = null; });

  restart();
  const knob = handle(plane, { label: "pen", color: "ink", min: -1.6, max: 1.6, value: () => pen[0].toFixed(2),
    at: () => [maps.x(pen[0]), maps.y(pen[1])], move: () => {},
    nudge: (dx, dy) => {
      pen[0] = clip(pen[0] + 0.1 * dx, -1.6, 1.6);
      pen[1] = clip(pen[1] + 0.1 * dy, -1.6, 1.6);
      plane.redraw();
    },
    text: () => `at ${number(pen[0], 1)}, ${number(pen[1], 1)}; ${state.points.length / 2} points; Space adds one` });
  knob.classList.add("train-pen");
  knob.addEventListener("keydown", (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    add(...pen);
  });
}
