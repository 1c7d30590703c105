/*
 * How many descriptors the guests of this process may hold. A guest holds one for each node of a shared directory that it
 * has in its cache, so it can need hundreds of thousands. Some are left for the machine itself: its disks, sockets and
 * state. Else nobody could stop a guest that holds all.
 */
import { readFileSync } from "node:fs";
import { ErrnoError } from "../base/errno-error.ts";
import { close, getResourceLimit, setResourceLimit } from "./libc.ts";

/** <sys/resource.h> */
const RLIMIT_NOFILE = 7;
/** Left for the machine itself. */
const RESERVED = 512;

export class DescriptorBudget {
	readonly #most: number;
	#held = 0;

	/** @param limit descriptors that the process may have */
	constructor(limit: number) {
		this.#most = Math.max(limit - RESERVED, limit / 2);
	}

	/**
	 * A guest holds this descriptor from now on, until `give`.
	 *
	 * @throws ErrnoError EMFILE when guests hold as many as they may; then it is closed
	 */
	hold(fd: number): void {
		if (this.#held >= this.#most) {
			close(fd);
			throw ErrnoError.of("EMFILE");
		}
		this.#held++;
	}

	/** A guest holds one less. */
	give(): void {
		this.#held--;
	}
}

let shared: DescriptorBudget | undefined;

/** That of all guests of this process. The first call raises the process's limit as far as it may. */
export function guestDescriptors(): DescriptorBudget {
	shared ??= new DescriptorBudget(raiseDescriptorLimit());
	return shared;
}

/**
 * Raises the limit of descriptors: with CAP_SYS_RESOURCE to the kernel's own (fs.nr_open), else to the hard one.
 *
 * @returns how many this process may have
 */
export function raiseDescriptorLimit(): number {
	const limits = getResourceLimit(RLIMIT_NOFILE);
	if (typeof limits === "number") return 2 * RESERVED;
	const [soft, hard] = limits;
	const most = BigInt(readFileSync("/proc/sys/fs/nr_open", "utf8").trim());
	if (soft >= most) return Number(soft);
	if (setResourceLimit(RLIMIT_NOFILE, most, most) === 0) return Number(most);
	return setResourceLimit(RLIMIT_NOFILE, hard, hard) === 0 ? Number(hard) : Number(soft);
}
