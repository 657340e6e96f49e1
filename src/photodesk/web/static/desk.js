// The desk's page: searches as you type, moves by keys, takes photos that are dragged in. Everything it does the form does without it, too.
"use strict";
const form = document.getElementById("query");
const text = (name) => document.body.dataset[name];
let waiting = 0, asking = null, opener = "";

function say(words, bad) {
  const line = document.querySelector("#results .said");
  line.textContent = words;
  line.classList.toggle("bad", Boolean(bad));
}

// Puts the parts of an answer in the place of those with the same id, and leaves the focus where it was.
function show(html) {
  const answer = new DOMParser().parseFromString(html, "text/html");
  const held = document.activeElement;
  const tile = held?.closest?.(".tile")?.dataset.photo;
  const act = ["pick", "like"].find((name) => held?.classList?.contains(name)) ?? "open";
  const again = held?.id ? "#" + CSS.escape(held.id) : tile && `[data-photo="${CSS.escape(tile)}"] .${act}`;
  const open = document.getElementById("filters")?.open;
  const typed = held?.matches?.("#filters input:not([type=checkbox])") ? held.value : null;
  for (const part of [...answer.body.children]) put(part);
  const filters = document.getElementById("filters");
  if (filters && open !== undefined) filters.open = open;
  if (again && !document.contains(held)) {
    const next = document.querySelector(again);
    if (next && typed !== null) next.value = typed;
    next?.focus({ preventScroll: true });
  }
  mark();
}

// The line that says what came of it stays where it is: screen readers speak what changes in it, not a line that is new.
function put(part) {
  const old = document.getElementById(part.id);
  const line = old?.querySelector(".said"), next = part.querySelector(".said");
  if (!line || !next) return old?.replaceWith(part);
  say(next.textContent, next.classList.contains("bad"));
  for (const gone of [...old.children]) if (gone !== line) gone.remove();
  old.append(...[...part.children].filter((one) => one !== next));
}

// The panel and the grid show one photo twice: whether it is picked, both say alike.
function mark() {
  for (const tile of document.querySelectorAll(".tile")) {
    const shown = tile.dataset.photo === opener && !panel().hidden;
    tile.classList.toggle("shown", shown);
    const [from, to] = [tile.querySelector(".pick"), shown && panel().querySelector(".pick")];
    if (!to) continue;
    for (const name of ["formaction", "aria-pressed"]) to.setAttribute(name, from.getAttribute(name));
    [to.title, to.textContent] = [from.title, from.textContent];
  }
}

async function ask(where, more = {}) {
  clearTimeout(waiting);
  asking?.abort();
  const mine = (asking = new AbortController());
  const body = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === "string" && value) body.append(name, value);
  for (const [name, value] of Object.entries(more)) body.append(name, value);
  form.parentElement.classList.add("busy");
  try {
    const answer = await fetch(where, { method: "POST", body, headers: { "X-Part": "1" }, signal: mine.signal });
    if (answer.headers.get("content-type")?.startsWith("text/html")) {
      show(await answer.text());
      if (answer.headers.get("x-filters") === "later") filter(body, mine.signal);
    }
    else if (answer.status === 401) location.assign("/enter");
    else say(`${text("failed")} ${(await answer.json()).detail}`, true);
    return answer.ok;
  } catch (error) {
    if (error.name !== "AbortError") say(text("offline"), true);
    return false;
  } finally {
    if (asking === mine) form.parentElement.classList.remove("busy");
  }
}

// What can be filtered by is counted after the photos are here; until then the counts from before stand.
async function filter(body, signal) {
  try {
    const answer = await fetch("/filters", { method: "POST", body, headers: { "X-Part": "1" }, signal });
    if (answer.ok) show(await answer.text());
  } catch {
    // another search came first; or the desk is gone, which the next search says
  }
}

const panel = () => document.getElementById("panel");
const tiles = () => [...document.querySelectorAll("#results .open")];
const focusTile = (photo) => (document.querySelector(`[data-photo="${CSS.escape(photo)}"] .open`) ?? tiles()[0] ?? document.getElementById("draft")).focus();

async function why(choice) {
  opener = choice.split(" ")[0];
  if (await ask("/why", { choice })) {
    mark();
    document.getElementById("panel-title")?.focus({ preventScroll: true });
    panel().scrollTop = 0;
  }
}

function close() {
  panel().hidden = true;
  mark();
  focusTile(opener);
}

function likeThis(photo) {
  return ask("/", { like_this: photo }).then(() => focusTile(""));
}

