// Numbers, times and errors as people read them. Times are those of the bridge's zone, where schedules are meant.

import { now } from "./clock.js";
import { t } from "./texts.js";

const locale = navigator.language;
const DAY = 86_400_000;
let zone;
let shapes;

export function setZone(name) {
  const wanted = name ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (wanted === zone) return;
  zone = wanted;
  const shape = (options) => new Intl.DateTimeFormat(locale, { timeZone: zone, ...options });
  shapes = {
    clock: shape({ hour: "2-digit", minute: "2-digit" }),
    seconds: shape({ hour: "2-digit", minute: "2-digit", second: "2-digit" }),
    weekday: shape({ weekday: "short" }),
    longday: shape({ weekday: "long", day: "numeric", month: "long" }),
    date: shape({ day: "numeric", month: "short" }),
    key: new Intl.DateTimeFormat("en-CA", { timeZone: zone }),
  };
}
setZone();

export const timezone = () => zone;

/** "2026-12-01", for comparing days. */
export const day = (time) => shapes.key.format(new Date(time));
export const date = (time) => shapes.date.format(new Date(time));
export const clock = (time) => shapes.clock.format(new Date(time));
export const weekday = (time) => shapes.weekday.format(new Date(time));
export const seconds = (time) => shapes.seconds.format(new Date(time));

/** Midnight in the bridge's zone. */
export function startOfDay(time = now()) {
  const wall = Date.parse(`${new Date(time).toLocaleString("sv", { timeZone: zone }).replace(" ", "T")}Z`);
  const offset = wall - Math.floor(time / 1000) * 1000;
  return Math.floor(wall / DAY) * DAY - offset;
}

const daysFromNow = (time) => Math.round((Date.parse(day(time)) - Date.parse(day(now()))) / DAY);

/** "22:00", "tomorrow 05:45", "Fri 05:45", "12 Dec 05:45". */
export function when(time) {
  const days = daysFromNow(time);
  if (days === 0) return clock(time);
  if (days === 1) return t.time.tomorrowAt(clock(time));
  if (days === -1) return t.time.yesterdayAt(clock(time));
  const far = days > 1 && days < 7 ? shapes.weekday : shapes.date;
  return `${far.format(new Date(time))} ${clock(time)}`;
}

/** "at 22:00", "tomorrow 05:45". */
export const atWhen = (time) => (daysFromNow(time) === 0 ? t.time.at(clock(time)) : when(time));

export function dayName(time) {
  const days = daysFromNow(time);
  if (days === 0) return t.time.today;
  if (days === -1) return t.time.yesterday;
  return shapes.longday.format(new Date(time));
}

/** "45 s", "23 min", "4 h 18 min", "2 d 3 h". */
export function length(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  const min = Math.round(s / 60);
  if (min < 60) return `${min} min`;
  const hours = Math.floor(min / 60);
  if (hours < 24) return min % 60 ? `${hours} h ${min % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

export const lasted = (since) => length(now() - new Date(since));

/** Counts down: by the second in the last two minutes, rounded up before, so that it never ends early. */
export function left(time) {
  const ms = new Date(time).getTime() - now();
  if (ms <= 0) return t.time.soon;
  if (ms < 120_000) return `${Math.ceil(ms / 1000)} s`;
  return length(Math.ceil(ms / 60_000) * 60_000);
}

export const ago = (time) => (now() - new Date(time) < 5000 ? t.time.now : t.time.ago(lasted(time)));

const numbers = [0, 1, 2].map(
  (places) => new Intl.NumberFormat(locale, { minimumFractionDigits: places, maximumFractionDigits: places }),
);
export const number = (value, places = 0) => numbers[places].format(value).replace("-", "−");

/** "0 W", "4.2 W", "612 W", "1.84 kW"; a dash for what is not known. */
export function power(watts) {
  if (watts == null) return t.dash;
  if (watts >= 1000) return `${number(watts / 1000, 2)} kW`;
  return `${number(watts, watts > 0 && watts < 10 ? 1 : 0)} W`;
}

export function energy(kwh) {
  if (kwh == null) return t.dash;
  return `${number(kwh, kwh >= 100 ? 0 : kwh >= 10 ? 1 : 2)} kWh`;
}

export const capital = (words) => words && words[0].toUpperCase() + words.slice(1);

/** Wi-Fi: bars and a word, because few know whether −71 dBm is good. */
export function signal(dbm) {
  const level = dbm == null ? 0 : dbm >= -60 ? 4 : dbm >= -67 ? 3 : dbm >= -75 ? 2 : 1;
  return { level, word: t.signal[level] };
}

/** Why a command failed, in half a sentence. Limits explain themselves better than a code could. */
export const why = (error) => t.error[error.code] ?? (error.message || error.code);
