// The bridge's time, not the browser's: a tablet on the wall may be minutes off. The bridge sends its time when the
// page connects; everything that counts down asks here.

let ahead = 0;

export const now = () => Date.now() + ahead;

export const setNow = (time) => {
  ahead = time - Date.now();
};

// One timer for all texts that change by themselves. It does nothing while the page is hidden.
const tickers = new Set();
const tickAll = () => {
  if (!document.hidden) for (const tick of tickers) tick();
};
setInterval(tickAll, 1000);
document.addEventListener("visibilitychange", tickAll);

/** Calls `tick` now and every second, until the scope ends. */
export function everySecond(scope, tick) {
  tickers.add(tick);
  scope.add(() => tickers.delete(tick));
  tick();
}
