/*
 * Lab 8, solved: a doorbell that does not stop the guest, and an interrupt that wakes it. Both are eventfds, which KVM
 * signals and listens to in the kernel.
 */
import { EventFd, type Vm } from "tsvmm/kvm";

const PORT = 0x510;
const GSI = 5;

/** Before the first vCPU: 8259s, I/O APIC and a local APIC for each vCPU, in the kernel. */
export function createInterruptControllers(vm: Vm): void {
	vm.setTssAddr(0xfffb_d000);
	vm.createIrqchip();
}

export class Doorbell {
	readonly #bell = new EventFd();
	readonly #line = new EventFd();

	/** @param ring is called when the guest has written 2 bytes to port 0x510 */
	constructor(vm: Vm, ring: () => void) {
		vm.ioeventfd({ fd: this.#bell.fd, address: PORT, size: 2, pio: true });
		this.#bell.watch(ring);
		vm.irqfd(this.#line.fd, GSI);
	}

	/** Interrupts the guest. */
	interrupt(): void {
		this.#line.signal();
	}

	close(): void {
		this.#bell.close();
		this.#line.close();
	}
}
