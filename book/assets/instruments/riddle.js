// Which digits are real? The reader marks those that a network drew; the tiles are cut from the figure's own still.
import { button, make, row, surface } from "./kit.js";

// The tiles of the still, in parts of its width and height: the first one's corner, the step to the next, the side.
const STILL = { left: 12 / 1008, top: 12 / 215, right: 99.1 / 1008, down: 99 / 215, width: 92 / 1008, height: 92 / 215 };

/** How many of the marks are right. */
export const score = (marks, drawn) => marks.filter((mark, i) => mark === Boolean(drawn[i])).length;

export async function mount(root, { load }) {
  const image = root.closest("figure").querySelector("img"), drawn = Array.from((await load("which_are_real")).drawn.data);
  image.loading = "eager"; // hidden now, a lazy one would never come
  await image.decode();
  const grid = make("div", { class: "riddle-tiles", role: "group", "aria-label": "Digits; press those that were drawn" });
  root.append(grid);
  const tiles = drawn.map((_, i) => {
    const tile = button(grid, "", () => {
      if (checked) return;
      tile.setAttribute("aria-pressed", !isMarked(tile));
      show();
    });
    const word = make("span", { class: "riddle-word" });
    surface(tile, { ratio: 1, heights: [24, 120] }, (context, { width, height }) => {
      const { naturalWidth: w, naturalHeight: h } = image, column = i % 10, line = Math.floor(i / 10);
      context.imageSmoothingEnabled = false;
      context.drawImage(image, w * (STILL.left + STILL.right * column), h * (STILL.top + STILL.down * line),
        w * STILL.width, h * STILL.height, 0, 0, width, height);
    });
    tile.append(word);
    return tile;
  });
  const isMarked = (tile) => tile.getAttribute("aria-pressed") === "true";
  const controls = row(root), note = make("p", { role: "status" });
  let checked = false;

  function show() {
    const marks = tiles.map(isMarked), right = score(marks, drawn);
    tiles.forEach((tile, i) => {
      const truth = drawn[i] ? "drawn" : "real", sign = marks[i] === Boolean(drawn[i]) ? "✓" : "✗";
      tile.dataset.truth = checked ? truth : "";
      tile.lastChild.textContent = checked ? `${sign} ${truth}` : marks[i] ? "drawn?" : "";
      const answer = checked ? `: ${truth}, ${sign === "✓" ? "right" : "wrong"}` : "";
      tile.setAttribute("aria-label", `digit ${i + 1}${answer}`);
    });
    note.textContent = checked ? `${right} of ${drawn.length} are right. Guessing gets ${drawn.length / 2} on average.`
      : `${marks.filter(Boolean).length} marked as drawn by the network.`;
    check.textContent = checked ? "Again" : "Check";
  }
  const check = button(controls, "Check", () => {
    if (checked) tiles.forEach((tile) => tile.setAttribute("aria-pressed", false));
    checked = !checked;
    show();
  });
  controls.append(note);
  tiles.forEach((tile) => tile.setAttribute("aria-pressed", false));
  show();
}
