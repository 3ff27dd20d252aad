/* A film is one image with its frames below each other; the page shows one of them. Without a script it is the last. */
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  document.querySelectorAll(".book-film").forEach((film) => {
    const image = film.querySelector("img"), times = (film.dataset.times || "").split(" ").map(Number);
    const last = times.length - 1;
    if (!image || last < 1) return;
    const controls = document.createElement("div");
    controls.className = "book-film-controls";
    controls.innerHTML = `<button type="button">Play</button><input type="range" min="0" max="${last}" value="${last}"
      aria-label="Frame of the film"><output></output>`;
    film.append(controls);
    const [button, range, output] = controls.children;
    let timer = 0;
    const show = (i) => {
      range.value = i;
      image.style.objectPosition = `50% ${100 * i / last}%`;
      output.textContent = `${times[i]} steps to go`;
      range.setAttribute("aria-valuetext", output.textContent);
    };
    const stop = () => {
      clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
    };
    const play = () => {
      let i = Number(range.value) === last ? 0 : Number(range.value);
      clearInterval(timer);
      button.textContent = "Pause";
      show(i);
      timer = setInterval(() => {
        show(++i);
        if (i >= last) stop();
      }, 110);
    };
    button.addEventListener("click", () => (timer ? stop() : play()));
    range.addEventListener("input", () => { stop(); show(Number(range.value)); });
    show(last);
    /* It plays once by itself, when it is seen, unless the reader wants no motion. */
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    new IntersectionObserver((entries, watch) => {
      if (!entries[0].isIntersecting) return;
      watch.disconnect();
      image.decode().then(play, () => {});
    }, { threshold: 0.5 }).observe(image);
  });
});
