/*
 * The same podman, the same command lines, with runc and with tsvmm-oci: each starts containers of its own.
 */
import { RUNS } from "./oci/rows/runs.ts";
import { testTable } from "./oci/table.ts";

testTable(RUNS);
