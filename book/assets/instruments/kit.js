// What the instruments share: tensors, random numbers, a canvas that follows theme and width, controls, handles, motion.

/* Tensors ------------------------------------------------------------------------------------------------------ */

/** The number that a float16 with these bits is. */
function ofHalf(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** All float16 in the order of their bits: to look millions of weights up takes milliseconds, to compute them holds the page up. */
const halves = () => (halves.table ??= Float32Array.from({ length: 65536 }, (_, bits) => ofHalf(bits)));

/** The numbers that float16 with these bits are. */
function fromHalves(bits) {
  const table = halves(), values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
  return values;
}

const TYPES = {
  F16: (bytes) => fromHalves(new Uint16Array(bytes)),
  F32: (bytes) => new Float32Array(bytes),
  F64: (bytes) => new Float64Array(bytes),
  I64: (bytes) => Float64Array.from(new BigInt64Array(bytes), Number),
  U8: (bytes) => new Uint8Array(bytes),
};

/** The tensors of a safetensors file: {name: {shape, data}}, row by row as in torch. */
export function parseTensors(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true)), start = 8 + length;
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, length)));
  delete header.__metadata__;
  return Object.fromEntries(Object.entries(header).map(([name, { dtype, shape, data_offsets: [from, to] }]) =>
    [name, { shape, data: TYPES[dtype](buffer.slice(start + from, start + to)) }]));
}

/** Loads tensors, and refuses a file whose SHA-256 is another. A browser hashes at https and localhost only.
    `onBytes` is called with the length of each part that has come. */
