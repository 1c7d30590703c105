/* A running Linux guest gets new devices. They are replaced under load and removed again. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type KernelChoice, Linux } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
const programs: LabProgram[] = [];
beforeAll(async () => {
	linux = await Linux.up("hot-plug");
});
afterAll(async () => {
	for (const program of programs) program.remove();
	await linux?.down();
});

async function run(name: string, choice: KernelChoice): Promise<Record<string, string>> {
	const program = await LabProgram.bundle(name);
	programs.push(program);
	return await program.run(linux, choice);
}

const KERNELS: KernelChoice[] = ["minimal", "6.12-cloud"];

describe.each(KERNELS)("under %s", (choice) => {
	test("Machine.addDevice: a disk comes, works, and goes once the guest unbinds its driver", async () => {
		const seen = await run("hot-plug-machine", choice);
		const [read, wrote] = seen.io!.split("\n");
		expect(read).toBe(wrote);
		expect(seen).toMatchObject({
			start: "vda",
			added: "vda vdb",
			serial: "one",
			asked: "vda vdb",
			acpi: "0",
			waiting: "waits",
			unbound: "removed",
			gone: "vda",
			second: "vda vdb",
			place: "LNRO0005:02",
			forced: "alive",
			complaints: "",
			ids: "script",
		});
	});

	test("Machine.replaceDevice: disk, entropy and vsock move to new devices under load, and the guest loses nothing", async () => {
		const seen = await run("replace-machine", choice);
		expect(seen.guest).toBe(seen.host);
		expect(Number(seen.rounds)).toBeGreaterThan(10);
		expect(seen).toMatchObject({ wrong: "0", random: "4096", complaints: "" });
	});
});
