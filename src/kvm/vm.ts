/*
 * A VM's file descriptor: memory slots, interrupt controllers, eventfds, clock. One method per ioctl, named after it
 * (KVM api.rst §4). State that comes and goes as a whole is a view of its struct (structs.ts).
 */
import { addressOf, close, closeOffThread } from "../host/libc.ts";
import { call, KvmFd } from "./call.ts";
import {
	KVM_CAP,
	KVM_IOEVENTFD_FLAG_DATAMATCH,
	KVM_IOEVENTFD_FLAG_DEASSIGN,
	KVM_IOEVENTFD_FLAG_PIO,
	KVM_IRQ_ROUTING_IRQCHIP,
	KVM_IRQ_ROUTING_MSI,
	KVM_IRQFD_FLAG_DEASSIGN,
	KVM_IRQFD_FLAG_RESAMPLE,
} from "./constants.ts";
import { type KvmClockData, type KvmIrqchip, type KvmPitState2, structView } from "./struct-view.ts";
import {
	kvm_clock_data,
	kvm_dirty_log,
	kvm_enable_cap,
	kvm_ioeventfd,
	kvm_irq_level,
	kvm_irq_routing,
	kvm_irq_routing_entry,
	kvm_irq_routing_irqchip,
	kvm_irq_routing_msi,
	kvm_irqchip,
	kvm_irqfd,
	kvm_msi,
	kvm_pit_config,
	kvm_pit_state2,
	kvm_userspace_memory_region,
	kvm_xsave,
} from "./structs.ts";
import { Vcpu } from "./vcpu.ts";

const PAGE_BYTES = 4096;

/** A part of the guest's address space that is memory of this process. */
export interface MemorySlot {
	/** Number of the slot, from 0. */
	readonly slot: number;
	/** Guest-physical address, a multiple of 4096. */
	readonly gpa: number;
	/** Host address, a multiple of 4096. The memory must stay mapped as long as the slot is there. */
	readonly hva: number;
	/** A multiple of 4096; 0 removes the slot. */
	readonly sizeBytes: number;
	/** KVM_MEM_*. */
	readonly flags?: number;
}

/** A guest write that signals `fd` instead of stopping the vCPU. */
export interface IoEventFd {
	/** An eventfd. */
	readonly fd: number;
	/** A guest-physical address, or a port. */
	readonly address: number;
	/** Bytes of the access, 1, 2, 4 or 8; 0 for any. */
	readonly size: number;
	/** `address` is a port; false when missing. */
	readonly pio?: boolean;
	/** Only writes of this value; any other stops the vCPU. */
	readonly datamatch?: number;
}

/** Where a GSI leads. */
export type GsiRoute =
	| { readonly gsi: number; readonly irqchip: number; readonly pin: number }
	| { readonly gsi: number; readonly address: number; readonly data: number };

/**
 * The file descriptor of one VM. Every method throws IoctlError, and StateError ERR_KVM_CLOSED after `close`; its owner
 * closes it.
 */
export class Vm {
	readonly #fd: KvmFd;
	#xsaveBytes: number | undefined;
	/** Size of the mapping of struct kvm_run, in bytes. */
	readonly vcpuMmapSize: number;

	/** Made by Kvm.createVm, which gives it the descriptor. */
	constructor(fd: number, vcpuMmapSize: number) {
		this.#fd = new KvmFd(fd, "this VM");
		this.vcpuMmapSize = vcpuMmapSize;
	}

	/** The file descriptor. @throws StateError ERR_KVM_CLOSED after `close` */
	get fd(): number {
		return this.#fd.number;
	}

