import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const labs = join(import.meta.dirname, "../../docs/labs");
/** Labs that need nothing of the host; those that need /dev/kvm are run in test/guest. */
const LABS = ["own-disk"];

test.each(LABS)("docs/labs/%s.ts prints what its last comment and its text say", (name) => {
	const source = readFileSync(join(labs, `${name}.ts`), "utf8");
	const expected = /\/\* Expected output:\n(.*)\*\/\n$/s.exec(source)?.[1];
	expect(expected, "the example ends with its expected output").toBeDefined();
	const printed = execFileSync(process.execPath, ["--import", "tsx", join(labs, `${name}.ts`)], {
		cwd: join(labs, "../.."),
		encoding: "utf8",
		stdio: ["ignore", "pipe", "ignore"],
	});
	expect(printed).toBe(expected);
	const text = readFileSync(join(labs, `${name}.md`), "utf8");
	expect(text).toContain(`$ npx tsx docs/labs/${name}.ts\n${printed}\`\`\``);
});
