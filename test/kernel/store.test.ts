import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { checkConfig, findMinimalKernel, minimalKernelName } from "../../src/kernel/build.ts";
import { missingModules, modinfoDepends, moduleLoadOrder, selectModules, WANTED } from "../../src/kernel/modules.ts";
import { fetchKernel, findKernel, listKernels, obtainKernel } from "../../src/kernel/store.ts";
import { LAB_MODULES } from "../../src/lab/kernel.ts";
import { atRisk, events, forget } from "../host/recorded-disk.ts";

vi.mock("node:fs/promises", async (original) => (await import("../host/recorded-disk.ts")).recorded(await original()));

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-"));
	process.env.TSVMM_CACHE = directory;
});
afterEach(() => {
	vi.restoreAllMocks();
	delete process.env.TSVMM_CACHE;
	rmSync(directory, { recursive: true });
});

const description = { version: "6.1.1-1", release: "6.1.1-cloud", modules: true, vmlinuz: false };

test("obtainKernel makes a kernel once for all who ask at the same time", async () => {
	let fills = 0;
	const fill = async (to: string) => {
		fills++;
		await new Promise((resolve) => setTimeout(resolve, 50));
		writeFileSync(join(to, "vmlinux"), "");
		return description;
	};
	const [one, other] = await Promise.all([obtainKernel("k", fill), obtainKernel("k", fill)]);
	expect(fills).toBe(1);
	expect(one).toEqual(other);
	expect(one).toEqual({
		name: "k",
		version: "6.1.1-1",
		release: "6.1.1-cloud",
		vmlinux: join(directory, "kernels/k/vmlinux"),
		config: join(directory, "kernels/k/config"),
		modulesDirectory: join(directory, "kernels/k/lib/modules/6.1.1-cloud"),
	});
	expect(await listKernels()).toEqual([one]);
});

test("obtainKernel leaves nothing in the store when making a kernel fails", async () => {
	const failing = obtainKernel("k", async (to) => {
		writeFileSync(join(to, "vmlinux"), "");
		throw new Error("disk is full");
	});
	await expect(failing).rejects.toThrow("disk is full");
	expect(await listKernels()).toEqual([]);
	expect(readdirSync(join(directory, "kernels"))).toEqual([".k.lock"]);
});

test("findKernel refuses a damaged kernel.json and says what to do", async () => {
	mkdirSync(join(directory, "kernels/k"), { recursive: true });
	writeFileSync(join(directory, "kernels/k/kernel.json"), '{"version": 3');
	await expect(findKernel("k")).rejects.toMatchObject({ code: "ERR_KERNEL_STORE" });
	expect(await findKernel("other")).toBeUndefined();
});

const fill = async (to: string) => {
	mkdirSync(join(to, "lib/modules/6.1.1-cloud"), { recursive: true });
	writeFileSync(join(to, "vmlinux"), "vmlinux");
	writeFileSync(join(to, "lib/modules/6.1.1-cloud/modules.dep"), "");
	await Promise.resolve();
	return description;
};

/** The lines that are printed on stderr from now on. */
function captureStderr(): string[] {
	const lines: string[] = [];
	vi.spyOn(process.stderr, "write").mockImplementation((line) => lines.push(String(line)) > 0);
	return lines;
}

test("obtainKernel leaves nothing that a power cut could take away or empty", async () => {
	forget();
	await obtainKernel("k", fill);
	expect(atRisk()).toEqual([]);
	expect(events.filter((event) => event.startsWith("rename"))).toHaveLength(1);
});

test.each([
	["an empty vmlinux", "vmlinux", 0],
	["a vmlinux that was cut short", "vmlinux", 3],
	["an empty kernel.json", "kernel.json", 0],
])("obtainKernel makes a kernel anew that has %s", async (_what, file, size) => {
	const kernel = await obtainKernel("k", fill);
	truncateSync(join(directory, "kernels/k", file), size);
	await expect(findKernel("k")).rejects.toMatchObject({ code: "ERR_KERNEL_STORE" });
	const stderr = captureStderr();
	expect(await listKernels()).toEqual([]);
	expect(stderr.join()).toContain("warn: Cannot use kernel k: ");
	expect(await obtainKernel("k", fill)).toEqual(kernel);
	expect(readFileSync(kernel.vmlinux, "utf8")).toBe("vmlinux");
	expect(await listKernels()).toEqual([kernel]);
});

