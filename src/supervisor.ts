/*
 * The part of tsvmm that supervises a container, which starts sooner than all of tsvmm (scripts/bundles.mjs has it as an
 * entry of its own). main.ts runs the same without bundles.
 */
import { superviseMain } from "./cli/container/supervise.ts";
import { runProgram } from "./cli/program.ts";

runProgram(superviseMain);
