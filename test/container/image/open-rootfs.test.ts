/*
 * A root file system during power cuts, killed builds, and an `image rm` while a container starts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
	existsSync,
	readdirSync,
	readFileSync,
	readlinkSync,
	statSync,
	truncateSync,
	utimesSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test, vi } from "vitest";
import { FileDisk } from "../../../src/backends/file-disk.ts";
import { Segments } from "../../../src/base/segments.ts";
import { importImage } from "../../../src/container/image/import.ts";
import { openRootfs, rootfsPath } from "../../../src/container/image/rootfs.ts";
import { machineConfig, runContainer } from "../../../src/container/run.ts";
import { GuestRam } from "../../../src/host/ram.ts";
import { bytesOf } from "../../backends/segments-of.ts";
import { atRisk, events, forget } from "../../host/recorded-disk.ts";
import { ociLayout, packFiles, tar, useDirectory } from "./archives.ts";
import { builtRootfs } from "./built-rootfs.ts";

vi.mock("node:fs/promises", async (original) =>
	(await import("../../host/recorded-disk.ts")).recorded(await original()),
);

const directory = useDirectory();

/** A store with an image of so many bytes. */
async function imported(bytes = 1000) {
	const store = directory.store();
	const layer = await tar([{ name: "file", data: Buffer.alloc(bytes, "data") }]);
	const [one] = await importImage(store, directory.file("image.tar", await packFiles(ociLayout([layer]))), {
		name: "app",
	});
	return { store, image: one!.image };
}

/** Names of what is being built. */
const temporaries = (path: string) => readdirSync(path).filter((name) => name.startsWith("."));

/** Command lines of this machine's processes that name `path`. */
function users(path: string): string[] {
	return readdirSync("/proc")
		.filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
		.map((pid) => {
			try {
				return readFileSync(`/proc/${pid}/cmdline`, "utf8");
			} catch {
				return "";
			}
		})
		.filter((line) => line.includes(path));
}

/** A process that builds the root file system of "app" and is killed under way, alone or with its sqfstar. */
async function killedBuild(storeDirectory: string, kill: string): Promise<void> {
	const source = (name: string) => JSON.stringify(join(process.cwd(), "src/container/image", name));
	const script = `
		import { openRootfs } from ${source("rootfs.ts")};
		import { ImageStore } from ${source("store.ts")};
		const store = new ImageStore(${JSON.stringify(storeDirectory)});
		/* More than fits into the pipe: sqfstar is at work. */
		const onProgress = (done) => { if (done > 4_000_000) process.kill(${kill}, "SIGKILL"); };
		await openRootfs(store, store.find("app"), { onProgress });
	`;
	const args = ["--import", "tsx", "--input-type=module", "-e", script];
	const child = spawn(process.execPath, args, { detached: true, stdio: "inherit" });
	expect(await once(child, "exit")).toEqual([null, "SIGKILL"]);
}

