/*
 * From host resources to a machine that is ready to start, top-down in boot order. Each step is a function and
 * registers in `teardown` how it is undone. A failed build and an orderly end use the same teardown. Some steps take
 * KVM milliseconds, so other machines of this process run between them.
 *
 *     VM -> interrupt controllers -> RAM -> platform devices -> virtio devices -> kernel and tables -> vCPUs
 *
 * A machine that is restored has the kernel in its RAM already; its vCPUs and devices get the state that they had.
 *
 * Shutdown goes the other way round: vCPU threads first, then devices (which wait for what is in flight), then file
 * descriptors; RAM is a resource and goes last.
 */
import { Bus } from "../base/bus.ts";
import type { Enter } from "../base/enter.ts";
import type { Faults } from "../base/faults.ts";
import { GuestMemory } from "../base/guest-memory.ts";
import { Observers } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import { GENERATION_ID_ADDRESS } from "../boot/addresses.ts";
import { type Booted, prepareBoot } from "../boot/boot.ts";
import type { HotPlug } from "../devices/hot-plug.ts";
import type { GuestRam } from "../host/ram.ts";
import { RunLoop } from "../host/run-loop.ts";
import { KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_PIT_SPEAKER_DUMMY } from "../kvm/constants.ts";
import { kvm_pic_state } from "../kvm/structs.ts";
import type { Kvm } from "../kvm/system.ts";
import { alignTsc } from "../kvm/tsc-state.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import { restoreVm } from "../kvm/vm-state.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";
import type { Closeable, DevicePlan } from "../virtio/device-kind.ts";
import { kernelCmdline } from "./cmdline.ts";
import type { CompleteConfig } from "./config.ts";
import { ConsoleMux } from "./console-mux.ts";
import { DebugPort } from "./debug-port.ts";
import { DeviceSlots } from "./device-slots.ts";
import { restoreDevices } from "./device-states.ts";
import type { Entry } from "./entry.ts";
import { checkFeatures, readMachine } from "./machine-state.ts";
import { IDENTITY_MAP_ADDRESS, memoryMap, TSS_ADDRESS, VIRTIO_SLOTS, virtioSlot } from "./memory-map.ts";
import { attachPlatform, type Platform } from "./platform.ts";
import type { Resources } from "./resources.ts";
import { runLoopEvents } from "./run-loop-events.ts";
import type { ShutdownReason } from "./shutdown-reason.ts";
import { tellStopped } from "./stopped.ts";
import { turn } from "./turn.ts";
import { ExitHandler } from "./vcpu-exit.ts";
import { VcpuThreads } from "./vcpu-threads.ts";
import { bootVcpus, restoredVcpus } from "./vcpus.ts";
import type { WorkingSetRecorder } from "./working-set.ts";

/** The parts of one machine that the steps share. They live until the teardown has run. */
export interface Wiring {
	readonly vm: Vm;
	readonly memory: GuestMemory;
	readonly pio: Bus;
	readonly mmio: Bus;
	readonly runLoop: RunLoop;
	/** Empty until `createVcpus`. */
	readonly vcpus: Vcpu[];
	/** Of those vCPUs. */
	readonly threads: VcpuThreads;
	readonly entry: Entry;
	readonly teardown: Teardown;
	readonly observers: Observers;
	/** What goes wrong on purpose. */
	readonly faults: Faults | undefined;
	readonly debug: DebugPort;
	/** An observer wants every access: no register is answered by native code. */
	readonly observed: boolean;
}

/** A wired machine. */
export interface Wired extends Wiring {
	readonly platform: Platform;
	/** The virtio devices. */
	readonly slots: DeviceSlots;
	readonly ram: GuestRam;
	/** Until it has recorded something, in a machine that was restored. */
	readonly workingSet: WorkingSetRecorder | undefined;
	readonly memoryMiB: number;
	readonly kvm: Kvm;
	/** Path of the kernel, as it was given. */
	readonly kernel: string;
	/** The command line that the kernel was given. */
	readonly cmdline: string;
	/** What it was restored from: then its devices have a state, and wait for the start (device-states.ts). */
	readonly image: SnapshotImage | undefined;
}

