// Chapter 13: guidance at work. Each step shows the estimate for any class, that for the class, and the guided one.
import { button, calm, choice, make, player, row, slider, surface } from "./kit.js";
import { drawPixels } from "./draw_pad.js";
import { thread } from "./thread.js";

const SECONDS = 3; // for a whole film

export async function mount(root, { load }) {
  const ask = await thread("digit_worker.js", await load("ddpm-mnist-long"));
  const wish = { film: "guided", label: 4, scale: 3, seed: 7, num: 12 };
  let film = [], at = 0, follows = true; // while the film is made, the newest frame is shown

  const view = surface(root, { ratio: (width) => (width < 520 ? 1.16 : 0.28), heights: [150, 620] }, (context, { width, height, colors, font }) => {
    const narrow = width < 520, columns = narrow ? 2 : 4, gap = 14, head = 20;
    const side = Math.min((width - (columns - 1) * gap) / columns, narrow ? height / 2 - head - 4 : height - head - 2);
    const words = [film[at]?.t === 0 ? "the digit" : "the noisy image", "estimate, any class", `estimate, class ${wish.label}`, `guided, scale ${wish.scale}`];
    const shown = film[at] ? [film[at].x, film[at].three.any, film[at].three.told, film[at].three.guided] : [];
    const colorOf = [colors.ink, colors.prior, colors.data, colors.steps];
    const left = (width - columns * side - (columns - 1) * gap) / 2;
    words.forEach((word, i) => {
      const x = left + (i % columns) * (side + gap), y = Math.floor(i / columns) * (side + head + 4);
      font(narrow ? 12 : 13);
      context.textAlign = "left";
      context.fillStyle = i ? colorOf[i] : colors.muted;
      context.fillText(word, x, y + 13, side);
      context.strokeStyle = i ? colorOf[i] : colors.rule;
      context.strokeRect(x + 0.5, y + head + 0.5, side - 1, side - 1);
      if (shown[i]) drawPixels(context, shown[i].map((value) => (value + 1) / 2), x, y + head, side, colors.ink);
    });
  });

  function go(k) {
    at = Math.max(0, Math.min(film.length - 1, k));
    scrub.set(at);
    const { t } = film[at];
    view.describe(`Step ${at} of ${wish.num}, time ${t}: ${t ? "the noisy image" : "the digit"}, and the estimates of the clean image for any class, for class ${wish.label}, and guided with scale ${wish.scale}.`);
    view.redraw();
  }
  /** A new film: each frame is shown when the thread has made it. */
  async function draw() {
    movie.pause();
    [film, follows] = [[], true];
    status.textContent = `A network of two million parameters computes ${2 * wish.num} times.`;
    const whole = await ask({ ...wish }, (frame) => {
      film.push({ ...frame, three: frame.three ?? film.at(-1).three });
      if (follows && (!calm() || frame.t === 0)) go(film.length - 1);
    });
    if (whole) status.textContent = said(wish);
  }
  let elapsed = 0;
  const movie = player(root, (seconds) => {
    elapsed += (seconds * wish.num) / SECONDS;
    const whole = Math.floor(elapsed);
    elapsed -= whole;
    if (whole) go(at + whole);
    return at < film.length - 1;
  }, (playing) => { play.textContent = playing ? "Pause" : "Play"; });
  const by_hand = (k) => {
    follows = false;
    movie.pause();
    if (film.length) go(k);
  };

  const first = row(root);
  const play = button(first, "Play", () => {
    follows = false;
    if (!movie.playing && at === film.length - 1 && !calm()) go(0);
    movie.toggle();
  });
  button(first, "Step", () => by_hand(at + 1));
  const scrub = slider(first, { label: "step", min: 0, max: wish.num, step: 1, value: 0 }, by_hand);
  const second = row(root);
  button(second, "Other noise", () => { wish.seed += 1; draw(); }).classList.add("primary");
  choice(second, "class", Array.from({ length: 10 }, (_, k) => [String(k), String(k)]), String(wish.label),
    (label) => { wish.label = Number(label); draw(); });
  slider(second, { label: "scale", min: 0, max: 9, step: 0.5, value: wish.scale }, (scale) => { wish.scale = scale; draw(); });
  choice(second, "steps", [6, 12, 20, 50].map((num) => [String(num), String(num)]), String(wish.num), (num) => {
    wish.num = Number(num);
    scrub.input.max = num;
    draw();
  });
  const status = make("p", { role: "status", class: "guide-status" });
  root.append(status);
  const opening = draw();
  if (calm()) await opening;
}

/** What the scale does, in words. */
export function said({ scale, label }) {
  if (scale === 0) return "Scale 0: the class is not used, so the digit may be any.";
  if (scale < 1) return `Scale ${scale}: less than the class ${label} says.`;
  if (scale === 1) return `Scale 1: the estimate for class ${label}, as it is.`;
  return `Scale ${scale}: the difference that class ${label} makes, ${scale} times. Move the steps back: early on the estimates differ most.`;
}
