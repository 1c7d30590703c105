import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const exercises = join(import.meta.dirname, "../../docs/exercises");
/** Exercises that need nothing of the host; those that need /dev/kvm are run in test/guest. */
const EXERCISES = ["own-disk"];

test.each(EXERCISES)("docs/exercises/%s.ts prints what its last comment and its text say", (name) => {
	const source = readFileSync(join(exercises, `${name}.ts`), "utf8");
	const expected = /\/\* Expected output:\n(.*)\*\/\n$/s.exec(source)?.[1];
	expect(expected, "the example ends with its expected output").toBeDefined();
	const printed = execFileSync(process.execPath, ["--import", "tsx", join(exercises, `${name}.ts`)], {
		cwd: join(exercises, "../.."),
		encoding: "utf8",
		stdio: ["ignore", "pipe", "ignore"],
	});
	expect(printed).toBe(expected);
	const text = readFileSync(join(exercises, `${name}.md`), "utf8");
	expect(text).toContain(`$ npx tsx docs/exercises/${name}.ts\n${printed}\`\`\``);
});
