// The page's side of digit_worker.js.

/** Starts the thread, and resolves to `ask(job, onFrame)`, whose promise says whether the film came to its end. */
export function thread(weights) {
  const worker = new Worker(new URL("digit_worker.js", import.meta.url), { type: "module" });
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
    worker.postMessage({ weights });
  });
}
