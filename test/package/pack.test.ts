import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { type Package, pack } from "./pack.ts";

const folder = mkdtempSync(join(tmpdir(), "package-"));
const user = join(folder, "user");
let packed: Package;

/** Runs a command as the package's user. */
const run = (command: string, args: string[]) =>
	execFileSync(command, args, { cwd: user, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });

beforeAll(() => {
	packed = pack(folder);
	mkdirSync(user);
	writeFileSync(join(user, "package.json"), '{ "type": "module" }');
	run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", packed.path, typesOfNode()]);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** The version that the repository itself has. */
function typesOfNode(): string {
	const { devDependencies } = JSON.parse(readFileSync(join(packageRoot(), "package.json"), "utf8"));
	return `@types/node@${devDependencies["@types/node"]}`;
}

test("the package holds what runs, the helper's source and nothing else", () => {
	const top = packed.files.filter((path) => !path.startsWith("dist/lib/"));
	const native = top.filter((path) => path.startsWith("native/"));
	expect(native.filter((path) => !/\.[ch]$/.test(path))).toEqual([]);
	expect(native).toContain("native/runloop.c");
	expect(top.filter((path) => !path.startsWith("native/")).sort()).toEqual([
		"CHANGELOG.md",
		"LICENSE",
		"README.md",
		"SECURITY.md",
		"binding.gyp",
		"dist/tsvmm.1",
		"dist/tsvmm.js",
		"guests/kernel/minimal.config",
		"guests/lab/enter",
		"guests/lab/init",
		"guests/out/agent",
		"package.json",
		"prebuilds/linux-x64/tsvmm.glibc.node",
	]);
	const library = packed.files.filter((path) => path.startsWith("dist/lib/"));
	expect(library.filter((path) => !/\.(js|d\.ts)$/.test(path))).toEqual([]);
	expect(library.filter((path) => path.startsWith("dist/lib/cli/"))).toEqual([]);
	for (const entry of ["index", "virtio", "kvm"]) {
		expect(library).toEqual(expect.arrayContaining([`dist/lib/${entry}.js`, `dist/lib/${entry}.d.ts`]));
	}
});

test("the package is small", () => {
	expect(packed.packedBytes).toBeLessThan(1024 * 1024);
	expect(packed.unpackedBytes).toBeLessThan(4 * 1024 * 1024);
});

test("what the package imports is built in or a dependency of its own", () => {
	const installed = join(user, "node_modules/tsvmm");
	const { dependencies } = JSON.parse(readFileSync(join(installed, "package.json"), "utf8"));
	const known = [...Object.keys(dependencies), ...builtinModules];
	const foreign = packed.files
		.filter((path) => path.endsWith(".js"))
		.flatMap((path) => {
			const text = readFileSync(join(installed, path), "utf8").replace(/^\s*(\/\/|\*|\/\*).*$/gm, "");
			const named = [...text.matchAll(/(?:\bfrom |\bimport |\bimport\(|\brequire\()["']([\w@][^"']*)["']/g)];
			return named.map(([, name]) => name!.replace(/^node:/, "").split("/")[0]!);
		});
	expect(foreign.length).toBeGreaterThan(50);
	expect([...new Set(foreign)].filter((name) => !known.includes(name))).toEqual([]);
});

test("npx tsvmm runs from the installed package", () => {
	expect(run("npx", ["--no-install", "tsvmm", "--version"])).toMatch(/^\d+\.\d+\.\d+ \(commit [0-9a-f]{12}/);
	const { verdict, findings } = JSON.parse(run("npx", ["--no-install", "tsvmm", "doctor", "--json"]));
	expect(["direct", "lab"]).toContain(verdict);
	const status = (name: string) => findings.find((finding: { name: string }) => finding.name === name)?.status;
	expect([status("native helper"), status("guest agent")]).toEqual(["ok", "ok"]);
});

test("where the prebuilt helper does not load, the install script builds it from its source", () => {
	const installed = join(user, "node_modules/tsvmm");
	rmSync(join(installed, "prebuilds"), { recursive: true });
	run("npm", ["rebuild", "tsvmm"]);
	const script = 'import { Kvm } from "tsvmm/kvm"; const kvm = Kvm.open(); console.log(typeof kvm.fd); kvm.close();';
	expect(run(process.execPath, ["--input-type=module", "-e", script])).toBe("number\n");
	expect(run("npx", ["--no-install", "tsvmm", "doctor", "--json"])).toMatch(
		/"name": "native helper",\s*"status": "ok"/,
	);
}, 120_000);
