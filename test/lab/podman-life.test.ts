/*
 * The same podman, the same command lines, with runc and with tsvmm-oci: the life of one container, from start to removal.
 */
import { LIFE } from "./oci/rows/life.ts";
import { testTable } from "./oci/table.ts";

testTable(LIFE);
