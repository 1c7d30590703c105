/*
 * Machine: everything wired together, top-down in boot order. `create` builds it and leaves no trace when a step fails;
 * `start` lets the vCPUs run; `ended` says how it ended, once all of it is torn down again.
 *
 *     KVM, VM -> RAM -> platform devices -> virtio devices -> kernel and tables -> vCPUs -> run
 *
 * Shutdown goes the other way round: vCPU threads first, then devices (which wait for what is in flight), then file
 * descriptors, then RAM.
 */
import { FileConsole, type HostConsole, NullConsole, StdioConsole } from "../backends/console.ts";
import type { UnixVsock } from "../backends/unix-vsock.ts";
import { Bus } from "../base/bus.ts";
import { IoctlError } from "../base/errors.ts";
import { GuestMemory } from "../base/guest-memory.ts";
import { log } from "../base/log.ts";
import { Teardown } from "../base/teardown.ts";
import { type Booted, prepareBoot } from "../boot/boot.ts";
import { GuestRam } from "../host/ram.ts";
import { RunLoop } from "../host/run-loop.ts";
import { KVM_PIT_SPEAKER_DUMMY } from "../kvm/constants.ts";
import { kvm_regs } from "../kvm/structs.ts";
import { Kvm } from "../kvm/system.ts";
import type { Vcpu } from "../kvm/vcpu.ts";
import type { Vm } from "../kvm/vm.ts";
import type { VirtioDevice } from "../virtio/device.ts";
import { kernelCmdline } from "./cmdline.ts";
import { type ConsoleConfig, type MachineConfig, validateConfig } from "./config.ts";
import { createDevices } from "./devices.ts";
import type { MachineEnd } from "./ending.ts";
import { IDENTITY_MAP_ADDRESS, type MemoryMap, memoryMap, TSS_ADDRESS, virtioSlot } from "./memory-map.ts";
import { attachPlatform } from "./platform.ts";
import { traceTo } from "./trace.ts";
import { ExitHandler } from "./vcpu-exit.ts";
import { bootVcpus } from "./vcpus.ts";
import { type Guard, VirtioAttachment } from "./virtio-attachment.ts";

/** What a caller may put into the machine besides its configuration. */
export interface MachineParts {
	/** Virtio devices of one's own; they follow the configured ones. */
	devices?: (memory: GuestMemory) => VirtioDevice[];
	/** Takes the place of `config.console`. */
	console?: HostConsole;
}

export class Machine {
	/** Resolves when the guest has ended and everything is released. Never rejects. */
	readonly ended: Promise<MachineEnd>;
	/** The host's side of vsock, when the machine has one. */
	readonly vsock: UnixVsock | undefined;
	readonly memory: GuestMemory;
	/** The command line that the kernel was given. */
	readonly cmdline: string;
	readonly #runLoop: RunLoop;
	readonly #vcpus: readonly Vcpu[];
	readonly #runBytes: number;
	readonly #teardown: Teardown;
	readonly #settle: (end: MachineEnd) => void;
	#end: MachineEnd | undefined;
	/** vCPUs that wait in an exit since `pause`; undefined while the machine runs. */
	#parked: Set<number> | undefined;
	#paused: { promise: Promise<void>; resolve: () => void } | undefined;

	/**
	 * Builds the machine; nothing runs yet. The caller must call `start` or `stop`.
	 *
	 * @throws UsageError for a configuration that cannot be, HostError for what the host lacks, ImageError for the kernel
	 */
	static async create(config: MachineConfig, parts: MachineParts = {}): Promise<Machine> {
		validateConfig(config);
		const teardown = new Teardown();
		try {
			return await Machine.#build(config, parts, teardown);
		} catch (error) {
			await teardown.run().catch(() => undefined);
			throw error;
		}
	}

	static async #build(config: MachineConfig, parts: MachineParts, teardown: Teardown): Promise<Machine> {
		const map = memoryMap(config.memoryMiB);
		const kvm = Kvm.open();
		teardown.add(() => kvm.close());
		kvm.require(config.cpus);
		const vm = createVm(kvm, teardown);
		const memory = createRam(vm, map, teardown);

		let machine: Machine | undefined;
		const end = (how: MachineEnd) => machine?.end(how);
		const guard: Guard = (name, run) => {
			try {
				run();
			} catch (error) {
				log("error", `${name}: ${(error as Error).stack ?? error}`);
				end({ reason: "device-failed", detail: `${name}: ${(error as Error).message}` });
			}
		};
		const pio = new Bus();
		const mmio = new Bus();
		const exits = new ExitHandler(pio, mmio, end, (index) => machine?.rip(index));
		const runLoop = new RunLoop(config.cpus, {
			onExit: (index, run) => {
				let runsOn = false;
				guard(`exit of vCPU ${index}`, () => {
					runsOn = exits.handle(index, run) && !machine?.park(index);
				});
				return runsOn;
			},
			onPosted: (address, size, value, isPort) =>
				guard("posted write", () => (isPort ? pio : mmio).writeValue(address, size, value)),
			onFailed: (index, errno) => end({ reason: "kvm-error", detail: `vCPU ${index}: KVM_RUN: ${errno}` }),
		});
		teardown.add(() => runLoop.close());

		const console = parts.console ?? createConsole(config.console);
		teardown.add(() => console.close());
		const serial = attachPlatform(vm, runLoop, pio, console, end);
		teardown.add(() => serial.flush());

		const { devices, vsock } = await createDevices(config, console, teardown);
		for (const device of parts.devices?.(memory) ?? []) {
			teardown.add(() => device.close());
			devices.push(device);
		}
		const attachments = devices.map((device, index) => {
			const attachment = new VirtioAttachment(device, virtioSlot(index), { vm, memory, mmio, runLoop, guard });
			teardown.add(() => attachment.close());
			return attachment;
		});

