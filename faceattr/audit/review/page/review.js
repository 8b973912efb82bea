// The review page. The server keeps everything: this file shows one image, sends one answer, and waits until it is on
// disk before it shows the next. What the model said reaches the browser only with the reply to an answer.
"use strict";

const NUM_AHEAD = 3; // pictures that are fetched before they are needed
const NUM_BEHIND = 2; // and kept after they were judged
const ZOOM = { first: 2.5, step: 1.5, most: 10, move: 0.15 };
const KEPT_NAME = "faceattr-reviewer";
const CANNOT_TELL = null;

const find = (id) => document.getElementById(id);
const stage = find("stage");
const picture = find("picture");

let review = { reviewer: null, attributes: [] };
const answers = new Map(); // item -> { answer, table }
const pictures = new Map(); // item -> promise of { url }, { reason, detail } or { error }
let attributeNumber = 0;
let index = 0; // in the items of the attribute
let shown = null; // what the stage shows: "picture", "bad", or null while there is nothing to judge
let showing = 0; // counts calls of `show`, of which only the last may draw
let isSending = false;
let lastItem = null; // the item that was judged last
let isModelShown = false;
let typed = ""; // digits of a class number with several
let zoom = { scale: 1, x: 0, y: 0 };

// --- where we are -------------------------------------------------------------------------------------------------

const attribute = () => review.attributes[attributeNumber];
const item = () => attribute().items[index];
const numJudged = (each) => each.items.filter((one) => answers.has(one)).length;
const firstLeft = (each) => each.items.findIndex((one) => !answers.has(one));
const nameOf = (answer, classes) => (answer === CANNOT_TELL ? "cannot tell" : classes[answer]);

function nextUnfinished() {
  const count = review.attributes.length;
  for (let step = 1; step < count; step += 1) {
    const number = (attributeNumber + step) % count;
    if (firstLeft(review.attributes[number]) !== -1) return number;
  }
  return null;
}

function goTo(number) {
  attributeNumber = number;
  index = Math.max(0, firstLeft(attribute()));
  show();
}

function goOn() {
  if (index + 1 < attribute().items.length) {
    index += 1;
    show();
  } else {
    endAttribute();
  }
}

function goBack() {
  if (index > 0) {
    index -= 1;
    show();
  }
}

// --- cards between attributes -------------------------------------------------------------------------------------

function openCard(title, text, more, choices) {
  const card = find("card");
  find("card-title").textContent = title;
  find("card-text").textContent = text;
  find("card-more").textContent = more;
  const [first, second] = choices;
  find("card-first").textContent = first.label;
  find("card-second").textContent = second ? second.label : "";
  find("card-second").hidden = !second;
  card.returnValue = "";
  card.onclose = () => (card.returnValue === "second" ? second : first).act();
  card.showModal();
}

function describeTask(each) {
  const left = each.items.length - numJudged(each);
  const keys = answerKeys(each).map(({ key, name }) => `${key} ${name}`);
  const most = 6;
  const list = keys.length > most ? `${keys.slice(0, most - 1).join(", ")} ... ${keys.at(-1)}` : keys.join(", ");
  return { text: `${left} ${left === 1 ? "image" : "images"} to judge.`, keys: `Keys: ${list}.` };
}

function beginAttribute(number) {
  const each = review.attributes[number];
  const task = describeTask(each);
  openCard(each.name, task.text, task.keys, [{ label: "Begin", act: () => goTo(number) }]);
}

function endAttribute() {
  const each = attribute();
  const left = each.items.length - numJudged(each);
  const next = nextUnfinished();
  const stay = { label: "Look at it again", act: () => { index = each.items.length - 1; show(); } };
  const change = next === null ? null : { label: `Go on with ${review.attributes[next].name}`, act: () => goTo(next) };
  if (left > 0) {
    const again = { label: "Show what is left", act: () => goTo(attributeNumber) };
    const text = `${left} ${left === 1 ? "image has" : "images have"} no answer yet.`;
    openCard(`End of ${each.name}`, text, "Skipped images may stay without an answer.", change ? [again, change] : [again]);
  } else if (change) {
    const task = describeTask(review.attributes[next]);
    openCard(`${each.name} is done`, `Next: ${review.attributes[next].name}. ${task.text}`, task.keys, [change, stay]);
  } else {
    const total = review.attributes.reduce((sum, one) => sum + one.items.length, 0);
    const text = `You have judged all ${total} images. Thank you.`;
    openCard("All done", text, `What the answers say: faceattr audit apply ${review.folder}`, [stay]);
  }
}

// --- pictures -----------------------------------------------------------------------------------------------------

