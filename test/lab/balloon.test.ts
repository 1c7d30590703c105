/* Linux gives memory back to the host by its balloon: when it is asked, and by itself when pages are free. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { Linux } from "./linux.ts";
import { LabProgram } from "./program.ts";

let linux: Linux;
let program: LabProgram;
beforeAll(async () => {
	linux = await Linux.up("balloon");
	program = await LabProgram.bundle("balloon-machine");
});
afterAll(async () => {
	program?.remove();
	await linux?.down();
});

interface Seen {
	asked: { freed: number; given: number; again: number; freeMiB: [number, number]; complaints: string };
	byItself: {
		before: number;
		used: number;
		reported: number;
		kept: number;
		cloned: number;
		left: number;
		complaints: string;
	};
}

test("the host's memory falls by what a guest gives, and rises when it takes it back", async () => {
	const { asked, byItself } = (await program.run(linux, "minimal")) as unknown as Seen;
	/* Of 200 MiB that were used and freed, all but a few stay with the guest until it is asked. */
	expect(asked.freed - asked.given).toBeGreaterThan(120);
	expect(asked.again - asked.given).toBeGreaterThan(120);
	expect(asked.freeMiB[1] - asked.freeMiB[0]).toBeGreaterThan(200);
	expect(byItself.used - byItself.before).toBeGreaterThan(120);
	expect(byItself.reported).toBeLessThan(byItself.before + 60);
	expect(byItself).toMatchObject({ kept: 50, left: 0, complaints: "" });
	expect(byItself.cloned).toBeLessThan(60);
	expect(asked.complaints).toBe("");
});
