// The thread of the network of digits, and the films that the page may ask for, from the noise that the seed gives.
import { digitModel, guidedModel, PIXELS } from "./digit_model.js";
import { inpaint, sample } from "./diffusion.js";
import { normal } from "./kit.js";
import { serve } from "./thread.js";

serve((weights) => {
  const model = digitModel(weights);
  return {
    *guided({ label, scale, seed, num }) {
      let three = null;
      const noise = Float64Array.from({ length: PIXELS }, normal(seed));
      const guided = guidedModel(model, label, scale, (found) => { three = found; });
      for (const frame of sample(guided, noise, num, 0, () => 0)) yield { ...frame, three: frame.t ? three : null };
    },
    *filled({ truth, observed, seed, num, repeats }) {
      const next = normal(seed), noise = Float64Array.from({ length: PIXELS }, next);
      yield* inpaint(model.denoiser(), noise, truth, observed, num, repeats, next);
    },
  };
});
