import { existsSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { labEnvironment } from "../../src/lab/environment.ts";
import { commonShares, enterArguments, isWithin, outputShare, parseShare } from "../../src/lab/shares.ts";

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

describe("parseShare", () => {
	it("parseShare takes a path, relative to the working directory, and :ro", () => {
		expect(parseShare("src")).toEqual({ path: resolve("src"), access: "rw" });
		expect(parseShare("/usr/../etc:ro")).toEqual({ path: "/etc", access: "ro" });
	});

	it.each([
		["no/such:ro", "no such file or directory"],
		["package.json/file", "not a directory"],
		["/dev/kvm", "it has its own there"],
		["/usr/../run", "it has its own there"],
	])("parseShare refuses %s", (text, why) => {
		expect(() => parseShare(text)).toThrow(expect.objectContaining({ code: "ERR_LAB_SHARE" }));
		expect(() => parseShare(text)).toThrow(why);
	});
});

describe("commonShares", () => {
	it("commonShares has the system to read, temporary files to write, of home and working directory only that they are", () => {
		const shares = new Map(commonShares().map(({ path, access }) => [path, access]));
		for (const [path, access] of [
			["/usr", "ro"],
			["/tmp", "rw"],
			[tmpdir(), "rw"],
			[homedir(), "directory"],
		] as const) {
			expect([path, shares.get(path)]).toEqual([path, access]);
		}
		for (const path of ["/", "/home", "/root/.ssh", "/var", "/srv"])
			expect(["ro", "rw"]).not.toContain(shares.get(path));
	});
});

describe("outputShare", () => {
	it("outputShare makes the file, since only its directory could be shared otherwise, or leaves the fault to the command", () => {
		const directory = mkdtempSync(join(tmpdir(), "shares-"));
		try {
			const path = join(directory, "console");
			expect(outputShare(path)).toEqual({ path, access: "rw" });
			expect(existsSync(path)).toBe(true);
			expect(outputShare(join(directory, "no/such")).access).toBe("rw");
		} finally {
			rmSync(directory, { recursive: true });
		}
	});
});