async function problemOf(response) {
  const text = await response.text();
  try {
    return JSON.parse(text).error;
  } catch {
    return text.trim() || `the server answered ${response.status}`;
  }
}

async function fetchPicture(number) {
  try {
    const response = await fetch(`/api/pictures/${number}`);
    if (response.ok) return { url: URL.createObjectURL(await response.blob()) };
    if (response.status === 422) return await response.json();
    return { error: await problemOf(response) };
  } catch {
    return { error: "the server does not answer" };
  }
}

function load(number) {
  if (!pictures.has(number)) {
    const promise = fetchPicture(number);
    pictures.set(number, promise);
    promise.then((found) => found.error && pictures.get(number) === promise && pictures.delete(number));
  }
  return pictures.get(number);
}

function keepPicturesNear() {
  const near = attribute().items.slice(Math.max(0, index - NUM_BEHIND), index + NUM_AHEAD + 1);
  for (const [number, promise] of pictures) {
    if (!near.includes(number)) {
      pictures.delete(number);
      promise.then((found) => found.url && URL.revokeObjectURL(found.url));
    }
  }
  near.filter((number) => !(number < item() && answers.has(number))).forEach(load);
}

async function show() {
  showing += 1;
  const mine = showing;
  const wanted = item();
  shown = null;
  typed = "";
  delete stage.dataset.item;
  picture.hidden = find("bad").hidden = true;
  find("loading").hidden = false;
  resetZoom();
  draw();
  const found = await load(wanted);
  if (mine !== showing) return;
  if (found.url) {
    picture.src = found.url;
    try {
      await picture.decode();
    } catch {
      found.reason = "unsupported";
      found.detail = "this browser could not show it";
    }
    if (mine !== showing) return;
  }
  find("loading").hidden = true;
  if (found.error) {
    complain(`No image: ${found.error}. Press r to try again.`);
    return;
  }
  shown = found.reason ? "bad" : "picture";
  find("bad-reason").textContent = found.reason ?? "";
  find("bad-detail").textContent = found.detail ?? "";
  find("bad").hidden = shown !== "bad";
  picture.hidden = shown !== "picture";
  picture.alt = `Image ${index + 1} of ${attribute().items.length}, to be judged for ${attribute().name}`;
  stage.dataset.item = wanted;
  find("said").textContent = `${attribute().name}, image ${index + 1} of ${attribute().items.length}`;
  draw();
  keepPicturesNear();
}

// --- answers ------------------------------------------------------------------------------------------------------

function answerKeys(each) {
  const tell = { key: "u", name: "cannot tell", answer: CANNOT_TELL };
  if (each.is_yes_no) return [{ key: "y", name: "yes", answer: 1 }, { key: "n", name: "no", answer: 0 }, tell];
  const most = each.classes.length <= 10 ? 10 : Infinity;
  return [...each.classes.map((name, place) => ({ key: String(place + 1 === most ? 0 : place + 1), name, answer: place })), tell];
}

async function judge(answer) {
  if (isSending || shown === null || (shown === "bad" && answer !== CANNOT_TELL)) return;
  const judged = item();
  isSending = true;
  try {
    const body = JSON.stringify({ audit: review.audit, item: judged, answer, reviewer: review.reviewer });
    const headers = { "Content-Type": "application/json" };
    const response = await fetch("/api/judgements", { method: "POST", headers, body });
    if (!response.ok) throw new Error(await problemOf(response));
    answers.set(judged, { answer, table: (await response.json()).table });
    lastItem = judged;
    complain("");
  } catch (error) {
    const why = error instanceof TypeError ? "the server does not answer" : error.message;
    complain(`Not kept: ${why}. Press the key again.`);
    return;
  } finally {
    isSending = false;
  }
  goOn();
}

function type(digit) {
  const count = attribute().classes.length;
  if (count <= 10) {
    const answer = digit === "0" ? 9 : Number(digit) - 1;
    if (answer < count) judge(answer);
    return;
  }
  typed = Number(typed + digit) <= count && Number(typed + digit) > 0 ? typed + digit : typed;
  draw();
}

function enterTyped() {
  if (typed === "") return;
  const answer = Number(typed) - 1;
  typed = "";
  judge(answer);
}

function complain(text) {
  find("trouble").textContent = text;
  find("trouble").hidden = text === "";
}

// --- the panel ----------------------------------------------------------------------------------------------------

function key(text) {
  const made = document.createElement("kbd");
  made.textContent = text;
  return made;
}

