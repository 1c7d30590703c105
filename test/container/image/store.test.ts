import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { importImage } from "../../../src/container/image/import.ts";
import { rootfsPath } from "../../../src/container/image/rootfs.ts";
import { ImageStore } from "../../../src/container/image/store.ts";
import { type Member, ociLayout, packFiles, tar, useDirectory } from "./archives.ts";
import { builtRootfs } from "./built-rootfs.ts";

const directory = useDirectory();
const mounts: string[] = [];
afterEach(() => {
	for (const path of mounts.splice(0).reverse()) execFileSync("umount", [path]);
});
const isRoot = process.getuid!() === 0;

async function image(members: Member[]): Promise<string> {
	const data = await packFiles(ociLayout([await tar(members)]));
	return directory.file(`image-${Math.random()}.tar`, data);
}

/** Every path of the store with its size and time, to see that nothing changed. */
function snapshot(path: string): string[] {
	return readdirSync(path, { recursive: true, withFileTypes: true })
		.map((entry) => join(entry.parentPath, entry.name))
		.map((name) => `${name} ${statSync(name).size} ${statSync(name).mtimeMs}`)
		.sort();
}

describe("ImageStore", () => {
	test("find takes names in any spelling, digests and the beginning of an ID", async () => {
		const store = directory.store();
		const found = (
			await importImage(store, await image([{ name: "a" }]), {
				name: "docker.io/library/app:1",
			})
		)[0]!.image;
		for (const name of [
			"app:1",
			"library/app:1",
			"docker.io/app:1",
			`app@${found.digest}`,
			found.id,
			found.id.slice(7, 19),
			found.digest,
		]) {
			expect(store.find(name)).toEqual(found);
		}
		for (const name of ["app", "app:2", `other@${found.digest}`, "0000"]) {
			expect(() => store.find(name)).toThrow(expect.objectContaining({ code: "ERR_IMAGE_NOT_FOUND" }));
			expect(store.has(name)).toBe(false);
		}
	});

	test("find names similar images in its hint", async () => {
		const store = directory.store();
		const missing = (name: string) => {
			try {
				store.find(name);
			} catch (error) {
				return (error as { hint: string }).hint;
			}
			return "found";
		};
		expect(missing("busybox")).toContain("empty");
		await importImage(store, await image([{ name: "a" }]), { name: "busybox:1.36" });
		expect(missing("busybox")).toBe("Try busybox:1.36");
		expect(missing("bussybox:1.36")).toBe("Try busybox:1.36");
		expect(missing("postgres")).toContain("image ls");
	});

	test("looking up writes nothing", async () => {
		const store = directory.store();
		await importImage(store, await image([{ name: "a" }]), { name: "app" });
		await builtRootfs(store, store.find("app"));
		const before = snapshot(directory.path);
		const again = directory.store();
		expect(again.list()).toHaveLength(1);
		await builtRootfs(again, again.find("app"));
		expect(again.has("nothing")).toBe(false);
		expect(snapshot(directory.path)).toEqual(before);
	});

	test.runIf(isRoot)("works on a read-only file system, root file system included", async () => {
		const store = directory.store();
		await importImage(store, await image([{ name: "a" }]), { name: "app" });
		await builtRootfs(store, store.find("app"));
		const cache = join(directory.path, "cache");
		execFileSync("mount", ["--bind", cache, cache]);
		mounts.push(cache);
		execFileSync("mount", ["-o", "remount,bind,ro", cache]);
		const again = directory.store();
		expect((await builtRootfs(again, again.find("app"))).fstype).toBe("squashfs");
		await expect(importImage(again, await image([{ name: "b" }]), { name: "b" })).rejects.toMatchObject({
			code: "ERR_STORE_WRITE",
		});
		await expect(again.remove(["app"])).rejects.toMatchObject({ code: "ERR_STORE_WRITE" });
	});

	test("a newer import takes the name; the older image stays by its ID until it is removed", async () => {
		const store = directory.store();
		const [first] = await importImage(store, await image([{ name: "a", data: "1" }]), { name: "app" });
		const [second] = await importImage(store, await image([{ name: "a", data: "2" }]), { name: "app" });
		expect(store.find("app").digest).toBe(second!.image.digest);
		expect(store.list().map(({ names }) => names)).toEqual([["app:latest"], []]);
		expect(await store.remove([first!.image.id.slice(7, 19)])).toEqual([`Deleted: ${first!.image.id}`]);
		expect(store.list()).toHaveLength(1);
	});

	test("remove keeps blobs that another image has, and takes the root file system along", async () => {
		const store = directory.store();
		const shared = await tar([{ name: "shared", data: "x".repeat(1000) }]);
		const two = async (cmd: string) =>
			directory.file(cmd, await packFiles(ociLayout([shared], { run: { Cmd: [cmd] } })));
		const [one] = await importImage(store, await two("one"), { name: "one" });
		await importImage(store, await two("two"), { name: "two" });
		await importImage(store, await two("one"), { name: "alias" });
		await builtRootfs(store, store.find("one"));
		expect(await store.remove(["one"])).toEqual(["Untagged: one:latest"]);
		expect(existsSync(rootfsPath(store, one!.image))).toBe(true);
		expect(await store.remove(["alias"])).toEqual(["Untagged: alias:latest", `Deleted: ${one!.image.id}`]);
		expect(existsSync(rootfsPath(store, one!.image))).toBe(false);
		await builtRootfs(store, store.find("two"));
		await store.remove(["two"]);
		expect(readdirSync(join(store.directory, "blobs/sha256"))).toEqual([]);
		expect(readdirSync(store.rootfsDirectory)).toEqual([]);
	});

	test("remove of several names removes none when one is missing", async () => {
		const store = directory.store();
		await importImage(store, await image([{ name: "a" }]), { name: "app" });
		await expect(store.remove(["app", "nope"])).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
		expect(store.has("app")).toBe(true);
	});

	test("eight imports at once in this process and two in others all arrive", async () => {
		const store = directory.store();
		const same = await image([{ name: "same", data: "x".repeat(200_000) }]);
		const script = `
			import { importImage } from ${JSON.stringify(join(process.cwd(), "src/container/image/import.ts"))};
			import { ImageStore } from ${JSON.stringify(join(process.cwd(), "src/container/image/store.ts"))};
			const [, , path, directory, name] = process.argv;
			for (let i = 0; i < 5; i++) await importImage(new ImageStore(directory), path, { name: name + i });
		`;
		const file = directory.file("import.mts", Buffer.from(script));
		const run = (name: string) =>
			promisify(execFile)(process.execPath, ["--import", "tsx", file, same, store.directory, name]);
		const here = Array.from({ length: 8 }, async (_, i) => {
			const own = await image([{ name: "own", data: String(i) }]);
			await importImage(store, own, { name: `own${i}` });
			if (i % 2 === 0) await store.remove([`own${i}`]);
		});
		await Promise.all([...here, run("left"), run("right")]);
		const names = store.list().flatMap((one) => one.names);
		expect(names.sort()).toEqual(
			[1, 3, 5, 7]
				.map((i) => `own${i}:latest`)
				.concat([0, 1, 2, 3, 4].flatMap((i) => [`left${i}:latest`, `right${i}:latest`]))
				.sort(),
		);
		for (const one of store.list()) await builtRootfs(store, one);
		expect(readdirSync(join(store.directory, "staging"))).toEqual([]);
	}, 60_000);

	test("an import sweeps what a killed one left, but not what a living one writes", async () => {
		const store = directory.store();
		const living = await store.stage();
		await living.put([Buffer.from("blob")], "blob");
		mkdirSync(join(store.directory, "staging/dead"));
		writeFileSync(join(store.directory, "staging/dead/x"), "x");
		await importImage(store, await image([{ name: "a" }]), { name: "a" });
		expect(readdirSync(join(store.directory, "staging"))).toHaveLength(2);
		await living.discard();
		await importImage(store, await image([{ name: "b" }]), { name: "b" });
		expect(readdirSync(join(store.directory, "staging"))).toEqual([]);
	});

	test.runIf(isRoot)("a full disk is ERR_STORE_FULL and leaves the store as it was", async () => {
		const small = join(directory.path, "small");
		mkdirSync(small);
		execFileSync("mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", small]);
		mounts.push(small);
		const store = new ImageStore(join(small, "images"));
		await importImage(store, await image([{ name: "a", data: randomBytes(300_000) }]), { name: "fits" });
		const before = readdirSync(join(store.directory), { recursive: true }).sort();
		const big = await image([{ name: "a", data: Buffer.alloc(3_000_000, 1) }]);
		await expect(importImage(store, big, { name: "big" })).rejects.toMatchObject({ code: "ERR_STORE_FULL" });
		expect(readdirSync(join(store.directory), { recursive: true }).sort()).toEqual(before);
		writeFileSync(join(small, "filler"), Buffer.alloc(1_600_000));
		await expect(builtRootfs(store, store.find("fits"))).rejects.toMatchObject({ code: "ERR_STORE_FULL" });
		expect(readdirSync(store.rootfsDirectory)).toEqual([]);
	});

	test("a damaged record says which file it is", async () => {
		const store = directory.store();
		const found = (await importImage(store, await image([{ name: "a" }]), { name: "a" }))[0]!.image;
		writeFileSync(store.recordPath(found.digest), "{");
		expect(() => store.find("a")).toThrow(
			expect.objectContaining({ code: "ERR_STORE_READ", hint: expect.stringContaining("Delete") }),
		);
	});
});