	/** KVM_CREATE_VCPU; `id` becomes its APIC ID. */
	createVcpu(id: number): Vcpu {
		this.#xsaveBytes ??= Math.max(kvm_xsave.sizeof, this.checkExtension("KVM_CAP_XSAVE2"));
		return new Vcpu(call(this.fd, "KVM_CREATE_VCPU", id), id, this.#xsaveBytes);
	}

	/** KVM_CHECK_EXTENSION of this VM. */
	checkExtension(capability: keyof typeof KVM_CAP): number {
		return call(this.fd, "KVM_CHECK_EXTENSION", KVM_CAP[capability]);
	}

	/** KVM_SET_USER_MEMORY_REGION. */
	setUserMemoryRegion(slot: MemorySlot): void {
		const region = Buffer.alloc(kvm_userspace_memory_region.sizeof);
		region.writeUInt32LE(slot.slot, kvm_userspace_memory_region.slot);
		region.writeUInt32LE(slot.flags ?? 0, kvm_userspace_memory_region.flags);
		setU64(region, kvm_userspace_memory_region.guest_phys_addr, slot.gpa);
		setU64(region, kvm_userspace_memory_region.memory_size, slot.sizeBytes);
		setU64(region, kvm_userspace_memory_region.userspace_addr, slot.hva);
		call(this.fd, "KVM_SET_USER_MEMORY_REGION", region);
	}

	/**
	 * KVM_GET_DIRTY_LOG of a slot with KVM_MEM_LOG_DIRTY_PAGES: a bit per page of 4 KiB that the guest has written since
	 * the last call, least significant bit first. Writes of devices are not in it: the caller has to track them.
	 *
	 * @param sizeBytes of the slot
	 */
	getDirtyLog(slot: number, sizeBytes: number): Buffer {
		/* KVM writes whole words of 64 pages. */
		const bitmap = Buffer.alloc(Math.ceil(sizeBytes / PAGE_BYTES / 64) * 8);
		const log = Buffer.alloc(kvm_dirty_log.sizeof);
		log.writeUInt32LE(slot, kvm_dirty_log.slot);
		log.writeBigUInt64LE(addressOf(bitmap), kvm_dirty_log.dirty_bitmap);
		call(this.fd, "KVM_GET_DIRTY_LOG", log);
		return bitmap;
	}

	/** KVM_SET_TSS_ADDR: three pages below 4 GiB that Intel hosts need; neither RAM nor MMIO may be there. */
	setTssAddr(gpa: number): void {
		call(this.fd, "KVM_SET_TSS_ADDR", gpa);
	}

	/** KVM_SET_IDENTITY_MAP_ADDR: one more such page; before the first vCPU. */
	setIdentityMapAddr(gpa: number): void {
		call(this.fd, "KVM_SET_IDENTITY_MAP_ADDR", u64(gpa));
	}

	/** KVM_CREATE_IRQCHIP: PICs, IOAPIC and a local APIC per vCPU in the kernel; before the first vCPU. */
	createIrqchip(): void {
		call(this.fd, "KVM_CREATE_IRQCHIP");
	}

	/** KVM_CREATE_PIT2; needs the irqchip. */
	createPit2(flags = 0): void {
		const config = Buffer.alloc(kvm_pit_config.sizeof);
		config.writeUInt32LE(flags, kvm_pit_config.flags);
		call(this.fd, "KVM_CREATE_PIT2", config);
	}

	/** KVM_GET_PIT2. */
	getPit2(): KvmPitState2 {
		const state = structView(kvm_pit_state2);
		call(this.fd, "KVM_GET_PIT2", state.bytes);
		return state;
	}

	/** KVM_SET_PIT2. */
	setPit2(state: KvmPitState2): void {
		call(this.fd, "KVM_SET_PIT2", state.bytes);
	}

	/** KVM_GET_IRQCHIP of KVM_IRQCHIP_*. */
	getIrqchip(chip: number): KvmIrqchip {
		const state = structView(kvm_irqchip);
		state.chip_id = chip;
		call(this.fd, "KVM_GET_IRQCHIP", state.bytes);
		return state;
	}

	/** KVM_SET_IRQCHIP. */
	setIrqchip(state: KvmIrqchip): void {
		call(this.fd, "KVM_SET_IRQCHIP", state.bytes);
	}

	/** KVM_IRQ_LINE: sets the level of a GSI. */
	irqLine(gsi: number, level: boolean): void {
		const line = Buffer.alloc(kvm_irq_level.sizeof);
		line.writeUInt32LE(gsi, kvm_irq_level.irq);
		line.writeUInt32LE(level ? 1 : 0, kvm_irq_level.level);
		call(this.fd, "KVM_IRQ_LINE", line);
	}

	/** KVM_SET_GSI_ROUTING: replaces the whole table. */
	setGsiRouting(routes: readonly GsiRoute[]): void {
		const table = Buffer.alloc(kvm_irq_routing.entries + routes.length * kvm_irq_routing_entry.sizeof);
		table.writeUInt32LE(routes.length, kvm_irq_routing.nr);
		routes.forEach((route, i) => {
			const at = kvm_irq_routing.entries + i * kvm_irq_routing_entry.sizeof;
			const u = at + kvm_irq_routing_entry.u;
			table.writeUInt32LE(route.gsi, at + kvm_irq_routing_entry.gsi);
			if ("irqchip" in route) {
				table.writeUInt32LE(KVM_IRQ_ROUTING_IRQCHIP, at + kvm_irq_routing_entry.type);
				table.writeUInt32LE(route.irqchip, u + kvm_irq_routing_irqchip.irqchip);
				table.writeUInt32LE(route.pin, u + kvm_irq_routing_irqchip.pin);
			} else {
				table.writeUInt32LE(KVM_IRQ_ROUTING_MSI, at + kvm_irq_routing_entry.type);
				setU64(table, u + kvm_irq_routing_msi.address_lo, route.address);
				table.writeUInt32LE(route.data, u + kvm_irq_routing_msi.data);
			}
		});
		call(this.fd, "KVM_SET_GSI_ROUTING", table);
	}

	/** KVM_SIGNAL_MSI. */
	signalMsi(address: number, data: number): void {
		const msi = Buffer.alloc(kvm_msi.sizeof);
		setU64(msi, kvm_msi.address_lo, address);
		msi.writeUInt32LE(data, kvm_msi.data);
		call(this.fd, "KVM_SIGNAL_MSI", msi);
	}

	/** KVM_IOEVENTFD: assigns. `deassign` with the same values removes it. */
	ioeventfd(event: IoEventFd, deassign = false): void {
		const argument = Buffer.alloc(kvm_ioeventfd.sizeof);
		setU64(argument, kvm_ioeventfd.datamatch, event.datamatch ?? 0);
		setU64(argument, kvm_ioeventfd.addr, event.address);
		argument.writeUInt32LE(event.size, kvm_ioeventfd.len);
		argument.writeInt32LE(event.fd, kvm_ioeventfd.fd);
		argument.writeUInt32LE(
			(event.datamatch === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH) |
				(event.pio === true ? KVM_IOEVENTFD_FLAG_PIO : 0) |
				(deassign ? KVM_IOEVENTFD_FLAG_DEASSIGN : 0),
			kvm_ioeventfd.flags,
		);
		call(this.fd, "KVM_IOEVENTFD", argument);
	}

	/**
	 * KVM_IRQFD: each signal of eventfd `fd` is an edge on `gsi`.
	 *
	 * @param resampleFd makes the GSI level-triggered: KVM lowers it and signals this eventfd at the guest's EOI
	 */
	irqfd(fd: number, gsi: number, resampleFd?: number): void {
		this.#irqfd(fd, gsi, resampleFd === undefined ? 0 : KVM_IRQFD_FLAG_RESAMPLE, resampleFd ?? 0);
	}

	/** Removes an irqfd. */
	irqfdDeassign(fd: number, gsi: number): void {
		this.#irqfd(fd, gsi, KVM_IRQFD_FLAG_DEASSIGN, 0);
	}

	#irqfd(fd: number, gsi: number, flags: number, resampleFd: number): void {
		const argument = Buffer.alloc(kvm_irqfd.sizeof);
		argument.writeUInt32LE(fd, kvm_irqfd.fd);
		argument.writeUInt32LE(gsi, kvm_irqfd.gsi);
		argument.writeUInt32LE(flags, kvm_irqfd.flags);
		argument.writeUInt32LE(resampleFd, kvm_irqfd.resamplefd);
		call(this.fd, "KVM_IRQFD", argument);
	}

