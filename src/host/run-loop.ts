/*
 * The vCPU threads, seen from TypeScript. Exits that the helper cannot answer arrive here. Earlier posted writes are
 * delivered before an exit is handled, so the guest's order holds:
 *
 *     onWake -> vCPU 0 exited? -> drain posted ring -> onExit(0, view) -> true: vcpuResume
 *            -> vCPU 1 exited? -> ...
 *            -> drain posted ring
 *
 * The receiver of posted writes may have no room for more (a console whose reader sleeps). Then it calls `hold`, which
 * leaves them in the ring. When the ring is full, the helper makes an exit of the next one. Exits wait, too, so that
 * the order still holds. A waiting vCPU sleeps on its futex and costs this thread nothing.
 */
import { StateError, UsageError } from "../base/errors.ts";
import { getU64 } from "../base/u64.ts";
import { errnoNameOf } from "./libc.ts";
import {
	type Handle,
	native,
	POSTED_ENTRIES,
	posted_entry,
	posted_ring,
	REGISTER_ACK_WRITE,
	REGISTER_POSTED_WRITE,
	REGISTER_SHADOW_READ,
	SHADOW_WORDS,
	VCPU_EXITED,
	VCPU_FAILED,
} from "./native.ts";

/** A run loop's calls to its owner, always on the JavaScript thread. */
export interface RunLoopEvents {
	/** vCPU `index` waits with an exit in `run` (struct kvm_run). true: it runs on; false: it stays until `resume`. */
	onExit(index: number, run: DataView): boolean;
	/** A posted write, in guest order per vCPU. */
	onPosted(address: number, size: number, value: number, pio: boolean): void;
	/** KVM_RUN has failed on vCPU `index`, and its thread has ended. `errno` is the errno's name. */
	onFailed(index: number, errno: string): void;
}

const HEAD = posted_ring.head >>> 2;
const TAIL = posted_ring.tail >>> 2;

/**
 * One run loop per VM, in three states: its vCPUs may run, `stop` has ended all threads, `close` has released it. A
 * late call throws StateError ERR_RUN_LOOP_STATE, but `stop` and `close` may be repeated.
 */
export class RunLoop {
	/** Shadow words for `registerShadowRead` and `registerAck`. Use Atomics. Index 0 is not used. */
	readonly shadow: Int32Array;
	readonly #events: RunLoopEvents;
	readonly #loop: Handle;
	readonly #states: Int32Array;
	readonly #errnos: Int32Array;
	readonly #indices: Int32Array;
	readonly #posted: DataView;
	readonly #runs: (DataView | undefined)[] = [];
	readonly #failed = new Set<number>();
	/** vCPUs that wait for `resume`. Their exit was handled and must not be handled again. */
	readonly #held = new Set<number>();
	readonly #maxVcpus: number;
	#words = 1;
	#running = true;
	#open = true;
	/** Between `hold` and `release`. */
	#holding = false;

