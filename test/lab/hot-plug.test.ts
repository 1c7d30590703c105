/* Devices that come to a running Linux guest and go again. */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { LOOP } from "./guest-shell.ts";
import { testInitrd } from "./initrd.ts";
import { type KernelChoice, Linux, testKernel } from "./linux.ts";

/* Beside the command line's bundle, from where the native helper and koffi are found. */
const program = join(packageRoot(), `dist/hot-plug-${process.pid}.mjs`);
let linux: Linux;

beforeAll(async () => {
	linux = await Linux.up("hot-plug");
	await build({
		entryPoints: [join(import.meta.dirname, "hot-plug-machine.ts")],
		outfile: program,
		bundle: true,
		platform: "node",
		format: "esm",
		target: "node20",
		external: ["koffi", "node-gyp-build", "*.node"],
		banner: {
			js: 'import { createRequire as bundleRequire } from "node:module";\nvar require = bundleRequire(import.meta.url);',
		},
		logLevel: "warning",
	});
});
afterAll(async () => {
	rmSync(program, { force: true });
	await linux?.down();
});

const KERNELS: KernelChoice[] = ["minimal", "6.12-cloud"];

describe.each(KERNELS)("Machine.addDevice under %s", (choice) => {
	test("a disk comes, works, and goes once the guest unbinds its driver", async () => {
		const kernel = await testKernel(choice);
		const text = Buffer.from(LOOP);
		const script = join(linux.folder, `loop-${choice}`);
		writeFileSync(script, Buffer.concat([text, Buffer.alloc(512 - (text.length % 512))]));
		const command = [process.execPath, program, kernel.vmlinux, await testInitrd(kernel), script];
		const { status, stdout, stderr } = await linux.lab.exec(command, { cwd: linux.folder, timeoutMs: 240_000 });
		expect({ status, stderr: String(stderr) }).toEqual({ status: 0, stderr: "" });
		const seen = JSON.parse(String(stdout)) as Record<string, string>;
		const [read, wrote] = seen.io!.split("\n");
		expect(read).toBe(wrote);
		expect(seen).toMatchObject({
			start: "vda",
			added: "vda vdb",
			serial: "one",
			asked: "vda vdb",
			acpi: "0",
			waiting: "waits",
			unbound: "removed",
			gone: "vda",
			second: "vda vdb",
			place: "LNRO0005:02",
			forced: "alive",
			complaints: "",
			ids: "script",
		});
	});
});