function drawAnswers() {
  const keys = answerKeys(attribute());
  const group = find("answers");
  if (group.dataset.attribute !== attribute().name) {
    group.dataset.attribute = attribute().name;
    group.classList.toggle("many", keys.length > 6);
    group.replaceChildren(
      ...keys.map((each) => {
        const button = document.createElement("button");
        button.append(key(each.key), each.name);
        button.setAttribute("aria-keyshortcuts", each.key);
        button.addEventListener("click", () => judge(each.answer));
        return button;
      }),
    );
    const shownKeys = keys.filter((each) => each.answer !== CANNOT_TELL).slice(0, 12);
    find("help-answers").replaceChildren(
      ...shownKeys.map((each) => {
        const row = document.createElement("tr");
        const [head, cell] = [document.createElement("th"), document.createElement("td")];
        head.append(key(each.key));
        cell.textContent = keys.length > 11 ? `${each.name}; several digits, then Enter` : each.name;
        row.append(head, cell);
        return row;
      }),
    );
  }
  const mine = answers.get(item());
  [...group.children].forEach((button, place) => {
    const { answer } = keys[place];
    button.setAttribute("aria-pressed", String(mine !== undefined && mine.answer === answer));
    button.disabled = shown === null || (shown === "bad" && answer !== CANNOT_TELL);
  });
  find("typed").hidden = typed === "";
  const typedName = typed === "" ? "" : attribute().classes[Number(typed) - 1];
  find("typed").textContent = `${typed}: ${typedName}. Enter answers, Backspace corrects.`;
}

function drawLast() {
  const number = answers.has(item()) ? item() : lastItem;
  find("last").hidden = number === null || !answers.has(number);
  if (find("last").hidden) return;
  const { answer, table } = answers.get(number);
  const of = review.attributes.find((each) => each.items.includes(number));
  find("last-mine").textContent = `${number === item() ? "This" : "Last"} image: you said ${nameOf(answer, of.classes)}`;
  const label = table.label === null ? "gave no label" : `said ${of.classes[table.label]}`;
  const score = table.score === null ? "" : `, score ${table.score.toFixed(2)}`;
  const cut = table.threshold === null || table.score === null ? "" : ` (yes from ${table.threshold.toFixed(2)})`;
  find("last-table").replaceChildren(
    ...(isModelShown ? [`The model ${label}${score}${cut}. ${table.image_id}`] : [key("m"), " shows what the model said"]),
  );
}

function drawProgress() {
  const each = attribute();
  const judged = numJudged(each);
  find("which").textContent = `Attribute ${attributeNumber + 1} of ${review.attributes.length}`;
  find("attribute").textContent = each.name;
  find("bar").max = each.items.length;
  find("bar").value = judged;
  find("count").textContent = `Image ${index + 1} of ${each.items.length}, ${judged} judged`;
  document.title = `${each.name} ${judged}/${each.items.length} - faceattr review`;
  [...find("attributes").children].forEach((button, number) => {
    const one = review.attributes[number];
    button.lastChild.textContent = `${numJudged(one)}/${one.items.length}`;
    button.setAttribute("aria-current", String(number === attributeNumber));
  });
}

function listAttributes() {
  find("attributes").replaceChildren(
    ...review.attributes.map((each, number) => {
      const button = document.createElement("button");
      button.append(each.name, document.createElement("span"));
      button.addEventListener("click", () => goTo(number));
      return button;
    }),
  );
}

function draw() {
  drawProgress();
  drawAnswers();
  drawLast();
  find("back").disabled = index === 0;
  find("zoom").disabled = shown !== "picture";
  find("zoom").setAttribute("aria-pressed", String(zoom.scale > 1));
  find("who").textContent = review.reviewer;
  find("who").disabled = review.fixed;
}

// --- zoom ---------------------------------------------------------------------------------------------------------

function setZoom(scale, x, y) {
  const most = (scale - 1) / 2;
  const within = (value) => Math.min(most, Math.max(-most, value));
  zoom = { scale, x: within(x), y: within(y) }; // x and y are shares of the picture's box
  picture.classList.toggle("moves", scale > 1);
  picture.style.transform = scale === 1 ? "" : `translate(${100 * zoom.x}%, ${100 * zoom.y}%) scale(${scale})`;
  find("zoom").setAttribute("aria-pressed", String(scale > 1));
}

const resetZoom = () => setZoom(1, 0, 0);

function toggleZoom(x = 0, y = 0) {
  if (shown !== "picture") return;
  if (zoom.scale > 1) resetZoom();
  else setZoom(ZOOM.first, x * ZOOM.first, y * ZOOM.first);
}

function resize(factor) {
  if (shown !== "picture") return;
  const scale = Math.min(ZOOM.most, Math.max(1, zoom.scale * factor));
  setZoom(scale, (zoom.x * scale) / zoom.scale, (zoom.y * scale) / zoom.scale);
}

