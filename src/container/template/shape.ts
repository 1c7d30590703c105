/*
 * Which template a container's machine is made of: that of its kernel, of the initramfs for all containers, and of its size.
 */
import * as z from "../../base/schema.ts";
import type { GuestKernel } from "../../kernel/store.ts";
import { initramfs } from "../initramfs.ts";
import type { TemplateShape } from "./store.ts";

/** What a template is for. */
export interface ShapeOptions {
	kernel: Pick<GuestKernel, "name" | "vmlinux" | "modulesDirectory">;
	cpus: number;
	memoryMiB: number;
}

/** What templates of such machines have in common with them. */
export async function sharedShape({ kernel, cpus, memoryMiB }: ShapeOptions): Promise<TemplateShape> {
	const initrd = await initramfs({ kernel, fstypes: ["squashfs", "ext4"], network: true, shares: true });
	return { kernel: kernel.vmlinux, initrd, cpus, memoryMiB };
}

const Shape = z.object({ kernel: z.string(), initrd: z.string(), cpus: z.number(), memoryMiB: z.number() });

/** A shape as a process is given it by another one, in JSON. */
export function parseShape(text: string): TemplateShape {
	return Shape.parse(JSON.parse(text));
}
