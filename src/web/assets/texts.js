// The texts in the language of the browser, which loads no other. English where there are none in its own.

export const language = navigator.languages.map((one) => one.slice(0, 2)).find((one) => one === "en" || one === "de") ?? "en";
export const t = language === "de" ? (await import("./de.js")).de : (await import("./en.js")).en;
