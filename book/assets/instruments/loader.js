// Wakes the instruments of a page: one that comes near the window is loaded and takes the place of its figure's still.
// Where motion is unwelcome, weights are large or loading fails, the still stays; a button goes back and forth.
import { calm, fetchTensors } from "./kit.js";

const FAILED = "The live figure could not be loaded, so this is the still; “Try it” loads it again.";

function wake(box) {
  const figure = box.closest("figure"), caption = figure.querySelector(".caption-text");
  const stillCaption = [...caption.childNodes], liveCaption = box.dataset.caption;
  const hashes = JSON.parse(box.dataset.files);
  const root = document.createElement("div"), button = document.createElement("button");
  const status = document.createElement("p"), bar = document.createElement("progress");
  root.className = "instrument-root";
  button.type = "button";
  button.className = "instrument-switch";
  status.setAttribute("role", "status");
  status.className = "instrument-status";
  bar.max = box.dataset.bytes;
  bar.hidden = true;
  bar.setAttribute("aria-label", "loaded of the network");
  box.querySelector(".instrument-words").append(button);
  box.append(status, bar, root);
  box.hidden = false;
  let mounted = null;

  function show(live) {
    figure.classList.toggle("live", live);
    button.textContent = live ? "Show the still" : "Try it";
    if (liveCaption) caption.replaceChildren(...(live ? [liveCaption] : stillCaption));
  }

  async function mount() {
    const { mount } = await import(`./${box.dataset.module}.js`);
    const load = (name) => fetchTensors(new URL(`${name}.safetensors`, import.meta.url), hashes[name],
      (bytes) => { bar.value += bytes; });
    await mount(root, { load });
  }

  async function start() {
    status.textContent = "";
    button.disabled = true;
    show(true); // first, so that what is mounted has a width
    bar.value = 0;
    bar.hidden = mounted !== null || box.dataset.start !== "click"; // small files are there at once
    try {
      await (mounted ??= mount());
    } catch (error) {
      mounted = null;
      root.replaceChildren();
      show(false);
      status.textContent = FAILED;
      console.warn(`${box.dataset.module}: ${error.message}`);
    }
    button.disabled = false;
    bar.hidden = true;
    box.dataset.state = mounted ? "live" : "failed"; // for tests
  }

  show(false);
  button.addEventListener("click", () => {
    if (figure.classList.contains("live")) show(false);
    else start();
  });
  if (box.dataset.start === "near" && !calm()) {
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      start();
    }, { rootMargin: "600px" }).observe(figure);
  }
}

document.querySelectorAll(".book-instrument").forEach(wake);
