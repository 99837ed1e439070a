// The texts in the language of the browser. One that is not there is English.

import { en } from "./en.js";

export const language = navigator.languages.map((one) => one.slice(0, 2)).find((one) => one === "en" || one === "de") ?? "en";
export const t = language === "de" ? (await import("./de.js")).de : en;
