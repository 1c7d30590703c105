import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { fsConfigs, shareSteps } from "../../src/container/shares.ts";

const directory = mkdtempSync(join(tmpdir(), "shares-"));
afterAll(() => rmSync(directory, { recursive: true }));
const file = join(directory, "file");
writeFileSync(file, "");
symlinkSync("file", join(directory, "link"));

test("a directory is mounted on its target", () => {
	const shares = [{ source: directory, target: "/work", readOnly: true }];
	expect(fsConfigs(shares)).toEqual([{ tag: "share0", id: "share0", path: directory, readOnly: true }]);
	expect(shareSteps(shares)).toEqual([["mount", "virtiofs\tshare0\t/work\tro"]]);
});

test("a single file is bound from its own directory, which is hidden; a link is the file that it leads to", () => {
	const shares = [
		{ source: file, target: "/etc/a" },
		{ source: join(directory, "link"), target: "/etc/b" },
	];
	expect(shareSteps(shares)).toEqual([
		["mount", "virtiofs\tshare0\t/dev/.tsvmm/share0\trw"],
		["file", "/etc/a\t644\t"],
		["mount", "\t/dev/.tsvmm/share0/file\t/etc/a\tbind"],
		["mount", "virtiofs\tshare1\t/dev/.tsvmm/share1\trw"],
		["file", "/etc/b\t644\t"],
		["mount", "\t/dev/.tsvmm/share1/file\t/etc/b\tbind"],
		["mask", "/dev/.tsvmm"],
	]);
});

test("a directory that is filled is mounted aside first, and bound to its target then", () => {
	const shares = [{ source: directory, target: "/work", fill: true }];
	expect(shareSteps(shares)).toEqual([
		["mount", "virtiofs\tshare0\t/dev/.tsvmm/share0\trw"],
		["fill", "/work\t/dev/.tsvmm/share0"],
		["mount", "\t/dev/.tsvmm/share0\t/work\tbind"],
		["mask", "/dev/.tsvmm"],
	]);
});

test.each(["work", "/", "", "/a\tb", "/a\nb"])("the target %j is refused", (target) => {
	expect(() => shareSteps([{ source: directory, target }])).toThrow(expect.objectContaining({ code: "ERR_RUN_SHARE" }));
});
