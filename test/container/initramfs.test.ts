/*
 * The microVM's initramfs, read back with cpio.
 */
import {
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { agentPath, initramfs } from "../../src/container/initramfs.ts";
import { run } from "../../src/host/command.ts";
import { buildAgent } from "../agent/native-agent.ts";
import { atRisk, events, forget } from "../host/recorded-disk.ts";

vi.mock("node:fs/promises", async (original) => (await import("../host/recorded-disk.ts")).recorded(await original()));

let directory: string;
let before: string | undefined;

beforeAll(buildAgent);
beforeEach(() => {
	directory = mkdtempSync(`${tmpdir()}/tsvmm-test-`);
	before = process.env.TSVMM_CACHE;
	process.env.TSVMM_CACHE = `${directory}/cache`;
});
afterEach(() => {
	if (before === undefined) delete process.env.TSVMM_CACHE;
	else process.env.TSVMM_CACHE = before;
	rmSync(directory, { recursive: true, force: true });
});

/** A modules directory as the kernel store has it: overlay built in, virtio_blk needs virtio_ring needs virtio. */
function modules(): string {
	const tree = `${directory}/modules`;
	mkdirSync(`${tree}/kernel`, { recursive: true });
	for (const name of ["virtio", "virtio_ring", "virtio_blk", "virtio_net"])
		writeFileSync(`${tree}/kernel/${name}.ko`, name);
	const dep = [
		"kernel/virtio.ko:",
		"kernel/virtio_ring.ko: kernel/virtio.ko",
		"kernel/virtio_blk.ko: kernel/virtio_ring.ko kernel/virtio.ko",
		"kernel/virtio_net.ko: kernel/virtio_ring.ko kernel/virtio.ko",
	];
	writeFileSync(`${tree}/modules.dep`, `${dep.join("\n")}\n`);
	writeFileSync(`${tree}/modules.builtin`, "kernel/fs/overlayfs/overlay.ko\n");
	return tree;
}

async function unpack(archive: string): Promise<string[]> {
	mkdirSync(`${directory}/out`, { recursive: true });
	await run("cpio", ["-i", "-d", "--quiet", `--file=${archive}`], { cwd: `${directory}/out` });
	return (await run("cpio", ["-t", "--quiet", `--file=${archive}`])).stdout.trim().split("\n");
}

test("initramfs holds the agent and the modules in load order", async () => {
	const kernel = { name: "k", modulesDirectory: modules() };
	const names = await unpack(await initramfs({ kernel, fstypes: ["squashfs"], network: true }));
	expect(names.slice(0, 7)).toEqual(["dev", "proc", "run", "sys", "tools", "init", "tools/busybox"]);
	expect(readFileSync(`${directory}/out/modules/order`, "utf8")).toBe(
		"virtio.ko\nvirtio_ring.ko\nvirtio_blk.ko\nvirtio_net.ko\n",
	);
	expect(readFileSync(`${directory}/out/init`).equals(readFileSync(agentPath()))).toBe(true);
	expect(readFileSync(`${directory}/out/modules/virtio_blk.ko`, "utf8")).toBe("virtio_blk");
});

test("initramfs with ext4 has the checksum that it asks for by name", async () => {
	const tree = modules();
	for (const name of ["ext4", "jbd2", "crc32c_generic"]) writeFileSync(`${tree}/kernel/${name}.ko`, name);
	const dep = "kernel/jbd2.ko:\nkernel/ext4.ko: kernel/jbd2.ko\nkernel/crc32c_generic.ko:\n";
	writeFileSync(`${tree}/modules.dep`, `${readFileSync(`${tree}/modules.dep`, "utf8")}${dep}`);
	const kernel = { name: "k", modulesDirectory: tree };
	await unpack(await initramfs({ kernel, fstypes: ["squashfs", "ext4"], network: false }));
	expect(readFileSync(`${directory}/out/modules/order`, "utf8")).toMatch(/\ncrc32c_generic\.ko\njbd2\.ko\next4\.ko\n$/);
});

test("initramfs of a kernel without modules holds only the agent and its tool", async () => {
	const archive = await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	expect(await unpack(archive)).toEqual(["dev", "proc", "run", "sys", "tools", "init", "tools/busybox"]);
});

test("initramfs is the same file for the same contents, another one for others", async () => {
	const kernel = { name: "k", modulesDirectory: modules() };
	const first = await initramfs({ kernel, fstypes: ["squashfs"], network: false });
	const bytes = readFileSync(first);
	rmSync(first);
	expect(await initramfs({ kernel, fstypes: ["squashfs"], network: false })).toBe(first);
	expect(readFileSync(first).equals(bytes)).toBe(true);
	expect(await initramfs({ kernel, fstypes: ["squashfs"], network: true })).not.toBe(first);
});

test.each([
	["is empty", 0],
	["was cut short", 5000],
	["lacks its last bytes", -4],
])("initramfs is packed anew when the cached one %s", async (_what, size) => {
	const path = await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	const bytes = readFileSync(path);
	truncateSync(path, size < 0 ? bytes.length + size : size);
	expect(await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false })).toBe(path);
	expect(readFileSync(path).equals(bytes)).toBe(true);
});

test("initramfs leaves nothing that a power cut could take away or empty", async () => {
	forget();
	const path = await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	expect(atRisk()).toEqual([]);
	expect(events.filter((event) => event.startsWith("rename") && event.endsWith(path))).toHaveLength(1);
});

test("initramfs removes what killed ones have left and what nobody has used for 30 days", async () => {
	const cached = `${directory}/cache/initramfs`;
	mkdirSync(cached, { recursive: true });
	for (const name of [".x.cpio.1234", "old.cpio", "young.cpio"]) writeFileSync(`${cached}/${name}`, "");
	utimesSync(`${cached}/old.cpio`, 1e9, 1e9);
	const path = await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	expect(readdirSync(cached).sort()).toEqual([".lock", "digests.json", basename(path), "young.cpio"].sort());
});

test("initramfs that is used again is not an old one", async () => {
	const path = await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	utimesSync(path, 1e9, 1e9);
	await initramfs({ kernel: { name: "k" }, fstypes: ["squashfs"], network: false });
	expect(Date.now() - statSync(path).mtimeMs).toBeLessThan(24 * 3600_000);
});
