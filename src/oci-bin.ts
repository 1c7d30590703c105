#!/usr/bin/env -S node --
/*
 * dist/tsvmm-oci.js: the OCI runtime, which is a part of the same bundle (src/bin.ts).
 */
process.argv.splice(2, 0, "oci");
require("./tsvmm.js");
