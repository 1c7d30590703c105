/*
 * What `tsvmm doctor` looks at: one function per question about this host. Each returns what it found and, if something
 * is missing, a remedy. None throws.
 */
import { accessSync, constants, existsSync, readFileSync, statfsSync } from "node:fs";
import { createRequire } from "node:module";
import { freemem } from "node:os";
import { join } from "node:path";
import { explain, TsvmmError } from "../base/errors.ts";
import { listPools } from "../container/pool/commands.ts";
import { failedAttempts } from "../container/template/attempts.ts";
import { listTemplates } from "../container/template/store.ts";
import { cacheDirectory } from "../host/directories.ts";
import { IO_LATER, native, packageRoot, repairCommand } from "../host/native.ts";
import { findTool, packageOf } from "../host/tools.ts";
import { listKernels } from "../kernel/store.ts";
import { KVM_API_VERSION } from "../kvm/constants.ts";
import { Kvm } from "../kvm/system.ts";
import { size } from "./units.ts";

/** The answer to one question. */
export interface Finding {
	name: string;
	/** "note": tsvmm works without it, but worse or not in full. */
	status: "ok" | "note" | "missing";
	/** What was found. */
	found: string;
	/** What to do about it. */
	remedy?: string;
	/** What does not work without it: "run" (everything), "direct" (VMs on this host), "lab" (VMs in the lab). */
	needed?: "run" | "direct" | "lab";
}

const NODE_MINIMUM = [20, 11] as const;
const LAB_MEMORY_GIB = 2.5;
const CACHE_SPACE_GIB = 4;
const GIB = 2 ** 30;

export function checkNode(version = process.versions.node): Finding {
	const [major = 0, minor = 0] = version.split(".").map(Number);
	const recent = major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1]);
	if (recent) return { name: "node", status: "ok", found: version };
	const remedy = `Install Node ${NODE_MINIMUM.join(".")} or newer`;
	return { name: "node", status: "missing", found: version, remedy, needed: "run" };
}

export function checkNative(): Finding {
	const name = "native helper";
	try {
		return { name, status: "ok", found: `ABI version ${native().abiVersion}` };
	} catch (error) {
		const found = explain(error).split("\n")[0]!;
		return { name, status: "missing", found, remedy: `Run: ${repairCommand()}`, needed: "run" };
	}
}

export function checkKoffi(): Finding {
	try {
		const koffi = createRequire(import.meta.url)("koffi") as { version: string };
		return { name: "koffi", status: "ok", found: koffi.version };
	} catch (error) {
		const found = explain(error).split("\n")[0]!;
		return { name: "koffi", status: "missing", found, remedy: "Run: npm install", needed: "run" };
	}
}

/** The processor's virtualization. Without it a /dev/kvm cannot run an ordinary Linux. */
export function checkProcessor(cpuinfo = readFileSync("/proc/cpuinfo", "utf8")): Finding {
	const name = "processor";
	const flags = /^flags\s*:(.*)$/m.exec(cpuinfo)?.[1]?.split(" ") ?? [];
	if (flags.includes("vmx")) return { name, status: "ok", found: "VT-x (vmx)" };
	if (flags.includes("svm")) return { name, status: "ok", found: "SVM (svm)" };
	const remedy = "Enable VT-x or SVM in the firmware or, in a VM, nested virtualization; the lab works without";
	return { name, status: "missing", found: "neither VT-x nor SVM", remedy, needed: "direct" };
}

export function checkKvm(path = "/dev/kvm"): Finding {
	let kvm: Kvm | undefined;
	try {
		kvm = Kvm.open(path);
		const lacking = kvm.missingCapabilities();
		if (lacking.length > 0) {
			const remedy = "Use a newer kernel on this host";
			return { name: "kvm", status: "missing", found: `no ${lacking.join(", ")}`, remedy, needed: "direct" };
		}
		const vcpus = kvm.checkExtension("KVM_CAP_MAX_VCPUS");
		return { name: "kvm", status: "ok", found: `${path}, API version ${KVM_API_VERSION}, up to ${vcpus} vCPUs` };
	} catch (error) {
		const remedy =
			error instanceof TsvmmError ? (error.hint ?? "Load the module: modprobe kvm") : `Run: ${repairCommand()}`;
		return { name: "kvm", status: "missing", found: explain(error), remedy, needed: "direct" };
	} finally {
		kvm?.close();
	}
}

/** How block I/O reaches the kernel: containers often forbid io_uring. */
export function checkIoUring(): Finding {
	const name = "io_uring";
	try {
		const { io, engine } = native().ioCreate(8, false, IO_LATER, () => undefined);
		native().ioDestroy(io);
		if (engine === "io_uring") return { name, status: "ok", found: "allowed" };
		return { name, status: "note", found: "refused; libuv's threads do block I/O instead" };
	} catch (error) {
		return { name, status: "note", found: explain(error).split("\n")[0]! };
	}
}

