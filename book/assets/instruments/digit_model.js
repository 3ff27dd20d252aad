// The diffusion model of digits that is told a class, or none, with guidance (chapters 10 and 13).
import { scalesAt } from "./diffusion.js";
import { unet } from "./unet.js";

export const NONE = 10, PIXELS = 784; // the class of no class; of an image

export function digitModel(weights) {
  const network = unet(weights), logLeft = weights["schedule.log_alpha_bar"].data;
  /* The estimate of x_0: sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v. */
  const estimate = (x, t, label) => {
    const { signal, noise } = scalesAt(logLeft, t), v = network(x, t, label);
    return x.map((value, i) => signal * value - noise * v[i]);
  };
  return {
    logLeft,
    /** The estimates of x_0 for any class, for this class, and the guided one: any + scale (class - any). */
    estimates(x, t, label, scale) {
      const any = estimate(x, t, NONE), told = estimate(x, t, label);
      return { any, told, guided: any.map((value, i) => value + scale * (told[i] - value)) };
    },
    denoiser: (label) => ({ logLeft, denoise: (x, t) => estimate(x, t, label) }),
  };
}

/** A film of guided steps of DDIM: the frames of `sample`, each with the three estimates. */
export function guidedModel(model, label, scale, watch = () => {}) {
  const denoise = (x, t) => {
    const found = model.estimates(x, t, label, scale);
    watch(found);
    return found.guided;
  };
  return { logLeft: model.logLeft, denoise };
}
