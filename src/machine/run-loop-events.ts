/*
 * Connects the native run loop's events to the machine's parts. Each event enters the machine. So an error of a device
 * ends this machine, and its messages go to this machine's log.
 *
 *     RunLoop -- onExit ---> ExitHandler -> Bus -> device     and VcpuThreads: does the vCPU run on?
 *             -- onPosted -> Bus -> device
 *             -- onFailed -> the machine's end
 */
import type { Bus } from "../base/bus.ts";
import { Logger } from "../base/log.ts";
import type { Observers } from "../base/observer.ts";
import type { RunLoopEvents } from "../host/run-loop.ts";
import { kvm_run } from "../kvm/structs.ts";
import type { Entry } from "./entry.ts";
import type { ExitHandler } from "./vcpu-exit.ts";
import type { VcpuThreads } from "./vcpu-threads.ts";

/** The parts that answer. */
export interface RunLoopParts {
	readonly pio: Bus;
	readonly mmio: Bus;
	readonly entry: Entry;
	readonly exits: ExitHandler;
	readonly observers: Observers;
	/** The vCPU threads, which are made after the run loop. */
	threads(): VcpuThreads;
}

/** Connects a run loop to the machine's parts. */
export function runLoopEvents({ pio, mmio, entry, exits, observers, threads }: RunLoopParts): RunLoopEvents {
	/* Says whether the vCPU runs on now. */
	const answer = (index: number, run: DataView): boolean => {
		const handled = exits.handle(index, run);
		if (handled instanceof Promise) {
			const goOn = () => {
				observers.observer?.resume?.(index);
				threads().goesOn(index);
			};
			void handled.then(() => entry.enter(`exit of vCPU ${index}`, goOn));
			return false;
		}
		const runsOn = handled && !threads().parks(index, run.getUint32(kvm_run.exit_reason, true));
		if (runsOn) observers.observer?.resume?.(index);
		return runsOn;
	};
	return {
		onExit: (index, run) => {
			let runsOn = false;
			const before = Logger.swap(entry.logger);
			try {
				runsOn = entry.ended === undefined && answer(index, run);
			} catch (error) {
				entry.failed(`exit of vCPU ${index}`, error);
			} finally {
				Logger.swap(before);
			}
			if (!runsOn) threads().stays(index);
			return runsOn;
		},
		/* Also after the end, because output that the guest printed before it may still come. */
		onPosted: (address, size, value, isPort) => {
			const before = Logger.swap(entry.logger);
			try {
				void (isPort ? pio : mmio).writeValue(address, size, value);
			} catch (error) {
				entry.failed("posted write", error);
			} finally {
				Logger.swap(before);
			}
		},
		onFailed: (index, errno) => {
			threads().stays(index);
			entry.end({ reason: "kvm-error", detail: `vCPU ${index}: KVM_RUN: ${errno}` });
		},
	};
}