export function checkTun(path = "/dev/net/tun"): Finding {
	try {
		accessSync(path, constants.R_OK | constants.W_OK);
		return { name: "tun", status: "ok", found: path };
	} catch (error) {
		const found = `${path}: ${explain(error)}`;
		return {
			name: "tun",
			status: "note",
			found,
			remedy: "Load the module (modprobe tun), or use --net user instead of --net tap",
		};
	}
}

/** The tools, the purpose of each, and what does not work without it. */
const TOOLS: [tool: string, purpose: string, needed?: Finding["needed"]][] = [
	["sqfstar", "images", "run"],
	["xz", "kernels of Debian", "run"],
	["apt-get", "kernels of Debian", "run"],
	["zstd", "images and kernels that are packed with it"],
	["qemu-system-x86_64", "the lab", "lab"],
	["busybox", "tools in containers, the lab and the demo image", "lab"],
	["setpriv", "the lab", "lab"],
	["passt", "--net user"],
	["ip", "--net tap"],
	["musl-gcc", "building the guest agent"],
	["make", "kernel build"],
	["mmdebstrap", "test images"],
];

export function checkTools(tools = TOOLS): Finding[] {
	return tools.map(([tool, purpose, needed]): Finding => {
		const path = findTool(tool);
		if (path !== undefined) return { name: tool, status: "ok", found: path };
		const finding: Finding = {
			name: tool,
			status: needed === undefined ? "note" : "missing",
			found: `not installed; it is for ${purpose}`,
			remedy: `Install it: apt-get install ${packageOf(tool)}`,
		};
		return needed === undefined ? finding : { ...finding, needed };
	});
}

export function checkAgent(): Finding {
	const path = join(packageRoot(), "guests/out/agent");
	if (existsSync(path)) return { name: "guest agent", status: "ok", found: path };
	return {
		name: "guest agent",
		status: "missing",
		found: "not built",
		remedy: `Run: ${repairCommand()}`,
		needed: "run",
	};
}

export function checkMemory(): Finding {
	const meminfo = readFileSync("/proc/meminfo", "utf8");
	const available = (Number(/^MemAvailable:\s+(\d+)/m.exec(meminfo)?.[1]) * 1024 || freemem()) / GIB;
	const finding = { name: "memory", found: `${available.toFixed(1)} GiB available` };
	if (available >= LAB_MEMORY_GIB) return { ...finding, status: "ok" };
	return { ...finding, status: "note", remedy: `Free some: the lab takes ${LAB_MEMORY_GIB} GiB` };
}

export function checkSpace(): Finding {
	try {
		const directory = cacheDirectory();
		const { bavail, bsize } = statfsSync(directory);
		const free = (bavail * bsize) / GIB;
		const finding = { name: "disk space", found: `${free.toFixed(1)} GiB free in ${directory}` };
		if (free >= CACHE_SPACE_GIB) return { ...finding, status: "ok" };
		return { ...finding, status: "note", remedy: "Set TSVMM_CACHE to a directory with more room" };
	} catch (error) {
		const remedy = "Set TSVMM_CACHE to a directory that you can write";
		return { name: "disk space", status: "missing", found: explain(error), remedy, needed: "run" };
	}
}

/** A missing kernel is only a note: `run` fetches one. */
export async function checkKernels(): Promise<Finding> {
	try {
		const names = (await listKernels()).map(({ name }) => name);
		if (names.length > 0) return { name: "kernels", status: "ok", found: names.join(", ") };
		return {
			name: "kernels",
			status: "note",
			found: "none yet",
			remedy: "Run: tsvmm kernel fetch (tsvmm run does it by itself)",
		};
	} catch (error) {
		return { name: "kernels", status: "note", found: explain(error), remedy: "Run: tsvmm kernel fetch" };
	}
}

/** Templates of machines (docs/snapshots.md): without one a container's machine boots. */
export async function checkTemplates(): Promise<Finding> {
	const name = "templates";
	try {
		const templates = await listTemplates();
		const bytes = templates.reduce((sum, template) => sum + template.bytes, 0);
		const found = templates.length === 0 ? "none yet; run makes them" : `${templates.length}, ${size(bytes)}`;
		const [failed] = failedAttempts();
		if (failed === undefined) return { name, status: "ok", found };
		const remedy = "Run: tsvmm template make; until then machines boot";
		return { name, status: "note", found: `${found}; ${failed.key}: ${failed.reason}`, remedy };
	} catch (error) {
		return { name, status: "note", found: explain(error) };
	}
}

/** Machines that wait for containers, which take this host's RAM. */
export async function checkPools(): Promise<Finding> {
	const name = "pools";
	try {
		const pools = await listPools();
		if (pools.length === 0) return { name, status: "ok", found: "none; tsvmm pool up starts one" };
		const counts = pools.map(({ key, ready, machines }) => `${key}: ${ready} of ${machines} machines wait`);
		const failed = pools.find(({ failure }) => failure !== undefined);
		if (failed === undefined) return { name, status: "ok", found: counts.join(", ") };
		const remedy = "End it by tsvmm pool down, mend that, and start it again";
		return { name, status: "note", found: `${counts.join(", ")}; ${failed.failure}`, remedy };
	} catch (error) {
		return { name, status: "note", found: explain(error) };
	}
}
