/*
 * Twenty containers side by side: each runs, answers and ends by itself, and nothing of them stays.
 */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { LabCommands } from "./lab-commands.ts";

const COUNT = 20;
const NAMES = Array.from({ length: COUNT }, (_, i) => `many-${i}`);
const tsvmm = `${process.execPath} ${join(packageRoot(), "dist/tsvmm.js")}`;

let lab: LabCommands;
let image: string;
beforeAll(async () => {
	image = await ensureDemoImage("busybox");
	lab = LabCommands.up({ memoryMiB: 4096 });
});
afterAll(() => lab?.down());

test("twenty containers run at once, and one that is killed takes none with it", () => {
	const flags = "-q -d --net none --storage-opt size=64m";
	const run = (name: string) =>
		`${tsvmm} run ${flags} --name ${name} -h ${name} ${image} sh -c 'hostname >/own; exec sleep 100000'`;
	lab.inLab(["set -e", ...NAMES.map(run)].join("\n"));
	expect(lab.must("ps", "--format", "{{.Names}}").trim().split("\n").sort()).toEqual([...NAMES].sort());
	const asked = NAMES.filter((_, i) => i % 5 === 0);
	const answers = lab.inLab(
		asked.map((name) => `${tsvmm} exec ${name} sh -c 'cat /own; ls /proc | grep -c "^[0-9]"'`).join("\n"),
	);
	expect(
		answers
			.trim()
			.split("\n")
			.filter((line) => line.startsWith("many-")),
	).toEqual(asked);

	const pid = lab.must("inspect", "-f", "{{.State.Pid}}", NAMES[3]!).trim();
	lab.inLab(`kill -9 ${pid}`);
	const state = "{{.Names}} {{.State}}";
	const states = lab.must("ps", "-a", "--format", state).trim().split("\n");
	expect(states.filter((line) => line.endsWith(" running"))).toHaveLength(COUNT - 1);
	expect(states).toContain(`${NAMES[3]} exited`);
	expect(lab.must("exec", NAMES[4]!, "cat", "/own")).toBe(`${NAMES[4]}\n`);

	lab.must("rm", "-f", ...NAMES);
	expect(lab.must("ps", "-aq")).toBe("");
	expect(lab.inLab("pgrep -f '[c]ontainer supervise' || echo none")).toBe("none\n");
}, 1_200_000);
