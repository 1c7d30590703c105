/*
 * Which kernel a guest gets when the user names none: ours if it was built here, else Debian's cloud kernel, fetched if
 * need be.
 */
import { findMinimalKernel } from "./build.ts";
import { type FetchOptions, fetchKernel, type GuestKernel } from "./store.ts";

/** @throws what fetchKernel throws */
export async function defaultKernel(options: Pick<FetchOptions, "onStep" | "signal"> = {}): Promise<GuestKernel> {
	return (await findMinimalKernel()) ?? (await fetchKernel("6.1-cloud", options));
}
