// What the bridge published last, by topic, and what watches it. Watchers are called once per frame at most, and only
// those of keys that changed: a thousand outlets that change in one second cost sixty frames, not a thousand layouts.

export const EVENTS = 500;

const topics = new Map();
const watchers = new Map(); // key → Set of functions
const dirty = new Set();
let queued = false;
let ready = false;

let index = []; // outlets in the order of devices: { path, name, device, group }
let byPath = new Map();
let past = []; // events, the newest first
let news = []; // events since the last frame

export const topic = (name) => topics.get(name);
export const info = () => topics.get("bridge/info") ?? {};
export const health = () => topics.get("bridge/health") ?? {};
export const devices = () => topics.get("bridge/devices") ?? [];
export const device = (id) => devices().find((one) => one.id === id);
export const groups = () => topics.get("bridge/groups") ?? [];
export const group = (id) => groups().find((one) => one.id === id);
export const groupState = (id) => topics.get(`group/${id}`) ?? {};
export const outlets = () => index;
export const events = () => past;
export const isReady = () => ready;
export const online = (id) => topics.get(`${id}/availability`)?.state === "online";

/** An outlet as one thing: what it is, what the bridge says of it, and whether it can be reached. */
export function outlet(path) {
  const fixed = byPath.get(path);
  return fixed && { ...topics.get(path), ...fixed, reachable: online(fixed.device.id) };
}

/** What a list has of a value together; null where none has it. */
export function total(list, key) {
  const known = list.map((one) => one[key]).filter((one) => one != null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

/** The outlets that a message may switch, of those that are switched only after a question. */
export function guarded(to, { group: only } = {}) {
  const settings = info().settings?.devices ?? [];
  const asks = ({ path, device: { id } }) => {
    const one = settings.find((each) => each.id === id);
    return one?.confirm || one?.outlets.some((each) => each.confirm && path === `${id}/${each.key}`);
  };
  const target = /^(.+?)\/set(?!\/led$)(\/|$)/.exec(to)?.[1];
  const schedules = /^bridge\/request\/(vacation|override\/clear|schedule\/(?!list))/.test(to);
  const concerned = ({ path, device, group }) =>
    schedules ? group && (only ?? group.id) === group.id : [path, device.id, `group/${group?.id}`].includes(target);
  return index.filter((one) => concerned(one) && asks(one));
}

function reindex() {
  const member = new Map(groups().flatMap((one) => one.outlets.map((path) => [path, one])));
  const named = (one) => ({ ...one, name: one.name ?? one.id });
  const switched = devices().filter((one) => one.kind !== "hub");
  index = switched.flatMap((one) =>
    one.kind === "strip" || one.outlets.length
      ? one.outlets.map((each) => ({
          path: `${one.id}/${each.key}`,
          name: each.name ?? `${one.name ?? one.id} ${each.key}`,
          device: named(one),
        }))
      : [{ path: one.id, name: one.name ?? one.id, device: named(one) }],
  );
  for (const one of index) one.group = member.get(one.path) ?? member.get(one.device.id);
  byPath = new Map(index.map((one) => [one.path, one]));
}

/** Everything comes again after a lost connection; what is gone meanwhile must not stay. */
export function forget() {
  topics.clear();
  past = [];
  ready = false;
}

export function apply({ topic: name, payload }) {
  if (name === null) {
    ready = true;
    return touch("ready");
  }
  if (name === "bridge/event") {
    past.unshift(payload);
    past.length = Math.min(past.length, EVENTS);
    return touch("event", ready ? payload : undefined);
  }
  if (payload === null)
    topics.delete(name); // a cleared topic: the device is gone
  else topics.set(name, payload);
  if (name === "bridge/devices" || name === "bridge/groups") {
    reindex();
    touch("structure");
    for (const one of index) touch(`outlet/${one.path}`);
  } else if (name.startsWith("bridge/") || name.startsWith("group/")) touch(name);
  else {
    const [id, rest] = name.split("/");
    touch(`device/${id}`);
    totals ??= setTimeout(() => touch("totals", (totals = undefined)), 400); // sums need not follow every meter
    if (rest === "availability") for (const one of index) if (one.device.id === id) touch(`outlet/${one.path}`);
    if (rest !== "availability") touch(`outlet/${name}`);
  }
}

let totals;

/** Calls the watchers of `key` in the next frame. Events are handed over one by one. */
export function touch(key, event) {
  if (event) news.push(event);
  dirty.add(key);
  if (queued) return;
  queued = true;
  requestAnimationFrame(flush);
}

function flush() {
  queued = false;
  const calls = new Set([...dirty].flatMap((key) => [...(watchers.get(key) ?? [])]));
  dirty.clear();
  const happened = news;
  news = [];
  for (const call of calls) call(happened);
}

/** Calls `call` now and whenever one of `keys` changed, until the scope ends. */
export function watch(scope, keys, call) {
  for (const key of [keys].flat()) {
    if (!watchers.has(key)) watchers.set(key, new Set());
    const set = watchers.get(key);
    set.add(call);
    scope.add(() => {
      set.delete(call);
      if (set.size === 0) watchers.delete(key);
    });
  }
  call([]);
}
