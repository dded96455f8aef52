"use strict";
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const ACTIVE = ["waiting", "preparing", "searching", "pasting", "stopping"];
const TASKS = { inpainting: "Fill in", super_resolution: "Enlarge", denoising: "Take off noise",
  old_photo: "Old photo", colourisation: "Colour" };
const WORDS = { waiting: "waiting", preparing: "preparing", searching: "searching", pasting: "putting it into the photo",
  stopping: "stopping", done: "done", stopped: "stopped", failed: "failed" };
let state = { photo: null, jobs: [] };
let version = -1;
let stream = null;

// ---- talking to the server -------------------------------------------------------------------------
async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("The app does not answer. Is it still running?");
  }
  const text = await answer.text();
  let told;
  try { told = JSON.parse(text); } catch { told = { error: text.trim() }; }
  if (!answer.ok) throw Object.assign(new Error(told.error || `Status ${answer.status}`), { status: answer.status });
  return told;
}
const post = (path, body) => ask(path, { method: "POST", body: body === undefined ? undefined : JSON.stringify(body) });
async function attempt(work) {
  hideProblem();
  try {
    const told = await work();
    if (told) show(told);
  } catch (error) {
    $("#problem p").textContent = error.message;
    $("#problem").hidden = false;
  }
}
function hideProblem() { $("#problem").hidden = true; }
$("#problem button").addEventListener("click", hideProblem);

// What changes is told by the server, so that a reload and a second tab show the same.
function listen() {
  if (stream) return;
  stream = new EventSource("api/events");
  stream.onmessage = (event) => { $("#offline").hidden = true; show(JSON.parse(event.data)); };
  stream.onerror = () => {
    stream.close();
    stream = null;
    setTimeout(again, 1500);
  };
}
async function again() {
  try {
    show(await ask("api/state"));
    $("#offline").hidden = true;
  } catch (error) {
    $("#offline").hidden = error.status !== undefined;
    setTimeout(again, 1500);
  }
}

// ---- 1: the photo ----------------------------------------------------------------------------------
async function upload(file) {
  if (!file) return;
  let replace = "";
  if (state.jobs.length) {
    if (!confirm("A new photo removes the results of this one. Go on?")) return;
    replace = "&replace=yes";
  }
  $("#reading").hidden = false;
  $("#drop").hidden = true;
  await attempt(() => ask(`api/photo?name=${encodeURIComponent(file.name || "pasted.png")}${replace}`, { method: "POST", body: file }));
  $("#reading").hidden = true;
  $("#drop").hidden = Boolean(state.photo);
  $("#file").value = "";
}
$("#file").addEventListener("change", (event) => upload(event.target.files[0]));
$("#another").addEventListener("click", () => $("#file").click());
$("#forget").addEventListener("click", () => {
  if (confirm("Remove the photo and all results from this machine's disk?")) attempt(() => post("api/forget"));
});
for (const kind of ["dragenter", "dragover"]) {
  addEventListener(kind, (event) => { event.preventDefault(); $("#drop").classList.add("over"); });
}
addEventListener("dragleave", () => $("#drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  upload(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = event.clipboardData.files[0];
  if (file) { event.preventDefault(); upload(file); }
});

