// Moves what a figure shows. `data.labels` holds the texts of each axis, `data.alts` the words for
// each combination, of which the last axis moves first.
(function (id, data) {
  "use strict";
  var labels = data.labels, alts = data.alts;

  // Each frame is a file.
  function flip(image) {
    var frames = data.frames.slice();
    frames[data.start] = image.src;
    return function (i) { image.src = frames[i]; image.alt = alts[i]; };
  }

  // One sheet holds all frames, and the box around the image cuts one out of it. Until the sheet is
  // loaded, when the box comes near, the box holds the first frame alone: without scripts or styles
  // one frame is seen, not all.
  function cut(image) {
    var columns = data.columns, width = data.size[0], height = data.size[1];
    var rows = Math.ceil(alts.length / columns), sheet = new Image();
    function percent(part) { return 100 * part + "%"; }
    function show(i) {
      image.alt = sheet.alt = alts[i];
      sheet.style.left = percent(-((i % columns) * (width + 2) + 1) / width);
      sheet.style.top = percent(-(Math.floor(i / columns) * (height + 2) + 1) / height);
    }
    sheet.style.cssText = "position:absolute;max-width:none;margin:0;padding:0;border-radius:0";
    sheet.style.imageRendering = image.style.imageRendering || "auto";
    sheet.style.width = percent(columns * (width + 2) / width);
    sheet.style.height = percent(rows * (height + 2) / height);
    show(data.start);
    sheet.onload = function () { image.replaceWith(sheet); };
    new IntersectionObserver(function (seen, watch) {
      if (!seen[0].isIntersecting) return;
      watch.disconnect();
      sheet.src = data.sheet;
    }, { rootMargin: "500px" }).observe(image);
    return show;
  }

  document.querySelectorAll('[id="' + id + '"]').forEach(function (figure) {
    var inputs = figure.querySelectorAll("input"), outputs = figure.querySelectorAll("output");
    if (inputs[0].oninput) return; // the page shows the slider twice, and this one moves already
    var show = (data.sheet ? cut : flip)(figure.querySelector("img"));
    var button = figure.querySelector("button"), timer = 0;
    function stop() {
      clearInterval(timer);
      timer = 0;
      button.textContent = "Play";
      outputs[0].setAttribute("aria-live", "polite");
    }
    function play() {
      if (inputs[0].value === inputs[0].max) inputs[0].value = 0;
      button.textContent = "Pause";
      outputs[0].setAttribute("aria-live", "off"); // nobody wants to hear each frame
      timer = setInterval(function () {
        if (inputs[0].value === inputs[0].max) return stop();
        inputs[0].stepUp();
        inputs[0].oninput();
      }, 120);
    }
    if (button) {
      button.onclick = function () { (timer ? stop : play)(); };
      inputs[0].onpointerdown = inputs[0].onkeydown = function () { if (timer) stop(); };
    }
    inputs.forEach(function (input, axis) {
      input.oninput = function () {
        var text = labels[axis][input.value], i = 0;
        inputs.forEach(function (other, k) {
          i = i * labels[k].length + Number(other.value);
        });
        show(i);
        outputs[axis].textContent = text;
        input.setAttribute("aria-valuetext", text);
      };
    });
  });
})
