/*
 * The MMIO transport, version 2 (virtio 1.2 §4.2): the registers through which the driver finds a device, agrees on
 * features, places the queues and says DRIVER_OK. Then the finished Virtqueues go to the device (device.ts) and the
 * transport only carries notifications in and interrupts out:
 *
 *     QueueNotify -> ioeventfd -> reactor -> notify(index) -> device.notify -> queue.flush -> InterruptStatus, line
 */
import type { BusDevice } from "../base/bus.ts";
import { DRIVER, DRIVER_OK, FEATURES_OK, VIRTIO_MMIO, VIRTIO_MMIO_MAGIC, VIRTIO_MMIO_VERSION } from "./spec.ts";
import { Transport } from "./transport.ts";
import { QUEUE_REGISTERS } from "./transport-state.ts";

/** VendorID: "tsvm", which no driver looks at. */
const VENDOR_ID = 0x6d767374;

/** The registers of one virtio device on the MMIO bus (virtio 1.2 §4.2): status, features and queues of a VirtioDevice. */
export class MmioTransport extends Transport implements BusDevice {
	/** Where the machine attaches one ioeventfd per queue (32 bits wide, datamatch the queue's index). */
	static readonly queueNotifyOffset = VIRTIO_MMIO.QueueNotify;
	/** Where a shadow word may answer reads. */
	static readonly interruptStatusOffset = VIRTIO_MMIO.InterruptStatus;
	/** Where writes may clear bits of that shadow word. */
	static readonly interruptAckOffset = VIRTIO_MMIO.InterruptACK;

	read(offset: number, size: number): number {
		if (offset >= VIRTIO_MMIO.Config) return this.#readConfig(offset - VIRTIO_MMIO.Config, size);
		if (size !== 4) {
			this.ignored(`a read of ${size} bytes at 0x${offset.toString(16)}`);
			return 0;
		}
		const setup = this.state.setups[this.state.queueSel];
		switch (offset) {
			case VIRTIO_MMIO.MagicValue:
				return VIRTIO_MMIO_MAGIC;
			case VIRTIO_MMIO.Version:
				return VIRTIO_MMIO_VERSION;
			case VIRTIO_MMIO.DeviceID:
				return this.device.deviceId;
			case VIRTIO_MMIO.VendorID:
				return VENDOR_ID;
			case VIRTIO_MMIO.DeviceFeatures:
				if (this.state.deviceFeaturesSel > 1) return 0;
				return Number((this.features >> BigInt(32 * this.state.deviceFeaturesSel)) & 0xffff_ffffn);
			case VIRTIO_MMIO.QueueNumMax:
				return this.device.queueSizes[this.state.queueSel] ?? 0;
			case VIRTIO_MMIO.QueueReady:
				return setup?.ready ? 1 : 0;
			case VIRTIO_MMIO.InterruptStatus:
				return Atomics.load(this.interruptStatus, 0);
			case VIRTIO_MMIO.Status:
				return this.state.status;
			case VIRTIO_MMIO.SHMLenLow:
			case VIRTIO_MMIO.SHMLenHigh:
			case VIRTIO_MMIO.SHMBaseLow:
			case VIRTIO_MMIO.SHMBaseHigh:
				return 0xffff_ffff; /* no shared memory region: length and base are all ones */
			case VIRTIO_MMIO.ConfigGeneration:
				return this.state.configGeneration;
			default:
				return 0;
		}
	}

	write(offset: number, size: number, value: number): void | Promise<void> {
		if (offset === VIRTIO_MMIO.Status && size === 4 && value === 0) return this.setStatus(0);
		if (this.resetting) {
			this.ignored(`a write at 0x${offset.toString(16)}: the reset is not complete`);
			return;
		}
		if (offset >= VIRTIO_MMIO.Config) {
			this.#writeConfig(offset - VIRTIO_MMIO.Config, size, value);
			return;
		}
		if (size !== 4) {
			this.ignored(`a write of ${size} bytes at 0x${offset.toString(16)}`);
			return;
		}
		switch (offset) {
			case VIRTIO_MMIO.QueueNotify:
				this.notify(value);
				return;
			case VIRTIO_MMIO.InterruptACK:
				Atomics.and(this.interruptStatus, 0, ~value);
				return;
			case VIRTIO_MMIO.Status:
				void this.setStatus(value);
				return;
			case VIRTIO_MMIO.DeviceFeaturesSel:
				this.state.deviceFeaturesSel = value;
				return;
			case VIRTIO_MMIO.DriverFeaturesSel:
				this.state.driverFeaturesSel = value;
				return;
			case VIRTIO_MMIO.DriverFeatures:
				this.setDriverFeatures(value);
				return;
			case VIRTIO_MMIO.QueueSel:
				this.state.queueSel = value;
				return;
			case VIRTIO_MMIO.SHMSel:
				return;
			default:
				this.#writeQueue(offset, value);
				return;
		}
	}

	#writeQueue(offset: number, value: number): void {
		const setup = this.state.setups[this.state.queueSel];
		const isReady = offset === VIRTIO_MMIO.QueueReady;
		if (isReady && value === 0 && !setup?.ready) return; /* Linux writes it when it removes a queue after reset */
		const open = (this.state.status & (FEATURES_OK | DRIVER_OK)) === FEATURES_OK;
		if (setup === undefined || !open || (setup.ready && !isReady)) {
			this.ignored(`a write of 0x${value.toString(16)} at 0x${offset.toString(16)} in this state`);
			return;
		}
		const field = QUEUE_REGISTERS[offset];
		if (isReady) this.setQueueReady(setup, (value & 1) !== 0);
		else if (field !== undefined) setup[field] = value;
		else this.ignored(`a write at 0x${offset.toString(16)}: it is no register for writing`);
	}

	#readConfig(offset: number, size: number): number {
		/* One read of each byte, in the guest's order; past the end of the config space are zeroes. */
		let value = 0;
		for (let i = 0; i < size; i++) value |= (this.device.config[offset + i] ?? 0) << (8 * i);
		return value >>> 0;
	}

	#writeConfig(offset: number, size: number, value: number): void {
		const { device } = this;
		const wanted = device.writeConfig !== undefined && offset + size <= device.config.length;
		if (!wanted || ((this.state.status & DRIVER) === 0 && device.earlyConfig !== true)) {
			this.ignored(`a config write at offset ${offset}`);
			return;
		}
		const data = new Uint8Array(size);
		for (let i = 0; i < size; i++) data[i] = value >>> (8 * i);
		device.writeConfig?.(offset, data);
	}
}

/**
 * The registers of a slot whose device was removed (virtio 1.2 §4.2.2, DeviceID). A driver that is unbound reads Status
 * and QueueReady once more after the reset, and gets 0.
 */
export class MmioPlaceholder implements BusDevice {
	readonly name = "removed";

	read(offset: number, size: number): number {
		if (size !== 4) return 0;
		if (offset === VIRTIO_MMIO.MagicValue) return VIRTIO_MMIO_MAGIC;
		return offset === VIRTIO_MMIO.Version ? VIRTIO_MMIO_VERSION : 0;
	}

	write(): void {
		/* Nobody is there. */
	}
}