// ---- 2: the face -----------------------------------------------------------------------------------
let clicked = null;
const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
function chosenFace() {
  const { choice, photo } = state;
  if (!choice || choice.middle) return -1;
  if (!choice.eyes) return photo.faces.length ? 0 : -1;
  return photo.faces.findIndex((face) => same(face.eyes, choice.eyes) && same(face.mouth, choice.mouth));
}
function drawMarks() {
  const { photo } = state;
  const marks = $("#marks");
  marks.setAttribute("viewBox", `-0.5 -0.5 ${photo.width} ${photo.height}`);
  marks.setAttribute("preserveAspectRatio", "none");
  const chosen = chosenFace();
  const shapes = photo.faces.flatMap((face, i) => {
    const points = face.corners.map((corner) => corner.join(",")).join(" ");
    return [svg("polygon", { points, class: "back" }), svg("polygon", { points, class: i === chosen ? "chosen" : "" })];
  });
  const radius = Math.max(photo.width, photo.height) / 150;
  marks.replaceChildren(...shapes, ...(clicked || []).map(([cx, cy]) => svg("circle", { cx, cy, r: radius })));
}
function showFace() {
  const { photo, face, choice } = state;
  $("#face-told").textContent = clicked
    ? ["Click the middle of one eye.", "Click the other eye.", "Click the middle of the mouth."][clicked.length] || ""
    : face ? `${choice.middle ? "The middle of the photo" : "The square around the face"} is ${Math.round(face.side)} pixels wide; `
      + "it is turned upright and restored alone." : "No face was found. Click its eyes and mouth, or take the middle of the photo.";
  $("#click-face").setAttribute("aria-pressed", String(Boolean(clicked)));
  $("#stage").classList.toggle("clicking", Boolean(clicked));
  $("#middle").setAttribute("aria-pressed", String(Boolean(choice && choice.middle)));
  const chosen = chosenFace();
  const several = photo.faces.length > 1 || chosen < 0 && photo.faces.length;
  $("#faces").replaceChildren(...(several ? photo.faces : []).map((each, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "plain" });
    button.textContent = `Face ${i + 1} (${Math.round(each.side)} px)`;
    button.setAttribute("aria-pressed", String(i === chosen));
    button.addEventListener("click", () => chooseFace(i ? { eyes: each.eyes, mouth: each.mouth } : {}));
    return button;
  }));
  drawMarks();
}
async function chooseFace(choice) {
  clicked = null;
  $("#face-told").textContent = "Cutting the face out …";
  await attempt(() => post("api/face", choice));
  showFace();
}
$("#click-face").addEventListener("click", () => { clicked = clicked ? null : []; showFace(); });
$("#middle").addEventListener("click", () => chooseFace({ middle: true }));
$("#stage").addEventListener("click", (event) => {
  if (!clicked) return;
  const box = $("#view").getBoundingClientRect();
  const at = (value, length, side) => Math.round((value / length * side - 0.5) * 10) / 10;
  clicked.push([at(event.clientX - box.left, box.width, state.photo.width), at(event.clientY - box.top, box.height, state.photo.height)]);
  if (clicked.length < 3) { showFace(); return; }
  const [first, second, mouth] = clicked;
  drawMarks();
  chooseFace({ eyes: [...first, ...second], mouth });
});
$("#points-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const values = $$("input", event.target).map((input) => Number(input.value));
  chooseFace({ eyes: values.slice(0, 4), mouth: values.slice(4) });
});

// ---- 3: the wish -----------------------------------------------------------------------------------
const painter = new Painter($("#canvas"), () => {
  const share = painter.share;
  $("#marked").textContent = share ? `${(share * 100).toFixed(1)} % marked` : "nothing marked yet";
  $("#undo").disabled = $("#clear").disabled = !painter.strokes.length;
});
const form = $("#wish");
function brushSize() {
  painter.brush = Number($("#brush").value);
  $("#brush-size").textContent = `${painter.brush} pixels`;
}
$("#brush").addEventListener("input", brushSize);
$("#erase").addEventListener("click", (event) => {
  painter.erasing = !painter.erasing;
  event.target.setAttribute("aria-pressed", String(painter.erasing));
});
$("#undo").addEventListener("click", () => painter.undo());
$("#clear").addEventListener("click", () => painter.clear());
addEventListener("keydown", (event) => {
  const typing = event.target.matches && event.target.matches("input[type=number]");
  if ((event.ctrlKey || event.metaKey) && event.key === "z" && !typing && painter.strokes.length) {
    event.preventDefault();
    painter.undo();
  }
});
$("#add-box").addEventListener("click", () => {
  const [left, top, right, bottom] = $$("#box input").map((input) => Math.round(Number(input.value)));
  if (right > left && bottom > top) painter.box(left, top, right, bottom);
});
function task() { return form.elements.task.value; }
function size() { return Number(form.elements.size.value); }
function fillFactors() {
  const select = form.elements.factor;
  const before = select.value;
  const factors = [2, 4, 8, 16, 32, 64].filter((f) => size() % f === 0 && size() / f >= 8);
  select.replaceChildren(...factors.map((f) => new Option(`${f} (from ${size() / f} pixels)`, f)));
  const side = state.face ? state.face.side : 64;
  const nearest = factors.reduce((a, b) => Math.abs(Math.log(size() / b / side)) < Math.abs(Math.log(size() / a / side)) ? b : a, factors[0]);
  select.value = factors.includes(Number(before)) && select.dataset.chosen ? before : nearest;
}
form.elements.factor.addEventListener("change", (event) => { event.target.dataset.chosen = "yes"; });
form.elements.sigma.addEventListener("change", (event) => { event.target.dataset.chosen = "yes"; });
function suggest() {
  fillFactors();
  const face = state.face;
  if (face && !form.elements.sigma.dataset.chosen) form.elements.sigma.value = face.sigma[String(size())];
  const side = face ? Math.round(face.side) : 0;
  const told = {
    super_resolution: side >= size() ? `The square is ${side} pixels wide in the photo, more than the ${size()} of the result: take a larger size, `
      + "or another task." : `The square is ${side} pixels wide in the photo. In the photo itself it stays that small: the large face is a download of its own.`,
    denoising: "In grey levels out of 255. What stands there is an estimate from the picture, in which texture counts as noise.",
    old_photo: "Mark scratches and stains with the brush. The noise is an estimate; 0 means none.",
    colourisation: "Brightness is the photo's; the colours are the generator's.",
    inpainting: "What is marked is replaced, all else stays as it is.",
  };
  $("#setting-told").textContent = told[task()];
  for (const element of $$("[data-for]", form)) element.hidden = !element.dataset.for.split(" ").includes(task());
}
form.addEventListener("change", suggest);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const e = form.elements;
  const wish = { task: task(), size: size(), method: e.method.value, quality: e.quality.value, answers: Number(e.answers.value) };
  if (task() === "super_resolution") wish.factor = Number(e.factor.value);
  if (task() === "denoising" || task() === "old_photo") wish.sigma = Number(e.sigma.value);
  if (task() === "old_photo") { wish.grey = e.grey.checked; wish.blur = Number(e.blur.value); }
  const paints = task() === "inpainting" || task() === "old_photo";
  if (paints && painter.share > 0) wish.painted = painter.png();
  $("#start").disabled = true;
  attempt(() => post("api/jobs", wish)).then(() => {
    showWish();
    if (state.jobs.length && ACTIVE.includes(state.jobs[0].status)) $("#jobs .job").scrollIntoView({ block: "start" });
  });
});
function showWish() {
  const busy = state.jobs.some((job) => ACTIVE.includes(job.status));
  $("#start").disabled = busy;
  $("#busy-told").hidden = !busy;
}