	/** KVM_GET_CLOCK. */
	getClock(): KvmClockData {
		const clock = structView(kvm_clock_data);
		call(this.fd, "KVM_GET_CLOCK", clock.bytes);
		return clock;
	}

	/** KVM_SET_CLOCK: kvmclock's nanoseconds. */
	setClock(nanoseconds: bigint): void {
		const clock = structView(kvm_clock_data);
		clock.clock = nanoseconds;
		call(this.fd, "KVM_SET_CLOCK", clock.bytes);
	}

	/** KVM_ENABLE_CAP. */
	enableCap(capability: keyof typeof KVM_CAP, ...args: number[]): void {
		call(this.fd, "KVM_ENABLE_CAP", packEnableCap(capability, args));
	}

	/** As `close`, but does not block the JavaScript thread: KVM takes 20 ms and more to destroy a VM. */
	async release(): Promise<void> {
		const fd = this.#fd.take();
		if (fd !== undefined) await closeOffThread(fd);
	}

	/** Closes the VM; its memory and vCPUs live until their last user is gone. */
	close(): void {
		const fd = this.#fd.take();
		if (fd !== undefined) close(fd);
	}
}

/** A struct kvm_enable_cap. */
function packEnableCap(capability: keyof typeof KVM_CAP, args: readonly number[]): Buffer {
	const argument = Buffer.alloc(kvm_enable_cap.sizeof);
	argument.writeUInt32LE(KVM_CAP[capability], kvm_enable_cap.cap);
	args.forEach((value, i) => {
		setU64(argument, kvm_enable_cap.args + 8 * i, value);
	});
	return argument;
}

function setU64(buffer: Buffer, at: number, value: number): void {
	buffer.writeBigUInt64LE(BigInt(value), at);
}

function u64(value: number): Buffer {
	const buffer = Buffer.alloc(8);
	setU64(buffer, 0, value);
	return buffer;
}
