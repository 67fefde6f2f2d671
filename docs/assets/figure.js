// An image that can be shifted, the scores of all its shifts, and the image moved back.
// `MNIST_WEIGHTS` (weights.js) are the bundled weights "mnist"; they are evaluated here as the method "exact" of
// `circular_conv` does: in integers, whose sums are exact in whatever order they are added.
"use strict";

const SIZE = 32;
const LEFT = (SIZE - 1) >> 1; // the tap of a full-size filter that reads the place itself
const WEIGHTS = quantized(MNIST_WEIGHTS);

function unit(values, bits) {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest > 0 ? 2 ** (Math.floor(Math.log2(largest)) + 1 - bits) : 1;
}

function rounded(values, bits) {
  const step = unit(values, bits);
  return { step, integers: Float64Array.from(values, (value) => Math.round(value / step)) };
}

function quantized(weights) {
  return {
    down: weights.down.map((filter) => rounded(filter, 17)),
    right: weights.right.map((filter) => rounded(filter, 17)),
    bias: weights.bias,
    last: rounded(weights.last, 20),
  };
}

// Correlate a map with one filter along one axis; the axes change places, so that two calls do both.
function correlated(map, filter) {
  const result = new Float64Array(SIZE * SIZE);
  for (let line = 0; line < SIZE; line++) {
    for (let place = 0; place < SIZE; place++) {
      let sum = 0;
      for (let tap = 0; tap < SIZE; tap++) {
        sum += filter[tap] * map[line * SIZE + ((place + tap - LEFT + SIZE) % SIZE)];
      }
      result[place * SIZE + line] = sum;
    }
  }
  return result;
}

// Score every shift of an image of 32 × 32 integers from 0 to 255; entry `down * 32 + right`. Sums over 32 places are
// below 2^(8 + 17 + 5) along one axis, and 2^(30 + 17 + 5) along both, so that float64 holds them.
function scoresOf(image) {
  const largest = Math.max(...image) || 1;
  const hidden = WEIGHTS.bias.map((bias, channel) => {
    const right = WEIGHTS.right[channel];
    const down = WEIGHTS.down[channel];
    const sums = correlated(correlated(image, right.integers), down.integers);
    const step = (right.step * down.step) / largest;
    return sums.map((sum) => Math.max(0, sum * step + bias));
  });
  const step = unit(hidden.flatMap((map) => [...map]), 20);
  const scores = new Float64Array(SIZE * SIZE);
  hidden.forEach((map, channel) => {
    const factor = WEIGHTS.last.integers[channel];
    for (let place = 0; place < scores.length; place++) {
      scores[place] += factor * Math.round(map[place] / step);
    }
  });
  return scores.map((sum) => sum * step * WEIGHTS.last.step);
}

function shifted(image, down, right) {
  const result = new Float64Array(image.length);
  for (let row = 0; row < SIZE; row++) {
    for (let column = 0; column < SIZE; column++) {
      const target = ((row + down + SIZE) % SIZE) * SIZE + ((column + right + SIZE) % SIZE);
      result[target] = image[row * SIZE + column];
    }
  }
  return result;
}

// Find the shift, and undo it. Among equal scores the content decides: the image that comes last in order.
function restored(image) {
  const scores = scoresOf(image);
  const best = Math.max(...scores);
  let chosen = null;
  scores.forEach((score, place) => {
    if (score !== best) return;
    const down = Math.floor(place / SIZE);
    const right = place % SIZE;
    const moved = shifted(image, -down, -right);
    if (chosen === null || chosen.image.join() < moved.join()) chosen = { image: moved, down, right };
  });
  const second = scores.reduce((most, score) => (score < best ? Math.max(most, score) : most), -Infinity);
  return { scores, margin: best - second, ...chosen };
}

const STROKES = {
  2: [[[11, 11], [12, 8], [16, 7], [20, 9], [20, 13], [16, 18], [11, 24], [21, 24]]],
  3: [[[11, 9], [14, 7], [19, 8], [20, 11], [19, 14], [15, 15], [20, 17], [21, 20], [19, 23], [15, 25], [11, 23]]],
  7: [[[11, 8], [21, 8], [17, 16], [15, 24]], [[13, 16], [20, 16]]],
};

function drawn(strokes) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIZE;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.lineWidth = 2.4;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#fff";
  for (const stroke of strokes) {
    context.beginPath();
    stroke.forEach(([x, y], number) => (number ? context.lineTo(x, y) : context.moveTo(x, y)));
    if (stroke.length === 1) context.lineTo(stroke[0][0] + 0.01, stroke[0][1]);
    context.stroke();
  }
  const { data } = context.getImageData(0, 0, SIZE, SIZE);
  return Float64Array.from({ length: SIZE * SIZE }, (_, place) => data[4 * place + 3]);
}

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function gray(value) {
  return [value, value, value];
}

function color(share) {
  const position = Math.min(1, Math.max(0, share)) * (RAMP.length - 1);
  const lower = Math.min(RAMP.length - 2, Math.floor(position));
  return RAMP[lower].map((from, part) => from + (position - lower) * (RAMP[lower + 1][part] - from));
}

function show(canvas, values, colored) {
  const context = canvas.getContext("2d", { willReadFrequently: true }); // tests read it
  const picture = context.createImageData(SIZE, SIZE);
  values.forEach((value, place) => picture.data.set([...colored(value), 255], 4 * place));
  context.putImageData(picture, 0, 0);
}

function signed(place) {
  return place < SIZE / 2 ? place : place - SIZE;
}

function told(down, right) {
  const part = (pixels, forward, back) => `${Math.abs(pixels)} ${pixels < 0 ? back : forward}`;
  return `${part(signed(down), "down", "up")}, ${part(signed(right), "right", "left")}`;
}

