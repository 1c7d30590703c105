/*
 * The kernel of a container: the default one, one of the store by its name, or a file of the user's.
 */
import { UsageError } from "../../base/errors.ts";
import { openKernel } from "../../boot/kernel.ts";
import { defaultKernel } from "../../kernel/build.ts";
import { findKernel, type GuestKernel } from "../../kernel/store.ts";

export type ContainerKernel = Pick<GuestKernel, "name" | "vmlinux" | "modulesDirectory">;

/**
 * @param wanted a name of `tsvmm kernel ls`, or a path, which has a slash; the default kernel when missing
 * @throws UsageError ERR_RUN_KERNEL when the store has none of that name; ImageError ERR_KERNEL_OPEN
 */
export async function containerKernel(
	wanted: string | undefined,
	options: { onStep?: (line: string) => void; signal?: AbortSignal } = {},
): Promise<ContainerKernel> {
	if (wanted === undefined) return defaultKernel(options);
	if (wanted.includes("/")) {
		/* Before a container is made for it. */
		openKernel(wanted).close();
		return { name: wanted, vmlinux: wanted };
	}
	const kernel = await findKernel(wanted);
	if (kernel !== undefined) return kernel;
	throw new UsageError("ERR_RUN_KERNEL", `Cannot use kernel "${wanted}": there is none of that name`, {
		hint: "See tsvmm kernel ls for their names; write a file with a slash, as in ./vmlinux",
	});
}
