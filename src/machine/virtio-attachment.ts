/*
 * One virtio device on the machine: its transport on the MMIO bus, an ioeventfd per queue (a notification stops no
 * vCPU), an irqfd for its interrupt, and the two hot registers handed to the native run loop. It owns those file
 * descriptors. It does not own the device, which is closed later.
 */
import type { Bus } from "../base/bus.ts";
import { type Enter, enterDirectly } from "../base/enter.ts";
import type { DeviceFaults } from "../base/faults.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import type { Observers } from "../base/observer.ts";
import { EventFd } from "../host/eventfd.ts";
import type { RunLoop } from "../host/run-loop.ts";
import type { Vm } from "../kvm/vm.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { MmioTransport } from "../virtio/mmio.ts";
import type { VirtioSlot } from "./memory-map.ts";

/** The parts of the machine that a device is attached to. */
export interface AttachmentPoint {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly mmio: Bus;
	readonly runLoop: RunLoop;
	/** The way into the machine for events of the host. */
	readonly enter?: Enter;
	/** The machine's observers. */
	readonly observers?: Observers;
	/** Interrupts that are lost or late on purpose. */
	readonly faults?: DeviceFaults | undefined;
	/** No register is answered by native code, so that observers see every access; false when missing. */
	readonly observed?: boolean;
}

export class VirtioAttachment {
	readonly transport: MmioTransport;
	readonly slot: VirtioSlot;
	/** The shadow word that is InterruptStatus; it stays with the slot. */
	readonly word: number;
	readonly #point: AttachmentPoint;
	readonly #interrupt = new EventFd();
	readonly #kicks: EventFd[] = [];

	/** @param word of a slot that had another device before: the run loop answers its two registers already */
	constructor(device: VirtioDevice, slot: VirtioSlot, point: AttachmentPoint, word?: number) {
		this.slot = slot;
		this.#point = point;
		const { memory, runLoop, enter, observers, faults } = point;
		this.word = word ?? runLoop.allocateWord();
		const signal = () => this.#interrupt.signal();
		const line = { raise: faults === undefined ? signal : () => faults.pass("interrupt", signal) };
		const interruptStatus = runLoop.shadow.subarray(this.word, this.word + 1);
		this.transport = new MmioTransport(device, { memory, line, interruptStatus, enter, observers, thread: runLoop });
		try {
			this.#connect(point, word === undefined);
		} catch (error) {
			this.close();
			throw error;
		}
	}

	#connect({ vm, mmio, runLoop, enter = enterDirectly, observed = false }: AttachmentPoint, fresh: boolean): void {
		const { slot, transport, word } = this;
		mmio.add(slot.address, slot.sizeBytes, transport);
		vm.irqfd(this.#interrupt.fd, slot.gsi);
		if (!observed && fresh) {
			runLoop.registerShadowRead(false, slot.address + MmioTransport.interruptStatusOffset, 4, word);
			runLoop.registerAck(false, slot.address + MmioTransport.interruptAckOffset, 4, word);
		}
		for (let queue = 0; queue < transport.queueCount; queue++) {
			const kick = new EventFd();
			this.#kicks.push(kick);
			vm.ioeventfd({ fd: kick.fd, address: slot.address + MmioTransport.queueNotifyOffset, size: 4, datamatch: queue });
			kick.watch(() => transport.notify(queue), enter, transport.name);
		}
	}

	/** Takes the device off a machine that runs on. Its driver should have let go of it. */
	detach(): void {
		const { vm, mmio } = this.#point;
		const address = this.slot.address + MmioTransport.queueNotifyOffset;
		mmio.remove(this.transport);
		for (const [queue, { fd }] of this.#kicks.entries()) {
			vm.ioeventfd({ fd, address, size: 4, datamatch: queue }, true);
		}
		this.transport.detach();
		vm.irqfdDeassign(this.#interrupt.fd, this.slot.gsi);
		this.close();
	}

	/** Takes the device off the machine: no notification reaches it any more. Only after the vCPUs have stopped. */
	close(): void {
		this.#point.faults?.close();
		for (const kick of this.#kicks) kick.close();
		this.#interrupt.close();
	}
}
