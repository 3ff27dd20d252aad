// Chapter 5: the decoder's noise as a water level. What varies less than the level gets no latent.
import { clip, handle, make, meter, scale, segment, surface } from "./kit.js";

const HIGHEST = 4.5, LOWEST = 0.03;

/** Rates, errors and expected bounds of the best linear VAE, in nats, for independent coordinates. */
export function code(variances, level) {
  const errors = variances.map((variance) => Math.min(variance, level));
  const rates = variances.map((variance, j) => 0.5 * Math.log(variance / errors[j]));
  const bounds = variances.map((variance) => {
    const model = Math.max(variance, level); // the variance of x under the model
    return -0.5 * Math.log(2 * Math.PI * model) - variance / (2 * model);
  });
  return { rates, errors, bounds };
}

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

export function mount(root) {
  const variances = [4, 2, 1, 0.4, 0.1];
  let level = 0.7, now = code(variances, level);

  let up, middle; // maps a variance to pixels, and a coordinate to the middle of its bar
  const view = surface(root, { ratio: 0.5, heights: [250, 340] }, (context, { width, height, colors, font }) => {
    const foot = height - 34, wide = Math.min(64, (width - 70) / 7), unit = width < 460 ? "" : " nats";
    up = scale([0, HIGHEST], [foot, 24]);
    middle = (j) => 46 + (j + 0.5) * (width - 52) / variances.length;
    context.fillStyle = colors.muted;
    context.textAlign = "left";
    context.fillText("variance", 4, 13);
    context.textAlign = "right";
    for (let tick = 0; tick <= 4; tick++) {
      segment(context, [30, up(tick)], [width, up(tick)], { color: colors.rule, width: tick ? 0.5 : 1.25 });
      context.fillText(String(tick), 24, up(tick) + 4);
    }
    context.textAlign = "center";
    variances.forEach((variance, j) => {
      const left = middle(j) - wide / 2, error = now.errors[j];
      context.fillStyle = `${colors.data}55`;
      context.fillRect(left, up(variance), wide, up(error) - up(variance));
      context.fillStyle = `${colors.steps}99`;
      context.fillRect(left, up(error), wide, foot - up(error));
      context.fillStyle = now.rates[j] ? colors.data : colors.muted;
      font(12, now.rates[j] ? "600" : "");
      context.fillText(now.rates[j] ? `${now.rates[j].toFixed(2)}${unit}` : "dead", middle(j), foot + 15);
      font(12);
      context.fillStyle = colors.muted;
      context.fillText(`z${"₁₂₃₄₅"[j]}`, middle(j), foot + 30);
    });
    segment(context, [30, up(level)], [width, up(level)], { color: colors.steps, width: 2, dash: [7, 4] });
  });
  const meters = { rate: meter(root, "rate", "data"), error: meter(root, "error", "steps") };
  const words = make("p", { class: "instrument-sums" });
  root.append(words);

  function update() {
    now = code(variances, level);
    const rate = sum(now.rates), error = sum(now.errors), dead = now.rates.filter((r) => r === 0).length;
    meters.rate.set(rate / 8, `${rate.toFixed(2)} nats`);
    meters.error.set(error / sum(variances), `${error.toFixed(2)} of ${sum(variances).toFixed(2)}`);
    words.textContent = `Bound ${sum(now.bounds).toFixed(2).replace("-", "−")} nats, ${dead} of ${variances.length} latents dead.`;
    view.describe(`Five bars of variance ${variances.map((v) => v.toFixed(2)).join(", ")}, flooded up to ${level.toFixed(2)}. ${words.textContent}`);
    view.redraw();
  }
  const set = (change) => (value) => { change(clip(value, LOWEST, HIGHEST)); update(); };

  const setLevel = set((value) => { level = value; });
  handle(view, { label: "variance of the decoder's noise", color: "steps", min: LOWEST, max: HIGHEST,
    value: () => level.toFixed(2), at: () => [34, up(level)], move: (_, top) => setLevel(up.back(top)),
    nudge: (dx, dy) => setLevel(level + 0.05 * (dx + dy)), text: () => `${level.toFixed(2)}; ${words.textContent}` });
  variances.forEach((_, j) => {
    const setVariance = set((value) => { variances[j] = value; });
    handle(view, { label: `variance of coordinate ${j + 1}`, color: "data", min: LOWEST, max: HIGHEST,
      value: () => variances[j].toFixed(2), at: () => [middle(j), up(variances[j])], move: (left, top) => setVariance(up.back(top)),
      nudge: (dx, dy) => setVariance(variances[j] + 0.05 * (dx + dy)),
      text: () => `${variances[j].toFixed(2)}; ${now.rates[j] ? `${now.rates[j].toFixed(2)} nats` : "dead"}` });
  });
  update();
}
