/*
 * The kernel of the lab's VM: Debian's stock one, as guests have it (kernel/store.ts), with the modules that make it a
 * KVM host. It boots from the ELF file, because unpacking a compressed image takes seconds under emulation.
 */
import { HostError } from "../base/errors.ts";
import { missingModules, moduleLoadOrder } from "../kernel/modules.ts";
import { fetchKernel } from "../kernel/store.ts";

/** Virtio devices, 9p, KVM, and networks and file systems for what is tested in the lab. */
export const LAB_MODULES = [
	"virtio_pci",
	/* ext4 and libcrc32c ask the crypto API for crc32c, and modules.dep does not list that. */
	"crc32c_generic",
	"virtio_console",
	"9p",
	"9pnet_virtio",
	"kvm_amd",
	/* The supervisor reads XCR0 through it (lab-vm.ts). */
	"cpuid",
	"virtio_net",
	"virtio_rng",
	"tun",
	"bridge",
	"loop",
	"overlay",
	"ext4",
	"erofs",
	"squashfs",
	"vhost_vsock",
	/* Networks of podman's and containerd's containers. */
	"veth",
	"sch_ingress",
	"cls_matchall",
	"act_mirred",
	"nft_compat",
	"nft_chain_nat",
	"xt_tcpudp",
	"xt_nat",
	"xt_comment",
	"xt_MASQUERADE",
	"xt_conntrack",
	"xt_mark",
	"xt_addrtype",
	"xt_multiport",
	"xt_TPROXY",
] as const;

export interface LabKernel {
	/** Its name in the store of kernels. */
	name: string;
	vmlinux: string;
	/** Paths of the modules, in the order in which they are loaded. */
	modules: readonly string[];
}

/**
 * The lab's kernel, fetched when the store does not have it. The flavour is the one with KVM for AMD.
 *
 * @throws HostError ERR_LAB_KERNEL when it lacks a module; what fetchKernel throws
 */
export async function labKernel(signal?: AbortSignal): Promise<LabKernel> {
	const { name, vmlinux, modulesDirectory } = await fetchKernel("6.1-amd64", signal === undefined ? {} : { signal });
	const missing = modulesDirectory === undefined ? LAB_MODULES : await missingModules(modulesDirectory, LAB_MODULES);
	if (modulesDirectory === undefined || missing.length > 0) {
		throw new HostError("ERR_LAB_KERNEL", `Cannot use kernel ${name} in the lab: it has no ${missing.join(", ")}`);
	}
	return { name, vmlinux, modules: await moduleLoadOrder(modulesDirectory, LAB_MODULES) };
}