function build(root) {
  root.innerHTML = `
    <div class="restorer-row">
      <figure><div class="restorer-frame"><canvas data-name="image" tabindex="0" role="img"
        aria-label="The image; drag it, or use the arrow keys"></canvas></div>
        <figcaption>the image: drag it<br><output data-name="applied"></output></figcaption></figure>
      <figure><div class="restorer-frame"><canvas data-name="scores" role="img"
        aria-label="The scores of all shifts"></canvas><span class="restorer-mark"></span></div>
        <figcaption>scores of all shifts<br><output data-name="found"></output></figcaption></figure>
      <figure><div class="restorer-frame"><canvas data-name="restored" role="img"
        aria-label="The image moved back"></canvas></div>
        <figcaption>moved back by that shift<br><output data-name="same"></output></figcaption></figure>
    </div>
    <div class="restorer-row">
      <label>down <input type="range" data-name="down" min="-16" max="15" value="0"></label>
      <label>right <input type="range" data-name="right" min="-16" max="15" value="0"></label>
    </div>
    <div class="restorer-row">
      <button type="button" data-digit="2">2</button>
      <button type="button" data-digit="3">3</button>
      <button type="button" data-digit="7">7</button>
      <button type="button" data-name="draw" aria-pressed="false">Draw one</button>
      <button type="button" data-name="all">Try all shifts</button>
      <output data-name="count"></output>
    </div>`;
  const parts = Object.fromEntries(
    [...root.querySelectorAll("[data-name]")].map((element) => [element.dataset.name, element]),
  );
  for (const name of ["image", "scores", "restored"]) parts[name].width = parts[name].height = SIZE;
  const mark = root.querySelector(".restorer-mark");
  const state = { base: drawn(STROKES[3]), down: 0, right: 0, strokes: [], drawing: false };

  function update() {
    const image = shifted(state.base, state.down, state.right);
    const found = restored(image);
    const best = Math.max(...found.scores);
    const worst = Math.min(...found.scores);
    show(parts.image, image, gray);
    show(parts.scores, found.scores, (score) => color((score - worst) / (best - worst || 1)));
    show(parts.restored, found.image, gray);
    mark.style.top = `${(100 * (found.down + 0.5)) / SIZE}%`;
    mark.style.left = `${(100 * (found.right + 0.5)) / SIZE}%`;
    parts.applied.textContent = `moved by ${told(state.down, state.right)}`;
    parts.found.textContent = `found: ${told(found.down, found.right)}; margin ${found.margin.toFixed(1)}`;
    const same = found.image.join() === restored(state.base).image.join();
    parts.same.textContent = same ? "equal to that of the unmoved image" : "not equal to that of the unmoved image";
    parts.down.value = signed(state.down);
    parts.right.value = signed(state.right);
  }

  function move(down, right) {
    state.down = (down + 2 * SIZE) % SIZE;
    state.right = (right + 2 * SIZE) % SIZE;
    update();
  }

  function choose(image) {
    state.base = image;
    parts.count.textContent = "";
    move(0, 0);
  }

  function setDrawing(drawing) {
    state.drawing = drawing;
    state.strokes = [];
    parts.draw.setAttribute("aria-pressed", String(drawing));
    parts.draw.textContent = drawing ? "Done: drag it" : "Draw one";
  }

  function countAll() {
    const images = new Set();
    for (let down = 0; down < SIZE; down++) {
      for (let right = 0; right < SIZE; right++) {
        images.add(restored(shifted(state.base, down, right)).image.join());
      }
    }
    const number = images.size === 1 ? "1 restored image" : `${images.size} restored images`;
    parts.count.textContent = `1,024 shifts: ${number}`;
  }

  let held = null; // where the pointer went down, and the shift then
  const pixel = (event) => {
    const box = parts.image.getBoundingClientRect();
    return [((event.clientX - box.left) * SIZE) / box.width, ((event.clientY - box.top) * SIZE) / box.height];
  };
  parts.image.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    parts.image.setPointerCapture(event.pointerId);
    const [x, y] = pixel(event);
    held = { x, y, down: state.down, right: state.right };
    if (state.drawing) {
      state.strokes.push([[x, y]]);
      choose(drawn(state.strokes));
    }
  });
  parts.image.addEventListener("pointermove", (event) => {
    if (held === null) return;
    const [x, y] = pixel(event);
    if (state.drawing) {
      state.strokes.at(-1).push([x, y]);
      choose(drawn(state.strokes));
    } else {
      move(held.down + Math.round(y - held.y), held.right + Math.round(x - held.x));
    }
  });
  for (const name of ["pointerup", "pointercancel"]) parts.image.addEventListener(name, () => (held = null));
  parts.image.addEventListener("keydown", (event) => {
    const step = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(state.down + step[0], state.right + step[1]);
  });
  for (const name of ["down", "right"]) {
    parts[name].addEventListener("input", () => move(Number(parts.down.value), Number(parts.right.value)));
  }
  for (const button of root.querySelectorAll("[data-digit]")) {
    button.addEventListener("click", () => {
      setDrawing(false);
      choose(drawn(STROKES[button.dataset.digit]));
    });
  }
  parts.draw.addEventListener("click", () => {
    setDrawing(!state.drawing);
    if (state.drawing) choose(new Float64Array(SIZE * SIZE));
  });
  parts.all.addEventListener("click", () => {
    parts.count.textContent = "…";
    setTimeout(countAll, 20);
  });

  state.base = restored(state.base).image; // where the network takes digits to lie
  move(6, -9);
}

build(document.getElementById("restorer"));
