/*
 * What `tsvmm --version` prints: the package's version, the commit of the bundle, and the ABI of the native helper. A
 * report of a defect should have them.
 */
import { ABI_VERSION } from "../host/native.ts";
import { tsvmmVersion } from "../host/package-version.ts";

/* Set by scripts/bundle.mjs. */
declare const TSVMM_VERSION: string | undefined;
declare const TSVMM_COMMIT: string | undefined;

/** "0.1.0 (commit 1a2b3c4d5e6f, native helper ABI 1)". Without a bundle the commit is "none". */
export function describeVersion(): string {
	const commit = typeof TSVMM_VERSION === "string" ? TSVMM_COMMIT : "none";
	return `${tsvmmVersion()} (commit ${commit}, native helper ABI ${ABI_VERSION})`;
}
