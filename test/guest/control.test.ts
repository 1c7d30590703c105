/* A machine's control socket: snapshots that are taken, given up, and refused, and a machine that ends. Needs /dev/kvm. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { askMachine, MachineControl } from "../../src/machine/control.ts";
import { Machine } from "../../src/machine/machine.ts";
import { readManifest } from "../../src/snapshot/manifest.ts";
import { COUNT, COUNTER, TinyKernels } from "./tiny-kernel.ts";

const kernels = new TinyKernels();
const directory = mkdtempSync(join(tmpdir(), "tsvmm-control-"));
afterAll(() => {
	kernels.remove();
	rmSync(directory, { recursive: true });
});

let place: string;
beforeEach(() => {
	place = mkdtempSync(join(directory, "test-"));
});

async function counting(memoryMiB = 64) {
	const machine = await Machine.create({ kernel: kernels.write("", COUNT), memoryMiB });
	const socket = join(place, "control");
	const control = await MachineControl.open(socket, machine);
	machine.start();
	await expect.poll(() => machine.memory.u32(COUNTER)).toBeGreaterThan(0);
	return { machine, control, socket, path: join(place, "snapshot") };
}

test("a snapshot is taken while the machine runs, or when it ends", async () => {
	const { machine, control, socket, path } = await counting();
	await askMachine(socket, { do: "snapshot", path, stop: false });
	expect(machine.state).toBe("running");
	const last = join(place, "last");
	await askMachine(socket, { do: "snapshot", path: last, base: path, stop: true });
	expect(await machine.ended).toEqual({ reason: "stopped" });
	expect((await readManifest(last)).base?.path).toBe("../snapshot");
	const late = askMachine(socket, { do: "snapshot", path: join(place, "late"), stop: false });
	await expect(late).rejects.toMatchObject({ code: "ERR_MACHINE_STATE" });
	await control.close();
	expect(readdirSync(place).sort()).toEqual(["last", "snapshot"]);
	const gone = askMachine(socket, { do: "progress", path });
	await expect(gone).rejects.toMatchObject({ code: "ERR_MACHINE_MISSING" });
});

test.each([false, true])("a snapshot is given up, with stop: %s, and the machine goes on", async (stop) => {
	const { machine, control, socket, path } = await counting(1024);
	const progress = async () => (await askMachine(socket, { do: "progress", path })).progress;
	expect(await progress()).toBe(undefined);
	const taken = askMachine(socket, { do: "snapshot", path, stop });
	const failed = expect(taken).rejects.toMatchObject({ code: "ERR_SNAPSHOT_WRITE", message: /it was given up$/ });
	await expect.poll(progress, { interval: 0 }).toBeDefined();
	const other = askMachine(socket, { do: "snapshot", path: join(place, "other"), stop: true });
	await expect(other).rejects.toMatchObject({ code: "ERR_MACHINE_STATE", message: /a snapshot is being taken/ });
	/* Another one's is left alone. */
	await askMachine(socket, { do: "cancel", path: join(place, "other") });
	expect(await progress()).toBeDefined();
	await askMachine(socket, { do: "cancel", path });
	await failed;
	expect(await progress()).toBe(undefined);
	expect(readdirSync(place)).toEqual(["control"]);
	expect(machine.state).toBe("running");
	await machine.stop();
	await control.close();
});