// ---- searches --------------------------------------------------------------------------------------
const shown = new Map();
const clock = (seconds) => seconds < 90 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`;
function cardOf(job) {
  if (!shown.has(job.number)) {
    const card = $("#job").content.firstElementChild.cloneNode(true);
    const about = { card, answer: 1, face: false, finished: 0 };
    const url = `api/jobs/${job.number}`;
    $(".stop", card).addEventListener("click", () => attempt(() => post(`${url}/stop`)));
    $(".go-on", card).addEventListener("click", () => attempt(() => post(`${url}/go-on`)));
    $(".get-zip", card).href = `${url}/zip`;
    $(".given", card).src = "api/face.png?" + state.version;
    const range = $(".frame input", card);
    range.addEventListener("input", () => $(".frame", card).style.setProperty("--at", `${range.value}%`));
    for (const [name, face] of [[".show-face", true], [".show-photo", false]]) {
      $(name, card).addEventListener("click", () => { about.face = face; showResult(job.number); });
    }
    $(".copy", card).addEventListener("click", async (event) => {
      await navigator.clipboard.writeText($("pre", card).textContent);
      event.target.textContent = "Copied";
    });
    shown.set(job.number, about);
  }
  return shown.get(job.number);
}
function telling(job) {
  const several = job.wish.answers > 1 ? `Answer ${job.answer} of ${job.wish.answers}. ` : "";
  switch (job.status) {
    case "waiting": return job.ahead ? `One search at a time: ${job.ahead} before this one.` : "It begins in a moment.";
    case "preparing": return "Cutting the face out.";
    case "searching": return several + (job.progress.steps ? "" : "Loading the generator; the first steps take longer.");
    case "pasting": return several + "Putting the face back into the photo.";
    case "stopping": return "It stops at the end of this step and writes down where it is.";
    case "stopped": return "Stopped. It goes on from where it was, with the same result.";
    default: return job.status === "done" ? `Searched for ${clock(job.seconds)}.` : "";
  }
}
function showGoing(card, job) {
  const going = ["searching", "stopping", "stopped"].includes(job.status);
  $(".going", card).hidden = !going;
  if (!going) return;
  const p = job.progress || {};
  const bar = $("progress", card);
  bar.hidden = job.status === "stopped";
  if (p.steps) bar.value = p.step / p.steps; else bar.removeAttribute("value");
  const parts = p.steps ? [`Stage ${p.stage} of ${p.stages}`, `step ${p.step} of ${p.steps}`] : [];
  if (p.loss !== null && p.loss !== undefined) parts.push(`loss ${p.loss.toPrecision(3)}`);
  if (p.seconds_left !== null && p.seconds_left !== undefined && p.steps) parts.push(`about ${clock(p.seconds_left)} left`);
  $(".where", card).textContent = parts.join(", ");
  const live = $(".live", card);
  live.parentElement.hidden = !job.live;
  if (job.live) {
    const source = `api/jobs/${job.number}/files/${job.live}`;
    if (!live.src.endsWith(source)) live.src = source;
  }
}
function showResult(number) {
  const about = shown.get(number);
  const job = state.jobs.find((each) => each.number === number);
  const { card } = about;
  const answer = job.answers[about.answer - 1];
  const url = (name) => `api/jobs/${number}/files/${name}`;
  $(".result", card).hidden = !answer;
  if (!answer) return;
  $(".answers", card).replaceChildren(...(job.answers.length > 1 ? job.answers : []).map((_, i) => {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "plain", textContent: `Answer ${i + 1}` });
    button.setAttribute("aria-pressed", String(i + 1 === about.answer));
    button.addEventListener("click", () => { about.answer = i + 1; showResult(number); });
    return button;
  }));
  const before = about.face ? url(answer.before) : `api/view.webp?${state.version}`;
  const after = about.face ? url(answer.face) : url(answer.photo_view);
  const set = (image, source, text) => {
    if (!image.src.endsWith(source)) image.src = source;
    image.alt = text;
  };
  set($(".under", card), after, about.face ? "The restored face" : "The restored photo");
  set($(".over", card), before, about.face ? "The face before" : "The photo before");
  const small = job.wish.size <= 128 && about.face;
  for (const image of $$(".frame img", card)) image.classList.toggle("pixels", small);
  $(".show-face", card).setAttribute("aria-pressed", String(about.face));
  $(".show-photo", card).setAttribute("aria-pressed", String(!about.face));
  $(".get-photo", card).href = `${url(answer.photo)}?download`;
  $(".get-face", card).href = `${url(answer.face)}?download`;
  $(".get-report", card).hidden = !answer.report;
  if (answer.report) $(".get-report", card).href = url(answer.report);
}
function showJob(job) {
  const about = cardOf(job);
  const { card } = about;
  $("h2", card).textContent = `${TASKS[job.wish.task]}, ${job.wish.size} pixels`;
  const word = $(".state", card);
  word.textContent = WORDS[job.status];
  word.classList.toggle("busy", ACTIVE.includes(job.status));
  const told = telling(job);
  if ($(".told", card).textContent !== told) $(".told", card).textContent = told;
  $(".error", card).hidden = !job.error;
  $(".error", card).textContent = job.error;
  $(".stop", card).hidden = !ACTIVE.includes(job.status);
  $(".stop", card).disabled = job.status === "stopping";
  $(".go-on", card).hidden = !["stopped", "failed"].includes(job.status);
  $("pre", card).textContent = job.commands.join("\n");
  showGoing(card, job);
  if (job.answers.length !== about.finished) {
    about.finished = job.answers.length;
    about.answer = Math.max(1, job.answers.length);
    showResult(job.number);
  }
  return card;
}

// ---- all of it -------------------------------------------------------------------------------------
function show(told) {
  state = told;
  const { photo, face } = state;
  $("#drop").hidden = Boolean(photo) || !$("#reading").hidden;
  $("#photo").hidden = $("#step-face").hidden = !photo;
  $("#step-task").hidden = !face;
  if (!photo) {
    shown.clear();
    $("#jobs").replaceChildren();
    version = -1;
    return;
  }
  listen();
  if (version !== state.version) {
    version = state.version;
    clicked = null;
    $("#photo-name").textContent = `${photo.name}, ${photo.width} x ${photo.height} pixels`;
    $("#notes").replaceChildren(...photo.notes.map((note) => Object.assign(document.createElement("li"), { textContent: note })));
    $("#view").src = `api/view.webp?${version}`;
    $("#stage").classList.toggle("small", Math.max(photo.width, photo.height) < 200);
    $("#face").hidden = !face;
    if (face) newFace(face);
    showFace();
  }
  const numbers = new Set(state.jobs.map((job) => job.number));
  for (const [number, about] of shown) if (!numbers.has(number)) { about.card.remove(); shown.delete(number); }
  const cards = state.jobs.map(showJob);
  if (cards.some((card, i) => $("#jobs").children[i] !== card)) $("#jobs").replaceChildren(...cards);
  showWish();
}
function newFace(face) {
  const source = `api/face.png?${version}`;
  for (const image of [$("#face"), $("#canvas-face")]) {
    image.src = source;
    image.classList.toggle("pixels", state.sides[0] <= 128);
  }
  $("#canvas").classList.toggle("pixels", state.sides[0] <= 128);
  const side = state.sides[0];
  if (!form.elements.size.length) {
    form.elements.size.replaceChildren(...state.sides.map((each) => new Option(`${each} x ${each}`, each)));
    form.elements.size.value = state.sides.includes(256) ? 256 : side;
    $("#brush").max = Math.ceil(side / 4);
    $("#brush").value = Math.max(2, Math.round(side / 16));
    $$("#box input").slice(2).forEach((input) => { input.value = side; });
    $$("#box input").forEach((input) => { input.max = side; });
    brushSize();
  }
  form.elements.grey.checked = face.colourless;
  delete form.elements.sigma.dataset.chosen;
  delete form.elements.factor.dataset.chosen;
  painter.open(side, `${state.photo.name} ${version}`);
  suggest();
}
again();