		const booted: Booted = prepareBoot(memory, {
			kernel: config.kernel,
			initrd: config.initrd,
			cmdline: kernelCmdline(config),
			cpus: config.cpus,
			e820: map.e820,
			lowRamEnd: map.lowRamEnd,
			virtioMmio: attachments.map((attachment) => attachment.slot),
		});
		const vcpus = bootVcpus(kvm, vm, config.cpus, booted.kernel);
		teardown.add(() => {
			for (const vcpu of vcpus) vcpu.close();
		});
		/* Last in, first out: whatever happens, the vCPU threads end before anything that they use. */
		teardown.add(() => runLoop.stop());
		traceTo(config.trace ?? [], pio, mmio, exits);
		machine = new Machine(memory, booted.cmdline, runLoop, vcpus, vm.vcpuMmapSize, vsock, teardown);
		const started = machine;
		/* What is typed after the end would raise an interrupt of a VM that is closed. */
		const input = (bytes: Uint8Array) => started.#end !== undefined || serial.input(bytes);
		if (config.virtioConsole !== true) console.start?.(input);
		return machine;
	}

	private constructor(
		memory: GuestMemory,
		cmdline: string,
		runLoop: RunLoop,
		vcpus: readonly Vcpu[],
		runBytes: number,
		vsock: UnixVsock | undefined,
		teardown: Teardown,
	) {
		this.memory = memory;
		this.cmdline = cmdline;
		this.vsock = vsock;
		this.#runLoop = runLoop;
		this.#vcpus = vcpus;
		this.#runBytes = runBytes;
		this.#teardown = teardown;
		const { promise, resolve } = withResolvers<MachineEnd>();
		this.ended = promise;
		this.#settle = resolve;
	}

	/** Lets all vCPUs run. */
	start(): void {
		this.#vcpus.forEach((vcpu, index) => {
			this.#runLoop.start(index, vcpu.fd, this.#runBytes);
		});
	}

	/**
	 * Stops all vCPUs where they are, once `start` was called; resolves when the last has stopped, or at `resume` or the
	 * machine's end if those come first. Devices still finish what is in flight.
	 */
	pause(): Promise<void> {
		if (this.#end !== undefined) return Promise.resolve();
		if (this.#paused !== undefined) return this.#paused.promise;
		this.#parked = new Set();
		this.#paused = withResolvers<void>();
		this.#vcpus.forEach((_, index) => {
			this.#runLoop.kick(index);
		});
		return this.#paused.promise;
	}

	/** Lets paused vCPUs run on; the guest's watchdogs are told that time has passed. */
	resume(): void {
		const parked = this.#parked;
		this.#parked = undefined;
		this.#paused?.resolve();
		this.#paused = undefined;
		for (const index of parked ?? []) {
			try {
				this.#vcpus[index]!.kvmclockCtrl();
			} catch (error) {
				/* EINVAL: this guest has no kvmclock. */
				if (!(error instanceof IoctlError && error.errno === "EINVAL")) throw error;
			}
			this.#runLoop.resume(index);
		}
	}

	/** Called at each exit: true when vCPU `index` must stay in it because the machine is paused. */
	park(index: number): boolean {
		if (this.#parked === undefined) return false;
		this.#parked.add(index);
		if (this.#parked.size === this.#vcpus.length) this.#paused?.resolve();
		return true;
	}

	/** Where vCPU `index`, which waits in an exit, has stopped; undefined when KVM does not say. */
	rip(index: number): bigint | undefined {
		try {
			return this.#vcpus[index]?.getRegs().readBigUInt64LE(kvm_regs.rip);
		} catch {
			return undefined;
		}
	}

	/** Ends the machine as the host's own wish; resolves as `ended` does. */
	stop(): Promise<MachineEnd> {
		this.end({ reason: "stopped" });
		return this.ended;
	}

	/** The guest has ended: the first cause counts, and teardown begins outside the handler that noticed it. */
	end(how: MachineEnd): void {
		if (this.#end !== undefined) return;
		this.#end = how;
		this.#paused?.resolve();
		setImmediate(async () => {
			try {
				await this.#teardown.run();
				this.#settle(how);
			} catch (error) {
				this.#settle({
					reason: how.reason,
					detail: `${how.detail ?? ""} (while ending: ${(error as Error).message})`.trim(),
				});
			}
		});
	}
}

function createVm(kvm: Kvm, teardown: Teardown): Vm {
	const vm = kvm.createVm();
	teardown.add(() => vm.close());
	vm.setTssAddr(TSS_ADDRESS);
	vm.setIdentityMapAddr(IDENTITY_MAP_ADDRESS);
	vm.createIrqchip();
	vm.createPit2(KVM_PIT_SPEAKER_DUMMY);
	return vm;
}

/** Maps RAM and makes one memory slot per range of the map. */
function createRam(vm: Vm, map: MemoryMap, teardown: Teardown): GuestMemory {
	const ram = GuestRam.map(map.ram);
	teardown.add(() => ram.close());
	map.ram.forEach(({ gpa, sizeBytes }, slot) => {
		const first = ram.regions.find((region) => region.gpa === gpa)!;
		vm.setUserMemoryRegion({ slot, gpa, hva: first.hva, sizeBytes });
	});
	return new GuestMemory(ram.regions);
}

function createConsole(config: ConsoleConfig): HostConsole {
	if (config.kind === "stdio") return new StdioConsole();
	return config.kind === "file" ? new FileConsole(config.path) : new NullConsole();
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
	let resolve!: (value: T) => void;
	const promise = new Promise<T>((r) => {
		resolve = r;
	});
	return { promise, resolve };
}
