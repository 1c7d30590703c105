/*
 * Core dumps of bare-metal guests, read by Debian's gdb and by us; what happens to a dump that fails. Needs /dev/kvm.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { dumpMachine } from "../../src/debug/core-dump.ts";
import { MachineDebugger } from "../../src/debug/debugger.ts";
import { askMachine, MachineControl } from "../../src/machine/control.ts";
import { Machine } from "../../src/machine/machine.ts";
import { COUNT, COUNTER, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-dump-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

let machine: Machine;
let place: string;
beforeEach(async () => {
	place = mkdtempSync(join(directory, "test-"));
	machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB: 64, cpus: 2 });
});
afterEach(() => machine.stop());

const counts = async () => {
	const before = machine.memory.u32(COUNTER);
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(before);
};

test("a dump has registers and memory of all vCPUs, is sparse and its owner's, and the guest runs on", async () => {
	const debug = MachineDebugger.of(machine);
	await debug.stop();
	machine.start();
	debug.setBreakpoint(0, BigInt(TinyKernels.ENDING));
	const stopped = new Promise((resolve) => debug.onStop(resolve));
	debug.resume();
	await stopped;
	const core = join(place, "core");
	await dumpMachine(machine, core);
	expect(machine.state).toBe("paused");
	expect(machine.memory.u8(TinyKernels.ENDING)).toBe(0xcc);
	const { mode, size, blocks } = statSync(core);
	expect(mode & 0o777).toBe(0o600);
	expect(size).toBeGreaterThan(64 << 20);
	expect(blocks * 512).toBeLessThan(4 << 20);
	const look = ["info threads", "print/x $rip", "print $cs", `x/8xb ${TinyKernels.ENDING}`, "thread 2", "print/x $rip"];
	const words = look.flatMap((command) => ["-ex", command]);
	const output = execFileSync("gdb", ["--nx", "--quiet", "--batch", ...words, "-c", core], {
		encoding: "utf8",
		stdio: ["ignore", "pipe", "ignore"],
	});
	expect(output).toMatch(/\* 1\s+LWP 1 .*\n\s+2\s+LWP 2 /);
	expect(output).toContain("$1 = 0x1000011\n$2 = 16\n");
	/* Without the breakpoint. */
	expect(output).toMatch(/1000011:\s+0xff\s+0x05\s+0x00\s+0x00\s+0x80\s+0x01\s+0xeb\s+0xf8\n/);
	expect(output).toContain("$3 = 0xfff0\n");
	debug.clearBreakpoints();
	debug.resume();
	await counts();
});

test("a dump that fails or is given up leaves nothing, and the guest runs on", async () => {
	machine.start();
	await counts();
	const core = join(place, "core");
	writeFileSync(core, "something else");
	await expect(dumpMachine(machine, core)).rejects.toMatchObject({ code: "ERR_DUMP_EXISTS" });
	expect(readFileSync(core, "utf8")).toBe("something else");
	await dumpMachine(machine, core, { force: true });
	expect(readFileSync(core).subarray(1, 4).toString()).toBe("ELF");
	await expect(dumpMachine(machine, join(place, "none", "core"))).rejects.toMatchObject({ code: "ERR_DUMP_WRITE" });
	mkdirSync(join(place, "taken"));
	const onDirectory = dumpMachine(machine, join(place, "taken"), { force: true });
	await expect(onDirectory).rejects.toMatchObject({ code: "ERR_DUMP_WRITE" });
	const abort = new AbortController();
	const givenUp = dumpMachine(machine, join(place, "other"), {
		signal: abort.signal,
		onProgress: () => abort.abort(new Error("enough")),
	});
	await expect(givenUp).rejects.toThrow("enough");
	expect(readdirSync(place).sort()).toEqual(["core", "taken"]);
	await counts();
	const late = dumpMachine(machine, join(place, "late"), { onProgress: () => void machine.stop() });
	await expect(late).rejects.toMatchObject({ code: "ERR_MACHINE_STATE" });
	expect(readdirSync(place).sort()).toEqual(["core", "taken"]);
});

test("MachineControl has a dump written by whom it was given, and refuses one otherwise", async () => {
	const socket = join(place, "control");
	const path = join(place, "core");
	const control = await MachineControl.open(socket, machine, { dump: dumpMachine });
	machine.start();
	await askMachine(socket, { do: "dump", path, force: false });
	const again = askMachine(socket, { do: "dump", path, force: false });
	await expect(again).rejects.toMatchObject({ code: "ERR_DUMP_EXISTS", hint: expect.stringMatching(/add --force$/) });
	await control.close();
	const without = await MachineControl.open(socket, machine);
	const refused = askMachine(socket, { do: "dump", path, force: true });
	await expect(refused).rejects.toMatchObject({ code: "ERR_USAGE" });
	await without.close();
	expect(machine.state).toBe("running");
});
