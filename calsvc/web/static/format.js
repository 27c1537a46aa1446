// Numbers as people read them. No data is a dash, never 0.

const fixed = (digits) => {
  const format = new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return (value) => format.format(value);
};
const zoned = { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clockInZone = new Intl.DateTimeFormat("en-GB", zoned);
const day = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const [whole, tenths, hundredths, fourDigits] = [0, 1, 2, 4].map(fixed);

export const about = {}; // what stays the same as long as the service lives

const latency = (ms) => {
  if (ms <= about.latency_floor_ms) return `≤ ${about.latency_floor_ms}`;
  if (ms >= about.latency_ceiling_ms) return `≥ ${whole(about.latency_ceiling_ms)}`;
  return ms < 10 ? hundredths(ms) : ms < 100 ? tenths(ms) : whole(ms);
};

const formats = {
  text: String,
  count: whole,
  rate: (value) => (value < 1000 ? tenths(value) : whole(value)),
  score: fourDigits,
  kcal: hundredths,
  percent: (share) => tenths(100 * share),
  seconds: (value) => `${tenths(value)} s`,
  span: (value) => (value >= 120 && value % 60 === 0 ? `${whole(value / 60)} min` : `${value} s`),
  time: (seconds) => clock.format(1000 * seconds),
  minute: (seconds) => clock.format(1000 * seconds).slice(0, 5),
  clock: (seconds) => clockInZone.format(1000 * seconds),
  age: (seconds) => (seconds < 120 ? `${whole(seconds)} s` : `${whole(seconds / 60)} min`),
  date: (text) => day.format(new Date(text)),
  latency,
};

export const show = (value, kind) => (value === null || value === undefined ? "–" : formats[kind](value));
