// The map of items: dots on a canvas, seen from where the visitor's taste is.

const WHOLE = { x: 0, y: 0, half: 1.15 }, CLOSEST = 0.35, GLIDE = 400, REACH = 14;

export class ItemMap {
  constructor(canvas, pick) {
    this.canvas = canvas;
    this.items = [];
    this.rated = [];
    this.next = [];
    this.view = { ...WHOLE };
    this.hover = null;
    this.room = this.size;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointermove", event => this.point(event));
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.draw(); });
    canvas.addEventListener("click", event => { this.point(event); if (this.hover) pick(this.hover); });
  }

  show(rated, next) {
    const placed = list => list.filter(one => one.x !== undefined);
    this.rated = placed(rated);
    this.next = placed(next);
    this.canvas.setAttribute("aria-label",
      `Map of ${this.items.length} items; ${this.rated.length} of yours and ${this.next.length} recommended are marked`);
    this.glide(this.around([...this.rated, ...this.next]));
  }

  around(list) {
    if (!list.length) return WHOLE;
    const [xs, ys] = [list.map(one => one.x), list.map(one => one.y)];
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    return { x: (left + right) / 2, y: (low + high) / 2, half: Math.max(CLOSEST, 0.62 * Math.max(right - left, high - low)) };
  }

  rest() { cancelAnimationFrame(this.frame); }

  glide(to) {
    this.rest();
    const from = { ...this.view }, start = performance.now();
    const there = this.still.matches || Object.keys(to).every(key => from[key] === to[key]);
    const step = now => {
      const done = there ? 1 : Math.min(1, Math.max(0, (now - start) / GLIDE)), ease = 1 - (1 - done) ** 3;
      for (const key of ["x", "y", "half"]) this.view[key] = from[key] + (to[key] - from[key]) * ease;
      this.draw();
      if (done < 1) this.frame = requestAnimationFrame(step);
    };
    this.frame = requestAnimationFrame(step);
  }

  place(one) {
    const { width, height } = this.room, scale = Math.min(width, height) / 2 / this.view.half;
    return [width / 2 + (one.x - this.view.x) * scale, height / 2 - (one.y - this.view.y) * scale];
  }

  point(event) {
    const box = this.canvas.getBoundingClientRect(), [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let best = REACH ** 2, found = null;
    for (const one of [...this.rated, ...this.next, ...this.items]) {
      const [x, y] = this.place(one), far = (x - px) ** 2 + (y - py) ** 2;
      if (far < best) [best, found] = [far, one];
    }
    this.canvas.style.cursor = found ? "pointer" : "default";
    if (found !== this.hover) { this.hover = found; this.draw(); }
  }

  get size() { return { width: this.canvas.clientWidth, height: this.canvas.clientHeight }; }

  draw() {
    const { width, height } = this.size, ratio = window.devicePixelRatio || 1;
    if (!width) return;
    this.room = { width, height };
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    }
    const style = getComputedStyle(document.documentElement), colour = name => style.getPropertyValue(name).trim();
    const g = this.canvas.getContext("2d"), boxes = [];
    const font = getComputedStyle(document.body).fontFamily;
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, width, height);
    const disc = (x, y, r, fill) => { g.beginPath(); g.arc(x, y, r, 0, 2 * Math.PI); g.fillStyle = fill; g.fill(); };
    const inside = ([x, y]) => x > -9 && y > -9 && x < width + 9 && y < height + 9;
    g.globalAlpha = 0.55;
    g.fillStyle = colour("--dot");
    g.beginPath();
    for (const one of this.items) {
      const [x, y] = this.place(one);
      if (!inside([x, y])) continue;
      g.moveTo(x + 1.8, y);
      g.arc(x, y, 1.8, 0, 2 * Math.PI);
    }
    g.fill();
    g.globalAlpha = 1;
    for (const one of this.rated) boxes.push(box(...this.place(one), 7));
    for (const one of this.next) boxes.push(box(...this.place(one), 10));
    this.rated.forEach(one => { const at = this.place(one); disc(...at, 7.5, colour("--paper")); disc(...at, 6, colour("--star")); });
    [...this.next].reverse().forEach(one => {
      const [x, y] = this.place(one);
      disc(x, y, 10.5, colour("--paper"));
      disc(x, y, 9, colour("--accent"));
      g.fillStyle = colour("--on-accent");
      g.font = `600 10.5px ${font}`;
      g.textAlign = "center";
      g.textBaseline = "middle";
      g.fillText(String(one.rank), x, y + 0.5);
    });
    g.textAlign = "left";
    g.textBaseline = "middle";
    const label = (one, weight, size, ink, gap, force) => {
      g.font = `${weight} ${size}px ${font}`;
      const text = short(one.title ?? String(one.item)), wide = g.measureText(text).width, [x, y] = this.place(one);
      for (const [left, middle] of [[x + gap, y], [x - gap - wide, y], [x - wide / 2, y - gap - 4], [x - wide / 2, y + gap + 4]]) {
        const own = [left - 2, middle - size / 2 - 2, left + wide + 2, middle + size / 2 + 2];
        const fits = own[0] > 2 && own[2] < width - 2 && own[1] > 2 && own[3] < height - 2;
        if (fits && (force || !boxes.some(other => cross(own, other)))) {
          g.lineWidth = 3.5;
          g.lineJoin = "round";
          g.strokeStyle = colour("--paper");
          g.strokeText(text, left, middle);
          g.fillStyle = ink;
          g.fillText(text, left, middle);
          boxes.push(own);
          return;
        }
      }
    };
    for (const one of this.rated) label(one, 600, 12, colour("--star"), 11, false);
    for (const one of this.next) label(one, 600, 12, colour("--ink"), 14, false);
    let room = 14;
    for (const one of this.items) {
      if (!room) break;
      const before = boxes.length;
      if (inside(this.place(one))) label(one, 400, 11, colour("--quiet"), 6, false);
      if (boxes.length > before) room--;
    }
    if (this.hover) {
      const at = this.place(this.hover);
      disc(...at, 4, colour("--ink"));
      label(this.hover, 600, 12, colour("--ink"), 12, true);
    }
  }
}

const box = (x, y, r) => [x - r, y - r, x + r, y + r];
const cross = (a, b) => a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];

function short(title) {
  const text = title.replace(/ \(\d{4}\)$/, "");
  return text.length > 26 ? `${text.slice(0, 25).trimEnd()}…` : text;
}
