/*
 * The part of tsvmm that supervises a container, as a bundle of its own (dist/supervisor.cjs), which starts sooner than
 * all of tsvmm. main.ts runs the same without a bundle.
 */
import { superviseMain } from "./cli/container/supervise.ts";
import { runProgram } from "./cli/program.ts";

runProgram(superviseMain);
