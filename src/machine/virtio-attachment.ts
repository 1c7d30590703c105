/*
 * One virtio device on the machine: its transport on the MMIO bus, an ioeventfd per queue (a notification stops no
 * vCPU), an irqfd for its interrupt, and the two hot registers handed to the native run loop. Owns those file
 * descriptors, and the device from here on.
 */
import type { Bus } from "../base/bus.ts";
import type { GuestMemory } from "../base/guest-memory.ts";
import { EventFd } from "../host/eventfd.ts";
import type { RunLoop } from "../host/run-loop.ts";
import type { Vm } from "../kvm/vm.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { MmioTransport } from "../virtio/mmio.ts";
import type { VirtioSlot } from "./memory-map.ts";

/** What a device is attached to. */
export interface AttachmentPoint {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly mmio: Bus;
	readonly runLoop: RunLoop;
}

export class VirtioAttachment {
	readonly transport: MmioTransport;
	readonly slot: VirtioSlot;
	readonly #interrupt = new EventFd();
	readonly #kicks: EventFd[] = [];

	constructor(device: VirtioDevice, slot: VirtioSlot, { vm, memory, mmio, runLoop }: AttachmentPoint) {
		this.slot = slot;
		const word = runLoop.allocateWord();
		const line = { raise: () => this.#interrupt.signal() };
		this.transport = new MmioTransport(device, memory, line, runLoop.shadow.subarray(word, word + 1));
		mmio.add(slot.address, slot.sizeBytes, this.transport);
		vm.irqfd(this.#interrupt.fd, slot.gsi);
		runLoop.registerShadowRead(false, slot.address + MmioTransport.interruptStatusOffset, 4, word);
		runLoop.registerAck(false, slot.address + MmioTransport.interruptAckOffset, 4, word);
		for (let queue = 0; queue < this.transport.queueCount; queue++) {
			const kick = new EventFd();
			this.#kicks.push(kick);
			vm.ioeventfd({ fd: kick.fd, address: slot.address + MmioTransport.queueNotifyOffset, size: 4, datamatch: queue });
			kick.watch(() => this.transport.notify(queue));
		}
	}

	/** Ends the device, then closes its event file descriptors. Only after the vCPUs have stopped. */
	async close(): Promise<void> {
		try {
			await this.transport.device.close();
		} finally {
			for (const kick of this.#kicks) kick.close();
			this.#interrupt.close();
		}
	}
}
