// A network in a thread of its own: a call takes a tenth of a second, and the page stays responsive.
//
// A job names one of the worker's films; each frame is sent as soon as it is there, and a newer job ends the one before.

/** Starts the worker in `file`, and resolves to `ask(job, onFrame)`, whose promise says whether the film came to its end.
    The weights, {name: {data}} or objects of these, go over to the worker: the page no longer has them. */
export function thread(file, weights) {
  const worker = new Worker(new URL(file, import.meta.url), { type: "module" });
  const waiting = { id: 0, onFrame: null, end: null };
  const stop = (whole) => {
    waiting.end?.(whole);
    waiting.end = null;
  };
  /** A film's frames come to `onFrame` one by one; a newer film ends it. Without a job, it only ends. */
  function ask(job, onFrame) {
    stop(false);
    waiting.id += 1;
    waiting.onFrame = onFrame;
    worker.postMessage(job ? { ...job, id: waiting.id } : {});
    return job ? new Promise((end) => { waiting.end = end; }) : null;
  }
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message || "the thread did not start"));
    worker.onmessage = ({ data }) => {
      if (data.ready) resolve(ask);
      else if (data.id === waiting.id) data.done ? stop(true) : waiting.onFrame(data.frame);
    };
    worker.postMessage({ weights }, buffers(weights));
  });
}

const buffers = (weights) => Object.values(weights).flatMap((each) => (each.data ? each.data.buffer : buffers(each)));

/** The worker's side: `open(weights)` gives its films, {name: function from a job to a generator of frames}. */
export function serve(open) {
  let films = null, latest = 0;
  async function run(job) {
    latest = job.id;
    for (const frame of films[job.film](job)) {
      postMessage({ id: job.id, frame });
      await new Promise((next) => setTimeout(next)); // a newer job may be there
      if (latest !== job.id) return;
    }
    postMessage({ id: job.id, done: true });
  }
  onmessage = ({ data }) => {
    if (data.weights) {
      films = open(data.weights);
      postMessage({ ready: true });
    } else if (data.id) run(data);
    else latest = 0;
  };
}
