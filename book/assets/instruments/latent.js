// The last chapter: a diffusion of 16 latents draws a digit, and every step of it can be seen.
import { button, calm, choice, make, normal, player, row, slider, surface } from "./kit.js";
import { drawPixels } from "./draw_pad.js";
import { DIM, latentModel, sample } from "./latent_model.js";

const STRIP = 9; // steps in the strip
const SECONDS = 4; // for a whole film

export async function mount(root, { load }) {
  const model = latentModel(await load("ldm-mnist"), await load("conv-vae-mnist"));
  const wish = { seed: 40, num: 20, eta: 0 };
  let film = [], decoded = [], at = 0;

  /** The images at a step, decoded when they are first needed. */
  const images = (k) => decoded[k] ??= [model.decode(film[k].z), model.decode(film[k].estimate)];
  const frame = (context, colors, values, x, y, side) => {
    context.strokeStyle = colors.rule;
    context.strokeRect(x + 0.5, y + 0.5, side - 1, side - 1);
    drawPixels(context, values, x, y, side, colors.ink);
  };

  const view = surface(root, { ratio: 0.42, heights: [330, 330] }, (context, { width, colors, font }) => {
    const { z } = film[at], narrow = width < 520, pair = images(at);
    const side = Math.min(200, (width - 16) / 2), left = narrow ? (width - 2 * side) / 3 : 0;
    font(13);
    context.textAlign = "left";
    context.fillStyle = colors.muted;
    [film[at].t ? "decoded from the noisy code" : "the digit", "from the estimate of the clean code"].forEach((words, i) => {
      const x = left + i * (side + (narrow ? left : 24));
      context.fillStyle = colors.muted;
      context.fillText(narrow ? ["from the noisy code", "from the estimate"][i] : words, x, 13, side + 20);
      frame(context, colors, pair[i], x, 22, side);
    });
    const from = narrow ? 0 : 2 * side + 60, top = narrow ? side + 30 : 22, tall = narrow ? 236 - top : side;
    const middle = top + tall / 2, wide = Math.max(3, Math.min(22, (width - from) / DIM));
    context.fillStyle = colors.muted;
    context.fillText(narrow ? "" : `the 16 latents at t = ${film[at].t}`, from, 13);
    z.forEach((value, i) => {
      const long = Math.max(-1, Math.min(1, value / 3)) * (tall / 2 - 4);
      context.fillStyle = colors.steps;
      context.fillRect(from + i * wide, middle - Math.max(0, long), wide * 0.7, Math.max(1, Math.abs(long)));
    });
    context.fillStyle = colors.rule;
    context.fillRect(from, middle - 0.5, wide * DIM, 1);
    const shown = strip(width), latest = Math.max(...shown.map(([k]) => (k <= at ? k : 0)));
    for (const [k, place] of shown) {
      frame(context, colors, images(k)[0], place, 246, 74);
      if (k === latest) {
        context.fillStyle = colors.steps;
        context.fillRect(place, 322, 74, 4);
      }
    }
  });
  /* The steps of the strip, first and last among them, and where each is drawn. */
  const strip = (width) => {
    const many = Math.min(STRIP, film.length, Math.floor((width + 6) / 80));
    return Array.from({ length: many }, (_, i) =>
      [Math.round((i * (film.length - 1)) / (many - 1)), (i * (width - 74)) / (many - 1)]);
  };
  view.canvas.addEventListener("click", ({ offsetX, offsetY }) => {
    const hit = offsetY > 240 && strip(view.canvas.clientWidth).find(([, x]) => offsetX >= x && offsetX < x + 74);
    if (hit) go(hit[0]);
  });

  function go(k) {
    at = Math.max(0, Math.min(film.length - 1, k));
    scrub.set(at);
    view.describe(`Step ${at} of ${film.length - 1}, time ${film[at].t}: ${at ? "a digit forms" : "a code of pure noise"}, decoded; beside it the estimate.`);
    view.redraw();
  }
  /** A new film: all steps are computed at once, and shown one after the other. */
  function draw() {
    const next = normal(wish.seed);
    film = sample(model, Float32Array.from({ length: DIM }, next), wish.num, wish.eta, next);
    decoded = [];
    scrub.input.max = film.length - 1;
    go(calm() ? film.length - 1 : 0);
    if (!calm()) movie.play();
  }
  let elapsed = 0;
  const movie = player(root, (seconds) => {
    elapsed += (seconds * film.length) / SECONDS;
    const whole = Math.floor(elapsed);
    elapsed -= whole;
    if (whole) go(at + whole);
    return at < film.length - 1;
  }, (playing) => { play.textContent = playing ? "Pause" : "Play"; });

  const first = row(root);
  const play = button(first, "Play", () => {
    if (!movie.playing && at === film.length - 1) go(0);
    movie.toggle();
  });
  button(first, "Step", () => { movie.pause(); go(at + 1); });
  const scrub = slider(first, { label: "step", min: 0, max: wish.num, step: 1, value: 0 }, (k) => { movie.pause(); go(k); });
  const second = row(root);
  const another = button(second, "Another digit", () => { wish.seed = (wish.seed % 999) + 1; seed.set(wish.seed); draw(); });
  another.classList.add("primary");
  const seed = slider(second, { label: "seed", min: 1, max: 999, step: 1, value: wish.seed }, (value) => { wish.seed = value; draw(); });
  choice(second, "steps", [3, 5, 10, 20, 50, 100].map((num) => [String(num), String(num)]), String(wish.num),
    (num) => { wish.num = Number(num); draw(); });
  choice(second, "noise", [["0", "none (DDIM)"], ["0.5", "half"], ["1", "full (DDPM)"]], String(wish.eta),
    (eta) => { wish.eta = Number(eta); draw(); });
  draw();
}