	/** @param maxVcpus the most vCPUs that `start` will be called for */
	constructor(maxVcpus: number, events: RunLoopEvents) {
		this.#events = events;
		this.#maxVcpus = maxVcpus;
		const made = native().loopCreate(maxVcpus, () => this.#wake());
		this.#loop = made.loop;
		this.#states = new Int32Array(made.states);
		this.#errnos = new Int32Array(made.errnos);
		this.shadow = new Int32Array(made.shadow);
		this.#posted = new DataView(made.posted);
		this.#indices = new Int32Array(made.posted);
	}

	/** The struct kvm_run of vCPU `index`; only while it is stopped at an exit. Undefined before `start`. */
	run(index: number): DataView | undefined {
		this.#check("look at", index, this.#open);
		return this.#runs[index];
	}

	/**
	 * Whether JavaScript may look for work without sleeping: the host has a processor besides those of the vCPUs, and this
	 * process has no other machine.
	 */
	mayPoll(): boolean {
		return this.#open && native().loopMayPoll(this.#loop);
	}

	/** A vCPU waits in an exit that was not handled. */
	isWanted(): boolean {
		for (let index = 0; index < this.#runs.length; index++)
			if (Atomics.load(this.#states, index) === VCPU_EXITED && !this.#held.has(index)) return true;
		return false;
	}

	/** A fresh shadow word: its index in `shadow`. */
	allocateWord(): number {
		if (this.#words >= SHADOW_WORDS) throw new Error(`Cannot allocate more than ${SHADOW_WORDS} shadow words`);
		return this.#words++;
	}

	/** From now on writes of `size` bytes to `address` arrive by onPosted and do not stop the vCPU. */
	registerPosted(pio: boolean, address: number, size: number): void {
		this.#check("register an address for");
		native().loopRegister(this.#loop, pio, address, size, REGISTER_POSTED_WRITE, 0);
	}

	/** From now on reads of `size` bytes at `address` give shadow[word] and do not stop the vCPU. */
	registerShadowRead(pio: boolean, address: number, size: number, word: number): void {
		this.#check("register an address for");
		native().loopRegister(this.#loop, pio, address, size, REGISTER_SHADOW_READ, word);
	}

	/** From now on writes of `size` bytes to `address` clear the written bits in shadow[word], atomically. */
	registerAck(pio: boolean, address: number, size: number, word: number): void {
		this.#check("register an address for");
		native().loopRegister(this.#loop, pio, address, size, REGISTER_ACK_WRITE, word);
	}

	/**
	 * Starts the thread of vCPU `index`. A failure leaves the other vCPUs running.
	 *
	 * @param fd the vCPU's fd; the run loop has a duplicate of it until `stop`
	 * @param runBytes what KVM_GET_VCPU_MMAP_SIZE says
	 * @throws Error with the errno as `code`, such as EAGAIN when the host refuses a thread
	 */
	start(index: number, fd: number, runBytes: number): void {
		this.#check("start", index);
		if (this.#runs[index] !== undefined) throw stateError(`Cannot start vCPU ${index}: it was started before`);
		this.#runs[index] = new DataView(native().vcpuStart(this.#loop, index, fd, runBytes));
	}

	/** Lets a vCPU run on after its onExit returned false. */
	resume(index: number): void {
		this.#check("resume", index);
		if (this.#runs[index] === undefined) throw stateError(`Cannot resume vCPU ${index}: it was not started`);
		this.#resume(index);
	}

	/**
	 * Makes vCPU `index` exit with KVM_EXIT_INTR soon, even from a tight loop of the guest. A vCPU without a thread exits
	 * as soon as it has one, before its first instruction.
	 */
	kick(index: number): void {
		this.#check("kick", index);
		native().vcpuKick(this.#loop, index);
	}

	/**
	 * From now on posted writes stay in the ring and exits wait, until `release`. It may be called from onPosted or
	 * onExit: then that event was the last. vCPUs run on as long as they need no answer.
	 */
	hold(): void {
		if (this.#running) this.#holding = true;
	}

	/** Ends `hold`. Events come again soon after this returns. Does nothing without a `hold`. */
	release(): void {
		if (!this.#holding) return;
		this.#holding = false;
		setImmediate(() => this.#wake());
	}

	/** Delivers the posted writes, then ends all threads and waits for them. No event follows. */
	stop(): void {
		if (!this.#running) return;
		this.#running = false;
		this.#holding = false;
		native().loopStop(this.#loop);
		this.#drain();
	}

	/** Stops and releases everything. The views of kvm_run become empty. */
	close(): void {
		if (!this.#open) return;
		this.stop();
		this.#open = false;
		native().loopDestroy(this.#loop);
	}

	#resume(index: number): void {
		this.#held.delete(index);
		native().vcpuResume(this.#loop, index);
	}

	/** @throws StateError ERR_RUN_LOOP_STATE, UsageError ERR_RUN_LOOP_VCPU */
	#check(what: string, index?: number, fits = this.#running): void {
		const vcpu = index === undefined ? "a run loop" : `vCPU ${index}`;
		if (!fits) throw stateError(`Cannot ${what} ${vcpu}: the run loop was ${this.#open ? "stopped" : "closed"}`);
		if (index === undefined || (Number.isInteger(index) && index >= 0 && index < this.#maxVcpus)) return;
		throw new UsageError("ERR_RUN_LOOP_VCPU", `Cannot ${what} ${vcpu}: the run loop has ${this.#maxVcpus}`);
	}

	#wake(): void {
		for (let index = 0; index < this.#runs.length && this.#running; index++) {
			const state = Atomics.load(this.#states, index);
			if (state === VCPU_EXITED && !this.#held.has(index)) {
				this.#drain();
				const run = this.#runs[index];
				if (run === undefined || !this.#running || this.#holding) continue;
				/* Marked first, so that a handler that throws does not see the exit twice. */
				this.#held.add(index);
				if (this.#events.onExit(index, run) && this.#running) this.#resume(index);
			} else if (state === VCPU_FAILED && !this.#failed.has(index)) {
				this.#failed.add(index);
				this.#drain();
				this.#events.onFailed(index, errnoNameOf(Atomics.load(this.#errnos, index)));
			}
		}
		if (this.#running) this.#drain();
	}

	/**
	 * Delivers the entries that are in the posted ring now. Entries that vCPUs add meanwhile cause another wake-up, so
	 * that a guest which writes without end cannot keep the JavaScript thread busy.
	 */
	#drain(): void {
		const posted = this.#posted;
		const tail = Atomics.load(this.#indices, TAIL);
		let head = Atomics.load(this.#indices, HEAD);
		while (head !== tail && !this.#holding) {
			const at = posted_ring.entries + posted_entry.sizeof * ((head >>> 0) % POSTED_ENTRIES);
			const address = getU64(posted, at + posted_entry.address);
			const value = posted.getUint32(at + posted_entry.value, true);
			const size = posted.getUint16(at + posted_entry.size, true);
			const pio = posted.getUint8(at + posted_entry.pio) !== 0;
			head = (head + 1) | 0;
			/* The entry is freed before the handler runs, so that a handler that throws does not see it twice. */
			Atomics.store(this.#indices, HEAD, head);
			this.#events.onPosted(address, size, value, pio);
			if (!this.#open) return;
		}
	}
}

function stateError(message: string): StateError {
	return new StateError("ERR_RUN_LOOP_STATE", message);
}
