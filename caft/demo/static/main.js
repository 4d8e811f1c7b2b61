// The page: a picture, a caption, its sentences, and what a search by it finds. The model answers from a worker.

const SIDE = 512, SMALL = 128; // pixels of a canvas
const MOST_PIXELS = 4e6; // of a picture that the model is shown; larger ones are scaled down before
const LONGEST_SIDE = 16384; // of a canvas, in every browser
const MAP_SIDE = 384; // of maps and masks; those of a smaller picture have its size
const TYPING = 250, PAUSE = 500; // milliseconds until a caption is read, and until it is searched by
const STRIP = 16; // scenes at a time
const WRONG_TABLE = "The text looks as if it was decoded by the wrong table, as “cafÃ©” for “café”: the command caft repairs that before " +
  "it reads a text, this page does not, so their numbers may differ.";
const PLACES = [["top left", "top", "top right"], ["left", "middle", "right"], ["bottom left", "bottom", "bottom right"]];

const element = id => document.getElementById(id);
const scenes = JSON.parse(element("pictures").textContent).pictures;
let model; // its size, and how many segments each stage has
let picture = null; // canvas, name, scene (number in the set, or null), labels
let answer = null; // what the caption's sentences are to the picture
let chosen = null; // number of a sentence; null: the one that adds most to the score
let brought = ""; // the caption that a scene put into the field
let openings = 0, turn = 0; // of pictures and of questions, so that an answer that comes late is dropped
let seeing = null; // what the model is doing with a picture

// ---- the worker

const waiting = new Map();
let asked = 0;
const source = new Blob([element("worker").textContent], {type: "text/javascript"});
const worker = new Worker(URL.createObjectURL(source));
worker.onmessage = ({data: {id, answer: found, error}}) => {
  const {resolve, reject} = waiting.get(id);
  waiting.delete(id);
  error === undefined ? resolve(found) : reject(new Error(error));
};
worker.onerror = event => tellUnable(event.message);
addEventListener("unhandledrejection", event => tell(`The model stopped: ${event.reason.message}. Load the page again.`, true));

function call(kind, content, moved = []) {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, {resolve, reject});
    worker.postMessage({id, kind, ...content}, moved);
  });
}

// ---- pictures

async function openScene(number, withCaption) {
  const scene = scenes[number];
  const bytes = Uint8Array.from(atob(scene.data), letter => letter.charCodeAt(0));
  if (withCaption && (scene.caption || element("caption").value === brought)) {
    // A scene without a caption takes away that of another; what was typed stays.
    element("caption").value = brought = scene.caption;
    chosen = null;
  }
  await open(new Blob([bytes], {type: scene.type}), scene.name, number);
}

async function openFile(file) {
  if (!file || !model) return; // what is dropped is no file, or comes too early
  await open(file, file.name, null);
}

async function open(blob, name, scene) {
  const opening = ++openings;
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {colorSpaceConversion: "none"});
  } catch {
    tell(`${name} is no picture that this browser opens; take a JPEG, PNG or WebP file.`, true);
    return;
  }
  if (opening !== openings) return;
  const own = ++turn;
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)), LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white"; // under transparent parts
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const {data, width, height} = context.getImageData(0, 0, canvas.width, canvas.height);
  const [mapWidth, mapHeight] = fitted(width, height, Math.min(MAP_SIDE, Math.max(width, height)));
  picture = {canvas: document.createElement("canvas"), name, scene, labels: null};
  drawPicture(picture.canvas, canvas, Math.min(SIDE, Math.max(width, height))); // all that is shown of it
  for (const radio of document.querySelectorAll("#scenes input")) radio.checked = Number(radio.value) === scene; // none of an own file
  answer = null;
  draw();
  showBusy();
  await Promise.allSettled([seeing]);
  if (own !== turn) return; // of pictures that follow each other fast, the model sees the last
  seeing = call("see", {rgba: data, width, height, mapWidth, mapHeight}, [data.buffer]);
  const {labels} = await seeing;
  if (own !== turn) return;
  picture.labels = labels;
  await ask();
  await search();
}

// ---- questions

async function ask() {
  if (!picture?.labels) return;
  const own = ++turn, caption = element("caption").value;
  const found = await call("ask", {caption});
  if (own !== turn) return;
  answer = found.sentences.length ? found : null;
  const shares = found.sentences.map(({share}) => share);
  chosen = answer && Math.min(chosen ?? shares.indexOf(Math.max(...shares)), shares.length - 1);
  showSentences();
  draw();
  const count = found.sentences.length, plural = count === 1 ? "" : "s";
  const words = count ? `Asked ${count} sentence${plural} in ${Math.round(found.milliseconds)} ms.` : "The caption has no sentence yet.";
  tell(found.misread ? `${words} ${WRONG_TABLE}` : words);
}

