// Follows the service's events: numbers into the page, points into the charts.

import { Chart } from "./charts.js";
import { about, show } from "./format.js";

const KEPT = 600;
const SILENCE = 5000; // milliseconds without news after which the numbers count as old
const RETRY = 3000; // after a refusal; some pages later than others, so that not all come at once
const byId = (id) => document.getElementById(id);
const root = document.documentElement;
const shown = [...document.querySelectorAll("[data-show]")];
const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => new Chart(figure));
let columns = {};
let source;
let heardAt = performance.now();
let triedAt = heardAt;

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.classList.toggle("none", text === "–");
}

function live(phase) {
  heardAt = performance.now();
  root.dataset.phase = phase;
  root.dataset.link = "live";
  put(byId("status"), phase);
  put(byId("age"), "");
}

function lost() {
  const seconds = (performance.now() - heardAt) / 1000;
  root.dataset.link = "lost";
  put(byId("status"), "connection lost");
  put(byId("age"), columns.at?.length ? `, data ${show(seconds, "age")} old` : "");
}

function tell(now) {
  for (const element of shown) {
    const value = now[element.dataset.show];
    put(element, show(value, element.dataset.as));
    element.classList.toggle("alarm", "alarm" in element.dataset && value > 0);
  }
  byId("hint").hidden = now.predictions > 0;
  byId("wait").hidden = now.predictions === 0 || now.matched > 0;
  byId("challenger").hidden = now.challenger_version === null;
  live(now.phase);
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
  triedAt = performance.now() + RETRY * Math.random();
  source = new EventSource("/events");
  source.addEventListener("history", (event) => begin(JSON.parse(event.data)));
  source.addEventListener("update", (event) => advance(JSON.parse(event.data)));
  source.addEventListener("error", lost);
}

// The browser comes back by itself where the connection broke, but not where it was refused or went silent.
function watch() {
  const silent = performance.now() - heardAt > SILENCE;
  if (silent || root.dataset.link === "lost") lost();
  const patience = source.readyState === EventSource.CLOSED ? RETRY : 4 * SILENCE;
  if (root.dataset.link === "lost" && performance.now() - triedAt > patience) connect();
}

function nameThisService() {
  const usual = ["http://127.0.0.1:8000", "http://localhost:8000"].includes(location.origin);
  if (!usual) byId("command").append(` --url ${location.origin}`);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) chart.build();
});
document.addEventListener("visibilitychange", draw);
nameThisService();
connect();
setInterval(watch, 1000);
