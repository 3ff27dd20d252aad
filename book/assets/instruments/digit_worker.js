// The network of digits in a thread of its own: a call takes a tenth of a second, and the page stays responsive.
//
// First comes {weights}, then jobs; each frame of a film is sent as soon as it is there, and a new job ends the one before.
import { digitModel, guidedModel, PIXELS } from "./digit_model.js";
import { inpaint, sample } from "./diffusion.js";
import { normal } from "./kit.js";

let model = null, latest = 0;

/** The films that the page may ask for, from the noise that the seed gives. */
const FILMS = {
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

async function run(job) {
  latest = job.id;
  for (const frame of FILMS[job.film](job)) {
    postMessage({ id: job.id, frame });
    await new Promise((next) => setTimeout(next)); // a newer job may be there
    if (latest !== job.id) return;
  }
  postMessage({ id: job.id, done: true });
}

onmessage = ({ data }) => {
  if (data.weights) {
    model = digitModel(data.weights);
    postMessage({ ready: true });
  } else if (data.id) run(data);
  else latest = 0;
};