/** The input: the configuration and the resources that were acquired for it. */
interface Parts {
	readonly config: CompleteConfig;
	readonly resources: Resources;
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
	const parts = { config, resources };
	const wiring = createVm(parts, entry, teardown);
	await createInterruptControllers(wiring.vm);
	await attachRam(wiring.vm, parts);
	entry.timeline.mark("vm");
	const consoles = new ConsoleMux(resources.console, entry.enter);
	const platform = attachPlatform(wiring, consoles.line("serial"));
	/* The guest's last output is always written. */
	teardown.add(() => platform.serial.flush());
	const slots = attachVirtioDevices(wiring, platform.hotPlug, parts, consoles);
	entry.timeline.mark("devices");
	const { origin } = config;
	const { kvm, ram, workingSet } = resources;
	const base = { ...wiring, platform, slots, ram, workingSet, kvm, memoryMiB: config.memoryMiB };
	if (origin.kind === "snapshot") {
		const { kernel, cmdline } = origin.snapshot.manifest.machine;
		const state = readMachine(kvm, config.cpus, origin.snapshot);
		const { path } = origin.snapshot;
		await createVcpus(base, () =>
			restoredVcpus(kvm, wiring.vm, state.vcpus, (vcpu, host) => checkFeatures(path, vcpu, host)),
		);
		restoreVm(wiring.vm, state.vm);
		alignTsc(wiring.vm, wiring.vcpus, state.vcpus, state.vm);
		restoreDevices(base, state.devices);
		if (state.generation !== undefined) platform.generation.restore(state.generation);
		consoles.start();
		entry.timeline.mark("restore");
		return { ...base, kernel, cmdline, image: origin.snapshot };
	}
	const { kernel, cmdline } = await loadKernel(wiring.memory, parts, slots, origin.cmdline);
	platform.generation.place(GENERATION_ID_ADDRESS);
	entry.timeline.mark("load");
	await createVcpus(base, () => bootVcpus(kvm, wiring.vm, config.cpus, kernel));
	consoles.start();
	entry.timeline.mark("vcpus");
	return { ...base, kernel: origin.kernel, cmdline, image: undefined };
}

