// Chapter 8: which levels of a ladder see the digit? The others are drawn anew; the bars show what each that sees it adds.
import { button, make, meter, normal, row, surface, toggle } from "./kit.js";
import { drawPixels, pad } from "./draw_pad.js";
import { SIDE, toPixels } from "./draw_strokes.js";
import { DIMS, ladderModel } from "./ladder_model.js";

const MANY = 8; // redraws
const AXES = [20, 30, 60, 120, 240, 1000]; // nats at the end of the bars: the first that none exceeds
const PAUSE = 6; // milliseconds of work after which a frame is drawn

const total = (values) => values.reduce((sum, value) => sum + value, 0);
const squares = (x, image) => total(x.map((value, i) => (value - image[i]) ** 2));

/**
 * Redraws of x: levels that see it are drawn from q with the same noise in all of them, the others from p with their own.
 *
 * Yields null while it works, so that the page can breathe; at last the images, the nats that each level adds, which are a
 * mean over the redraws, the squared error, and both `whole`, where all levels see x.
 */
export function* redraws(model, x, sees, seed) {
  const next = normal(seed), noise = () => DIMS.map((dim) => Float64Array.from({ length: dim }, next));
  const said = model.messages(x), shared = noise(), walks = [];
  const walk = (seen, own) => {
    const { z, kl } = model.walk(said, seen, shared.map((each, i) => (seen[i] ? each : own[i])));
    const image = model.decode(z[0]);
    return { image, kl: kl.map((nats, i) => (seen[i] ? nats : 0)), error: squares(x, image) };
  };
  for (let i = 0; i < MANY; i++) {
    walks.push(walk(sees, noise()));
    yield null;
  }
  const mean = (f) => total(walks.map(f)) / MANY;
  yield {
    images: walks.map(({ image }) => image),
    kl: DIMS.map((_, i) => mean(({ kl }) => kl[i])),
    error: mean(({ error }) => error),
    whole: walk(DIMS.map(() => true), shared),
  };
}

/** Which levels see the digit, and what follows; the first entry is level 1. */
export function told(sees) {
  const levels = DIMS.map((_, i) => i + 1).filter((level) => sees[level - 1]).reverse(), lowest = levels.at(-1);
  if (!lowest) return ["no level sees it", "No level sees the digit: these are samples of the model."];
  const who = levels.length > 1 ? `levels ${levels.slice(0, -1).join(", ")} and ${lowest} see it` : `level ${lowest} sees it`;
  if (levels.length === DIMS.length) return [who, "All levels see the digit, and nothing is drawn anew."];
  return [who, levels.length === DIMS.length + 1 - lowest ? "What the upper levels leave open, those below invent."
    : "Lower levels correct, as well as they can, what was drawn anew above them, and pay for it."];
}

export async function mount(root, { load }) {
  const model = ladderModel(await load("hvae-mnist")), test = (await load("ladder_digits")).images.data;
  const parts = Object.fromEntries(["pad", "levels", "images"].map((name) => [name, make("div", { class: `ladder-${name}` })]));
  root.append(make("div", { class: "instrument-ladder" }, ...Object.values(parts)));
  const now = { x: null, sees: DIMS.map((_, i) => i >= 2), seed: 1, digit: 0, made: null };

  const gap = 8, head = 18, columns = (width) => (width < 520 ? 3 : MANY + 1), step = (width) => (width + gap) / columns(width);
  const ratio = (width) => (head + step(width) * Math.ceil((MANY + 1) / columns(width))) / width;
  const view = surface(parts.images, { ratio, heights: [40, 900] }, (context, { width, colors, font }) => {
    const side = step(width) - gap;
    font(12);
    [now.made?.x, ...(now.made?.images ?? Array(MANY).fill(null))].forEach((values, i) => {
      const x = (i % columns(width)) * step(width), y = Math.floor(i / columns(width)) * step(width) + head;
      context.strokeStyle = i ? colors.rule : colors.data;
      context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
      if (values) drawPixels(context, values, x, y, side, colors.ink);
      context.fillStyle = i ? colors.muted : colors.data;
      if (i < 2) context.fillText(i ? "redraws" : "the digit", x, 12);
    });
  });

  const axis = make("span");
  parts.levels.append(make("div", { class: "ladder-head" }, make("span", {}, "sees the digit"), make("span", {}, "KL divergence"), axis));
  const bars = DIMS.map((_, i) => {
    const level = DIMS.length - i, bar = meter(parts.levels, "", "data");
    toggle(parts.levels.lastChild.firstChild, `level ${level}`, now.sees[level - 1], (checked) => { now.sees[level - 1] = checked; update(); });
    return [level - 1, bar];
  });
  const status = make("p", { role: "status", class: "ladder-status" });

  function show() {
    const { made } = now, sees = made?.sees ?? now.sees, [who, what] = told(sees);
    const most = made ? AXES.find((nats) => nats > Math.max(...made.kl, ...made.whole.kl)) ?? AXES.at(-1) : AXES[0];
    axis.textContent = `to ${most} nats`;
    for (const [i, bar] of bars)
      if (made) bar.set(made.kl[i] / most, sees[i] ? made.kl[i].toFixed(1) : "drawn anew", made.whole.kl[i] / most);
      else bar.set(0, "");
    status.textContent = made ? `${what} Together ${total(made.kl).toFixed(1)} nats, squared error ${made.error.toFixed(0)}; `
      + `if all see it, ${total(made.whole.kl).toFixed(1)} nats and ${made.whole.error.toFixed(0)}.` : "The pad is empty: draw a digit, or take one.";
    view.describe(made ? `The digit and ${MANY} redraws of it; ${who}. They differ from the digit by a squared error of ${made.error.toFixed(0)}.` : "No digit.");
    view.redraw();
  }
  /* A wish that comes while it works is granted next: what is shown is always of one digit and one choice of levels. */
  let busy = null, again = false;
  function update() {
    again = true;
    return busy ??= Promise.resolve().then(work).finally(() => { busy = null; });
  }
  async function work() {
    while (again) {
      again = false;
      const { x, seed } = now, sees = [...now.sees];
      let made = null, since = performance.now();
      for (const step of x ? redraws(model, x, sees, seed) : []) {
        made = step;
        if (performance.now() - since < PAUSE) continue;
        await new Promise((next) => setTimeout(next));
        since = performance.now();
      }
      now.made = made && { ...made, x, sees };
      show();
    }
  }

  const put = pad(parts.pad, 3, (strokes) => {
    now.x = strokes.length ? toPixels(strokes).map((value) => (value > 0.5 ? 1 : 0)) : null;
    update();
  });
  /* The next of the test digits of the still. */
  function take() {
    const size = SIDE * SIDE, at = size * (now.digit++ % (test.length / size));
    now.x = Float32Array.from(test.slice(at, at + size));
    put(now.x);
    return update();
  }
  const controls = row(parts.levels);
  button(controls, "Next draw", () => { now.seed += 1; update(); }).classList.add("primary");
  button(controls, "Next test digit", take);
  parts.levels.append(status);
  await take();
}
