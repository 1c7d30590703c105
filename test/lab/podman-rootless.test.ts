/*
 * The same podman, the same command lines, with runc and with tsvmm-oci: a user's, who is not root and has /dev/kvm.
 */
import { ROOTLESS } from "./oci/rows/rootless.ts";
import { testTable } from "./oci/table.ts";

testTable(ROOTLESS, { rootless: true });
