/*
 * /dev/kvm itself (KVM api.rst §4.1 to §4.6): what this host can do, and new VMs.
 */
import { HostError, IoctlError } from "../base/errors.ts";
import { close, errnoNameOf, open } from "../host/libc.ts";
import { call, KvmFd } from "./call.ts";
import { KVM_API_VERSION, KVM_CAP } from "./constants.ts";
import { kvm_cpuid_entry2, kvm_cpuid2, kvm_msr_list } from "./structs.ts";
import { Vm } from "./vm.ts";

/** Capabilities that every machine uses. Linux 4.12 and newer has all of them on real VT-x and SVM. */
const REQUIRED: readonly (keyof typeof KVM_CAP)[] = [
	"KVM_CAP_IRQCHIP",
	"KVM_CAP_USER_MEMORY",
	"KVM_CAP_SET_TSS_ADDR",
	"KVM_CAP_SET_IDENTITY_MAP_ADDR",
	"KVM_CAP_EXT_CPUID",
	"KVM_CAP_PIT2",
	"KVM_CAP_IRQFD",
	"KVM_CAP_IOEVENTFD",
	"KVM_CAP_IMMEDIATE_EXIT",
];

const O_RDWR = 2;
const MAX_CPUID_ENTRIES = 256;

/** /dev/kvm. Every method throws IoctlError, and StateError ERR_KVM_CLOSED after `close`; its owner closes it. */
export class Kvm {
	readonly #fd: KvmFd;
	/** Size of the mapping of struct kvm_run, in bytes. */
	readonly vcpuMmapSize: number;

	private constructor(fd: number) {
		this.#fd = new KvmFd(fd, "/dev/kvm");
		this.vcpuMmapSize = call(fd, "KVM_GET_VCPU_MMAP_SIZE");
	}

	/**
	 * Opens KVM and checks its API version.
	 *
	 * @throws HostError ERR_KVM_MISSING, ERR_KVM_PERMISSION, ERR_KVM_OPEN, ERR_KVM_VERSION
	 */
	static open(path = "/dev/kvm"): Kvm {
		const fd = open(path, O_RDWR);
		if (fd < 0) throw openError(path, errnoNameOf(-fd));
		try {
			const version = apiVersion(path, fd);
			if (version !== KVM_API_VERSION) {
				throw new HostError(
					"ERR_KVM_VERSION",
					`Cannot use ${path}: its API version is ${version}, ${KVM_API_VERSION} is needed`,
				);
			}
			return new Kvm(fd);
		} catch (error) {
			close(fd);
			throw error;
		}
	}

	/** The file descriptor. @throws StateError ERR_KVM_CLOSED after `close` */
	get fd(): number {
		return this.#fd.number;
	}

	/** KVM_CHECK_EXTENSION: 0 when the capability is missing, else 1 or its value. */
	checkExtension(capability: keyof typeof KVM_CAP): number {
		return call(this.fd, "KVM_CHECK_EXTENSION", KVM_CAP[capability]);
	}

	/** The required capabilities that this host lacks, by name. */
	missingCapabilities(): string[] {
		return REQUIRED.filter((capability) => this.checkExtension(capability) === 0);
	}

	/**
	 * Checks that this host can build a machine with `cpus` vCPUs, before any ioctl fails half-way.
	 *
	 * @throws HostError ERR_KVM_CAPABILITY
	 */
	require(cpus: number): void {
		const missing = this.missingCapabilities();
		if (missing.length > 0) {
			throw new HostError("ERR_KVM_CAPABILITY", `Cannot use KVM of this host: it lacks ${missing.join(", ")}`, {
				hint: "Use Linux 4.12 or newer on a processor with VT-x or SVM",
			});
		}
		/* 0: the kernel does not report it. */
		const most = this.checkExtension("KVM_CAP_MAX_VCPUS") || cpus;
		if (most < cpus) {
			throw new HostError("ERR_KVM_CAPABILITY", `Cannot give the machine ${cpus} vCPUs: this host allows ${most}`);
		}
	}

	/** KVM_CREATE_VM. */
	createVm(): Vm {
		return new Vm(call(this.fd, "KVM_CREATE_VM", 0), this.vcpuMmapSize);
	}

	/** KVM_GET_SUPPORTED_CPUID: a struct kvm_cpuid2 with just its entries. */
	getSupportedCpuid(): Buffer {
		const cpuid = Buffer.alloc(kvm_cpuid2.sizeof + MAX_CPUID_ENTRIES * kvm_cpuid_entry2.sizeof);
		cpuid.writeUInt32LE(MAX_CPUID_ENTRIES, kvm_cpuid2.nent);
		call(this.fd, "KVM_GET_SUPPORTED_CPUID", cpuid);
		const count = cpuid.readUInt32LE(kvm_cpuid2.nent);
		return cpuid.subarray(0, kvm_cpuid2.entries + count * kvm_cpuid_entry2.sizeof);
	}

	/** KVM_GET_MSR_INDEX_LIST: the MSRs that belong to a vCPU's state. */
	getMsrIndexList(): number[] {
		const room = 4096;
		const list = Buffer.alloc(kvm_msr_list.indices + 4 * room);
		list.writeUInt32LE(room, kvm_msr_list.nmsrs);
		call(this.fd, "KVM_GET_MSR_INDEX_LIST", list);
		const count = list.readUInt32LE(kvm_msr_list.nmsrs);
		return Array.from({ length: count }, (_, i) => list.readUInt32LE(kvm_msr_list.indices + 4 * i));
	}

	/** Closes /dev/kvm; its VMs live on. */
	close(): void {
		const fd = this.#fd.take();
		if (fd !== undefined) close(fd);
	}
}

function apiVersion(path: string, fd: number): number {
	try {
		return call(fd, "KVM_GET_API_VERSION");
	} catch (cause) {
		if (!(cause instanceof IoctlError)) throw cause;
		throw new HostError("ERR_KVM_OPEN", `Cannot use ${path}: it does not answer as KVM (${cause.errno})`, { cause });
	}
}

function openError(path: string, errno: string): HostError {
	if (errno === "ENOENT" || errno === "ENODEV" || errno === "ENXIO") {
		return new HostError("ERR_KVM_MISSING", `Cannot open ${path}: this host has no KVM`, {
			hint: "Load kvm-intel or kvm-amd, or enable VT-x/SVM in the firmware; without either, use the lab (tsvmm lab up)",
		});
	}
	if (errno === "EACCES" || errno === "EPERM") {
		return new HostError("ERR_KVM_PERMISSION", `Cannot open ${path}: permission denied`, {
			hint: "Add yourself to the group that owns it (sudo usermod -aG kvm $USER), then log in again",
		});
	}
	return new HostError("ERR_KVM_OPEN", `Cannot open ${path}: ${errno}`);
}
