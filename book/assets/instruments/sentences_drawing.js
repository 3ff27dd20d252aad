// What the instrument of sentences draws: the estimate under a veil of attention, the picture before, the noisy maps.
import { make, surface } from "./kit.js";
import { SHAPE, SIDE } from "./sentence_model.js";
import { MAX_WORDS } from "./sentence_words.js";

const ACROSS = SHAPE[2] / 2; // patches in a row
const GAP = 14, SPACE = 6, HEAD = 20; // between pictures, between maps, above both

/** Draws side x side pixels, of which `color(k)` gives red, green and blue on [0, 1]. */
function drawTile(context, side, color, x, y, size) {
  const tile = make("canvas", { width: side, height: side }), brush = tile.getContext("2d"), pixels = brush.createImageData(side, side);
  for (let k = 0; k < side * side; k++) pixels.data.set([...color(k).map((value) => 255 * value), 255], 4 * k);
  brush.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(tile, x, y, size, size);
}

/** Red, green and blue of pixel k of an image; the gray of latent k of a map, from -3 to 3. */
const colorOf = (image) => (k) => [0, 1, 2].map((channel) => image[channel * SIDE ** 2 + k]);
const grayOf = (x, map) => (k) => Array(3).fill((x[map * SHAPE[1] * SHAPE[2] + k] + 3) / 6);

/** The share of its attention that each patch gives to the word at a place. */
export const sharesOf = (attended, place) => Float64Array.from({ length: ACROSS ** 2 }, (_, patch) => attended[patch * MAX_WORDS + place]);

/** A veil over the patches of a picture: the more of its attention a patch gives to the word, the thinner. */
function drawVeil(context, shares, color, x, y, size) {
  const most = Math.max(...shares), cell = size / ACROSS;
  context.fillStyle = color;
  shares.forEach((share, patch) => {
    context.globalAlpha = 0.85 * (1 - share / most);
    context.fillRect(x + (patch % ACROSS) * cell, y + Math.floor(patch / ACROSS) * cell, cell, cell);
  });
  context.globalAlpha = 1;
}

/** Where pictures and maps lie: three squares in a row, or on a phone two and below them the maps. */
function layout(width) {
  const narrow = width < 520, side = Math.floor(narrow ? (width - GAP) / 2 : (width - 2 * GAP) / 3);
  const small = Math.floor(narrow ? (width - 3 * SPACE) / 4 : (side - SPACE) / 2), columns = narrow ? 4 : 2;
  const [left, top] = narrow ? [0, side + 2 * HEAD + 10] : [2 * (side + GAP), HEAD];
  const place = (map) => [left + (map % columns) * (small + SPACE), top + Math.floor(map / columns) * (small + SPACE), small];
  return { pictures: [[0, HEAD, side], [side + GAP, HEAD, side]], maps: Array.from({ length: SHAPE[0] }, (_, map) => place(map)),
    height: narrow ? top + small : HEAD + side };
}

/** The canvas that shows `now`: its film at a step, the word that is looked at, and what was drawn before. */
export function board(root, now) {
  const ratio = (width) => layout(width).height / width;
  return surface(root, { ratio, heights: [100, 420] }, (context, { width, colors, font }) => {
    const { pictures: [own, other], maps } = layout(width), frame = now.film[now.at];
    const name = (text, [x, y], color) => {
      font(13);
      context.fillStyle = color;
      context.fillText(text, x, y - 7);
    };
    for (const [x, y, size] of [own, other, ...maps]) {
      context.strokeStyle = colors.rule;
      context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
    }
    const clean = frame?.t === 0;
    name(clean ? "the picture" : `estimate, step ${now.at + 1} of ${now.drawn.num}`, own, colors.data);
    name("before", other, colors.muted);
    name(clean ? "the four maps of the picture" : `noisy maps${frame ? `, t = ${frame.t}` : ""}`, maps[0], colors.steps);
    if (now.before) drawTile(context, SIDE, colorOf(now.before.image), ...other);
    if (!frame) return;
    drawTile(context, SIDE, colorOf(frame.image), ...own);
    if (now.look !== null) drawVeil(context, sharesOf(frame.attended, now.look), colors.page, ...own);
    maps.forEach((place, map) => drawTile(context, SHAPE[1], grayOf(frame.x, map), ...place));
  });
}
