/* A Linux guest under load is saved and restored, and notices nothing. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type KernelChoice, Linux } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
let program: LabProgram;
beforeAll(async () => {
	linux = await Linux.up("snapshot");
	program = await LabProgram.bundle("snapshot-machine");
});
afterAll(async () => {
	program?.remove();
	await linux?.down();
});

test.each<KernelChoice>(["minimal", "6.12-cloud"])(
	"under %s a machine is saved and restored at any point, and its guest loses nothing",
	async (choice) => {
		const seen = await program.run(linux, choice);
		expect(seen.guest).toBe(seen.host);
		expect(Number(seen.rounds)).toBeGreaterThan(2);
		expect(seen).toMatchObject({ wrong: "0", random: "4096", cpus: "2", complaints: "" });
		expect(["1", "2"]).toContain(seen.clock);
	},
);
