/*
 * Lab 8: interrupts and ioeventfd. A doorbell that does not stop the guest, and an interrupt that wakes it. Check it with
 *
 *     tsvmm learn check 8
 */
import { EventFd, type Vm } from "tsvmm/kvm";

const PORT = 0x510;
const GSI = 5;

/** Called before the first vCPU. */
export function createInterruptControllers(vm: Vm): void {
	/* 1. 8259s, I/O APIC and local APICs, in the kernel. */
	console.log(`Yours to write: interrupt controllers for VM ${vm.fd}`);
}

export class Doorbell {
	readonly #bell = new EventFd();

	/** @param ring is to be called when the guest has written 2 bytes to PORT */
	constructor(vm: Vm, ring: () => void) {
		/* 2. Connect the port with an eventfd, and watch it. 3. Connect another eventfd with GSI 5. */
		console.log("Yours to write:", vm.fd, this.#bell.fd, ring, PORT, GSI);
	}

	/** Interrupts the guest. */
	interrupt(): void {
		/* 4. */
	}

	close(): void {
		this.#bell.close();
	}
}
