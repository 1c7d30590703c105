/*
 * Fills guest RAM with all that a kernel needs to start, in this order: kernel, initrd, tables, command line, boot
 * information. cpu-state.ts then sets the CPU's registers.
 */
import type { GuestMemory } from "../base/guest-memory.ts";
import { writeAcpiTables } from "./acpi/tables.ts";
import { writeBootParams } from "./boot-params.ts";
import { acpiDisabled, composeCmdline, type MmioDevice, virtioMmioParameters, writeCmdline } from "./cmdline.ts";
import { writeBootTables } from "./cpu-state.ts";
import type { E820Entry } from "./e820.ts";
import type { ImageFile } from "./image-file.ts";
import { loadInitrd, loadKernel } from "./kernel.ts";
import type { LoadedInitrd, LoadedKernel } from "./loaded.ts";
import { writeMpTable } from "./mptable.ts";
import { writeStartInfo } from "./pvh.ts";
import { writeResetVector } from "./reset-vector.ts";

/** What to boot, and the machine to boot it on. */
export interface BootPlan {
	/** Opened by openKernel and openInitrd. The caller closes them. */
	readonly kernel: ImageFile;
	readonly initrd: ImageFile | undefined;
	/** The command line without the virtio-mmio devices. They are added when it has acpi=off. */
	readonly cmdline: string;
	readonly cpus: number;
	readonly e820: readonly E820Entry[];
	readonly lowRamEnd: number;
	/** The virtio-mmio devices at the start, for a kernel without ACPI. */
	readonly virtioMmio: readonly MmioDevice[];
	/** The slots where such devices can be, now or later. */
	readonly virtioSlots: readonly MmioDevice[];
}

/** The loaded kernel and tables. The boot CPU needs `kernel.protocol` and `kernel.entry`. */
export interface Booted {
	readonly kernel: LoadedKernel;
	readonly initrd: LoadedInitrd | undefined;
	readonly cmdline: string;
}

/**
 * Loads the kernel into fresh guest RAM and writes all tables.
 *
 * @throws ImageError for a kernel or initrd that cannot be used, UsageError for the command line
 */
export async function prepareBoot(memory: GuestMemory, plan: BootPlan): Promise<Booted> {
	const { e820, lowRamEnd, cpus, virtioMmio } = plan;
	const acpi = !acpiDisabled(plan.cmdline);
	const cmdline = composeCmdline(acpi ? undefined : virtioMmioParameters(virtioMmio), plan.cmdline);
	const kernel = await loadKernel(memory, plan.kernel, lowRamEnd);
	const initrd = plan.initrd === undefined ? undefined : await loadInitrd(memory, plan.initrd, kernel, lowRamEnd);
	writeCmdline(memory, cmdline, kernel.cmdlineBytes);
	const rsdp = acpi ? writeAcpiTables(memory, cpus, plan.virtioSlots) : 0;
	writeMpTable(memory, cpus);
	writeResetVector(memory);
	if (kernel.protocol === "pvh") writeStartInfo(memory, initrd, e820, rsdp);
	else writeBootParams(memory, { kernel, initrd, e820, rsdp });
	writeBootTables(memory, kernel.protocol);
	return { kernel, initrd, cmdline };
}