export async function fetchTensors(url, sha256, onBytes = () => {}) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} has the status ${response.status}`);
  const counting = new TransformStream({ transform(part, out) { onBytes(part.length); out.enqueue(part); } });
  const buffer = await new Response(response.body.pipeThrough(counting)).arrayBuffer();
  if (globalThis.crypto?.subtle) {
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
    const found = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
    if (found !== sha256) throw new Error(`${url} has another SHA-256 than the page says`);
  }
  return parseTensors(buffer);
}

/* Random numbers ----------------------------------------------------------------------------------------------- */

/** Uniform numbers in [0, 1) that a seed decides (sfc32, after Chris Doty-Humphrey). */
export function uniform(seed) {
  let a = 0x9e3779b9, b = 0x243f6a88, c = seed | 0, d = 1;
  const next = () => {
    const t = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + t) | 0;
    return (t >>> 0) / 4294967296;
  };
  for (let i = 0; i < 15; i++) next();
  return next;
}

/** Standard normal numbers that a seed decides, by the method of Box and Muller. */
export function normal(seed) {
  const u = uniform(seed);
  let spare = null;
  return () => {
    if (spare !== null) {
      const kept = spare;
      spare = null;
      return kept;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - u())), angle = 2 * Math.PI * u();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/** An array of `count` standard normal numbers. */
export function normals(count, seed) {
  return Float64Array.from({ length: count }, normal(seed));
}

/* Drawing ------------------------------------------------------------------------------------------------------ */

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An element with properties and children; `class`, `data-` and `aria-` names are attributes. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties))
    if (/^(class|role|for|style|data-.*|aria-.*)$/.test(name)) element.setAttribute(name, value);
    else element[name] = value;
  element.append(...children);
  return element;
}

/** The colors of the theme by their names in instruments.css, such as colors.data for --instrument-data. */
function themeColors(element) {
  const style = getComputedStyle(element);
  return new Proxy({}, { get: (_, name) => style.getPropertyValue(`--instrument-${name}`).trim() });
}

/**
 * A canvas as wide as its place, `ratio` times as high within `heights`, drawn anew when its width or the theme
 * changes, sharp on every screen; `ratio` may be a function of the width.
 *
 * `draw(context, {width, height, colors, font})` measures in CSS pixels. Returns {canvas, box, redraw, describe};
 * `redraw()` waits for the next frame, and `describe(text)` says what is seen to who does not see it. Until there are
 * words the canvas is hidden from screen readers: an image without a name tells them nothing.
 */
export function surface(root, { ratio = 0.5, heights = [200, 420], describe = "" }, draw) {
  const canvas = make("canvas");
  const say = (text) => {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", text);
    canvas.removeAttribute("aria-hidden");
  };
  if (describe) say(describe);
  else canvas.setAttribute("aria-hidden", "true");
  const box = make("div", { class: "instrument-surface" }, canvas);
  const handles = [];
  root.append(box);
  let waiting = false;
  function paint() {
    waiting = false;
    const width = box.clientWidth, dense = window.devicePixelRatio || 1;
    if (!width) return;
    const form = typeof ratio === "function" ? ratio(width) : ratio;
    const height = Math.round(Math.min(heights[1], Math.max(heights[0], width * form)));
    if (canvas.width !== Math.round(width * dense) || canvas.height !== Math.round(height * dense)) {
      canvas.width = Math.round(width * dense);
      canvas.height = Math.round(height * dense);
      canvas.style.height = `${height}px`;
    }
    const context = canvas.getContext("2d"), family = getComputedStyle(box).fontFamily;
    context.save();
    context.setTransform(dense, 0, 0, dense, 0, 0);
    context.clearRect(0, 0, width, height);
    const font = (size, style = "") => { context.font = `${style} ${size}px ${family}`; };
    font(12);
    draw(context, { width, height, colors: themeColors(box), font });
    context.restore();
    handles.forEach((place) => place());
  }
  function redraw() {
    if (!waiting) requestAnimationFrame(paint);
    waiting = true;
  }
  new ResizeObserver(redraw).observe(box);
  new MutationObserver(redraw).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  redraw();
  return { canvas, box, redraw, handles, describe: say };
}

/** A linear map from numbers to pixels; `.back` is its inverse. */
export function scale([low, high], [from, to]) {
  const map = (value) => from + (to - from) * (value - low) / (high - low);
  map.back = (pixel) => low + (high - low) * (pixel - from) / (to - from);
  return map;
}

export const clip = (value, low, high) => Math.min(high, Math.max(low, value));

/** Draws a straight line between two points in pixels. */
export function segment(context, from, to, { color, width = 1.25, dash = [] }) {
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.strokeStyle = color;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

/** Draws y over x as one line, and fills what is below if there is a `fill`. */
export function curve(context, xs, ys, x, y, { color, width = 2.25, dash = [], fill } = {}) {
  context.beginPath();
  for (let i = 0; i < xs.length; i++) context.lineTo(x(xs[i]), y(ys[i]));
  context.strokeStyle = color;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
  if (!fill) return;
  context.lineTo(x(xs[xs.length - 1]), y(0));
  context.lineTo(x(xs[0]), y(0));
  context.fillStyle = fill;
  context.fill();
}

/* Controls ----------------------------------------------------------------------------------------------------- */

/** A row for controls. */
export function row(root, ...children) {
  const line = make("div", { class: "instrument-row" }, ...children);
  root.append(line);
  return line;
}

/** A labelled slider; `text(value)` is read out, and `set(value)` moves it. */
export function slider(root, { label, min, max, step, value, text = String }, onInput) {
  const input = make("input", { type: "range", min, max, step, value }), read = make("output");
  const show = () => {
    read.textContent = text(Number(input.value));
    input.setAttribute("aria-valuetext", read.textContent);
  };
  input.addEventListener("input", () => { show(); onInput(Number(input.value)); });
  show();
  const element = make("label", { class: "instrument-slider" }, make("span", {}, label), input, read);
  root.append(element);
  return { element, input, set: (number) => { input.value = number; show(); } };
}

/** A button. */
export function button(root, text, onClick) {
  const element = make("button", { type: "button" }, text);
  element.addEventListener("click", onClick);
  root.append(element);
  return element;
}

/** A switch. */
export function toggle(root, text, checked, onChange) {
  const input = make("input", { type: "checkbox", checked });
  input.addEventListener("change", () => onChange(input.checked));
  root.append(make("label", { class: "instrument-toggle" }, input, text));
  return input;
}

/** A named bar with its number; `set(share, text, mark)` fills a share of it, and marks one. */
export function meter(root, label, color) {
  const fill = make("span", { class: "fill" }), tick = make("span", { class: "tick" }), read = make("output");
  const track = make("span", { class: "track", "aria-hidden": "true" }, fill, tick);
  const element = make("div", { class: "instrument-meter" }, make("span", {}, label), track, read);
  element.style.setProperty("--fill", `var(--instrument-${color})`);
  root.append(element);
  const percent = (share) => `${100 * Math.min(1, Math.max(0, share))}%`;
  return { set(share, text, mark) {
    fill.style.width = percent(share);
    tick.hidden = mark === undefined;
    if (mark !== undefined) tick.style.left = percent(mark);
    read.textContent = text;
  } };
}

/** A list to choose from; `options` are [value, text]. */
export function choice(root, label, options, value, onChange) {
  const select = make("select", {}, ...options.map(([key, text]) => make("option", { value: key }, text)));
  select.value = value;
  select.addEventListener("change", () => onChange(select.value));
  root.append(make("label", { class: "instrument-choice" }, make("span", {}, label), select));
  return select;
}

/**
 * Something on a surface to drag with mouse or finger, or to move with the arrow keys (with Shift further).
 *
 * `at()` is its place in pixels, `move(x, y)` answers a drag, `nudge(dx, dy)` a key by steps right and up; `value()`,
 * `min`, `max` and `text()` are for screen readers.
 */
export function handle(view, { label, color, at, move, nudge, value, min, max, text }) {
  const knob = make("div", { class: "instrument-handle", role: "slider", tabIndex: 0, "aria-label": label,
    "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": value() });
  knob.style.setProperty("--knob", `var(--instrument-${color})`);
  let offset = null;
  knob.addEventListener("pointerdown", (event) => {
    const [x, y] = at(), box = view.canvas.getBoundingClientRect();
    offset = [event.clientX - box.left - x, event.clientY - box.top - y];
    knob.setPointerCapture(event.pointerId);
  });
  knob.addEventListener("pointermove", (event) => {
    if (!offset) return;
    const box = view.canvas.getBoundingClientRect();
    move(event.clientX - box.left - offset[0], event.clientY - box.top - offset[1]);
  });
  for (const end of ["pointerup", "pointercancel"]) knob.addEventListener(end, () => { offset = null; });
  const KEYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  knob.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (!step) return;
    event.preventDefault();
    nudge(...step.map((size) => size * (event.shiftKey ? 5 : 1)));
  });
  view.box.append(knob);
  view.handles.push(() => {
    const [x, y] = at();
    knob.style.transform = `translate(${x}px, ${y}px)`;
    knob.setAttribute("aria-valuenow", value());
    knob.setAttribute("aria-valuetext", text());
  });
  return knob;
}

/** Calls `tick(seconds)` for every frame while it plays and the element is in view; `tick` returns false to stop. */
export function player(element, tick, onChange = () => {}) {
  let last = null, inView = false, request = 0;
  const state = { playing: false, play: () => set(true), pause: () => set(false), toggle: () => set(!state.playing) };
  function next() {
    cancelAnimationFrame(request);
    if (state.playing && inView) request = requestAnimationFrame(frame);
  }
  function set(playing) {
    if (playing === state.playing) return;
    state.playing = playing;
    last = null;
    onChange(playing);
    next();
  }
  function frame(now) {
    const seconds = last === null ? 0 : Math.min(0.1, (now - last) / 1000);
    last = now;
    if (tick(seconds) === false) set(false);
    next();
  }
  new IntersectionObserver((entries) => {
    inView = entries[entries.length - 1].isIntersecting;
    last = null;
    next();
  }).observe(element);
  return state;
}
