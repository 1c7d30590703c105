/*
 * The flags that say for which machines of containers a template or a pool is.
 */
import type { Command } from "commander";
import { containerKernel } from "../container/life/kernel.ts";
import { sharedShape } from "../container/template/shape.ts";
import type { TemplateShape } from "../container/template/store.ts";
import { validateSize } from "../machine/config.ts";
import { parseCpus, parseMemory } from "./options.ts";

/** As commander gives them. */
export interface ShapeFlags {
	cpus: string;
	memory: string;
	kernel?: string;
}

export function addShapeFlags(command: Command): Command {
	return command
		.option("--cpus <n>", "vCPUs of a machine, 1 to 32", "1")
		.option("--memory <size>", "RAM of a machine, as in 512M", "512M")
		.option("--kernel <name|file>", "a kernel of `tsvmm kernel ls`, or a vmlinux with everything built in");
}

/**
 * What they ask for. It is called on the host, because the lab cannot write the initramfs.
 *
 * @throws UsageError for a size that no machine has, and what finding the kernel throws
 */
export async function shapeOf(flags: ShapeFlags): Promise<TemplateShape> {
	const size = { cpus: parseCpus(flags.cpus), memoryMiB: parseMemory(flags.memory) };
	validateSize(size.cpus, size.memoryMiB);
	return await sharedShape({ kernel: await containerKernel(flags.kernel), ...size });
}