test("findMinimalKernel passes over a damaged kernel, so that a guest gets another", async () => {
	const kernel = await obtainKernel(await minimalKernelName(), fill);
	expect(await findMinimalKernel()).toEqual(kernel);
	truncateSync(kernel.vmlinux, 0);
	const stderr = captureStderr();
	expect(await findMinimalKernel()).toBeUndefined();
	expect(stderr.join()).toContain("files of it are missing or cut short");
});

test("fetchKernel names the flavours when there is no such one", async () => {
	await expect(fetchKernel("5.10-cloud" as "6.1-cloud")).rejects.toMatchObject({ code: "ERR_KERNEL_FLAVOUR" });
});

test("minimalKernelName tells the version and is the same for the same configuration", async () => {
	expect(await minimalKernelName()).toMatch(/^minimal-6\.1\.\d+-[0-9a-f]{8}$/);
	expect(await minimalKernelName()).toBe(await minimalKernelName());
});

test("checkConfig names what Kconfig did not take", () => {
	const config = "#\nCONFIG_A=y\nCONFIG_N=64\nCONFIG_OFF=y\n";
	expect(() => checkConfig("# words\nCONFIG_A=y\nCONFIG_N=64\n# CONFIG_B is not set\n", config)).not.toThrow();
	expect(() => checkConfig("CONFIG_A=m\n", config)).toThrow("not taken were CONFIG_A=m");
	expect(() => checkConfig("# CONFIG_OFF is not set\n", config)).toThrow("CONFIG_OFF is not set");
});

/** A file with just enough of a module's .modinfo in it. */
const module = (depends: string) => Buffer.from(`\x7fELF...\0license=GPL\0depends=${depends}\0name=x\0`, "latin1");

function writeTree(modules: Record<string, string>): string {
	const tree = join(directory, "tree");
	for (const [path, depends] of Object.entries(modules)) {
		mkdirSync(join(tree, "kernel", path, ".."), { recursive: true });
		writeFileSync(join(tree, "kernel", path), module(depends));
	}
	writeFileSync(join(tree, "modules.builtin"), "kernel/drivers/virtio/virtio_ring.ko\n");
	return tree;
}

test("selectModules takes what is wanted and what that needs, and nothing else", async () => {
	const tree = writeTree({
		"net/vsock.ko": "",
		"net/vmw_vsock_virtio_transport.ko": "vmw_vsock_virtio_transport_common,vsock",
		"net/vmw_vsock_virtio_transport_common.ko": "vsock,virtio-ring",
		"sound/beep.ko": "",
	});
	const target = join(directory, "target");
	await selectModules(tree, target, ["vmw_vsock_virtio_transport", "virtio_ring"]);
	expect(readdirSync(join(target, "kernel/net")).sort()).toHaveLength(3);
	expect(readdirSync(join(target, "kernel"))).toEqual(["net"]);
	expect(await moduleLoadOrder(target, ["vmw-vsock-virtio-transport", "virtio_ring"])).toEqual(
		["vsock", "vmw_vsock_virtio_transport_common", "vmw_vsock_virtio_transport"].map((name) =>
			join(target, `kernel/net/${name}.ko`),
		),
	);
});

test("selectModules refuses a kernel that lacks what a guest needs", async () => {
	const tree = writeTree({ "net/vsock.ko": "" });
	const selecting = selectModules(tree, join(directory, "target"), ["virtio_mmio"]);
	await expect(selecting).rejects.toMatchObject({ code: "ERR_KERNEL_MODULES" });
});

test("missingModules names what is neither a file nor built in", async () => {
	const target = join(directory, "target");
	await selectModules(writeTree({ "net/kvm-amd.ko": "", "net/other.ko": "" }), target, ["kvm_amd"]);
	expect(await missingModules(target, ["kvm-amd", "virtio_ring", "other", "cpuid"])).toEqual(["other", "cpuid"]);
});

test("the store takes every module that the lab loads", () => {
	expect(LAB_MODULES.filter((name) => !WANTED.includes(name))).toEqual([]);
});

test("modinfoDepends spells names with underscores, as the kernel does", () => {
	expect(modinfoDepends(module("a-b,c"))).toEqual(["a_b", "c"]);
	expect(modinfoDepends(module(""))).toEqual([]);
});