function soon(changed) {
  if (changed.closest("#filters")) asking?.abort(); // what is on its way would undo the choice
  sessionStorage.setItem("draft", document.getElementById("draft").value);
  clearTimeout(waiting);
  waiting = setTimeout(() => ask("/"), 300);
}

form.addEventListener("input", (event) => ["file", "single"].includes(event.target.id) || soon(event.target));
document.addEventListener("submit", (event) => {
  event.preventDefault();
  const button = event.submitter;
  if (!button) ask("/");
  else if (button.classList.contains("open")) why(button.value);
  else if (button.classList.contains("pick")) ask(button.getAttribute("formaction"), { choice: button.value });
  else if (button.classList.contains("like")) likeThis(button.value);
  else if (button.id === "close") close();
  else ask("/", button.name ? { [button.name]: button.value } : {});
});

// Arrows go to the photo that lies next in their direction; Home and End to the first and last.
function move(key, from) {
  const all = tiles(), at = all.indexOf(from);
  if (key === "Home") return all[0];
  if (key === "End") return all.at(-1);
  if (key === "ArrowLeft") return all[at - 1];
  if (key === "ArrowRight") return all[at + 1];
  const here = from.getBoundingClientRect(), down = key === "ArrowDown" ? 1 : -1;
  const beyond = all.filter((tile) => down * (tile.getBoundingClientRect().top - here.top) > 4);
  const rows = beyond.map((tile) => tile.getBoundingClientRect());
  const next = down * Math.min(...rows.map((box) => down * box.top));
  return beyond.filter((_, i) => Math.abs(rows[i].top - next) < 4).sort((a, b) => gap(a, here) - gap(b, here))[0];
}
const gap = (tile, box) => Math.abs(tile.getBoundingClientRect().left - box.left);

document.addEventListener("keydown", (event) => {
  const writing = event.target.matches("textarea, select, input:not([type=checkbox])");
  if (event.key === "Escape") {
    if (!panel().hidden) close();
    else if (writing && tiles().length) focusTile("");
    return;
  }
  if (writing) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target.id === "draft") ask("/").then(() => focusTile(""));
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || (event.key.length === 1 && !single.checked)) return;
  if (event.key === "/") {
    event.preventDefault();
    if (matchMedia("(max-width: 47.99rem)").matches) panel().hidden = true;
    document.getElementById("draft").focus();
    return;
  }
  const tile = event.target.closest?.(".tile");
  const photo = tile?.dataset.photo ?? (event.target.closest?.("#panel") ? opener : "");
  if (tile && /^(Arrow|Home$|End$)/.test(event.key)) {
    const next = move(event.key, tile.querySelector(".open"));
    if (next) {
      event.preventDefault();
      next.focus();
      next.scrollIntoView({ block: "nearest" });
    }
  } else if (!tile && /^Arrow(Down|Right)$/.test(event.key) && event.target === document.body && tiles().length) {
    event.preventDefault();
    tiles()[0].focus();
  } else if (photo && event.key === "p") {
    document.querySelector(`[data-photo="${CSS.escape(photo)}"] .pick`)?.click();
  } else if (photo && event.key === "m") likeThis(photo);
});

// Photos from outside: dragged anywhere onto the page, chosen, or pasted.
async function take(file) {
  if (!file) return;
  say(text("uploading"));
  try {
    const answer = await fetch("/api/uploads", { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });
    const found = await answer.json();
    if (answer.ok) await ask("/", { upload_this: found.upload });
    else say(`${text("failed")} ${found.detail}`, true);
  } catch {
    say(text("offline"), true);
  }
}
const drop = () => document.querySelector(".drop");
const files = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
document.addEventListener("dragover", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  drop().classList.add("over");
});
document.addEventListener("dragleave", (event) => event.relatedTarget || drop().classList.remove("over"));
document.addEventListener("drop", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  drop().classList.remove("over");
  take(event.dataTransfer.files[0]);
});
document.addEventListener("change", (event) => event.target.id === "file" && take(event.target.files[0]));
document.addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  }
});

if (matchMedia("(min-width: 48rem)").matches) document.getElementById("filters").open = true;

// A draft outlives a look at another page, or in another language, but not the tab.
const draft = document.getElementById("draft");
if (!draft.value && sessionStorage.getItem("draft")) {
  draft.value = sessionStorage.getItem("draft");
  ask("/");
}

// Single keys can be switched off, for those who speak to their computer or type with one finger.
const single = document.getElementById("single");
single.checked = localStorage.getItem("single") !== "off";
single.addEventListener("change", () => localStorage.setItem("single", single.checked ? "on" : "off"));
