// The texts in the language of the browser. A language that is not there is English.

import { en } from "./en.js";

export const language = "en";
export const t = en;
