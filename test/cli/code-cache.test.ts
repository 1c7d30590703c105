/*
 * V8's code of the command line, as commands write it and read it (src/host/code-cache.ts).
 */
import {
	chmodSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { bundle, type Outcome, tsvmm } from "./tsvmm.ts";

let cache: string;
const directory = () => join(cache, "code");
const files = () => (existsSync(directory()) ? readdirSync(directory()) : []);
const version = (env: Record<string, string> = {}): Promise<Outcome> =>
	tsvmm(["--version"], { env: { NODE_OPTIONS: "", TSVMM_CACHE: cache, ...env } });

beforeAll(bundle, 120_000);
beforeEach(() => {
	cache = mkdtempSync(join(tmpdir(), "tsvmm-code-"));
});
afterEach(() => {
	rmSync(cache, { recursive: true, force: true });
});

test("the first command writes its code for its user alone, and later ones leave it", async () => {
	expect((await version()).status).toBe(0);
	const [name, ...others] = files();
	expect(name).toMatch(new RegExp(`^[0-9a-f]{16}-${process.version}-x64-main\\.cache$`));
	expect(others).toEqual([]);
	expect(statSync(directory()).mode & 0o777).toBe(0o700);
	const path = join(directory(), name!);
	const written = statSync(path);
	expect(written.mode & 0o777).toBe(0o600);
	expect((await version()).stdout).toMatch(/^\d+\.\d+\.\d+ /);
	expect(statSync(path)).toMatchObject({ ino: written.ino, mtimeMs: written.mtimeMs });
});

test("code that others can write, a symbolic link to code, and damaged code are replaced", async () => {
	await version();
	const path = join(directory(), files()[0]!);
	const good = readFileSync(path);
	const aside = join(cache, "aside");
	writeFileSync(aside, good, { mode: 0o600 });
	const damaged = Buffer.from(good);
	damaged.fill(0x5a, 64, 96);
	/* V8 would abort at that. */
	const flipped = Buffer.from(good);
	for (let at = 1000; at < flipped.length; at += 4096) flipped[at]! ^= 0xff;
	const spoilt: (() => void)[] = [
		() => chmodSync(path, 0o666),
		() => symlinkSync(aside, path),
		() => writeFileSync(path, damaged, { mode: 0o600 }),
		() => writeFileSync(path, flipped, { mode: 0o600 }),
		() => writeFileSync(path, good.subarray(0, 1000), { mode: 0o600 }),
		() => writeFileSync(path, Buffer.concat([Buffer.alloc(64, "0"), good.subarray(64)]), { mode: 0o600 }),
	];
	for (const spoil of spoilt) {
		if (spoil !== spoilt[0]) rmSync(path);
		spoil();
		const { status, stderr } = await version();
		expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
		const found = statSync(path);
		expect(found.mode & 0o777).toBe(0o600);
		expect(readFileSync(path).subarray(0, 64)).toEqual(good.subarray(0, 64));
		expect(found.size).toBeGreaterThan(100_000);
	}
});

test("a command that fails, and one with flags of V8, write none", async () => {
	expect((await tsvmm(["boot", "--kernel", "/none"], { env: { NODE_OPTIONS: "", TSVMM_CACHE: cache } })).status).toBe(
		125,
	);
	expect((await version({ NODE_OPTIONS: "--max-old-space-size=512" })).status).toBe(0);
	expect(files()).toEqual([]);
});

test("a command needs no cache that it can write", async () => {
	writeFileSync(join(cache, "code"), "");
	expect(await version()).toMatchObject({ status: 0, stderr: "" });
	expect(await version({ TSVMM_CACHE: "/proc/none" })).toMatchObject({ status: 0, stderr: "" });
});

test("the 48 newest files stay", async () => {
	mkdirSync(directory(), { mode: 0o700 });
	for (let i = 0; i < 60; i++) writeFileSync(join(directory(), `old-${i}`), "");
	await version();
	expect(files()).toHaveLength(48);
	expect(files().filter((name) => !name.startsWith("old-"))).toHaveLength(1);
});
