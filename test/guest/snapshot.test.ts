/*
 * Machine.snapshot and Machine.restore with kernels of a few instructions. Needs /dev/kvm.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemoryDisk } from "../../src/backends/memory-disk.ts";
import { GENERATION_ID_ADDRESS } from "../../src/boot/addresses.ts";
import type { MachineConfig, RestoreConfig } from "../../src/machine/config.ts";
import { Machine } from "../../src/machine/machine.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { RngDevice } from "../../src/virtio/rng.ts";
import { COUNT, COUNTER, LETTERS_BELOW, POWER_OFF, TinyKernels } from "./tiny-kernel.ts";
import { Transcript } from "./transcript.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-snapshots-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
/** Lets the guest print the letters below `end`, by default all. */
const allow = ({ memory }: Machine, end = "{") => memory.write(COUNTER, Buffer.from(end));
const devices = (): RestoreConfig => ({
	rng: true,
	virtioConsole: true,
	vsock: {},
	disks: [{ backend: new MemoryDisk(4096) }],
});
const config = (change: Partial<MachineConfig> = {}): MachineConfig => ({
	kernel: kernels.write("", [...LETTERS_BELOW, ...POWER_OFF]),
	memoryMiB: 64,
	...devices(),
	...change,
});
let count = 0;
const place = () => join(directory, `${count++}`);

/** Runs a restored machine to its end. @returns what it prints */
async function rest(path: string, change: RestoreConfig = {}): Promise<string> {
	const console = new Transcript();
	const machine = await Machine.restore(path, { ...devices(), console: { kind: "own", console }, ...change });
	allow(machine);
	machine.start();
	expect(await machine.ended).toEqual({ reason: "power-off" });
	return console.text;
}