describe("openRootfs", () => {
	test("openRootfs and an import leave nothing that a power cut could take away or empty", async () => {
		forget();
		const { store, image } = await imported();
		expect(atRisk()).toEqual([]);
		await builtRootfs(store, image);
		expect(atRisk()).toEqual([]);
		const renamed = events.findIndex((event) => event.endsWith(` ${rootfsPath(store, image)}`));
		expect(events.slice(renamed - 1)).toEqual([
			expect.stringMatching(/^sync .*rootfs\/\.[^/]+$/),
			expect.stringMatching(/^rename /),
			`sync ${store.rootfsDirectory}`,
		]);
	});

	test.each([
		["is empty", 0],
		["was cut short in its superblock", 50],
		["lacks its end", -4096],
	])("openRootfs builds a root file system anew that %s", async (_what, size) => {
		const { store, image } = await imported();
		const { path } = await builtRootfs(store, image);
		const bytes = readFileSync(path);
		truncateSync(path, size < 0 ? bytes.length + size : size);
		await builtRootfs(store, image);
		expect(readFileSync(path).equals(bytes)).toBe(true);
	});

	test("openRootfs builds one anew that has zeroes for its beginning", async () => {
		const { store, image } = await imported();
		const { path } = await builtRootfs(store, image);
		const bytes = readFileSync(path);
		writeFileSync(path, Buffer.alloc(bytes.length));
		await builtRootfs(store, image);
		expect(readFileSync(path).equals(bytes)).toBe(true);
	});

	test("openRootfs removes what a killed build has left, also when it has nothing to build", async () => {
		const { store, image } = await imported(8_000_000);
		await killedBuild(store.directory, "-process.pid");
		expect(temporaries(store.rootfsDirectory)).toHaveLength(1);
		await builtRootfs(store, image);
		expect(readdirSync(store.rootfsDirectory)).toHaveLength(1);
		writeFileSync(join(store.rootfsDirectory, ".killed"), "");
		await builtRootfs(store, image);
		expect(readdirSync(store.rootfsDirectory)).toHaveLength(1);
	}, 60_000);

	test("sqfstar ends when the process that builds is killed", async () => {
		const { store } = await imported(8_000_000);
		await killedBuild(store.directory, "process.pid");
		while (users(store.rootfsDirectory).length > 0) await sleep(20);
		await store.collectLeftovers();
		expect(readdirSync(store.rootfsDirectory)).toEqual([]);
	}, 60_000);

	test("openRootfs leaves alone what a living one builds", async () => {
		const { store, image } = await imported();
		await builtRootfs(store, image);
		await store.shared(async () => {
			writeFileSync(join(store.rootfsDirectory, ".living"), "");
			await builtRootfs(store, image);
			expect(temporaries(store.rootfsDirectory)).toEqual([".living"]);
		});
	});

	test("openRootfs removes files of other recipes that are a month old", async () => {
		const { store, image } = await imported();
		const other = (recipe: string) => rootfsPath(store, image).replace(/-[0-9a-f]{8}\./, `-${recipe}.`);
		await builtRootfs(store, image);
		writeFileSync(other("old00000"), "");
		writeFileSync(other("young000"), "");
		utimesSync(other("old00000"), 1e9, 1e9);
		truncateSync(rootfsPath(store, image), 0);
		await builtRootfs(store, image);
		expect(readdirSync(store.rootfsDirectory).map((name) => name.slice(65, 73))).not.toContain("old00000");
		expect(readdirSync(store.rootfsDirectory)).toHaveLength(2);
	});
});

describe("an image that is removed while a container starts", () => {
	test("its disk stays: openRootfs holds the file, and FileDisk takes it by its descriptor", async () => {
		const { store, image } = await imported();
		await using rootfs = await openRootfs(store, image);
		const bytes = readFileSync(rootfs.path);
		await store.remove(["app"]);
		expect(existsSync(rootfs.path)).toBe(false);
		const machine = { rootfs, kernel: { name: "k", vmlinux: "k" }, hostname: "h", cpus: 1, memoryMiB: 64 };
		const [config] = machineConfig(machine, "initrd").disks!;
		if (config === undefined || "backend" in config) throw new Error("no file for a disk");
		const disk = FileDisk.open(config.path, { readOnly: true, fd: config.fd! });
		const ram = GuestRam.map([{ gpa: 0, sizeBytes: bytes.length }]);
		try {
			expect(disk).toMatchObject({ path: rootfs.path, sizeBytes: bytes.length });
			const { hva, buffer } = ram.regions[0]!;
			const into = new Segments();
			into.add({ hva, bytes: new Uint8Array(buffer) }, 0, bytes.length);
			const answer = new Promise((resolve) => disk.start((_token, result) => resolve(result)));
			disk.read(0, 0, into);
			disk.submit();
			expect(await answer).toBe("ok");
			expect(bytesOf(into).equals(bytes)).toBe(true);
		} finally {
			await disk.close();
			ram.close();
		}
	});

	test("openRootfs says so when it was removed before", async () => {
		const { store, image } = await imported();
		await store.remove(["app"]);
		await expect(openRootfs(store, image)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
		expect(readdirSync(store.rootfsDirectory)).toEqual([]);
	});

	test("runContainer closes it when the machine cannot be made", async () => {
		const { store, image } = await imported();
		vi.stubEnv("TSVMM_CACHE", join(directory.path, "cache"));
		const kernel = { name: "none", vmlinux: join(directory.path, "no-kernel") };
		await expect(runContainer({ image: "app", args: ["/file"], kernel })).rejects.toThrow("Cannot");
		vi.unstubAllEnvs();
		expect(statSync(rootfsPath(store, image)).size).toBeGreaterThan(0);
		const open = readdirSync("/proc/self/fd").map((fd) => {
			try {
				return readlinkSync(`/proc/self/fd/${fd}`);
			} catch {
				return "";
			}
		});
		expect(open.filter((path) => path.startsWith(store.rootfsDirectory))).toEqual([]);
	});
});
