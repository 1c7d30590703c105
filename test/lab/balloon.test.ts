/* Linux gives memory back to the host by its balloon: when it is asked, and by itself when pages are free. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
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
	asked: { freed: number; given: number; again: number; least: number; freeMiB: [number, number]; complaints: string };
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
	/* 200 MiB do not fit beside a balloon of 250 MiB: the driver took some back, and no process was ended. */
	expect(asked.least).toBeLessThan(220);
	expect(asked.complaints).toBe("");
});

test("a container's memory comes back to the host when it is free", async () => {
	const script = join(packageRoot(), "test/lab/balloon.sh");
	const image = await ensureDemoImage("busybox");
	const seen = await linux.sh(`sh ${script} ${process.execPath} ${packageRoot()} ${image}`);
	const [before, used, after] = seen.trim().split(" ").map(Number) as [number, number, number];
	expect(used - before).toBeGreaterThan(120);
	expect(after).toBeLessThan(before + 60);
});
