/*
 * The state of a machine whose vCPUs stand still, as plain data: where each vCPU is, which interrupts wait, what is left
 * in the queues. Values of 64 bits are written in hexadecimal, so that they are JSON.
 */

/** A vCPU. */
export interface StoppedVcpu {
	/** Its number, from 0. */
	readonly vcpu: number;
	/** Its next instruction. */
	readonly rip: string;
	/** Stack pointer. */
	readonly rsp: string;
	/** Flags. */
	readonly rflags: string;
	/** Control register 0. */
	readonly cr0: string;
	/** The address of the last page fault. */
	readonly cr2: string;
	/** The page table's address. */
	readonly cr3: string;
	/** Control register 4. */
	readonly cr4: string;
	/** MSR_EFER. */
	readonly efer: string;
	/** MSR_LSTAR: the entry of 64-bit system calls, by which a kernel is found that has moved. Where KVM tells it. */
	readonly lstar?: string;
	/** The limit of the interrupt descriptor table; 0 when there is none. */
	readonly idtLimit: number;
	/** KVM_GET_MP_STATE in words: "runnable", "halted". */
	readonly mp: string;
	/** RFLAGS.IF. */
	readonly interruptsEnabled: boolean;
	/** The local APIC is enabled by software. */
	readonly lapicEnabled: boolean;
	/** Vectors that wait at its local APIC. */
	readonly pending: readonly number[];
	/** Vectors whose handler has not come to its end. */
	readonly inService: readonly number[];
	/** The bytes at its next instruction in hexadecimal, where they are mapped. */
	readonly code?: string;
}

/** A pin of the I/O APIC. */
export interface StoppedPin {
	/** Its number. */
	readonly gsi: number;
	/** The vector that it is delivered as. */
	readonly vector: number;
	/** The guest has switched it off. */
	readonly masked: boolean;
	/** An interrupt waits here. */
	readonly pending: boolean;
	/** A level interrupt was delivered, and not ended. */
	readonly remoteIrr: boolean;
}

/** A queue. */
export interface StoppedQueue {
	/** Its index in the device. */
	readonly queue: number;
	/** The driver has set QueueReady. */
	readonly ready: boolean;
	/** Chains that the driver has made available, and the device has not taken. */
	readonly pending: number;
	/** Chains that the device has taken, and not given back. */
	readonly inFlight: number;
}

/** A virtio device. */
export interface StoppedDevice {
	/** Its name. */
	readonly device: string;
	/** Its pin of the I/O APIC. */
	readonly gsi: number;
	/** Status. */
	readonly status: number;
	/** InterruptStatus: what the driver has not acknowledged. */
	readonly interruptStatus: number;
	/** All of its queues. */
	readonly queues: readonly StoppedQueue[];
}

/** A machine. */
export interface StoppedState {
	/** Those that KVM tells of. */
	readonly vcpus: readonly StoppedVcpu[];
	/** All of the I/O APIC. */
	readonly pins: readonly StoppedPin[];
	/** In the order of their slots. */
	readonly devices: readonly StoppedDevice[];
}
