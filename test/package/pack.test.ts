import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { InstalledPackage } from "./installed.ts";

/* Each start of npm takes its time on a busy machine. */
vi.setConfig({ testTimeout: 120_000 });

let user: InstalledPackage;
beforeAll(() => {
	user = new InstalledPackage();
}, 300_000);
afterAll(() => user?.remove());

test("the package holds what runs, the helper's source and nothing else", () => {
	const top = user.packed.files.filter((path) => !path.startsWith("dist/lib/"));
	const native = top.filter((path) => path.startsWith("native/"));
	expect(native.filter((path) => !/\.[ch]$/.test(path))).toEqual([]);
	expect(native).toContain("native/runloop.c");
	const labs = top.filter((path) => path.startsWith("docs/labs/"));
	expect(labs.filter((path) => !/^docs\/labs\/(\d\d-[\w-]+\/)?(README\.md|start\.ts)$/.test(path))).toEqual([]);
	expect(labs).toContain("docs/labs/01-hello/start.ts");
	const page = top.filter((path) => path.startsWith("dist/inspector/"));
	expect(page.filter((path) => !/\.(html|css|js|svg)$/.test(path))).toEqual([]);
	expect(page).toEqual(expect.arrayContaining(["dist/inspector/index.html", "dist/inspector/main.js"]));
	expect(top.filter((path) => !/^(native|docs|dist\/inspector)\//.test(path)).sort()).toEqual([
		"CHANGELOG.md",
		"LICENSE",
		"README.md",
		"SECURITY.md",
		"binding.gyp",
		"dist/commands.cjs",
		"dist/containerd-shim-tsvmm-v2.js",
		"dist/late.cjs",
		"dist/machine.cjs",
		"dist/main.cjs",
		"dist/package.json",
		"dist/stand-in",
		"dist/tsvmm-oci.js",
		"dist/tsvmm.1",
		"dist/tsvmm.js",
		"dist/undici.cjs",
		"dist/user-module.cjs",
		"guests/kernel/minimal.config",
		"guests/lab/enter",
		"guests/lab/init",
		"guests/lab/tree",
		"guests/out/agent",
		"package.json",
		"prebuilds/linux-x64/tsvmm.glibc.node",
	]);
	const library = user.packed.files.filter((path) => path.startsWith("dist/lib/"));
	expect(library.filter((path) => !/\.(js|d\.ts)$/.test(path))).toEqual(["dist/lib/package.json"]);
	expect(library.filter((path) => path.startsWith("dist/lib/cli/"))).toEqual([]);
	for (const entry of ["index", "virtio", "kvm"]) {
		expect(library).toEqual(expect.arrayContaining([`dist/lib/${entry}.js`, `dist/lib/${entry}.d.ts`]));
	}
});

test("the package is small", () => {
	expect(user.packed.packedBytes).toBeLessThan(1.75 * 1024 * 1024);
	expect(user.packed.unpackedBytes).toBeLessThan(6 * 1024 * 1024);
});

test("what the package imports is built in or a dependency of its own", () => {
	const installed = join(user.directory, "node_modules/tsvmm");
	const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
	const known = [...Object.keys(dependencies), ...builtinModules];
	const foreign = user.packed.files
		.filter((path) => path.endsWith(".js"))
		.flatMap((path) => {
			const text = readFileSync(join(installed, path), "utf8").replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
			const named = [...text.matchAll(/(?:\bfrom |\bimport |\bimport\(|\brequire\()["']([\w@][^"']*)["']/g)];
			return named.map(([, name]) => name!.replace(/^node:/, "").split("/")[0]!);
		});
	expect(foreign.length).toBeGreaterThan(50);
	expect([...new Set(foreign)].filter((name) => !known.includes(name))).toEqual([]);
});

test.each(["node16", "bundler"] as const)(
	"docs/examples compile against the package with module resolution %s",
	(resolution) => {
		user.copy("docs/examples", `examples-${resolution}`);
		expect(user.compile(`examples-${resolution}`, resolution)).toBe("");
	},
);

test("each public entry can be imported", () => {
	const script = [
		'import { Machine } from "tsvmm";',
		'import { RngDevice } from "tsvmm/virtio";',
		'import { Kvm } from "tsvmm/kvm";',
		"console.log(Machine.name, RngDevice.name, Kvm.name);",
	];
	expect(user.run(process.execPath, ["--input-type=module", "-e", script.join("\n")])).toBe("Machine RngDevice Kvm\n");
});

test("npx tsvmm runs from the installed package", () => {
	expect(user.run("npx", ["--no-install", "tsvmm", "--version"])).toMatch(/^\d+\.\d+\.\d+ \(commit [0-9a-f]{12}/);
	const { verdict, findings } = JSON.parse(user.run("npx", ["--no-install", "tsvmm", "doctor", "--json"]));
	expect(["direct", "lab"]).toContain(verdict);
	const status = (name: string) => findings.find((finding: { name: string }) => finding.name === name)?.status;
	expect([status("native helper"), status("guest agent")]).toEqual(["ok", "ok"]);
});

test("where the prebuilt helper does not load, the install script builds it from its source", () => {
	const installed = join(user.directory, "node_modules/tsvmm");
	rmSync(join(installed, "prebuilds"), { recursive: true });
	user.run("npm", ["rebuild", "tsvmm"]);
	writeFileSync(join(user.directory, "disk"), Buffer.alloc(512));
	const script = [
		'import { FileDisk } from "tsvmm";',
		'const disk = FileDisk.open("disk");',
		"console.log(await new Promise((done) => {",
		"	disk.start((_token, result) => done(result));",
		"	disk.flush(0);",
		"	disk.submit();",
		"}));",
		"await disk.close();",
	];
	expect(user.run(process.execPath, ["--input-type=module", "-e", script.join("\n")])).toBe("ok\n");
	expect(user.run("npx", ["--no-install", "tsvmm", "doctor", "--json"])).toMatch(
		/"name": "native helper",\s*"status": "ok"/,
	);
});
