import { expect, test } from "vitest";
import { findTool, packageOf, toolMissing } from "../../src/host/tools.ts";

test("findTool gives the full path of a tool, and of none that is not here", () => {
	expect(findTool("sh")).toMatch(/^\/.*\/sh$/);
	expect(findTool("/bin/sh")).toBe("/bin/sh");
	expect(findTool("/bin")).toBeUndefined();
	expect(findTool("tsvmm-no-such-tool")).toBeUndefined();
});

test("packageOf names the Debian package that has a tool", () => {
	expect(packageOf("mkfs.erofs")).toBe("erofs-utils");
	expect(packageOf("bash")).toBe("bash");
	expect(toolMissing("mkfs.ext4").hint).toBe("Install it: apt-get install e2fsprogs");
});
