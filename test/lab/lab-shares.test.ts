import { realpathSync } from "node:fs";
import { dirname } from "node:path";
import { describe, expect, it } from "vitest";
import { enterArguments, isWithin, labEnvironment } from "../../src/lab/shares.ts";

describe("labEnvironment", () => {
	it("labEnvironment drops what points to this host or slows node down, and keeps the rest", () => {
		const host = {
			HOME: "/home/me",
			PATH: "/bin",
			TERM: "xterm",
			TSVMM_CACHE: "/c",
			TSVMM_RUNTIME: "/r",
			TSVMM_HOST: "lab",
			XDG_RUNTIME_DIR: "/run/user/1",
			SSH_AUTH_SOCK: "/x",
			NODE_EXTRA_CA_CERTS: "/ca",
			UNSET: undefined,
		};
		expect(labEnvironment(host)).toEqual({
			HOME: "/home/me",
			PATH: "/bin",
			TERM: "xterm",
			TSVMM_CACHE: "/c",
			TSVMM_RUNTIME: "/run/tsvmm",
			TSVMM_HOST: "direct",
			TSVMM_LAB: "1",
		});
	});
});

describe("isWithin", () => {
	it("isWithin compares whole path components", () => {
		expect(isWithin("/usr", "/usr")).toBe(true);
		expect(isWithin("/usr/bin", "/usr")).toBe(true);
		expect(isWithin("/usrlocal", "/usr")).toBe(false);
		expect(isWithin("/anything", "/")).toBe(true);
	});
});

describe("enterArguments", () => {
	it("enterArguments caches the system and the directory of node, each once", () => {
		const args = enterArguments();
		const system = args.slice(0, args.indexOf("--"));
		expect(system).toContain("/usr");
		expect(system).toContain("/etc");
		const node = dirname(realpathSync(process.execPath));
		expect(system.filter((directory) => isWithin(node, directory))).toHaveLength(1);
		expect(new Set(system).size).toBe(system.length);
	});
});
