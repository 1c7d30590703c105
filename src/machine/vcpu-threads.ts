/*
 * All vCPUs of a machine: they start, pause and resume together.
 *
 *     created -- start --> running -- pause --> kicked, each exits with KVM_EXIT_INTR, is parked -- resume --> running
 *
 * A vCPU is parked in KVM_EXIT_INTR only. In any other exit an access of the guest is half done: KVM completes it when
 * KVM_RUN is entered again (KVM api.rst §5, "pending operations"). The kick has set immediate_exit, so such a vCPU runs
 * on, completes the access, and comes back with KVM_EXIT_INTR before the guest's next instruction. One whose access
 * takes its time (a device reset with requests in flight) stays in its exit until then, and `pause` waits for it.
 *
 * While the console is full, posted writes and exits wait in the run loop. A pause and the end do not wait for its
 * reader. They deliver the waiting events: at most the posted ring and one exit per vCPU.
 */
import { errnoName, HostError, IoctlError, TsvmmError } from "../base/errors.ts";
import type { RunLoop } from "../host/run-loop.ts";
import { KVM_EXIT_INTR } from "../kvm/constants.ts";
import type { Vcpu } from "../kvm/vcpu.ts";

const OUT_MS = 1000;

export class VcpuThreads {
	readonly vcpus: readonly Vcpu[];
	readonly #runLoop: RunLoop;
	readonly #runBytes: number;
	#wanted = false;
	#launched = false;
	/** vCPUs that wait since `pause`; undefined while they run. */
	#parked: Set<number> | undefined;
	/** vCPUs that `resume` has left where they were. */
	#left: readonly number[] = [];
	#pausing: { promise: Promise<void>; resolve: () => void } | undefined;
	/** vCPUs in KVM_RUN, or whose exit was not handled yet. */
	readonly #running = new Set<number>();
	#onAllOut: (() => void) | undefined;
	#consoleFull = false;
	#leaving = false;

	/** @param runBytes what KVM_GET_VCPU_MMAP_SIZE says */
	constructor(runLoop: RunLoop, vcpus: readonly Vcpu[], runBytes: number) {
		this.#runLoop = runLoop;
		this.vcpus = vcpus;
		this.#runBytes = runBytes;
	}

	/** `pause` has done its work, and `resume` has not been called. */
	get paused(): boolean {
		return this.#parked !== undefined && (!this.#launched || this.#parked.size === this.vcpus.length);
	}

	/**
	 * Starts a thread per vCPU; when `pause` came first, `resume` will.
	 *
	 * @throws HostError ERR_VCPU_THREAD; threads that were started before it run, until the run loop is stopped
	 */
	start(): void {
		this.#wanted = true;
		if (this.#parked === undefined) this.#launch();
	}

	/** Parks all vCPUs; resolves when the last is parked, or at `resume` or `release` if those come first. */
	pause(): Promise<void> {
		if (this.#pausing !== undefined) return this.#pausing.promise;
		const parked = new Set(this.#left);
		this.#parked = parked;
		this.#left = [];
		const pausing = withResolvers();
		this.#pausing = pausing;
		this.#holdOrRelease();
		if (!this.#launched || parked.size === this.vcpus.length) pausing.resolve();
		else for (const index of this.vcpus.keys()) if (!parked.has(index)) this.#runLoop.kick(index);
		return pausing.promise;
	}

	/**
	 * Lets the vCPUs run on, and tells the guest's watchdogs that time has passed.
	 *
	 * @param only those of the parked ones that run; all when missing. The first time all run
	 * @throws HostError ERR_VCPU_THREAD, IoctlError
	 */
	resume(only?: ReadonlySet<number>): void {
		const waiting = [...(this.#parked ?? this.#left)];
		const parked = waiting.filter((index) => only?.has(index) ?? true);
		this.#left = waiting.filter((index) => !parked.includes(index));
		for (const index of parked) this.#tellPaused(this.vcpus[index]!);
		this.#parked = undefined;
		this.release();
		this.#holdOrRelease();
		if (this.#wanted && !this.#launched) this.#launch();
		for (const index of parked) {
			this.#running.add(index);
			this.#runLoop.resume(index);
		}
	}

	/** Makes the guest's accesses wait while its console has no room, or lets them go on. */
	setConsoleFull(full: boolean): void {
		this.#consoleFull = full;
		this.#holdOrRelease();
	}

	/** Ends the wait of `pause`. */
	release(): void {
		this.#pausing?.resolve();
		this.#pausing = undefined;
	}

	/** Called after each exit was handled: true when vCPU `index` must stay in it. */
	parks(index: number, reason: number): boolean {
		if (this.#onAllOut !== undefined) return true;
		if (this.#parked === undefined || reason !== KVM_EXIT_INTR) return false;
		this.#parked.add(index);
		if (this.#parked.size === this.vcpus.length) this.#pausing?.resolve();
		return true;
	}

	/** vCPU `index`, which has stayed in its exit until now, runs on: to the kick of `pause` when that has come meanwhile. */
	goesOn(index: number): void {
		this.#running.add(index);
		this.#runLoop.resume(index);
	}

	/** vCPU `index` stays in the exit that was handled, or its thread has ended. */
	stays(index: number): void {
		this.#running.delete(index);
		if (this.#running.size === 0) this.#onAllOut?.();
	}

	/**
	 * Brings all vCPUs out of the guest for good, so that the later join of their threads does not block. A spinning
	 * thread may not be scheduled at once. Resolves after OUT_MS at the latest.
	 */
	async leaveGuest(): Promise<void> {
		this.#leaving = true;
		this.#holdOrRelease();
		if (this.#running.size === 0) return;
		await new Promise<void>((resolve) => {
			const timer = setTimeout(resolve, OUT_MS);
			this.#onAllOut = () => {
				clearTimeout(timer);
				resolve();
			};
			for (const index of this.#running) this.#runLoop.kick(index);
		});
	}

	#holdOrRelease(): void {
		if (this.#consoleFull && this.#parked === undefined && !this.#leaving) this.#runLoop.hold();
		else this.#runLoop.release();
	}

	#launch(): void {
		this.#launched = true;
		this.vcpus.forEach((vcpu, index) => {
			try {
				this.#runLoop.start(index, vcpu.fd, this.#runBytes);
				this.#running.add(index);
			} catch (cause) {
				const count = this.vcpus.length;
				const message = `Cannot start vCPU ${index} of ${count}: ${(cause as Error).message}`;
				if (cause instanceof TsvmmError) throw cause;
				const limited = errnoName(cause) === "EAGAIN";
				const hint = limited ? "Raise ulimit -u or the control group's pids.max: each vCPU is a thread" : undefined;
				throw new HostError("ERR_VCPU_THREAD", message, { cause, hint });
			}
		});
	}

	#tellPaused(vcpu: Vcpu): void {
		try {
			vcpu.kvmclockCtrl();
		} catch (error) {
			/* EINVAL: this guest has no kvmclock. */
			if (!(error instanceof IoctlError && error.errno === "EINVAL")) throw error;
		}
	}
}

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
	let resolve!: () => void;
	const promise = new Promise<void>((r) => {
		resolve = r;
	});
	return { promise, resolve };
}
