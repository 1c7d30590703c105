/*
 * The native helper's side of a run loop with two vCPUs, played by a test: the memory that both look at, and a guest that
 * writes to one posted register.
 */
import { POSTED_ENTRIES, posted_entry, posted_ring, VCPU_EXITED, VCPU_RUNNING } from "../../src/host/native.ts";

export class FakeHelper {
	readonly states = new Int32Array(2);
	readonly #posted = new DataView(new ArrayBuffer(posted_ring.sizeof));
	#wake: () => void = () => undefined;

	loopCreate(_vcpus: number, wake: () => void) {
		this.#wake = wake;
		const posted = this.#posted.buffer;
		return { loop: {}, states: this.states.buffer, errnos: new ArrayBuffer(8), shadow: new ArrayBuffer(64), posted };
	}
	loopRegister(): void {
		/* every post is of a registered address */
	}
	vcpuStart(_loop: unknown, index: number): ArrayBuffer {
		this.states[index] = VCPU_RUNNING;
		return new ArrayBuffer(4096);
	}
	vcpuResume(_loop: unknown, index: number): void {
		this.states[index] = VCPU_RUNNING;
	}
	loopStop(): void {
		/* there are no threads */
	}
	loopDestroy(): void {
		/* and no memory to give back */
	}

	/** Posted writes that were not delivered. */
	get waiting(): number {
		return this.#posted.getUint32(posted_ring.tail, true) - this.#posted.getUint32(posted_ring.head, true);
	}

	/** As vCPU 0 does it; false when the ring is full, and it must exit instead. Nobody is woken yet. */
	post(value: number, address = 0): boolean {
		if (this.waiting === POSTED_ENTRIES) return false;
		const tail = this.#posted.getUint32(posted_ring.tail, true);
		const at = posted_ring.entries + posted_entry.sizeof * (tail % POSTED_ENTRIES);
		this.#posted.setUint32(at + posted_entry.address, address, true);
		this.#posted.setUint32(at + posted_entry.value, value, true);
		this.#posted.setUint16(at + posted_entry.size, 1, true);
		this.#posted.setUint8(at + posted_entry.pio, 1);
		this.#posted.setUint32(posted_ring.tail, tail + 1, true);
		return true;
	}

	/** vCPU `index` waits in an exit. */
	exit(index: number): void {
		this.states[index] = VCPU_EXITED;
		this.wake();
	}

	/** The JavaScript thread looks at what there is. */
	wake(): void {
		this.#wake();
	}
}
