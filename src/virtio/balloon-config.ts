/*
 * What a balloon is configured with, by its machine's owner and in its config space (virtio 1.2 §5.5.4).
 */
import { UsageError } from "../base/errors.ts";
import { struct } from "../base/struct.ts";

export const virtio_balloon_config = struct("virtio_balloon_config", {
	num_pages: "u32",
	actual: "u32",
	free_page_hint_cmd_id: "u32",
	poison_val: "u32",
});

/** How a balloon is used. */
export interface BalloonConfig {
	/**
	 * MiB that the guest is to give to the host from its start on; when missing 0, or in a machine that is restored what it
	 * was.
	 */
	targetMiB?: number | undefined;
	/** The guest's driver takes pages back before the guest's kernel ends a process for lack of memory; true when missing. */
	deflateOnOom?: boolean | undefined;
	/** The guest's driver gives pages to the host as soon as they are free; true when missing. */
	reporting?: boolean | undefined;
}

const PAGES_PER_MIB = 256;
const MAX_MIB = Math.floor(0xffff_ffff / PAGES_PER_MIB);

/** The pages of so many MiB. @throws UsageError ERR_CONFIG_BALLOON */
export function pagesOf(mib: number): number {
	if (Number.isInteger(mib) && mib >= 0 && mib <= MAX_MIB) return mib * PAGES_PER_MIB;
	throw new UsageError("ERR_CONFIG_BALLOON", `Cannot ask the guest for ${mib} MiB: 0 to ${MAX_MIB} are possible`, {
		hint: "Give a number of MiB from 0 up to the memory of the machine",
	});
}
