// Follows the service's events: numbers into the page, points into the charts.

import { Chart } from "./charts.js";
import { about, show } from "./format.js";

const KEPT = 600;
const SILENCE = 5000; // milliseconds without news after which the numbers count as old
const RETRY = 3000;
const root = document.documentElement;
const shown = [...document.querySelectorAll("[data-show]")];
const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
let columns = {};
let source;
let heardAt = performance.now();

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("none", text === "–");
}

function link(state, text) {
  heardAt = state === "live" ? performance.now() : heardAt;
  root.dataset.link = state;
  put(document.getElementById("status"), text);
}

function tell(now) {
  for (const element of shown) put(element, show(now[element.dataset.show], element.dataset.as));
  document.getElementById("hint").hidden = now.predictions > 0;
  document.getElementById("wait").hidden = now.predictions === 0 || now.matched > 0;
  document.getElementById("challenger").hidden = now.challenger_version === null;
  root.dataset.phase = now.phase;
  link("live", now.phase);
}

function draw() {
  if (document.hidden || !columns.at) return;
  for (const chart of charts) chart.draw(columns);
}

function begin({ about: facts, now, points }) {
  Object.assign(about, facts);
  for (const element of document.querySelectorAll("[data-about]"))
    put(element, show(about[element.dataset.about], element.dataset.as));
  columns = Object.fromEntries(about.columns.map((name, place) => [name, points.map((point) => point[place])]));
  if (now) tell(now);
  draw();
}

function advance(now) {
  const setBack = now.at <= columns.at.at(-1);
  for (const [name, column] of Object.entries(columns)) {
    if (setBack) column.length = 0;
    column.push(now[name]);
    if (column.length > KEPT) column.shift();
  }
  tell(now);
  draw();
}

function connect() {
  source?.close();
  source = new EventSource("/events");
  source.addEventListener("history", (event) => begin(JSON.parse(event.data)));
  source.addEventListener("update", (event) => advance(JSON.parse(event.data)));
  source.addEventListener("error", () => link("lost", "reconnecting"));
}

// The browser comes back by itself where the connection broke, but not where it was refused or went silent.
function watch() {
  const silent = performance.now() - heardAt;
  if (silent > SILENCE) link("lost", "reconnecting");
  if (source.readyState === EventSource.CLOSED || silent > 4 * SILENCE) {
    heardAt = performance.now() - SILENCE;
    connect();
  }
}

function nameThisService() {
  const usual = ["http://127.0.0.1:8000", "http://localhost:8000"].includes(location.origin);
  if (!usual) document.getElementById("command").append(` --url ${location.origin}`);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) chart.build();
});
document.addEventListener("visibilitychange", draw);
nameThisService();
connect();
setInterval(watch, RETRY);
