/*
 * Which template a container's machine is made of: that of its kernel, of the initramfs for all containers, and of its size.
 */
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
