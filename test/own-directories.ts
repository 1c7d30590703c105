/*
 * Before each test file: a runtime and a state directory for this worker alone. Files run side by side, and each takes all
 * containers, labs and volumes that it finds for its own. They lie in those that test/leftovers.ts has made.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";

const { TSVMM_TEST_RUN: directory, VITEST_POOL_ID: worker } = process.env;
process.env.TSVMM_RUNTIME = join(directory!, "run", worker!);
process.env.TSVMM_STATE = join(directory!, "state", worker!);
mkdirSync(process.env.TSVMM_RUNTIME, { recursive: true, mode: 0o700 });
/* Machines are made of a template that is there (scripts/test.mjs), but no test has a process beside it that makes one. */
process.env.TSVMM_WARM = "use";
