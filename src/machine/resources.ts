/*
 * A machine's resources of the host: descriptors of KVM, memory, disks, networks and sockets, and the processes behind
 * them. `acquire` opens all of them and knows no guest. `build` (builder.ts) wires them and opens only eventfds, so it
 * can run confined.
 */
import { FileConsole, NullConsole, StdioConsole } from "../backends/console.ts";
import type { ConsoleBackend } from "../backends/contract.ts";
import { HostError, SnapshotError } from "../base/errors.ts";
import type { Observer } from "../base/observer.ts";
import type { Teardown } from "../base/teardown.ts";
import { physicalAddressBits } from "../boot/cpuid.ts";
import type { ImageFile } from "../boot/image-file.ts";
import { openInitrd, openKernel } from "../boot/kernel.ts";
import { GuestRam } from "../host/ram.ts";
import { Kvm } from "../kvm/system.ts";
import type { SnapshotImage } from "../snapshot/snapshot.ts";
import type { Closeable } from "../virtio/device-kind.ts";
import type { CompleteConfig, ConsoleConfig, Origin, RestoreConfig } from "./config.ts";
import { DEVICE_KINDS } from "./device-table.ts";
import type { Entry } from "./entry.ts";
import { memoryMap } from "./memory-map.ts";
import { WorkingSetRecorder } from "./working-set.ts";

/** The files that a machine boots. */
export interface BootFiles {
	readonly kernel: ImageFile;
	readonly initrd: ImageFile | undefined;
}

/** What `acquire` has opened, in the configuration's order. */
export interface Resources {
	readonly kvm: Kvm;
	readonly ram: GuestRam;
	/** For a machine that is restored from a snapshot without a working set. */
	readonly workingSet: WorkingSetRecorder | undefined;
	/** Undefined for a machine that is restored. */
	readonly boot: BootFiles | undefined;
	readonly console: ConsoleBackend;
	/** One per device; undefined for a device that has none. */
	readonly backends: readonly (Closeable | undefined)[];
	/** The files that events are written to. */
	readonly traces: readonly Observer[];
}

/**
 * Opens everything: first what the configuration names, then KVM, so that a misspelt path is told on any host. Each resource is closed by `teardown`, unless a device that it was handed to has closed it before:
 * a second `close` of a backend does nothing.
 *
 * @throws HostError for what the host lacks or refuses, ImageError for a kernel that is no file; the reason of `config.signal` when that is aborted
 */
export async function acquire(config: CompleteConfig, entry: Entry, teardown: Teardown): Promise<Resources> {
	const { enter, logger, timeline } = entry;
	const { signal } = config;
	const owned = <T extends Closeable>(resource: T): T => {
		teardown.owns(resource);
		signal?.throwIfAborted();
		return resource;
	};
	signal?.throwIfAborted();
	/* First in, last out: they have the machine's end. */
	const isTraced = config.trace.length + config.traceFiles.length > 0;
	const traces = isTraced ? await (await import("./trace.ts")).openTraces(config, entry, teardown) : [];
	/* Nothing that may still write there outlives it. */
	const { origin } = config;
	const image = origin.kind === "snapshot" ? origin.snapshot.memory.lowestFd : undefined;
	const ram = owned(GuestRam.map(memoryMap(config.memoryMiB).ram, { image }));
	let workingSet: WorkingSetRecorder | undefined;
	if (origin.kind === "snapshot") {
		const { snapshot } = origin;
		checkImage(snapshot, ram);
		ram.layOver(snapshot.memory.overlay);
		if (snapshot.workingSet === undefined) workingSet = owned(new WorkingSetRecorder(ram, snapshot));
		else ram.prefetch(snapshot.workingSet);
	}
	timeline.mark("memory");
	const console = owned(logger.run(() => openConsole(config.console)));
	const backends: (Closeable | undefined)[] = [];
	for (const plan of config.devices) {
		const backend = await logger.run(() => plan.open?.({ enter, signal }));
		backends.push(backend === undefined ? undefined : owned(backend));
	}
	const boot = origin.kind === "kernel" ? openBootFiles(origin, owned) : undefined;
	timeline.mark("files");
	const kvm = owned(Kvm.open());
	kvm.require(config.cpus);
	checkReach(config.memoryMiB, physicalAddressBits(kvm.getSupportedCpuid()));
	timeline.mark("kvm");
	return { kvm, ram, workingSet, boot, console, backends, traces };
}

/** What snapshots need is loaded for the first one. */
export async function openSnapshot(path: string): Promise<SnapshotImage> {
	const { SnapshotImage } = await import("../snapshot/snapshot.ts");
	return SnapshotImage.open(path);
}

/** Nothing was read of the mapping yet. @throws SnapshotError ERR_SNAPSHOT_FORMAT for a file of another size */
function checkImage({ path, manifest: { memory } }: SnapshotImage, { fileBytes }: GuestRam): void {
	if (memory.bytes === fileBytes) return;
	const found = `its memory has ${memory.bytes} bytes, and ${fileBytes} are wanted`;
	throw new SnapshotError("ERR_SNAPSHOT_FORMAT", `Cannot use the snapshot ${path}: ${found}`);
}

function openBootFiles(
	{ kernel, initrd }: Origin & { kind: "kernel" },
	owned: <T extends Closeable>(resource: T) => T,
): BootFiles {
	return { kernel: owned(openKernel(kernel)), initrd: initrd === undefined ? undefined : owned(openInitrd(initrd)) };
}

/** Registers the caller's objects to be closed with the machine, even when nothing else was acquired. */
export function takeOver(config: RestoreConfig, teardown: Teardown): void {
	if (config.console?.kind === "own") teardown.owns(config.console.console);
	for (const kind of DEVICE_KINDS) for (const part of kind.given?.(config) ?? []) teardown.owns(part);
}

/**
 * Checks that the host's CPU can address all of the RAM.
 *
 * @param addressBits its MAXPHYADDR
 * @throws HostError ERR_RAM_REACH
 */
export function checkReach(memoryMiB: number, addressBits: number): void {
	const last = memoryMap(memoryMiB).ram.at(-1)!;
	if (last.gpa + last.sizeBytes <= 2 ** addressBits) return;
	const message = `Cannot give the machine ${memoryMiB} MiB of memory: this host's CPU has addresses of ${addressBits} bits`;
	throw new HostError("ERR_RAM_REACH", message, {
		hint: `Give the machine less than ${2 ** (addressBits - 30) - 1} GiB: its devices take 1 GiB of the addresses`,
	});
}

/** The console that a configuration asks for. The caller closes it. @throws HostError ERR_CONSOLE_OPEN */
export function openConsole(config: ConsoleConfig): ConsoleBackend {
	if (config.kind === "stdio") return new StdioConsole();
	if (config.kind === "file") return new FileConsole(config.path);
	return config.kind === "own" ? config.console : new NullConsole();
}
