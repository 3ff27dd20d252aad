// Chapter 9: the forward process of the reader's own digit. Its pixels are data with two modes, paper and ink.
import { button, make, normal, player, row, scale, slider, surface } from "./kit.js";
import { drawPixels, pad } from "./draw_pad.js";
import { toPixels } from "./draw_strokes.js";
import { forward, scales, T, toPrior } from "./noise_schedule.js";

const RANGE = 2.8, COLUMNS = 120, ROWS = 84; // of the chart: values from -2.8 to 2.8, and the grid of the density
const SECONDS = 8; // for a whole film

export function mount(root) {
  const parts = Object.fromEntries(["pad", "image", "chart"].map((name) => [name, make("div", { class: `noise-${name}` })]));
  root.append(make("div", { class: "instrument-noise" }, ...Object.values(parts)));
  let film = null, share = 0, watched = [], t = 250, seed = 1, x = null;

  const image = surface(parts.image, { ratio: 1, heights: [120, 300] }, (context, { width, height, colors }) => {
    const side = Math.min(width, height), left = (width - side) / 2;
    context.strokeStyle = colors.muted;
    context.strokeRect(left + 0.5, 0.5, side - 1, side - 1);
    if (film) drawPixels(context, film[t].map((value) => (value + 1) / 2), left, 0, side, colors.ink);
  });
  const read = make("p", { class: "noise-read" });
  parts.image.append(read);

  const chart = surface(parts.chart, { ratio: 0.42, heights: [210, 290] }, (context, { width, height, colors, font }) => {
    const across = scale([0, T], [42, width - 8]), up = scale([-RANGE, RANGE], [height - 24, 6]);
    if (film) {
      drawDensity(context, share, colors.steps, [across(0), up(RANGE), across(T) - across(0), up(-RANGE) - up(RANGE)]);
      context.globalAlpha = 0.8;
      context.strokeStyle = colors.ink;
      for (const pixel of watched) {
        context.beginPath();
        for (let s = 0; s <= T; s += 2) context.lineTo(across(s), up(film[s][pixel]));
        context.lineWidth = 0.7;
        context.stroke();
      }
      context.globalAlpha = 1;
      context.fillStyle = colors.data;
      context.fillRect(across(t) - 1, up(RANGE), 2, up(-RANGE) - up(RANGE));
      for (const pixel of watched) {
        context.beginPath();
        context.arc(across(t), up(film[t][pixel]), 3.5, 0, 7);
        context.fill();
      }
    }
    font(12);
    context.fillStyle = colors.muted;
    context.textAlign = "right";
    for (const [value, words] of [[1, "ink"], [0, "0"], [-1, "paper"]]) context.fillText(words, 38, up(value) + 4);
    context.textAlign = "center";
    for (const time of [0, 250, 500, 750, 1000]) context.fillText(time ? String(time) : "t = 0", Math.min(across(time) + (time ? 0 : 8), width - 16), height - 6);
  });
  chart.canvas.classList.add("instrument-pad");
  const point = (event) => {
    if (event.type === "pointerdown") chart.canvas.setPointerCapture(event.pointerId);
    else if (!chart.canvas.hasPointerCapture(event.pointerId)) return;
    movie.pause();
    const box = chart.canvas.getBoundingClientRect();
    go(Math.round(scale([0, T], [42, box.width - 8]).back(event.clientX - box.left)));
  };
  for (const name of ["pointerdown", "pointermove"]) chart.canvas.addEventListener(name, point);

  function go(time) {
    t = Math.max(0, Math.min(T, time));
    time_slider.set(t);
    const { signal } = scales(t), left = t && film ? toPrior(x, t) : null;
    read.textContent = !film ? "The pad is empty: draw a digit, or let the page write one."
      : `${(100 * signal ** 2).toPrecision(3)} % of the digit’s variance is left. `
        + (t ? `KL of q(x_t|x) from N(0, I): ${left < 0.1 ? left.toExponential(1) : Math.round(left).toLocaleString("en")} nats.` : "No noise yet.");
    image.describe(film ? `The digit at time ${t} of ${T}.` : "No digit.");
    chart.describe("The density of a pixel's value over time: two modes, ink and paper, merge into one Gaussian; eight paths of pixels wander through it.");
    for (const each of [image, chart]) each.redraw();
  }
  function renew() {
    film = x && forward(x, normal(seed));
    go(t);
  }
  const controls = row(root);
  const play = button(controls, "Play", () => {
    if (!movie.playing && t === T) go(0);
    movie.toggle();
  });
  const time_slider = slider(controls, { label: "time t", min: 0, max: T, step: 1, value: t }, (time) => { movie.pause(); go(time); });
  button(controls, "New noise", () => { seed += 1; renew(); });
  const movie = player(root, (seconds) => {
    go(t + Math.max(1, Math.round((seconds * T) / SECONDS)));
    return t < T;
  }, (playing) => { play.textContent = playing ? "Pause" : "Play"; });

  pad(parts.pad, 7, (strokes, done) => {
    if (strokes.length && !done) return; // a thousand steps wait until the pen is lifted
    x = strokes.length ? toPixels(strokes).map((value) => 2 * value - 1) : null;
    if (x) {
      const ink = Array.from(x.keys()).filter((i) => x[i] > 0.9), paper = Array.from(x.keys()).filter((i) => x[i] < -0.9);
      share = ink.length / (ink.length + paper.length);
      const some = (from) => [0.15, 0.4, 0.6, 0.85].map((place) => from[Math.floor(place * from.length)]);
      watched = [...some(ink), ...some(paper)].filter((pixel) => pixel !== undefined);
    }
    renew();
  });
}

/** Shades a box by the marginal density of a pixel that is ink with the probability `share`, from t = 0 to T. */
function drawDensity(context, share, color, box) {
  const sheet = Object.assign(document.createElement("canvas"), { width: COLUMNS, height: ROWS });
  const brush = sheet.getContext("2d"), pixels = brush.createImageData(COLUMNS, ROWS);
  for (let column = 0; column < COLUMNS; column++) {
    const { signal, noise } = scales(Math.round(((column + 0.5) * T) / COLUMNS));
    const bell = (value, mean) => Math.exp(-0.5 * ((value - mean) / noise) ** 2) / noise / Math.sqrt(2 * Math.PI);
    for (let line = 0; line < ROWS; line++) {
      const value = RANGE * (1 - (2 * (line + 0.5)) / ROWS);
      const density = share * bell(value, signal) + (1 - share) * bell(value, -signal);
      pixels.data[4 * (line * COLUMNS + column) + 3] = 215 * Math.min(1, density);
    }
  }
  brush.putImageData(pixels, 0, 0);
  brush.globalCompositeOperation = "source-in";
  brush.fillStyle = color;
  brush.fillRect(0, 0, COLUMNS, ROWS);
  context.drawImage(sheet, ...box);
}
