// What the page makes of answers: rows of sentences, results of a search, the strip of scenes.

let firstOfStrip = 0;

// A node with attributes and children; text is text, never markup.
function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") made.textContent = value;
    else if (typeof value === "boolean") made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function signed(value) {
  return (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
}

function plain(value) {
  return (value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
}

function percent(share) {
  return share > 0.995 && share < 1 ? "> 99 %" : share < 0.005 ? "< 1 %" : `${Math.round(100 * share)} %`;
}

// ---- sentences

function showSentences() {
  const rows = answer?.sentences ?? [], most = Math.max(...rows.map(row => Math.abs(row.share)), 1e-9);
  element("sentences").hidden = !rows.length;
  document.querySelector("#sentences .rows").replaceChildren(...rows.map((row, place) => sentenceRow(row, place, most)));
  element("score").textContent = answer ? scoreInWords(answer) : "";
}

function sentenceRow(row, place, most) {
  const radio = node("input", {type: "radio", name: "sentence", value: String(place), checked: place === chosen});
  const canvas = node("canvas", {"aria-hidden": "true"});
  drawLook(canvas, picture.canvas, SMALL, row, true);
  const bar = node("span", {class: row.share < 0 ? "bar minus" : "bar", "aria-hidden": "true"}, node("i"));
  bar.firstChild.style.width = `${100 * Math.abs(row.share) / most}%`;
  const label = node("label", {class: place === chosen ? "row chosen" : "row"}, radio, canvas,
    node("span", {class: "words", text: row.text}),
    number(percent(row.probability), row.borneOut ? "fits" : "not borne out", row.borneOut ? "kept" : "not"),
    number(plain(row.part), "part score"), number(signed(row.share), "share", "", bar));
  radio.addEventListener("change", () => choose(place));
  return label;
}

function number(value, name, kind = "", ...more) {
  return node("span", {class: "number"}, node("b", {class: kind, text: value}), " ", node("small", {text: name}), ...more);
}

function scoreInWords({both, wholeShare, sentences}) {
  const ofSentences = `${plain(both - wholeShare)} of the sentence${sentences.length === 1 ? "" : "s"}`;
  return `CAFT++ ${plain(both)} = ${plain(wholeShare)} of the whole caption + ${ofSentences}`;
}

// ---- search

// What was found is of another caption or picture.
function showBusy() {
  element("results").setAttribute("aria-busy", "true");
}

function showResults({results, pictures, rank}) {
  element("search").hidden = false;
  const own = rank === null ? "" : ` The picture above is on place ${rank}.`;
  element("found").textContent = pictures === 1 ? "The page has one picture." : `The best of ${pictures} pictures, and which sentence decided.${own}`;
  const list = element("results"), focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(...results.map((result, place) => node("li", {}, resultCard(result, place))));
  list.removeAttribute("aria-busy");
  list.querySelectorAll("button")[focused]?.focus({preventScroll: true}); // by the keys, one goes on from there
}

function resultCard({place, both, reason}, rank) {
  const scene = scenes[place], isShown = place === picture.scene;
  const card = node("button", {type: "button", value: String(place), title: "Show this picture with the same caption"},
    node("img", {src: `data:${scene.type};base64,${scene.data}`, alt: scene.name}),
    node("p", {class: isShown ? "own" : ""}, node("b", {text: `${rank + 1}.`}), ` score ${plain(both)}`, isShown ? ", the picture above" : ""),
    node("p", {class: "soft", text: reason ? reasonInWords(reason, rank) : ""}));
  card.addEventListener("click", async () => {
    element("drop").scrollIntoView({block: "nearest"});
    showStrip(place);
    await openScene(place, false);
  });
  return card;
}

function reasonInWords({number, text, gain, ofWhole, total}, rank) {
  const towards = rank ? "behind the first" : "ahead of the second";
  return `${Math.abs(total).toFixed(2)} ${towards}. The sentence that decided: ${number} (${signed(gain)}), “${text}” ` +
    `The whole caption: ${signed(ofWhole)}.`;
}

// ---- scenes

// The strip with the scenes around a number.
function showStrip(number) {
  const count = scenes.length;
  firstOfStrip = Math.max(0, Math.min(Math.floor(number / STRIP) * STRIP, count - 1));
  for (const id of ["scenes", "earlier", "later"]) element(id).hidden = false;
  element("earlier").disabled = firstOfStrip === 0;
  element("later").disabled = firstOfStrip + STRIP >= count;
  const shown = scenes.slice(firstOfStrip, firstOfStrip + STRIP);
  document.querySelector(".strip").replaceChildren(...shown.map((scene, place) => sceneChoice(scene, firstOfStrip + place)));
}

function sceneChoice(scene, number) {
  const radio = node("input", {
    type: "radio", name: "scene", value: String(number), checked: picture?.scene === number, "aria-label": `Picture ${scene.name}`,
  });
  radio.addEventListener("change", () => openScene(number, true));
  return node("label", {title: scene.name}, radio, node("img", {src: `data:${scene.type};base64,${scene.data}`, alt: ""}));
}