describe("a machine", () => {
	test("goes on from its snapshot where it was, any number of times, and so does the one that was saved", async () => {
		const console = new Transcript();
		const machine = await Machine.create(config({ console: { kind: "own", console } }));
		allow(machine, "e");
		machine.start();
		await expect.poll(() => console.text).toBe("abcd");
		const path = place();
		const seen: string[] = [];
		const onProgress = () => {
			allow(machine);
			seen.push(console.text);
		};
		await machine.snapshot(path, { onProgress });
		expect(machine.state).toBe("running");
		/* The guest stands still while it is written. */
		expect(new Set(seen)).toEqual(new Set(["abcd"]));
		expect(await machine.ended).toEqual({ reason: "power-off" });
		expect(console.text).toBe(LETTERS);
		const after = LETTERS.slice(4);
		expect(await Promise.all([rest(path), rest(path), rest(path)])).toEqual([after, after, after]);
		/* From a copy: its files are others, so they are read to their ends first. */
		const copy = place();
		cpSync(path, copy, { recursive: true });
		expect(await rest(copy)).toBe(after);
	});

	test("has its devices where they were, in whatever order they came and are given", async () => {
		const disk = { id: "data", backend: new MemoryDisk(4096) };
		await using machine = await Machine.create({ ...devices(), kernel: kernels.write("", COUNT), memoryMiB: 64 });
		machine.addDevice("late", new RngDevice("late"));
		await machine.removeDevice("vsock", { force: true });
		machine.addDevice("data", new BlockDevice(disk.backend, { name: "data" }));
		const [path, again] = [place(), place()];
		await machine.snapshot(path);
		const given = { ...devices(), disks: [disk, { id: "disk0", backend: new MemoryDisk(4096) }], vsock: undefined };
		await using next = await Machine.restore(path, { ...given, devices: [new RngDevice("late")] });
		await next.snapshot(again);
		const found = (await readManifest(again)).machine.devices.map(({ id, slot }) => `${id} ${slot}`);
		expect(found).toEqual(["disk0 0", "rng 2", "console 3", "late 4", "data 5"]);
		expect(next.deviceAddress("late")).toBe(machine.deviceAddress("late"));
	});

	test("keeps its memory, and writes to it stay its own", async () => {
		await using machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB: 64 });
		machine.start();
		await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(10);
		await machine.pause();
		const path = place();
		await machine.snapshot(path);
		expect(machine.state).toBe("paused");
		const counted = machine.memory.u32(COUNTER);
		await using one = await Machine.restore(path);
		await using two = await Machine.restore(path);
		expect(one.memory.u32(COUNTER)).toBe(counted);
		one.start();
		await expect.poll(() => one.memory.u32(COUNTER)).toBeGreaterThan(counted + 10);
		expect(two.memory.u32(COUNTER)).toBe(counted);
		/* A snapshot of one that has not started, and of one that was restored and has run. */
		const [again, later] = [place(), place()];
		await two.snapshot(again);
		await one.snapshot(later);
		await using three = await Machine.restore(again);
		await using four = await Machine.restore(later);
		expect(three.memory.u32(COUNTER)).toBe(counted);
		expect(four.memory.u32(COUNTER)).toBeGreaterThan(counted);
		three.start();
		await expect.poll(() => three.memory.u32(COUNTER)).toBeGreaterThan(counted);
		expect(machine.memory.u32(COUNTER)).toBe(counted);
		machine.resume();
		await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(counted);
	});

	test("has another generation ID in each clone, whose event device tells of it", async () => {
		await using machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB: 64 });
		const path = place();
		await machine.snapshot(path);
		const clones = [await Machine.restore(path), await Machine.restore(path)];
		/* A clone of a clone that has not run is told once. */
		const again = place();
		await clones[0]!.snapshot(again);
		clones.push(await Machine.restore(again));
		const all = [machine, ...clones];
		const ids = all.map(({ memory }) => Buffer.from(memory.bytes(GENERATION_ID_ADDRESS, 16)).toString("hex"));
		expect(new Set([...ids, "0".repeat(32)]).size).toBe(5);
		for (const clone of clones) await clone.stop();
	});

	test("has 64 MiB of RAM, and its snapshot takes room for the pages that are used", async () => {
		await using machine = await Machine.create(config());
		const path = place();
		await machine.snapshot(path);
		const { size, blocks } = statSync(join(path, "memory"));
		expect(size).toBe(64 << 20);
		expect(blocks * 512).toBeLessThan(1 << 20);
		const { memory, machine: about } = await readManifest(path);
		expect(memory.usedBytes).toBeLessThanOrEqual(blocks * 512);
		expect(about).toMatchObject({ cpus: 1, memoryMiB: 64, devices: [{ id: "disk0" }, { id: "vsock" }, {}, {}] });
		expect(readdirSync(path).sort()).toEqual(["memory", "snapshot.json", "state"]);
	});

	test("with several vCPUs is restored with all of them", async () => {
		const console = new Transcript();
		const machine = await Machine.create(config({ cpus: 3, console: { kind: "own", console } }));
		allow(machine, "e");
		machine.start();
		await expect.poll(() => console.text).toBe("abcd");
		await machine.pause();
		const path = place();
		await machine.snapshot(path);
		await machine.stop();
		expect(await rest(path)).toBe(LETTERS.slice(4));
	});

	test("is not resumed or saved twice while a snapshot is taken; a pause then holds", async () => {
		await using machine = await Machine.create(config());
		machine.start();
		const saving = machine.snapshot(place());
		expect(() => machine.resume()).toThrow("Cannot resume the machine: a snapshot is being taken");
		await expect(machine.snapshot(place())).rejects.toThrow("a snapshot is being taken");
		const paused = machine.pause();
		await Promise.all([saving, paused]);
		expect(machine.state).toBe("paused");
		machine.resume();
		expect(machine.state).toBe("running");
	});

	test("that ends meanwhile has no snapshot, and nothing is left", async () => {
		const machine = await Machine.create(config());
		machine.start();
		const path = place();
		const before = readdirSync(directory);
		let end: Promise<unknown> | undefined;
		const saving = machine.snapshot(path, {
			onProgress: () => {
				end ??= machine.stop();
			},
		});
		await expect(saving).rejects.toMatchObject({ code: "ERR_MACHINE_STATE" });
		await end;
		expect(readdirSync(directory)).toEqual(before);
		await expect(machine.snapshot(place())).rejects.toMatchObject({ code: "ERR_MACHINE_STATE" });
	});

	test("goes on after a snapshot that could not be written", async () => {
		const console = new Transcript();
		const machine = await Machine.create(config({ console: { kind: "own", console } }));
		machine.start();
		const taken = place();
		mkdirSync(taken);
		writeFileSync(join(taken, "file"), "");
		await expect(machine.snapshot(taken)).rejects.toMatchObject({ code: "ERR_SNAPSHOT_EXISTS" });
		await expect(machine.snapshot("/proc/none")).rejects.toMatchObject({ code: "ERR_SNAPSHOT_WRITE" });
		expect(readdirSync(taken)).toEqual(["file"]);
		allow(machine);
		expect(await machine.ended).toEqual({ reason: "power-off" });
		expect(console.text).toBe(LETTERS);
	});
});

