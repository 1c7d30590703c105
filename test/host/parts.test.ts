/*
 * Parts of the program, as host/parts.ts loads them, and the bundles that scripts/bundles.mjs has made of ours.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { partLoader } from "../../src/host/parts.ts";
import { bundle } from "../cli/tsvmm.ts";

let directory: string;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-parts-"));
});
afterEach(() => rmSync(directory, { recursive: true }));

function write(name: string, parts: Record<string, string>): void {
	const functions = Object.entries(parts).map(
		([part, body]) => `${JSON.stringify(part)}: function (require, $part, $exports, bundleUrl) { ${body} }`,
	);
	writeFileSync(join(directory, `${name}.cjs`), `({ ${functions.join(",\n")} })\n// ${"0".repeat(64)}`);
}

test("partLoader runs a part once, and reads a bundle when one of its parts is asked for", () => {
	globalThis.ran = [];
	write("one", {
		a: `ran.push("a"); Object.assign($exports, { Shared: class {}, b: () => $part("two:b") });`,
		c: `ran.push("c"); const { Shared } = $part("one:a"); Object.assign($exports, { made: new Shared() });`,
	});
	const load = partLoader(directory, "main", () => undefined);
	const { Shared, b } = load("one:a") as { Shared: new () => object; b: () => { made: object } };
	expect(() => b()).toThrow("ENOENT");
	write("two", { b: `ran.push("b"); Object.assign($exports, { made: new ($part("one:a").Shared)() });` });
	expect([b().made, (load("one:c") as { made: object }).made].map((made) => made instanceof Shared)).toEqual([
		true,
		true,
	]);
	expect(b()).toBe(load("two:b"));
	expect(globalThis.ran).toEqual(["a", "b", "c"]);
});

test("partLoader gives a part its bundle's URL and the modules of Node", () => {
	write("one", { a: `Object.assign($exports, { url: bundleUrl, found: require("node:x") });` });
	const load = partLoader(directory, "main", (name) => `module ${name}`);
	expect(load("one:a")).toEqual({ url: `file://${directory}/one.cjs`, found: "module node:x" });
});

test("partLoader says so when a bundle has been replaced, and runs a part that has thrown once more", () => {
	write("one", { a: "", c: `throw new Error("first");` });
	const load = partLoader(directory, "main", () => undefined);
	expect(() => load("one:b")).toThrow("Cannot load one.cjs: tsvmm has changed since it was started");
	expect(() => load("one:toString")).toThrow("Cannot load one.cjs");
	expect(() => load("one:c")).toThrow("first");
	expect(() => load("one:c")).toThrow("first");
});

test("a class is in one bundle once, so that instanceof holds in all parts", { timeout: 120_000 }, () => {
	bundle();
	const dist = join(packageRoot(), "dist");
	const all = ["main", "machine", "commands", "late"]
		.map((name) => readFileSync(join(dist, `${name}.cjs`), "utf8"))
		.join("");
	const classes = ["TsvmmError", "UsageError", "GuestMemory", "Machine", "Vcpu", "AgentClient", "ContainerStore"];
	const count = (name: string) => all.split(new RegExp(`\\bvar ${name}=class\\b`)).length - 1;
	expect(Object.fromEntries(classes.map((name) => [name, count(name)]))).toEqual(
		Object.fromEntries(classes.map((name) => [name, 1])),
	);
});

test("a part gives all that it has, whatever follows it and whatever kind of package it is", {
	timeout: 120_000,
}, () => {
	bundle();
	const dist = join(packageRoot(), "dist");
	/* Behind the shim's own export are licenses. */
	const shim = join(dist, "containerd-shim-tsvmm-v2.js");
	expect(execFileSync(process.execPath, [shim, "-v"], { encoding: "utf8" })).toMatch(
		/^io\.containerd\.tsvmm\.v2 version /,
	);
	const [, part] = /"(cli-progress-\w+)": function/.exec(readFileSync(join(dist, "commands.cjs"), "utf8"))!;
	const bars = partLoader(dist, "main", createRequire(import.meta.url))(`commands:${part}`);
	expect(bars).toMatchObject({ SingleBar: expect.any(Function), default: { MultiBar: expect.any(Function) } });
});

test("no part that a supervisor loads asks a server by TLS (container/life/launch.ts)", () => {
	bundle();
	const dist = join(packageRoot(), "dist");
	for (const name of ["main", "machine"]) {
		expect(readFileSync(join(dist, `${name}.cjs`), "utf8")).not.toMatch(/undici|node:(tls|https)/);
	}
});

declare global {
	var ran: string[];
}
