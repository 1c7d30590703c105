/*
 * From host resources to a machine that is ready to start, top-down in boot order. Each step is named, and says by
 * `teardown` how it is undone; failure half-way and an orderly end take the same way back. Some steps take KVM
 * milliseconds: between them other machines of this process get their turn.
 *
 *     run loop -> VM -> RAM -> platform devices -> virtio devices -> kernel and tables -> vCPUs
 *
 * Shutdown goes the other way round: vCPU threads first, then devices (which wait for what is in flight), then file
 * descriptors; RAM is a resource and goes last.
 */
import { Bus } from "../base/bus.ts";
import { GuestMemory } from "../base/guest-memory.ts";
import { Logger } from "../base/log.ts";
import { Observers } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import { type Booted, prepareBoot } from "../boot/boot.ts";
import { RunLoop } from "../host/run-loop.ts";
import { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY } from "../kvm/constants.ts";
import { kvm_irqchip, kvm_pic_state, kvm_regs, kvm_run } from "../kvm/structs.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import { kernelCmdline } from "./cmdline.ts";
import { type CompleteConfig, deviceIds } from "./config.ts";
import { ConsoleMux } from "./console-mux.ts";
import { DeviceSlots } from "./device-slots.ts";
import { createDevices } from "./devices.ts";
import type { Entry } from "./entry.ts";
import {
	IDENTITY_MAP_ADDRESS,
	type MemoryMap,
	memoryMap,
	TSS_ADDRESS,
	VIRTIO_SLOTS,
	virtioSlot,
} from "./memory-map.ts";
import { attachPlatform, type Platform } from "./platform.ts";
import type { Resources } from "./resources.ts";
import { traceObserver } from "./trace.ts";
import { turn } from "./turn.ts";
import { ExitHandler } from "./vcpu-exit.ts";
import { VcpuThreads } from "./vcpu-threads.ts";
import { bootVcpus } from "./vcpus.ts";

/** A wired machine. All of it lives until the teardown has run. */
export interface Wired {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly pio: Bus;
	readonly mmio: Bus;
	readonly observers: Observers;
	readonly platform: Platform;
	/** The virtio devices. */
	readonly slots: DeviceSlots;
	readonly threads: VcpuThreads;
	/** The command line that the kernel was given. */
	readonly cmdline: string;
}

/** What the wiring of one machine has in common. */
export interface Site {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly pio: Bus;
	readonly mmio: Bus;
	readonly runLoop: RunLoop;
	readonly entry: Entry;
	readonly teardown: Teardown;
	readonly observers: Observers;
	/** An observer wants every access: no register is answered by native code. */
	readonly observed: boolean;
}

/**
 * Wires the machine; no vCPU runs yet.
 *
 * @throws IoctlError, UsageError ERR_TOO_MANY_DEVICES, ImageError for the kernel
 */
export async function build(
	config: CompleteConfig,
	resources: Resources,
	entry: Entry,
	teardown: Teardown,
): Promise<Wired> {
	const { kvm, ram, console } = resources;
	const map = memoryMap(config.memoryMiB);
	const observers = new Observers();
	if (config.observer !== undefined) observers.attach(config.observer);
	if (config.trace.length > 0) observers.attach(traceObserver(config.trace, entry.logger));
	const pio = new Bus("pio", observers);
	const mmio = new Bus("mmio", observers);
	const vcpus: Vcpu[] = [];
	const exits = new ExitHandler(
		pio,
		mmio,
		(how) => entry.end(how),
		(index) => ripOf(vcpus[index]),
		observers,
	);
	let threads: VcpuThreads | undefined;
	const runLoop = createRunLoop(config.cpus, pio, mmio, entry, {
		exit: (index, run) => {
			const handled = exits.handle(index, run);
			if (handled instanceof Promise) {
				const name = `exit of vCPU ${index}`;
				void handled.then(() => entry.enter(name, () => threads?.goesOn(index)));
				return false;
			}
			return handled && threads?.parks(index, run.getUint32(kvm_run.exit_reason, true)) !== true;
		},
		stays: (index) => threads?.stays(index),
	});
	/* After the VM: the run loop, which gives kvm_run back on a thread of its own, has the last reference to it. */
	teardown.add(() => runLoop.close());

	const vm = kvm.createVm();
	teardown.add(() => vm.release());
	await createInterruptControllers(vm);
	const memory = new GuestMemory(ram.regions);
	await placeRam(vm, map, resources);
	const observed = observers.observer?.access !== undefined;
	const site: Site = { vm, memory, pio, mmio, runLoop, entry, teardown, observers, observed };

	const consoles = new ConsoleMux(console, entry.enter);
	const platform = attachPlatform(site, consoles.line("serial", !config.virtioConsole), (full) =>
		threads?.setConsoleFull(full),
	);
	const { serial, hotPlug } = platform;
	teardown.add(() => serial.flush());
	const devices = createDevices(config, resources, consoles).map((device) => teardown.owns(device));
	const slots = new DeviceSlots(site, hotPlug);
	teardown.add(() => slots.close());
	for (const [i, id] of deviceIds(config).entries()) slots.place(id, devices[i]!);
	const booted = await loadBoot(config, map, memory, resources, slots);

	vcpus.push(...(await bootVcpus(kvm, vm, config.cpus, booted.kernel)));
	teardown.add(() => {
		for (const vcpu of vcpus) vcpu.close();
	});
	threads = new VcpuThreads(runLoop, vcpus, vm.vcpuMmapSize);
	/* Last in, first out: whatever happens, the vCPU threads end before anything that they use. */
	teardown.add(() => runLoop.stop());
	teardown.add(() => threads.leaveGuest());

	consoles.start();
	return { vm, memory, pio, mmio, observers, platform, slots, threads, cmdline: booted.cmdline };
}

