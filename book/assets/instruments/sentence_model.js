// A latent diffusion that reads a sentence (chapter 14): guided steps of DDIM, and the decoder of the first stage.
import { sample, scalesAt } from "./diffusion.js";
import { sequential } from "./nn.js";
import { textTransformer } from "./transformer.js";
import { add, conv, double, groupNorm, silu } from "./unet.js";

export const SHAPE = [4, 8, 8], SIDE = 32; // of the latents, of an image

/* x + branch(x), with two convolutions. */
function residual(weights, name, side) {
  const part = (make, k, ...sizes) => make(weights, `${name}.branch.${k}`, ...sizes);
  const branch = sequential(part(groupNorm, 0), silu, part(conv, 2, side), part(groupNorm, 3), silu, part(conv, 5, side));
  return (x) => add(x, branch(x));
}

/** 2 x 2 pixels from four channels each. */
function shuffle(x, side) {
  const y = new Float64Array(x.length), wide = 2 * side;
  for (let at = 0; at < y.length; at++) {
    const channel = Math.floor(at / (wide * wide)), row = Math.floor(at / wide) % wide, column = at % wide;
    y[at] = x[((channel * 4 + (row % 2) * 2 + (column % 2)) * side + (row >> 1)) * side + (column >> 1)];
  }
  return y;
}

/** Four maps of 8 x 8 latents to red, green and blue of 32 x 32 pixels. */
export function mapDecoder(weights) {
  const part = (make, name, ...sizes) => make(weights, `decoder.${name}`, ...sizes);
  return sequential(part(conv, "1", 8), part(residual, "2", 8), part(conv, "3.0", 8), (x) => double(x, 8),
    part(residual, "4", 16), part(groupNorm, "5"), silu, part(conv, "7", 16), (x) => shuffle(x, 16));
}

export function sentenceModel(text, vae) {
  const network = textTransformer(text), decode = mapDecoder(vae), logLeft = text["schedule.log_alpha_bar"].data;
  /** Guided steps from `noise` for the numbers of words; those of no sentence are all 0. Each frame has the latents x at
      time t, the estimate of the clean ones made there, decoded, and the attention that patches gave to words. */
  function* film({ numbers, scale, noise, num }) {
    const none = numbers.map(() => 0), read = network.read(numbers.some(Boolean) ? [none, numbers] : [none]);
    let attended = null;
    const denoise = (x, t) => {
      const { images: [any, told = any], ...rest } = network.run(x, t, read), { signal, noise: std } = scalesAt(logLeft, t);
      attended = rest.attended;
      return x.map((value, i) => signal * value - std * (any[i] + scale * (told[i] - any[i])));
    };
    for (const frame of sample({ logLeft, denoise }, noise, num, 0, () => 0))
      yield { ...frame, image: decode(frame.estimate), attended };
  }
  return { network, decode, film };
}
