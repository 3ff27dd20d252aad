/* Exercises with numbers: a field for each number, right or wrong by the tolerance of the exercise's own check. */
(function () {
  "use strict";

  /** The number that a text means, a fraction or a power of ten among them, or NaN. */
  function number(text) {
    const plain = text.trim().replace(/[−–]/g, "-").replace(/^(-?\d{1,3}(?:,\d{3})+)(?=\.|$)/, (all) => all.replaceAll(",", ""));
    const one = String.raw`[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?`;
    const found = plain.match(new RegExp(`^(${one})(?:\\s*/\\s*(${one}))?$`, "i"));
    return found ? Number(found[1]) / (found[2] === undefined ? 1 : Number(found[2])) : NaN;
  }

  /** What is said of some texts: whether they are right, and a sentence. */
  function judge(texts, { values, tolerances, hint, remark }) {
    if (texts.some((text) => !text.trim())) return [null, values.length > 1 ? "Write a number in each field." : "Write a number first."];
    const numbers = texts.map(number);
    if (!numbers.every(Number.isFinite)) return [null, "Write numbers such as 0.25, 1/4 or 2.5e-3, with a point."];
    const off = numbers.map((x, i) => x - values[i]), wrong = off.map((d, i) => !(Math.abs(d) <= tolerances[i]));
    const count = wrong.filter(Boolean).length;
    if (!count) return [true, `Right${remark ? `: ${remark}` : ""}.`];
    const close = values.every((v, i) => !wrong[i] || (!Number.isInteger(v) && Math.abs(off[i]) < 0.01 * Math.abs(v)));
    if (close) return [false, "Close: one more digit is needed."];
    if (numbers.every((x, i) => Math.abs(x + values[i]) <= tolerances[i])) return [false, "Not yet: the size is right, but the sign is not."];
    const what = values.length > 1 ? `${count} of ${values.length} numbers differ` : `that is too ${off[0] > 0 ? "large" : "small"}`;
    return [false, `Not yet: ${what}. ${hint}`];
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll("form.book-answer").forEach((form) => {
      const output = form.querySelector("output"), asked = JSON.parse(form.dataset.answer);
      form.hidden = false;
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        const [right, words] = judge(Array.from(form.querySelectorAll("input"), (input) => input.value), asked);
        form.dataset.right = right ?? "";
        output.textContent = right === null ? words : `${right ? "✓" : "✗"} ${words}`;
      });
      form.addEventListener("input", () => { output.textContent = form.dataset.right = ""; });
    });
  });
})();
