/*
 * The same podman, with systemd's control groups, with runc and with tsvmm-oci.
 */
import { SYSTEMD } from "./oci/rows/systemd.ts";
import { testTable } from "./oci/table.ts";

testTable(SYSTEMD, { systemd: true });
