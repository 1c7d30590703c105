/*
 * The programs of docs/examples and of the README, as printed, with the installed package. They always run in the lab,
 * because one needs a Linux guest.
 */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { powerOff, print, text, writeKernel } from "../../docs/examples/kernel.ts";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { packageRoot } from "../../src/host/native.ts";
import { fetchKernel } from "../../src/kernel/store.ts";
import { Lab } from "../../src/lab/lab.ts";
import { InstalledPackage } from "../package/installed.ts";

let user: InstalledPackage;
let lab: Lab;

beforeAll(async () => {
	user = new InstalledPackage();
	user.copy("docs/examples", "examples");
	const blocks = [...readFileSync(join(packageRoot(), "README.md"), "utf8").matchAll(/^```ts\n(.*?)^```$/gms)];
	expect(blocks).toHaveLength(1);
	writeFileSync(join(user.directory, "examples/readme.ts"), blocks[0]![1]!);
	expect(user.compile("examples", "node16")).toBe("");
	await fetchKernel("6.1-cloud");
	await ensureDemoImage("busybox");
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	lab = await Lab.up({ name: "package" });
});
afterAll(async () => {
	await lab?.down();
	user?.remove();
});

/** Runs a program in the lab. @returns what it printed @throws when it fails or complains */
async function run(program: string): Promise<string> {
	const options = { cwd: join(user.directory, "examples"), timeoutMs: 240_000 };
	const { status, stdout, stderr } = await lab.exec([process.execPath, program], options);
	if (status !== 0 || stderr.length > 0) throw new Error(`status ${status}: ${stdout}${stderr}`);
	return String(stdout);
}

test.each(["own-device", "faulty-disk", "container"])(
	"docs/examples/%s.ts prints what its last comment says",
	async (name) => {
		const source = readFileSync(join(packageRoot(), `docs/examples/${name}.ts`), "utf8");
		const expected = /\/\* Expected output:\n(.*)\*\/\n$/s.exec(source)?.[1];
		expect(expected, "the example ends with its expected output").toBeDefined();
		expect(await run(`${name}.js`)).toBe(expected);
	},
);

test("the README's program boots ./vmlinux and says how it ended", async () => {
	const hello = "hello from the kernel\n";
	const at = 0x2000000;
	writeKernel(join(user.directory, "examples/vmlinux"), text(at, hello), print(at, hello.length), powerOff());
	expect(await run("readme.js")).toBe(`${hello}guest powered off\n`);
});
