"use strict";
// What is painted is a list of strokes: undoing is leaving out the last, and a reload of the page keeps them.
class Painter {
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.changed = changed;
    this.strokes = [];
    this.brush = 60;
    this.erasing = false;
    this.pointer = null;
    this.key = "";
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.follow(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (event.pointerId === this.pointer) { this.pointer = null; this.done(); }
      });
    }
  }

  // A face has its own strokes; those of the last one come back after a reload.
  open(side, key) {
    if (key === this.key) return;
    this.key = key;
    this.canvas.width = this.canvas.height = side;
    try {
      this.strokes = JSON.parse(sessionStorage.getItem(`strokes ${key}`) || "[]");
    } catch {
      this.strokes = [];
    }
    this.draw();
    this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const scale = this.canvas.width / box.width;
    const round = (value) => Math.round(value * 100) / 100;
    return [round((event.clientX - box.left) * scale), round((event.clientY - box.top) * scale)];
  }

  begin(event) {
    if (event.button || this.pointer !== null) return;
    event.preventDefault();
    this.canvas.setPointerCapture(event.pointerId);
    this.pointer = event.pointerId;
    this.strokes.push({ erase: this.erasing, size: this.brush, points: [this.place(event)] });
    this.stroke(this.strokes.at(-1));
  }

  follow(event) {
    if (event.pointerId !== this.pointer) return;
    const stroke = this.strokes.at(-1);
    const more = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of more.length ? more : [event]) stroke.points.push(this.place(each));
    this.stroke(stroke);
  }

  box(left, top, right, bottom) {
    this.strokes.push({ erase: this.erasing, box: [left, top, right - left, bottom - top] });
    this.done();
  }

  undo() { this.strokes.pop(); this.done(); }

  clear() { this.strokes = []; this.done(); }

  done() {
    this.draw();
    try {
      sessionStorage.setItem(`strokes ${this.key}`, JSON.stringify(this.strokes));
    } catch { /* full: only a reload loses them */ }
    this.changed();
  }

  draw() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const stroke of this.strokes) this.stroke(stroke);
  }

  stroke({ erase, size, points, box }) {
    const c = this.context;
    c.globalCompositeOperation = erase ? "destination-out" : "source-over";
    c.strokeStyle = c.fillStyle = "#e0218a";
    if (box) { c.fillRect(...box); return; }
    c.lineWidth = size;
    c.lineCap = c.lineJoin = "round";
    c.beginPath();
    c.moveTo(...points[0]);
    for (const point of points) c.lineTo(...point);
    c.stroke();
  }

  // Whatever is marked at all is missing: one value for each pixel.
  marks() {
    const data = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    let count = 0;
    for (let i = 0; i < data.data.length; i += 4) {
      const marked = data.data[i + 3] > 0;
      count += marked;
      data.data[i] = data.data[i + 1] = data.data[i + 2] = marked ? 0 : 255;
      data.data[i + 3] = 255;
    }
    return { data, count };
  }

  get share() { return this.strokes.length ? this.marks().count / this.canvas.width ** 2 : 0; }

  // Black where something is missing, white elsewhere, as masks of ilo-pl are.
  png() {
    const copy = document.createElement("canvas");
    copy.width = copy.height = this.canvas.width;
    copy.getContext("2d").putImageData(this.marks().data, 0, 0);
    return copy.toDataURL("image/png");
  }
}
