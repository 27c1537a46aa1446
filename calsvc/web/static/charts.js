// Ten minutes in six small charts. Lines differ by shade, order or dashes: no chart needs colour to be read.

import { show } from "./format.js";

const SPAN = 600;
const REFERENCE = { dash: [2, 4], reference: true };
const line = (field, label, tone, as, more = {}) => ({ field, label, tone, as, ...more });
const labels = line("labels", "labels", "quiet", "count", { scale: "n" });

const CHARTS = {
  requests: {
    least: 1,
    lines: [
      line("predict_per_s", "predict", "accent", "rate", { shaded: true }),
      line("feedback_per_s", "feedback", "strong", "rate", { width: 1.25 }),
      line("errors_per_s", "errors", "alarm", "rate", { no0: true }),
    ],
  },
  latency: {
    least: 1,
    lines: [
      line("p50_ms", "p50", "soft", "latency"),
      line("p95_ms", "p95", "accent", "latency"),
      line("p99_ms", "p99", "strong", "latency", { width: 1.25 }),
    ],
  },
  coverage: {
    least: 1,
    ticks: (share) => `${Math.round(100 * share)}`,
    lines: [
      line("coverage_matured", "matured", "accent", "percent", { shaded: true }),
      line("coverage_window", "window", "strong", "percent", { dash: [5, 3] }),
    ],
  },
  rmsle: {
    least: 0.1,
    lines: [
      labels,
      line("rmsle", "live", "accent", "score"),
      line("training_rmsle", "training", "strong", "score", REFERENCE),
    ],
  },
  mae: { least: 1, lines: [labels, line("mae_kcal", "live", "accent", "kcal")] },
  lag: {
    least: 1,
    lines: [
      line("pending", "pending", "quiet", "count", { scale: "n" }),
      line("lag_s", "mean lag", "strong", "seconds"),
    ],
  },
};

const counts = ({ scale }) => scale === "n";
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const lastMinutes = (_, __, last) => [(last ?? SPAN) - SPAN, last ?? SPAN];
const upTo = (least) => (_, __, most) => [0, Math.max(least, 1.1 * (most ?? 0))];
const without0 = (column, asked) => (asked ? column.map((value) => value || null) : column); // no line along the bottom
const [brief, plain] = ["compact", "standard"].map((notation) => new Intl.NumberFormat("en", { notation }));
const short = (value) => (value >= 1e4 ? brief : plain).format(value);

// A shade that fades out towards the axis.
const fading = (tone) => ({ ctx, bbox }) => {
  const shade = ctx.createLinearGradient(0, bbox.top, 0, bbox.top + bbox.height);
  shade.addColorStop(0, colour(tone));
  shade.addColorStop(1, "transparent");
  return shade;
};

function series({ tone, scale = "y", dash, shaded, width = tone === "quiet" ? 1 : 2 }) {
  const fill = tone === "quiet" ? colour("quiet-fill") : shaded ? fading("accent-fill") : undefined;
  return { scale, stroke: colour(tone), dash, fill, width, points: { size: 4 } };
}

function axes({ lines, ticks = short }) {
  const common = { stroke: colour("muted"), font: "12px system-ui, sans-serif", ticks: { show: false }, gap: 6 };
  const upright = { ...common, size: 44, space: 32 };
  const grid = { stroke: colour("line"), width: 1 };
  const values = (format) => (_, splits) => splits.map(format);
  const whole = (_, splits) => splits.map((value) => (Number.isInteger(value) ? short(value) : ""));
  const clock = values((at) => show(at, "minute"));
  const time = { ...common, grid: { show: false }, values: clock, incrs: [120], space: 30, size: 26 };
  const left = { ...upright, scale: "y", grid, values: values(ticks) };
  const right = { ...upright, scale: "n", side: 1, grid: { show: false }, values: whole };
  return lines.some(counts) ? [time, left, right] : [time, left];
}

function key({ label, tone, dash }) {
  const item = document.createElement("li");
  const swatch = document.createElement("i");
  const value = document.createElement("output");
  swatch.className = `swatch ${tone}${dash ? " dashed" : ""}`;
  value.setAttribute("aria-live", "off");
  item.append(swatch, `${label} `, value);
  return { item, value };
}

export class Chart {
  constructor(figure) {
    this.spec = CHARTS[figure.dataset.chart];
    this.title = figure.querySelector("h3").textContent;
    this.when = document.createElement("time");
    this.keys = this.spec.lines.map(key);
    const list = document.createElement("ul");
    list.append(...this.keys.map((each) => each.item));
    figure.querySelector("figcaption").append(this.when, list);
    this.place = figure.appendChild(document.createElement("div"));
    Object.assign(this.place, { className: "plot", tabIndex: 0, role: "img" });
    this.place.addEventListener("keydown", (event) => this.step(event));
    this.place.addEventListener("blur", () => this.plot.setCursor({ left: -10, top: -10 }));
    this.build();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(this.place);
  }

  size() {
    return { width: this.place.clientWidth, height: this.place.clientHeight };
  }

  // The colours are those of the moment: built anew when the scheme changes.
  build() {
    this.plot?.destroy();
    this.plot = new uPlot(this.options(), this.drawn ?? [[], ...this.spec.lines.map(() => [])], this.place);
  }

  options() {
    const { least, lines } = this.spec;
    return {
      ...this.size(),
      padding: [12, lines.some(counts) ? 0 : 20, 0, 0], // room for half a time at the end of the axis
      legend: { show: false },
      cursor: { sync: { key: "page", scales: ["x", null] }, y: false, drag: { x: false, y: false } },
      scales: { x: { range: lastMinutes }, y: { range: upTo(least) }, n: { range: upTo(1) } },
      axes: axes(this.spec),
      series: [{}, ...lines.map(series)],
      hooks: { setCursor: [() => this.read()] },
    };
  }

  draw(columns) {
    this.data = [columns.at, ...this.spec.lines.map(({ field }) => columns[field])];
    this.drawn = [columns.at, ...this.spec.lines.map(({ field, no0 }) => without0(columns[field], no0))];
    const measured = this.spec.lines.filter(({ reference }) => !reference).flatMap(({ field }) => columns[field]);
    this.place.classList.toggle("empty", measured.every((value) => value === null));
    this.plot.setData(this.drawn);
    this.read();
  }

  // What the keys say: the values under the cursor, or the newest.
  read() {
    if (!this.data) return;
    const under = this.plot.cursor.left >= 0 ? this.plot.cursor.idx : null;
    const at = under ?? this.data[0].length - 1;
    const texts = this.spec.lines.map(({ as }, number) => show(this.data[number + 1][at], as));
    this.keys.forEach(({ value }, number) => (value.textContent = texts[number]));
    const said = this.spec.lines.map(({ label }, number) => `${label} ${texts[number]}`).join(", ");
    const when = show(this.data[0][at], "time");
    this.when.textContent = under === null ? "" : when;
    this.place.setAttribute("aria-label", `${this.title}, ${when}: ${said}. Arrow keys look back.`);
  }

  step(event) {
    const steps = { ArrowLeft: -10, ArrowRight: 10, Home: -SPAN, End: SPAN }[event.key];
    if (!steps || !this.data?.[0].length) return;
    event.preventDefault();
    const times = this.data[0];
    const from = this.plot.cursor.left >= 0 ? this.plot.cursor.idx : times.length - 1;
    const to = Math.min(times.length - 1, Math.max(0, from + steps));
    this.plot.setCursor({ left: this.plot.valToPos(times[to], "x"), top: 1 });
  }
}
