// Chapter 14: the reader's sentence becomes a picture, step by step; one word is changed, and the noise kept.
import { button, calm, choice, clip, make, row, slider } from "./kit.js";
import { ATTRIBUTES, change, MAX_WORDS, pick, read, split, tokens } from "./sentence_words.js";
import { board, sharesOf } from "./sentences_drawing.js";
import { thread } from "./thread.js";

const FIRST = "a large red house, two trees, by day";
const GROUPS = [["color", "color"], ["size", "size"], ["turn", "turned"], ["behind", "behind it"], ["trees", "trees"],
  ["side", "sun on the"], ["height", "sun"], ["time", "time"]];

const whose = (text) => (split(text).length ? `for “${text}”` : "without a sentence");
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** What was drawn, in words, and what is new in it. */
export function told(wish, before) {
  const what = split(wish.text).length && !wish.scale ? "Drawn with guidance 0, which leaves the sentence out" : `Drawn ${whose(wish.text)}`;
  if (!before) return `${what}.`;
  const other = (name, label) => (wish[name] === before[name] ? "" : label);
  const news = [change(before.text, wish.text), other("scale", `guidance ${wish.scale} in place of ${before.scale}`),
    other("num", `${wish.num} steps in place of ${before.num}`), wish.seed === before.seed ? "the same noise" : "other noise"];
  return `${what}. Beside it is the picture before; now: ${news.filter(Boolean).join(", ")}.`;
}

/** How the patches attend to a word, in words. */
export function attention(words, look, attended) {
  if (!words.length) return "Without a sentence there are no words to attend to.";
  if (look === null) return "Pick a word to see which patches attend to it.";
  const shares = sharesOf(attended, look), mean = shares.reduce((a, b) => a + b) / shares.length;
  return `“${words[look]}” gets ${percent(mean)} of the attention at this step, where an equal share is ${percent(1 / MAX_WORDS)}: `
    + `from ${percent(Math.min(...shares))} to ${percent(Math.max(...shares))} of a patch's, most where the picture is clear.`;
}

/** The field and its button; `onDraw` is called when the sentence is to be drawn, and `refuse(why)` says why it cannot be. */
function sentenceField(root, onDraw) {
  const field = make("input", { type: "text", value: FIRST, maxLength: 300, autocomplete: "off", spellcheck: false });
  const form = make("form", { class: "sentences-form" }, make("label", {}, make("span", {}, "sentence"), field));
  const fault = make("p", { role: "status", class: "sentences-fault" }), picker = make("div", { class: "sentences-chips" });
  form.append(make("button", { type: "submit", class: "primary" }, "Draw"));
  root.append(form, fault, picker);
  const refuse = (why) => {
    fault.textContent = why;
    field.setAttribute("aria-invalid", why !== "");
  };
  const mark = chips(picker, (name, value) => {
    field.value = pick(field.value, name, value);
    mark(field.value);
    onDraw();
  });
  field.addEventListener("input", () => { refuse(""); mark(field.value); });
  form.addEventListener("submit", (event) => { event.preventDefault(); onDraw(); });
  mark(FIRST);
  return { field, refuse };
}

/** Buttons for what can be said. Returns `mark(text)`, which marks what a sentence says. */
function chips(root, onPick) {
  const all = GROUPS.flatMap(([name, label]) => {
    const group = make("div", { class: "sentences-group", role: "group", "aria-label": label }, make("span", { "aria-hidden": "true" }, label));
    root.append(group);
    return Object.keys(ATTRIBUTES[name]).map((value) =>
      [name, value, button(group, value === "front" ? "to us" : value, () => onPick(name, value))]);
  });
  return (text) => {
    const said = read(text);
    for (const [name, value, element] of all) element.setAttribute("aria-pressed", said[name]?.[0] === value);
  };
}

/** Buttons for the words of what is drawn. Returns `offer()`, for other words; one that stays in its place stays chosen. */
function looking(root, now, onLook) {
  const group = make("div", { class: "sentences-looks", role: "group", "aria-label": "attention to a word" });
  root.append(group);
  let offered = [];
  const mark = () => [...group.children].forEach((element, place) => element.setAttribute("aria-pressed", place === now.look));
  return () => {
    if (now.words[now.look] !== offered[now.look]) now.look = null;
    offered = now.words;
    group.replaceChildren();
    offered.forEach((word, place) => button(group, word, () => {
      now.look = now.look === place ? null : place;
      mark();
      onLook();
    }));
    mark();
  };
}

export async function mount(root, { load }) {
  const [text, vae] = await Promise.all(["text-scenes", "vae-landscapes"].map(load));
  const ask = await thread("sentence_worker.js", { text, vae });
  const wish = { text: FIRST, scale: 4, seed: 1, num: 20 };
  // What is drawn: its wish, words and frames; the frame that is shown, while it follows the newest; what was drawn before.
  const now = { drawn: wish, words: [], film: [], at: 0, follows: true, look: null, before: null };
  const { field, refuse } = sentenceField(root, () => draw());
  const view = board(root, now);

  function show(k) {
    now.at = clip(k, 0, now.film.length - 1);
    scrub.set(now.at);
    const { t, attended } = now.film[now.at];
    said.textContent = attention(now.words, now.look, attended);
    const veil = now.look === null ? "" : `, under a veil that is thin where patches attend to “${now.words[now.look]}”`;
    view.describe(`Step ${now.at} of ${now.drawn.num}, time ${t}: ${t ? "the estimate" : "the picture"} ${whose(now.drawn.text)}${veil}; `
      + `${now.before ? `the picture before, ${whose(now.before.text)}; ` : ""}and the four ${t ? "noisy maps" : "maps"} of latents.`);
    view.redraw();
  }
  const set = (name) => (value) => { wish[name] = Number(value); draw(); };
  const controls = row(root);
  button(controls, "New noise", () => set("seed")(wish.seed + 1));
  slider(controls, { label: "guidance", min: 0, max: 8, step: 0.5, value: wish.scale }, set("scale"));
  choice(controls, "steps", ["10", "20", "40"].map((num) => [num, num]), String(wish.num), set("num"));
  const scrub = slider(controls, { label: "step", min: 0, max: wish.num, step: 1, value: 0 }, (k) => {
    now.follows = false;
    if (now.film.length) show(k);
  });
  const status = make("p", { role: "status", class: "sentences-status" }), said = make("p", { class: "sentences-said" });
  root.append(status);
  const offer = looking(root, now, () => { if (now.film.length) show(now.at); });
  root.append(said);

  /** A new film: each frame is shown when the thread has made it. What was drawn to its end stays beside it. */
  async function draw() {
    const { fault = "", numbers, words } = tokens(field.value);
    refuse(fault);
    if (fault) return;
    wish.text = field.value.trim();
    const last = now.film.at(-1), { drawn } = now;
    if (last?.t === 0 && Object.keys(wish).some((name) => wish[name] !== drawn[name])) now.before = { ...drawn, image: last.image };
    Object.assign(now, { drawn: { ...wish }, words, film: [], at: 0, follows: true });
    scrub.input.max = wish.num;
    offer();
    status.textContent = `The network draws, in ${wish.num} steps.`;
    const whole = await ask({ film: "drawn", ...wish, numbers }, (frame) => {
      now.film.push(frame);
      if (now.follows && (!calm() || frame.t === 0)) show(now.film.length - 1);
    });
    if (whole) status.textContent = told(now.drawn, now.before);
  }
  const opening = draw();
  if (calm()) await opening;
}