function move(x, y) {
  setZoom(zoom.scale, zoom.x + ZOOM.move * x, zoom.y + ZOOM.move * y);
}

// --- keys ---------------------------------------------------------------------------------------------------------

function nextAttribute() {
  const number = (attributeNumber + 1) % review.attributes.length;
  if (numJudged(review.attributes[number]) === 0) beginAttribute(number);
  else goTo(number);
}

function toggleModel() {
  isModelShown = !isModelShown;
  draw();
  find("said").textContent = find("last").hidden ? "" : find("last-table").textContent;
}

function editTyped() {
  if (typed === "") goBack();
  typed = typed.slice(0, -1);
  draw();
}

const KEYS = {
  u: () => judge(CANNOT_TELL),
  b: goBack,
  s: goOn,
  z: () => toggleZoom(),
  m: toggleModel,
  a: nextAttribute,
  r: show,
  "?": () => find("help").showModal(),
  "+": () => resize(ZOOM.step),
  "=": () => resize(ZOOM.step),
  "-": () => resize(1 / ZOOM.step),
  Escape: resetZoom,
  Enter: enterTyped,
  Backspace: editTyped,
  ArrowLeft: () => (zoom.scale > 1 ? move(1, 0) : goBack()),
  ArrowRight: () => (zoom.scale > 1 ? move(-1, 0) : goOn()),
  ArrowUp: () => move(0, 1),
  ArrowDown: () => move(0, -1),
};

function actionOf(event) {
  // On a keyboard of another script the letters are named by their place.
  const isLatin = event.key.length > 1 || event.key.charCodeAt(0) < 128;
  const pressed = isLatin ? event.key : event.code.replace(/^Key/, "");
  const name = pressed.length === 1 ? pressed.toLowerCase() : pressed;
  if (attribute().is_yes_no && name === "y") return () => judge(1);
  if (attribute().is_yes_no && name === "n") return () => judge(0);
  if (!attribute().is_yes_no && /^[0-9]$/.test(name)) return () => type(name);
  return KEYS[name];
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const isMove = zoom.scale > 1 && event.key.startsWith("Arrow");
  const isPressOfButton = event.key === "Enter" && document.activeElement instanceof HTMLButtonElement && typed === "";
  const action = isPressOfButton ? undefined : actionOf(event);
  if (action === undefined) return;
  event.preventDefault();
  if (!event.repeat || isMove) action(); // a key that is held down judges one image, not thirty
}

// --- begin --------------------------------------------------------------------------------------------------------

async function begin(name) {
  const query = name === null ? "" : `?reviewer=${encodeURIComponent(name)}`;
  let response;
  try {
    response = await fetch(`/api/review${query}`);
  } catch {
    complain("The server does not answer. Start it again, then reload this page.");
    return;
  }
  if (!response.ok) {
    complain(await problemOf(response));
    return;
  }
  const found = await response.json();
  if (found.reviewer === null) {
    askName();
    return;
  }
  review = found;
  answers.clear();
  lastItem = null;
  listAttributes();
  for (const [number, answer, table] of found.answers) answers.set(number, { answer, table });
  const started = review.attributes.findIndex((each) => firstLeft(each) !== -1);
  attributeNumber = Math.max(0, started);
  document.addEventListener("keydown", onKey);
  if (started === -1) {
    index = attribute().items.length - 1;
    draw();
    endAttribute();
  } else if (numJudged(attribute()) === 0) {
    index = 0;
    draw();
    beginAttribute(attributeNumber);
  } else {
    goTo(attributeNumber);
  }
}

function askName() {
  find("name").value = review.reviewer ?? localStorage.getItem(KEPT_NAME) ?? "";
  find("name-dialog").showModal();
}

find("name-form").addEventListener("submit", () => {
  const name = find("name").value.trim();
  localStorage.setItem(KEPT_NAME, name);
  begin(name);
});
find("name-dialog").addEventListener("cancel", (event) => review.reviewer === null && event.preventDefault());
find("who").addEventListener("click", askName);
find("back").addEventListener("click", goBack);
find("skip").addEventListener("click", goOn);
find("zoom").addEventListener("click", () => toggleZoom());
find("help-button").addEventListener("click", () => find("help").showModal());
picture.addEventListener("click", (event) => {
  const box = stage.getBoundingClientRect();
  toggleZoom(0.5 - (event.clientX - box.left) / box.width, 0.5 - (event.clientY - box.top) / box.height);
});

begin(localStorage.getItem(KEPT_NAME));