/** The VM with the run loop, the buses and the observers. */
function createVm({ config, resources }: Parts, entry: Entry, teardown: Teardown): Wiring {
	const { kvm, ram } = resources;
	const observers = new Observers();
	if (config.observer !== undefined) observers.attach(config.observer);
	for (const observer of resources.traces) observers.attach(observer);
	const pio = new Bus("pio", observers);
	const mmio = new Bus("mmio", observers);
	const vcpus: Vcpu[] = [];
	const debug = new DebugPort();
	const end = (how: ShutdownReason) => entry.end(how);
	const exits = new ExitHandler({ pio, mmio, end, ripOf: (index) => ripOf(vcpus[index]), observers, debug });
	const runLoop = new RunLoop(
		config.cpus,
		runLoopEvents({ pio, mmio, entry, exits, observers, threads: () => threads }),
	);
	const threads = new VcpuThreads(runLoop, vcpus, kvm.vcpuMmapSize);
	/* After the VM: the run loop, which gives kvm_run back on a thread of its own, has the last reference to it. */
	teardown.add(() => runLoop.close());
	const vm = kvm.createVm();
	teardown.add(() => vm.release());
	const memory = new GuestMemory(ram.regions);
	const observed = observers.observer?.access !== undefined;
	return {
		vm,
		memory,
		pio,
		mmio,
		runLoop,
		vcpus,
		threads,
		entry,
		teardown,
		observers,
		debug,
		faults: config.faults,
		observed,
	};
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
 * Masks the PICs as firmware does. KVM starts them unmasked, with vectors 0 and up, and LINT0 is open to them. In a
 * kernel that only uses the I/O APIC, COM1's interrupt would then be an exception (vector 4).
 */
function maskPics(vm: Vm): void {
	for (const chip of [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE]) {
		const state = vm.getIrqchip(chip);
		state.chip[kvm_pic_state.imr] = 0xff;
		vm.setIrqchip(state);
	}
}

/** One memory slot per range of the map. */
async function attachRam(vm: Vm, { config, resources: { ram } }: Parts): Promise<void> {
	for (const [slot, { gpa, sizeBytes }] of memoryMap(config.memoryMiB).ram.entries()) {
		await turn();
		const first = ram.regions.find((region) => region.gpa === gpa)!;
		vm.setUserMemoryRegion({ slot, gpa, hva: first.hva, sizeBytes });
	}
	await turn();
}

/** The devices of the configuration, each in a slot. The teardown closes them. */
function attachVirtioDevices(
	wiring: Wiring,
	hotPlug: HotPlug,
	{ config, resources }: Parts,
	consoles: ConsoleMux,
): DeviceSlots {
	const { teardown } = wiring;
	const options = {
		consoleLine: (name: string) => consoles.line(name),
		discard: (hva: number, bytes: number) => resources.ram.discard(hva, bytes),
	};
	const devices = config.devices.map((plan, i) => {
		const backend = withFaults(plan, resources.backends[i], config.faults, wiring.entry.enter);
		return teardown.owns(plan.create(backend, options));
	});
	const slots = new DeviceSlots(wiring, hotPlug);
	teardown.add(() => slots.close());
	for (const [i, slot] of placesOf(config)) slots.place(config.devices[i]!.id, devices[i]!, slot);
	return slots;
}

/** A device's backend, which goes wrong where rules say so. */
function withFaults<Backend extends Closeable | undefined>(
	{ id, faulty }: DevicePlan<Backend>,
	backend: Backend,
	faults: Faults | undefined,
	enter: Enter,
): Backend {
	if (faulty === undefined) return backend;
	const own = faults?.of(id, faulty.events, enter);
	return own === undefined ? backend : faulty.wrap(backend, own);
}

/** Each device by its number, in order, with its slot: where a snapshot has it, else the next one. */
function placesOf({ origin, devices }: CompleteConfig): (readonly [number: number, slot: number | undefined])[] {
	const saved = origin.kind === "snapshot" ? origin.snapshot.manifest.machine.devices : [];
	const places = devices.map(({ id }, i) => {
		const at = saved.findIndex((device) => device.id === id);
		return { i, at: at < 0 ? saved.length : at, slot: saved[at]?.slot };
	});
	return places.sort((a, b) => a.at - b.at).map(({ i, slot }) => [i, slot] as const);
}

/** Fills RAM with the kernel and all that it reads at its start. */
async function loadKernel(
	memory: GuestMemory,
	{ config, resources: { boot } }: Parts,
	slots: DeviceSlots,
	cmdline: string | undefined,
): Promise<Booted> {
	const { kernel, initrd } = boot!;
	const { e820, lowRamEnd } = memoryMap(config.memoryMiB);
	const booted = await prepareBoot(memory, {
		kernel,
		initrd,
		cmdline: kernelCmdline(config, cmdline),
		cpus: config.cpus,
		e820,
		lowRamEnd,
		virtioMmio: slots.slots,
		virtioSlots: Array.from({ length: VIRTIO_SLOTS }, (_, index) => virtioSlot(index)),
	});
	kernel.close();
	initrd?.close();
	return booted;
}

/** The vCPUs. From then on the end begins with their threads. */
async function createVcpus(
	parts: Wiring & { readonly slots: DeviceSlots },
	create: () => Promise<Vcpu[]>,
): Promise<void> {
	const { runLoop, vcpus, threads, teardown } = parts;
	vcpus.push(...(await create()));
	teardown.add(() => {
		for (const vcpu of vcpus) vcpu.close();
	});
	teardown.add(() => tellStopped(parts));
	/* Last in, first out: the vCPU threads always end before anything that they use. */
	teardown.add(() => runLoop.stop());
	teardown.add(() => threads.leaveGuest());
}

/** The instruction pointer of a vCPU that waits in an exit; undefined when KVM does not give it. */
function ripOf(vcpu: Vcpu | undefined): bigint | undefined {
	try {
		return vcpu?.getRegs().rip;
	} catch {
		return undefined;
	}
}
