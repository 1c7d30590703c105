/*
 * Programs that run with test/host/faults.c before the C library, so that system calls fail or wait when they say so.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packageRoot } from "../../src/host/native.ts";

/** What the programs begin with: `fault`, a file of 1 MiB, RAM, and a ring that keeps its results. */
const PRELUDE = `
	import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
	import { createRequire } from "node:module";
	import { setTimeout as sleep } from "node:timers/promises";
	import { FileDisk } from "./src/backends/file-disk.ts";
	import { Segments } from "./src/base/segments.ts";
	import { IoRing } from "./src/host/io-ring.ts";
	import { GuestRam } from "./src/host/ram.ts";
	const faults = createRequire(process.cwd() + "/")("koffi").load(process.env.FAULTS);
	const [set, get] = [faults.func("void fault_set(int, int)"), faults.func("int fault_get(int)")];
	const preadvCalls = faults.func("int fault_preadv_calls()");
	const nowaitCalls = faults.func("int fault_nowait_calls()");
	const NAMES = ["REFUSE_ENTER", "TAKE_AT_MOST", "HOLD_PREADV", "INTERRUPT_SYNC", "INTERRUPT_FALLOCATE"];
	NAMES.push("NOWAIT_READ", "NOWAIT_WRITE");
	const fault = (name, value) => set(NAMES.indexOf(name), value);
	const left = (name) => get(NAMES.indexOf(name));
	const path = process.env.DIRECTORY + "/disk";
	const fd = openSync(path, "w+");
	ftruncateSync(fd, 1 << 20);
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: 1 << 20 }], { backing: "memfd" });
	const { hva, buffer } = ram.regions[0];
	const bytes = new Uint8Array(buffer);
	const segments = (start, length) => {
		const list = new Segments();
		list.add({ bytes, hva }, start, length);
		return list;
	};
	const results = {};
	const ringOf = (options) => new IoRing((token, result) => { results[token] = result; }, options);
	const until = async (condition) => { while (!condition()) await sleep(1); };
	const mapped = () => readFileSync("/proc/self/maps", "latin1").includes("memfd:tsvmm-ram");
	const print = (value) => console.log(JSON.stringify(value));
`;

/** Runs a program; what it has printed as JSON, a value per line. */
export function runWithFaults(program: string): unknown[] {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-faults-"));
	try {
		const library = join(directory, "faults.so");
		const source = join(packageRoot(), "test/host/faults.c");
		execFileSync("gcc", ["-O2", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"]);
		const ended = spawnSync(
			process.execPath,
			["--import", "tsx", "--input-type=module", "-e", `${PRELUDE}\n${program}`],
			{
				cwd: packageRoot(),
				encoding: "utf8",
				timeout: 15_000,
				env: { ...process.env, LD_PRELOAD: library, FAULTS: library, DIRECTORY: directory },
			},
		);
		if (ended.status !== 0) throw new Error(`the program ended with ${ended.status ?? ended.signal}: ${ended.stderr}`);
		return ended.stdout
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line) as unknown);
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
}
