// Two bars of one length: the cost that q pays for an image, and the same cost as that of the model plus the gap of q.
import { scale, surface } from "./kit.js";

const AXES = [[300, 50], [600, 100], [1500, 250], [6000, 1000]]; // nats: the longest that fits, and the ticks

/**
 * The bars on a surface. `reference` has three numbers: nats that are not exceeded by 5, 50 and 95 of 100 test digits.
 * `show({reconstruction, kl, bound, evidence})` draws; evidence, log p(x), may still be unknown.
 */
export function bars(root, { low, middle, high }) {
  let terms = null;
  const view = surface(root, { ratio: 0, heights: [190, 190] }, (context, { width, height, colors, font }) => {
    const [most, tick] = AXES.find(([longest]) => !terms || terms.bound < longest) ?? AXES.at(-1);
    const x = scale([0, most], [1, width - 24]), base = height - 22;
    const line = (nats, from, to, dash = []) => {
      context.setLineDash(dash);
      context.beginPath();
      context.moveTo(x(nats), from);
      context.lineTo(x(nats), to);
      context.stroke();
      context.setLineDash([]);
    };
    context.fillStyle = colors.muted;
    context.globalAlpha = 0.16;
    context.fillRect(x(low), 18, x(high) - x(low), base - 18);
    context.globalAlpha = 1;
    context.textAlign = "left";
    font(12);
    context.fillText(width < 480 ? "90 of 100 test digits" : "−ELBO of 90 of 100 test digits, and the middle one", x(low) + 4, 13);
    context.strokeStyle = colors.muted;
    line(middle, 18, base, [3, 3]);
    context.textAlign = "center";
    for (let nats = 0; nats <= most; nats += tick) {
      line(nats, base, base + 4);
      context.fillText(nats + (nats + tick > most ? " nats" : ""), Math.max(4, x(nats)) - (nats === most ? 10 : 0), base + 17);
    }
    line(0, 18, base);
    if (!terms) return;
    const { reconstruction, kl, bound, evidence } = terms, known = evidence !== null;
    const rows = [[[reconstruction, colors.data, "reconstruction"], [kl, colors.prior, "KL"]],
      known ? [[-evidence, colors.muted, "−log p(x)"], [bound + evidence, colors.gap, "gap"]] : []];
    rows.forEach((segments, i) => {
      const top = 44 + 66 * i;
      let from = 0, free = 0;
      segments.forEach(([nats, color, name]) => {
        const left = x(from), right = x(from + Math.max(0, nats));
        context.fillStyle = color;
        context.fillRect(left, top, Math.max(right - left, 1.5), 24);
        const words = `${name} ${nats.toFixed(1)}`, start = Math.max(free, Math.min(left, width - context.measureText(words).width));
        context.textAlign = "left";
        font(13, "600");
        context.fillText(words, start, top - 6);
        free = start + context.measureText(words).width + 14;
        from += nats;
      });
      context.fillStyle = colors.ink;
      if (i === 0) context.fillText(`−ELBO ${bound.toFixed(1)}`, Math.min(x(bound) + 8, width - 96), top + 17);
    });
    context.strokeStyle = colors.ink;
    context.lineWidth = 2;
    line(Math.min(bound, most), 44, 68);
    line(Math.min(bound, most), 110, base);
    context.lineWidth = 1;
  });
  view.box.classList.add("instrument-wide");
  return {
    show(next) {
      terms = next;
      view.describe(next ? `The cost of the drawing in nats: reconstruction ${next.reconstruction.toFixed(1)}, KL ${next.kl.toFixed(1)}, `
        + `together ${next.bound.toFixed(1)}${next.evidence === null ? "" : `; minus log p of x is ${(-next.evidence).toFixed(1)}`}.` : "No drawing, no cost.");
      view.redraw();
    },
  };
}
