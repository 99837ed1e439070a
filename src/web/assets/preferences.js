// What this browser remembers: the appearance, and whether keys are shortcuts.

/** A choice; where the browser keeps nothing, it holds until the page is closed. */
function remembered(key, fallback, use = () => {}) {
  let value = fallback;
  try {
    value = localStorage.getItem(key) ?? fallback;
  } catch {
    // It may not keep anything.
  }
  use(value);
  return {
    get: () => value,
    set(next) {
      use((value = next));
      try {
        localStorage.setItem(key, next);
      } catch {
        // The same.
      }
    },
  };
}

export const theme = remembered("theme", "auto", (value) => {
  document.documentElement.dataset.theme = value;
});
const keys = remembered("keys", "on");
export const keysEnabled = { get: () => keys.get() === "on", set: (on) => keys.set(on ? "on" : "off") };
