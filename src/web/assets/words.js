// What to say about an outlet or a group, in one line. The order is that of the bridge: what is not known, what failed,
// what is wrong, then what decides. Every state has a word; color only repeats it.

import { command, isPending } from "./commands.js";
import { now } from "./clock.js";
import { atWhen, capital, clock, lasted, left, when } from "./format.js";
import { health } from "./store.js";
import { t } from "./texts.js";

const future = (time) => time && new Date(time).getTime() > now();
const onOff = (state) => (state === "ON" ? t.on : state === "OFF" ? t.off : t.unknown);
const tone = (state) => (state === "ON" ? "on" : "off");
/** An id in words. */
export const named = (rule) => rule.replaceAll(/[-_]/g, " ");

/** `tone` is one of on, off, manual, bad, away; `counts` says that the words change every second. */
export function describe(one) {
  if (isPending(one.path)) {
    const words = { ON: t.state.turningOn, OFF: t.state.turningOff }[command(one.path).want] ?? t.state.changing;
    return { tone: tone(one.state), icon: "timer", words };
  }
  if (!one.reachable) return { tone: "away", icon: "unreachable", words: unreachable(one) };
  if (one.state == null) return { tone: "away", icon: "info", words: t.state.notKnown };
  if (one.state === "OFF" && future(one.cooldown_until)) {
    const words = t.state.limit(clock(one.cooldown_until), left(one.cooldown_until));
    return { tone: "bad", icon: "lock", words, counts: true };
  }
  if (one.overheated) return { tone: "bad", icon: "alert", words: t.state.overheated };
  if (one.overloaded || one.overcurrent) return { tone: "bad", icon: "alert", words: t.state.overloaded };
  if (one.mismatch) {
    const words = t.state.mismatch(onOff(one.expected), onOff(one.state));
    return { tone: "bad", icon: "alert", words };
  }
  if (future(one.timer_until)) {
    const words = t.state.timer(onOff(one.timer_to), left(one.timer_until));
    return { tone: tone(one.state), icon: "timer", words, counts: true };
  }
  if (one.source === "override") {
    const words = one.override_until ? t.state.manualUntil(when(one.override_until)) : t.state.manual;
    return { tone: "manual", icon: "hand", words };
  }
  if (one.source === "vacation") return { tone: "off", icon: "suitcase", words: t.state.vacation };
  if (one.source === "schedule" && one.next_change) {
    const change = `${one.expected} ${one.next_state}`;
    const at = atWhen(one.next_change);
    // A thermostat is off in its windows too.
    const ends = change === "ON OFF" && one.rule && t.state.scheduleOn(capital(named(one.rule)), at);
    const starts = change === "OFF ON" && !one.rule && t.state.scheduleOff(at);
    const words = ends || starts || next(one);
    if (words) return { tone: tone(one.state), icon: "week", words };
  }
  if (one.state === "OFF") return { tone: "off", icon: null, words: t.state.off };
  const words = one.on_since ? t.state.onFor(lasted(one.on_since)) : t.state.on;
  return { tone: "on", icon: "clock", words, counts: true };
}

function unreachable(one) {
  const seen = health().devices?.[one.device.id]?.last_seen;
  if (one.state == null) return t.state.unreachable;
  return seen ? t.state.unreachableSince(when(seen), onOff(one.state)) : t.state.unreachableWas(onOff(one.state));
}

/** Why a group is what it is. */
export function describeGroup(state) {
  const tripped = state.safety === "tripped";
  const shown = state.state == null ? t.state.groupUnknown : capital(onOff(state.state));
  const cause = {
    // A thermostat is off for want of a value too.
    safety: (tripped || state.temperature_unit === undefined) && t.cause.safety,
    override: t.cause.override,
    vacation: t.cause.vacation,
    schedule: state.rule ? t.cause.schedule(named(state.rule)) : t.cause.noSchedule,
  }[state.source];
  return {
    tone: tripped ? "bad" : state.source === "override" ? "manual" : tone(state.state),
    decided: cause ? t.state.group(shown, cause) : shown,
  };
}

/** What comes next, or null. */
export function next(state) {
  if (!future(state.next_change)) return null;
  const to = state.next_state;
  if (!to) return null;
  const time = atWhen(state.next_change);
  if (to === (state.expected ?? state.state)) return to === "ON" ? t.state.staysOn(time) : t.state.staysOff(time);
  return to === "ON" ? t.state.onAt(time) : t.state.offAt(time);
}
