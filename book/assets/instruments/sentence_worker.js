// The thread of the network that draws for a sentence, from the noise that the seed gives.
import { normals } from "./kit.js";
import { SHAPE, sentenceModel } from "./sentence_model.js";
import { serve } from "./thread.js";

serve(({ text, vae }) => {
  const { film } = sentenceModel(text, vae), count = SHAPE.reduce((a, b) => a * b);
  return { drawn: ({ seed, ...wish }) => film({ ...wish, noise: normals(count, seed) }) };
});
