// Numbers and times in words. Every function takes null for what is not known.

const NONE = "–";
const MINUS = "−";
const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const CENTS = new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

function signed(text) {
  return text.replace("-", MINUS);
}

export function count(value) {
  return value === null || value === undefined ? NONE : signed(WHOLE.format(value));
}

// Whole dollars from a thousand on, cents below.
export function usd(value) {
  if (value === null || value === undefined) return NONE;
  const rounded = Math.abs(value) >= 1000 ? WHOLE.format(value) : CENTS.format(value);
  return signed(/^-0(\.00)?$/.test(rounded) ? rounded.slice(1) : rounded);
}

// For headlines, where a glance must do.
export function usdShort(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  for (const [unit, suffix] of [[1e9, " bn"], [1e6, " m"], [1e3, " k"]]) {
    if (size >= unit) return signed((value / unit).toFixed(size >= 100 * unit ? 0 : size >= 10 * unit ? 1 : 2)) + suffix;
  }
  return usd(value);
}

// A price keeps six significant digits.
export function price(value) {
  if (value === null || value === undefined) return NONE;
  const digits = Math.max(0, Math.min(8, 5 - Math.floor(Math.log10(Math.abs(value) || 1))));
  return signed(value.toLocaleString("en-US", { minimumFractionDigits: Math.min(2, digits), maximumFractionDigits: digits }));
}

export function percent(fraction, digits = 1) {
  if (fraction === null || fraction === undefined) return NONE;
  return `${signed((fraction * 100).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }))}%`;
}

export function plusPercent(fraction) {
  if (fraction === null || fraction === undefined) return NONE;
  return (fraction > 0 ? "+" : "") + percent(fraction);
}

export function multiple(value) {
  return value === null || value === undefined ? NONE : `${signed(value.toFixed(2))}×`;
}

export function plusMultiple(value) {
  return (value > 0 ? "+" : "") + multiple(value);
}

export function bps(fraction) {
  if (fraction === null || fraction === undefined) return NONE;
  const value = fraction * 1e4;
  return `${value > 0 ? "+" : ""}${signed(value.toFixed(1))} bp`;
}

export function quantity(value) {
  return signed(value.toLocaleString("en-US", { maximumSignificantDigits: 8 }));
}

// 95 s as "1 min 35 s", 120 s as "2 min".
function pair(value, of, large, small) {
  const rest = value % of;
  return `${Math.floor(value / of)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const s = Math.abs(seconds);
  const sign = seconds < 0 ? MINUS : "";
  if (s < 1) return `${sign}${s === 0 ? 0 : Math.max(1, Math.round(s * 1000))} ms`.replace(/^0 ms$/, "0 s");
  if (s < 10) return `${sign}${s.toFixed(1)} s`;
  if (s < 120) return `${sign}${Math.round(s)} s`;
  if (s < 7200) return sign + pair(Math.round(s), 60, "min", "s");
  if (s < 172800) return sign + pair(Math.round(s / 60), 60, "h", "min");
  return `${sign}${Math.round(s / 86400)} days`;
}

export function clock(ns) {
  return ns ? new Date(ns / 1e6).toISOString().slice(11, 19) : NONE;
}

export function moment(ns) {
  return ns ? `${new Date(ns / 1e6).toISOString().slice(0, 19).replace("T", " ")} UTC` : NONE;
}

export function words(name) {
  return name.replaceAll("_", " ");
}