async function search() {
  if (!scenes.length) return;
  const own = turn, found = await call("search", {caption: element("caption").value, own: picture?.scene ?? null});
  if (own !== turn || found === undefined) return; // another question has come, and its search
  if (found) showResults(found);
  else element("search").hidden = true;
}

function tell(message, isProblem = false) {
  element("status").textContent = message;
  element("status").classList.toggle("problem", isProblem);
}

function tellUnable(reason) {
  tell(`The model cannot run here (${reason}); take a current Chrome, Edge, Firefox or Safari.`, true);
}

// ---- what is shown

function draw() {
  const canvas = element("picture"), view = document.querySelector("#views :checked").value, stage = Number(element("level").value);
  const look = answer?.sentences[chosen], count = model.counts[stage];
  element("count").textContent = `${count} segments`;
  element("level").setAttribute("aria-valuetext", `${count} segments`);
  if (!picture) return;
  let words = picture.name;
  if ((view === "lines" || view === "means") && picture.labels) {
    drawSegments(canvas, picture.canvas, SIDE, picture.labels[stage], model.size, view === "means");
    words += `: ${new Set(picture.labels[stage]).size} segments${view === "means" ? " in their mean colours" : ""}`;
  } else if ((view === "map" || view === "mask") && look) {
    drawLook(canvas, picture.canvas, SIDE, look, view === "map");
    words += `: “${look.text}” looks ${placeOf(look)}; its mask covers ${shareOf(look.mask)} of the picture` +
      (look.borneOut ? "" : ", which does not bear it out");
  } else {
    drawPicture(canvas, picture.canvas, SIDE);
  }
  canvas.setAttribute("aria-label", words);
  element("seen").textContent = words;
}

// Where the largest values of a map lie, in words.
function placeOf({map, mask, width, height}) {
  const most = map.reduce((best, value) => Math.max(best, value), -Infinity);
  let x = 0, y = 0, count = 0;
  map.forEach((value, place) => {
    if (value < most * (1 - 1e-6)) return;
    x += place % width;
    y += Math.floor(place / width);
    count++;
  });
  const third = (sum, length) => Math.min(2, Math.floor(3 * (sum / count + 0.5) / length));
  const row = third(y, height), column = third(x, width);
  return row === 1 && column === 1 ? "at the middle" : `at the ${PLACES[row][column]}`;
}

function shareOf(mask) {
  const count = mask.reduce((sum, inside) => sum + inside, 0);
  return `${Math.round(100 * count / mask.length)} %`;
}

// ---- events

function choose(number) {
  chosen = number;
  document.querySelectorAll(".row").forEach((row, place) => row.classList.toggle("chosen", place === number));
  const view = document.querySelector("#views :checked").value;
  if (view !== "mask") document.querySelector("#views [value=map]").checked = true;
  draw();
}

let typing, pause;
element("caption").addEventListener("input", () => {
  clearTimeout(typing);
  clearTimeout(pause);
  showBusy();
  typing = setTimeout(ask, TYPING);
  pause = setTimeout(search, TYPING + PAUSE);
});
element("views").addEventListener("change", draw);
element("level").addEventListener("input", () => {
  const view = document.querySelector("#views :checked").value;
  if (view !== "means") document.querySelector("#views [value=lines]").checked = true;
  draw();
});
element("file").addEventListener("click", event => { event.target.value = ""; }); // so that the same file may be chosen again
element("file").addEventListener("change", event => openFile(event.target.files[0]));
addEventListener("dragover", event => {
  if (!event.dataTransfer.types.includes("Files")) return; // a text, for the caption
  event.preventDefault();
  element("drop").classList.add("over");
});
addEventListener("dragleave", () => element("drop").classList.remove("over"));
addEventListener("drop", event => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  element("drop").classList.remove("over");
  openFile(event.dataTransfer.files[0]);
});
element("earlier").addEventListener("click", () => showStrip(firstOfStrip - STRIP));
element("later").addEventListener("click", () => showStrip(firstOfStrip + STRIP));

async function begin() {
  const [parts, features] = ["model", "features"].map(id => element(id).textContent);
  try {
    model = await call("open", {parts, features, pictures: scenes.length});
  } catch (error) {
    tellUnable(error.message);
    return;
  }
  element("level").max = model.counts.length - 1;
  for (const name of ["model", "features", "worker"]) element(name).remove(); // megabytes of text
  for (const part of document.querySelectorAll("[inert]")) part.inert = false; // nothing could be asked until now
  if (scenes.length) {
    showStrip(0);
    await openScene(0, true);
  } else {
    draw();
    tell("Drop a picture here, or choose a file.");
  }
}

begin();
