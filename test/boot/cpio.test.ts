import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { packCpio, S_IFCHR, S_IFDIR, S_IFLNK, S_IFREG } from "../../src/boot/cpio.ts";

const entries = [
	{ name: "dev", mode: S_IFDIR | 0o755 },
	{ name: "dev/console", mode: S_IFCHR | 0o600, major: 5, minor: 1 },
	{ name: "init", mode: S_IFREG | 0o755, data: Buffer.from("#!/bin/sh\n") },
	{ name: "link", mode: S_IFLNK | 0o777, data: Buffer.from("init") },
];

describe("packCpio", () => {
	it("packCpio writes what cpio reads", () => {
		const { stdout, status } = spawnSync("cpio", ["-itv", "--numeric-uid-gid"], {
			input: packCpio(entries),
			encoding: "utf8",
		});
		expect(status).toBe(0);
		const lines = stdout.trimEnd().split("\n");
		expect(lines.map((line) => line.split(/\s+/)[0])).toEqual(["drwxr-xr-x", "crw-------", "-rwxr-xr-x", "lrwxrwxrwx"]);
		expect(lines[1]).toMatch(/5,\s+1 .*dev\/console$/);
		expect(lines[3]).toMatch(/link -> init$/);
	});

	it("packCpio gives the same bytes for the same entries", () => {
		expect(packCpio(entries).equals(packCpio(entries))).toBe(true);
	});
});
