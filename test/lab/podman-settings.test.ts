/*
 * The same podman, the same settings of containers, with runc and with tsvmm-oci.
 */
import { SETTINGS } from "./oci/rows/settings.ts";
import { testTable } from "./oci/table.ts";

testTable(SETTINGS);
