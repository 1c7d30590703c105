#!/usr/bin/env -S node --
/*
 * dist/containerd-shim-tsvmm-v2.js: containerd's shim, which is a part of the same bundle (src/bin.ts).
 */
process.argv.splice(2, 0, "shim");
require("./tsvmm.js");