describe("a snapshot is refused", () => {
	let good: string;
	beforeAll(async () => {
		await using machine = await Machine.create(config());
		good = place();
		await machine.snapshot(good);
	});

	/** A copy of the good one, changed. */
	function changed(change: (path: string) => void): string {
		const path = place();
		cpSync(good, path, { recursive: true });
		change(path);
		return path;
	}
	/** Changes a value of the manifest, or text of the state, with a checksum that fits. */
	const manifestWith = (edit: (manifest: Record<string, unknown>) => void) =>
		changed((path) => {
			const manifest = JSON.parse(readFileSync(join(path, "snapshot.json"), "utf8"));
			edit(manifest);
			writeFileSync(join(path, "snapshot.json"), JSON.stringify(manifest));
		});
	const stateWith = (edit: (text: string) => string) =>
		changed((path) => {
			const text = edit(readFileSync(join(path, "state"), "utf8"));
			writeFileSync(join(path, "state"), text);
			const manifest = JSON.parse(readFileSync(join(path, "snapshot.json"), "utf8"));
			manifest.state = { bytes: Buffer.byteLength(text), sha256: createHash("sha256").update(text).digest("hex") };
			writeFileSync(join(path, "snapshot.json"), JSON.stringify(manifest));
		});
	const refused = async (path: string, code: string, message: string | RegExp, change: RestoreConfig = {}) => {
		const descriptors = readdirSync("/proc/self/fd").length;
		const error = await Machine.restore(path, { ...devices(), ...change }).catch((e: unknown) => e);
		expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
		await expect.poll(() => readdirSync("/proc/self/fd").length).toBe(descriptors);
	};

	test("never for having no generation ID, as those of earlier versions", async () => {
		const old = stateWith((text) => text.replace(/,"generation":\{[^}]*\}/, ""));
		await using clone = await Machine.restore(old, devices());
		const saved = await open(join(old, "memory"), "r");
		const bytes = Buffer.alloc(16);
		await saved.read(bytes, 0, 16, GENERATION_ID_ADDRESS);
		await saved.close();
		expect(Buffer.from(clone.memory.bytes(GENERATION_ID_ADDRESS, 16))).toEqual(bytes);
		const elsewhere = stateWith((text) =>
			text.replace(/"generation":\{[^}]*\}/, '"generation":{"version":1,"address":67108856}'),
		);
		await refused(elsewhere, "ERR_STATE_FORMAT", "is not in RAM");
	});

	test("that is not there, or is something else", async () => {
		await refused(place(), "ERR_SNAPSHOT_MISSING", "no such file");
		await refused(directory, "ERR_SNAPSHOT_MISSING", "no such file");
		for (const file of ["state", "memory"])
			await refused(
				changed((path) => rmSync(join(path, file))),
				"ERR_SNAPSHOT_MISSING",
				"no such file",
			);
		await refused(
			changed((path) => writeFileSync(join(path, "snapshot.json"), "{")),
			"ERR_SNAPSHOT_FORMAT",
			"JSON",
		);
		await refused(
			changed((path) => writeFileSync(join(path, "snapshot.json"), "null")),
			"ERR_SNAPSHOT_FORMAT",
			"",
		);
	});
	test("whose files are damaged, shortened or of another snapshot", async () => {
		const flipped = async (file: string) => {
			const path = changed(() => undefined);
			const handle = await open(join(path, file), "r+");
			const byte = Buffer.alloc(1);
			await handle.read(byte, 0, 1, 100);
			await handle.write(Buffer.of(byte[0]! ^ 1), 0, 1, 100);
			await handle.close();
			return path;
		};
		const shortened = async (file: string) => {
			const path = changed(() => undefined);
			const handle = await open(join(path, file), "r+");
			await handle.truncate(statSync(join(path, file)).size - 4096);
			await handle.close();
			return path;
		};
		for (const file of ["state", "memory"])
			for (const damage of [flipped, shortened])
				await refused(await damage(file), "ERR_SNAPSHOT_DAMAGED", `${file} is not what was written`);
		await using machine = await Machine.create({ ...config(), kernel: kernels.write("other", POWER_OFF) });
		const other = place();
		await machine.snapshot(other);
		const swapped = changed((path) => cpSync(join(other, "memory"), join(path, "memory")));
		await refused(swapped, "ERR_SNAPSHOT_DAMAGED", "memory is not");
	});
	test("of another format, and with fields that cannot be", async () => {
		const format = manifestWith((manifest) => {
			manifest.format = 3;
		});
		await refused(format, "ERR_SNAPSHOT_VERSION", "its format is 3, this tsvmm reads 1 to 2");
		const tooMany = manifestWith((manifest) => {
			manifest.machine = { ...(manifest.machine as object), cpus: 1000 };
		});
		await refused(tooMany, "ERR_CONFIG_CPUS", "1000 vCPUs");
		const more = manifestWith((manifest) => {
			manifest.machine = { ...(manifest.machine as object), memoryMiB: 128 };
		});
		await refused(more, "ERR_SNAPSHOT_FORMAT", "memory has");
		await refused(
			stateWith((text) => text.replace('"mpState":', '"mpstate":')),
			"ERR_STATE_FORMAT",
			'"mpState" is missing',
		);
		await refused(
			stateWith((text) => text.replace('"version":1', '"version":7')),
			"ERR_STATE_VERSION",
			"has version 7",
		);
		await refused(
			stateWith(() => "[]"),
			"ERR_STATE_FORMAT",
			"no object",
		);
		await refused(
			stateWith(() => "["),
			"ERR_SNAPSHOT_FORMAT",
			"Cannot read a saved state",
		);
	});
	test("on a machine with other devices, or a host that lacks what the guest has found", async () => {
		await refused(good, "ERR_STATE_MISMATCH", "the state is of disk0 in slot 0", { disks: [] });
		/* An MSR that no KVM knows, in place of the first one. */
		const msr = stateWith((text) =>
			text.replace(/("msrs":\{"\$bytes":")([^"]+)/, (_all, before: string, base64: string) => {
				const bytes = Buffer.from(base64, "base64");
				bytes.writeUInt32LE(0xdeadbeef, 0);
				return before + bytes.toString("base64");
			}),
		);
		await refused(msr, "ERR_SNAPSHOT_HOST", "MSR 0xdeadbeef");
		/* All features of leaf 7. */
		const cpuid = stateWith((text) =>
			text.replace(/("cpuid":\{"\$bytes":")([^"]+)/, (_all, before: string, base64: string) => {
				const bytes = Buffer.from(base64, "base64");
				for (let at = 8; at < bytes.length; at += 40)
					if (bytes.readUInt32LE(at) === 7 && bytes.readUInt32LE(at + 4) === 0)
						bytes.writeUInt32LE(0xffff_ffff, at + 16);
				return before + bytes.toString("base64");
			}),
		);
		await refused(cpuid, "ERR_SNAPSHOT_HOST", /its processor has no .*7\.ebx bit 2/);
	});
});
