/* Files of users: types taken out, tsvmm's modules shared, lines kept, loaded anew. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { importUserModule } from "../../src/host/user-module.ts";
import * as virtio from "../../src/virtio.ts";
import { bundle } from "../cli/tsvmm.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-user-"));
beforeAll(bundle, 60_000);
afterAll(() => rmSync(directory, { recursive: true }));

const MODULES = { "tsvmm/virtio": () => Promise.resolve(virtio) };

function file(name: string, text: string): string {
	const path = join(directory, name);
	writeFileSync(path, text);
	return path;
}

test("importUserModule: types go, and tsvmm's classes are those of this process", async () => {
	const path = file(
		"device.ts",
		[
			'import { Segments, type VirtioDevice } from "tsvmm/virtio";',
			'import { basename } from "node:path";',
			"interface Shape<T> { readonly of: T }",
			"export class Own { readonly #it: Shape<number> = { of: 3 }; get it(): number { return this.#it.of!; } }",
			"export const device: VirtioDevice | undefined = undefined;",
			'export const found = { Segments, name: basename("/a/b" as string) };',
		].join("\n"),
	);
	const module = await importUserModule(path, MODULES);
	expect(module.found).toEqual({ Segments: virtio.Segments, name: "b" });
	expect(new (module.Own as new () => { it: number })().it).toBe(3);
});

test("importUserModule: an error has the lines of the file", async () => {
	const path = file("throws.ts", "interface Long {\n\tof: string;\n}\n\nexport const x: Long = null!;\nx.of.trim();\n");
	const error = await importUserModule(path, MODULES).catch((reason: unknown) => reason);
	expect((error as Error).stack).toMatch(/throws\.ts:6:\d+/);
});

test("importUserModule: text that is no TypeScript is refused with its place", async () => {
	const path = file("broken.ts", "const a = 1;\nconst b = = 2;\n");
	await expect(importUserModule(path, MODULES)).rejects.toThrow(`${path}:2:11: Unexpected token`);
});

test("importUserModule: another version loads a file anew, with those that it imports", async () => {
	const part = (text: string) => file("part.ts", `export const part: string = "${text}";\n`);
	part("old");
	const path = file("whole.ts", 'export { part } from "./part.ts";\n');
	expect((await importUserModule(path, MODULES, 1)).part).toBe("old");
	part("new");
	expect((await importUserModule(path, MODULES, 1)).part).toBe("old");
	expect((await importUserModule(path, MODULES, 2)).part).toBe("new");
});

test("importUserModule: an export that tsvmm does not have is named", async () => {
	const path = file("wrong.ts", 'import { Disk } from "tsvmm/virtio";\nconsole.log(Disk);\n');
	await expect(importUserModule(path, MODULES)).rejects.toThrow(/'tsvmm\/virtio'.*'Disk'/);
});
