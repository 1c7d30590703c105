/*
 * runc's own commands, played with runc and with tsvmm-oci on one bundle, and podman's pods.
 */
import { COMMANDS } from "./oci/rows/commands.ts";
import { PODS } from "./oci/rows/pods.ts";
import { testTable } from "./oci/table.ts";

testTable([...COMMANDS, ...PODS]);
