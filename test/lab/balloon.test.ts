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

interface Stats {
	GuestFree: string;
	GuestAvailable: string;
	GivenBack: string;
}

/** "1.5GiB" in MiB; NaN of what is no size. */
function mib(size: string): number {
	const [, number, unit] = /^([0-9.]+)(B|KiB|MiB|GiB)$/.exec(size) ?? [];
	return Number(number) * 1024 ** (["B", "KiB", "MiB", "GiB"].indexOf(unit ?? "") - 2);
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

test("a container's memory comes back to the host when it is free, and stats follows it", async () => {
	const script = join(packageRoot(), "test/lab/balloon.sh");
	const image = await ensureDemoImage("busybox");
	const seen = await linux.sh(`sh ${script} ${process.execPath} ${packageRoot()} ${image}`);
	const [sizes = "", ...said] = seen.trim().split("\n");
	const [before, used, after] = sizes.split(" ").map(Number) as [number, number, number];
	expect(used - before).toBeGreaterThan(120);
	expect(after).toBeLessThan(before + 60);
	/* What the guest itself says: free memory goes and comes back, and what it has freed was given to the host. */
	const [first, full, last] = said.map((line) => JSON.parse(line)) as [Stats, Stats, Stats];
	expect(mib(first.GuestFree) - mib(full.GuestFree)).toBeGreaterThan(180);
	expect(mib(last.GuestFree) - mib(full.GuestFree)).toBeGreaterThan(180);
	expect(mib(first.GuestAvailable) - mib(full.GuestAvailable)).toBeGreaterThan(180);
	expect(mib(last.GivenBack) - mib(full.GivenBack)).toBeGreaterThan(120);
});
