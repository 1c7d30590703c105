/* A Linux guest under load is saved and restored, and notices nothing but that it is a clone. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { type KernelChoice, Linux } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
const programs: LabProgram[] = [];
beforeAll(async () => {
	linux = await Linux.up("snapshot");
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

test.each<KernelChoice>(["minimal", "6.12-cloud"])(
	"under %s a machine is saved and restored at any point, and its guest loses nothing",
	async (choice) => {
		const seen = await run("snapshot-machine", choice);
		expect(seen.guest).toBe(seen.host);
		expect(Number(seen.rounds)).toBeGreaterThan(2);
		expect(seen).toMatchObject({ wrong: "0", random: "4096", cpus: "2", isSmall: "true", complaints: "" });
		/* What it has done in the directory of the host. */
		expect(seen).toMatchObject({ copies: "3", log: "round 1\nround 2\nround 3\n" });
		expect(["1", "2"]).toContain(seen.clock);
	},
);

test("clones of one snapshot make new keys for their random numbers, by the generation ID alone", async () => {
	const seen = await run("clones-machine", "6.12-cloud");
	expect(seen).toMatchObject({ boot: "0", again: "0", told: "1,1", complaints: "" });
	const words = `${seen.original}\n${seen.random}`.split("\n");
	expect(words).toHaveLength(9);
	expect(new Set(words).size).toBe(9);
});