async function createInterruptControllers(vm: Vm): Promise<void> {
	await turn();
	vm.setTssAddr(TSS_ADDRESS);
	vm.setIdentityMapAddr(IDENTITY_MAP_ADDRESS);
	vm.createIrqchip();
	await turn();
	vm.createPit2(KVM_PIT_SPEAKER_DUMMY);
	maskPics(vm);
}

/**
 * As firmware leaves them: the PICs start unmasked with vectors 0 and up, and LINT0 is open to them, so COM1's interrupt
 * would be an exception (vector 4) in a kernel that uses the I/O APIC and never touches the PICs.
 */
function maskPics(vm: Vm): void {
	for (const chip of [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE]) {
		const state = vm.getIrqchip(chip);
		state[kvm_irqchip.chip + kvm_pic_state.imr] = 0xff;
		vm.setIrqchip(state);
	}
}

/** One memory slot per range of the map. */
async function placeRam(vm: Vm, map: MemoryMap, { ram }: Resources): Promise<void> {
	for (const [slot, { gpa, sizeBytes }] of map.ram.entries()) {
		await turn();
		const first = ram.regions.find((region) => region.gpa === gpa)!;
		vm.setUserMemoryRegion({ slot, gpa, hva: first.hva, sizeBytes });
	}
	await turn();
}

/** What a run loop's exits lead to. */
interface ExitPath {
	/** Handles an exit; says whether the vCPU runs on. */
	exit(index: number, run: DataView): boolean;
	/** The vCPU does not run on, or has failed. */
	stays(index: number): void;
}

function createRunLoop(cpus: number, pio: Bus, mmio: Bus, entry: Entry, path: ExitPath): RunLoop {
	return new RunLoop(cpus, {
		onExit: (index, run) => {
			let runsOn = false;
			const before = Logger.swap(entry.logger);
			try {
				runsOn = entry.ended === undefined && path.exit(index, run);
			} catch (error) {
				entry.failed(`exit of vCPU ${index}`, error);
			} finally {
				Logger.swap(before);
			}
			if (!runsOn) path.stays(index);
			return runsOn;
		},
		/* Also after the end: what the guest printed before it is still to come. */
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
			path.stays(index);
			entry.end({ reason: "kvm-error", detail: `vCPU ${index}: KVM_RUN: ${errno}` });
		},
	});
}

/** Fills RAM with the kernel and all that it reads at its start. */
async function loadBoot(
	config: CompleteConfig,
	map: MemoryMap,
	memory: GuestMemory,
	{ kernel, initrd }: Resources,
	slots: DeviceSlots,
): Promise<Booted> {
	const booted = await prepareBoot(memory, {
		kernel,
		initrd,
		cmdline: kernelCmdline(config),
		cpus: config.cpus,
		e820: map.e820,
		lowRamEnd: map.lowRamEnd,
		virtioMmio: slots.slots,
		virtioSlots: Array.from({ length: VIRTIO_SLOTS }, (_, index) => virtioSlot(index)),
	});
	kernel.close();
	initrd?.close();
	return booted;
}

/** Where a vCPU that waits in an exit has stopped; undefined when KVM does not say. */
function ripOf(vcpu: Vcpu | undefined): bigint | undefined {
	try {
		return vcpu?.getRegs().readBigUInt64LE(kvm_regs.rip);
	} catch {
		return undefined;
	}
}
