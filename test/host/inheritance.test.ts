/*
 * What a process inherits: the same for two that were started alike, another one where something differs.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, test } from "vitest";
import { controlGroups, enterControlGroups } from "../../src/host/inheritance.ts";

const MODULE = join(import.meta.dirname, "../../src/host/inheritance.ts");
const PRINT = `import(${JSON.stringify(MODULE)}).then(({ inheritance }) => process.stdout.write(inheritance()))`;

function started(...through: string[]): string {
	const [program, ...words] = [...through, process.execPath, "--import", "tsx", "-e", PRINT];
	return execFileSync(program!, words, { encoding: "utf8", cwd: join(import.meta.dirname, "../..") });
}

test("inheritance differs with a limit, a nice value and a namespace, and not otherwise", () => {
	const plain = started();
	expect(started("env", "A=b")).toBe(plain);
	expect(started("prlimit", "--core=0:0", "--fsize=1000000000")).not.toBe(plain);
	expect(started("nice", "-n", "3")).not.toBe(plain);
	if (process.getuid!() === 0) expect(started("unshare", "--uts")).not.toBe(plain);
});

test("enterControlGroups stays where it is, and goes to no group that is not there", () => {
	const here = controlGroups();
	expect(enterControlGroups(here)).toBe(true);
	expect(enterControlGroups("0::/../elsewhere\n")).toBe(false);
	expect(enterControlGroups("")).toBe(false);
	expect(controlGroups()).toBe(here);
});
