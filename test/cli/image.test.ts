import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { imageCommand } from "../../src/cli/image.ts";
import { age, size } from "../../src/cli/units.ts";
import { dockerArchive, packFiles, tar } from "../container/image/archives.ts";

let directory = "";
let archive = "";
beforeEach(async () => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-cli-image-"));
	vi.stubEnv("TSVMM_CACHE", join(directory, "cache"));
	archive = join(directory, "app.tar");
	writeFileSync(
		archive,
		await packFiles(dockerArchive([await tar([{ name: "a", data: "x".repeat(1500) }])], ["app:1", "app:2"])),
	);
});
afterEach(() => {
	vi.unstubAllEnvs();
	rmSync(directory, { recursive: true, force: true });
});

/** What `tsvmm image ARGS` writes on stdout. */
async function image(...args: string[]): Promise<string> {
	let text = "";
	const write = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
		text += chunk;
		return true;
	});
	try {
		await imageCommand().exitOverride().parseAsync(args, { from: "user" });
	} finally {
		write.mockRestore();
	}
	return text;
}

test("image import, ls, inspect and rm tell one story", async () => {
	expect(await image("import", archive)).toBe("Imported: app:1\nImported: app:2\n");
	const id = JSON.parse(await image("inspect", "app:1"))[0].Id as string;
	const row = (tag: string) => new RegExp(`^app          ${tag}         ${id.slice(7, 19)}   \\d+ years ago   1.5kB$`);
	const lines = (await image("ls")).split("\n");
	expect(lines[0]).toMatch(/^REPOSITORY +TAG +IMAGE ID +CREATED +SIZE$/);
	expect(lines[1]).toMatch(row("1"));
	expect(lines[2]).toMatch(row("2"));
	expect(JSON.parse(await image("ls", "--json"))[0]).toMatchObject({
		id,
		names: ["app:1", "app:2"],
		config: { cmd: ["sh"] },
	});
	expect(await image("rm", "app:1", "app:2")).toBe(`Untagged: app:1\nUntagged: app:2\nDeleted: ${id}\n`);
	expect(await image("ls")).toBe("REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n");
});

test("image ls removes what a killed build has left", async () => {
	await image("import", archive);
	const rootfs = join(directory, "cache/rootfs");
	mkdirSync(rootfs);
	writeFileSync(join(rootfs, ".killed"), "");
	await image("ls");
	expect(readdirSync(rootfs)).toEqual([]);
});

test("image import takes standard input when it is told -", () => {
	const script = `
		import { imageCommand } from ${JSON.stringify(join(process.cwd(), "src/cli/image.ts"))};
		await imageCommand().parseAsync(["import", "-", "piped:1"], { from: "user" });
	`;
	const file = join(directory, "run.mts");
	writeFileSync(file, script);
	const input = execFileSync("gzip", ["-c", archive]);
	expect(String(execFileSync(process.execPath, ["--import", "tsx", file], { input }))).toBe("Imported: piped:1\n");
});

test("image rm of what is not there says so", async () => {
	await expect(image("rm", "nope")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
});

test.each([
	[undefined, "N/A"],
	["nonsense", "N/A"],
	["2024-06-15T11:59:59.5Z", "just now"],
	["2024-06-15T11:59:59Z", "1 second ago"],
	["2024-06-15T09:00:00Z", "3 hours ago"],
	["2024-06-07T12:00:00Z", "8 days ago"],
	["2024-05-20T12:00:00Z", "3 weeks ago"],
	["2024-01-15T12:00:00Z", "5 months ago"],
	["2020-01-01T00:00:00Z", "4 years ago"],
])("age of %s is %s", (created, text) => {
	expect(age(created, Date.parse("2024-06-15T12:00:00Z"))).toBe(text);
});

test.each([
	[0, "0B"],
	[999, "999B"],
	[1950, "1.95kB"],
	[1_950_000, "1.95MB"],
	[294_014_976, "294MB"],
	[5_000_000_000_000, "5TB"],
])("size of %d is %s", (bytes, text) => {
	expect(size(bytes)).toBe(text);
});
