/* Two things that style sheets cannot do: a page that prints whole, and formulas that do not fill the Tab order. */
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

  /* MathJax makes a Tab stop of every formula, hundreds on a page. Only one that scrolls needs the keyboard;
     whether it does changes with the window, with a fold that opens, and when its fonts arrive. */
  const watcher = new ResizeObserver(() => {
    const formulas = Array.from(document.querySelectorAll(".math > mjx-container"));
    const scrolls = formulas.map((formula) =>
      [formula, formula.parentElement].some((box) => box.scrollWidth > box.clientWidth));
    formulas.forEach((formula, i) => { formula.tabIndex = scrolls[i] ? 0 : -1; });
  });
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(() =>
    document.querySelectorAll(".math > mjx-container").forEach((formula) => {
      watcher.observe(formula);
      watcher.observe(formula.parentElement);
    })));
})();
