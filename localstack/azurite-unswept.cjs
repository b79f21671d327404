// Loaded into Azurite before its own code: it then never looks for content that nothing refers to.
//
// It would do so every ten minutes, and answer nobody meanwhile. Every write over a record leaves such
// content; after 12,000 of them it takes minutes (README.md). Nothing here runs for long enough to need the
// memory back, and there is no option for it.
"use strict";

const fs = require("node:fs");
const { createRequire } = require("node:module");

const azurite = createRequire(fs.realpathSync(process.argv[1]));
const constants = azurite("./utils/constants");
if (!("DEFAULT_GC_INTERVAL_MS" in constants)) {
  throw new Error("this version of Azurite keeps the pause between its sweeps elsewhere");
}
const LONGEST_TIMER_MS = 2 ** 31 - 1;
constants.DEFAULT_GC_INTERVAL_MS = LONGEST_TIMER_MS;
