/* What style sheets cannot do: a page that prints whole, formulas that fit, one switch for all code. */
(function () {
  "use strict";

  /* Paper is light and has no folds. What was opened and switched for it is put back afterwards. */
  let theme = null;
  window.addEventListener("beforeprint", () => {
    theme = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    document.querySelectorAll("main details:not([open])").forEach((fold) => {
      fold.open = true;
      fold.dataset.printed = "";
    });
  });
  window.addEventListener("afterprint", () => {
    if (theme !== null) document.documentElement.dataset.theme = theme;
    document.querySelectorAll("main details[data-printed]").forEach((fold) => {
      fold.open = false;
      delete fold.dataset.printed;
    });
  });

  /* A display that is too wide gets smaller, to seven tenths at most; then it scrolls, and says so. Only what scrolls
     needs the keyboard. All this changes with the window, with a fold that opens, and when fonts arrive. */
  const SMALLEST = 0.7;
  const boxes = () => Array.from(document.querySelectorAll(".math > .tex, span.math, .cell_output pre, #fig-taxonomy, #fig-without-labels, .companion-slider div:has(> img[data-text])"));
  const watcher = new ResizeObserver((entries) => {
    const displays = entries.map((entry) => entry.target.querySelector(":scope > .tex"))
      .filter((formula) => formula && !formula.closest("details:not([open])") && formula.clientWidth);
    displays.forEach((formula) => { formula.style.fontSize = ""; });
    const shares = displays.map((formula) => formula.clientWidth / formula.scrollWidth);
    displays.forEach((formula, i) => {
      if (shares[i] < 1) formula.style.fontSize = `${Math.max(SMALLEST, shares[i] - 0.01)}em`;
    });
    const all = boxes().filter((box) => !box.closest("details:not([open])"));  // a closed fold has no layout to ask for
    const scrolls = all.map((box) => box.clientWidth > 0 && box.scrollWidth > box.clientWidth
      && getComputedStyle(box).overflowX === "auto");
    all.forEach((box, i) => {
      if (scrolls[i]) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
      box.closest("div.math")?.classList.toggle("scrolls", scrolls[i]);
    });
  });
  window.addEventListener("load", async () => {
    await document.fonts.ready;
    boxes().forEach((box) => watcher.observe(box.parentElement));
  });

  /* The frames of a slider are files; they come when somebody turns to it, so that each is there when it is wanted. */
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("figure.companion-slider").forEach((figure) => {
      const load = () => {
        const addresses = figure.querySelector("script")?.textContent.match(/[./]*_images\/frame-[\w.]+/g) || [];
        figure.frames ??= addresses.map((address) => Object.assign(new Image(), { src: address }));
      };
      ["pointerenter", "focusin"].forEach((name) => figure.addEventListener(name, load, { once: true }));
    });
    /* The caption of what moves is what its picture says of itself. */
    document.querySelectorAll(".companion-slider, .companion-editor").forEach((figure) => {
      const words = figure.querySelector(".caption-text");
      const say = () => { words.textContent = `${figure.querySelector("img").alt}.`; };
      if (words) new MutationObserver(say).observe(figure.firstElementChild, { subtree: true, childList: true, attributeFilter: ["alt"] });
    });
  });

  /* One switch for all code of a page, remembered; without scripts there is none. */
  document.addEventListener("DOMContentLoaded", () => {
    const facts = document.querySelector(".book-facts"), folds = document.querySelectorAll("details.book-code");
    if (!facts || !folds.length) return;
    const button = document.createElement("button");
    const set = (shown) => {
      folds.forEach((fold) => { fold.open = shown; });
      button.textContent = shown ? "Hide all code" : "Show all code";
    };
    const shown = () => localStorage.getItem("book-code") === "shown";
    button.type = "button";
    button.addEventListener("click", () => {
      localStorage.setItem("book-code", shown() ? "hidden" : "shown");
      set(shown());
    });
    set(shown());
    facts.append(button);
  });
})();
