import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { describeImage, historyOf } from "../../../src/container/image/describe.ts";
import { importImage } from "../../../src/container/image/import.ts";
import { saveImages } from "../../../src/container/image/save.ts";
import { ImageStore } from "../../../src/container/image/store.ts";
import { ociLayout, packFiles, tar, useDirectory } from "./archives.ts";

const directory = useDirectory();

async function bringIn(store: ImageStore, name: string, text = name, config: Record<string, unknown> = {}) {
	const layers = [await tar([{ name: "a", data: text.repeat(1000) }]), await tar([{ name: "b", data: text }])];
	const archive = directory.file("app.tar", await packFiles(ociLayout(layers, { compress: gzipSync, config })));
	return (await importImage(store, archive, { name }))[0]!.image;
}

async function save(store: ImageStore, ...names: string[]): Promise<string> {
	const chunks: Buffer[] = [];
	for await (const chunk of saveImages(store, names)) chunks.push(chunk);
	return directory.file("saved.tar", Buffer.concat(chunks));
}

test("saveImages: what is saved is loaded with the same digests and names", async () => {
	const store = directory.store();
	const one = await bringIn(store, "one:1");
	const two = await bringIn(store, "localhost:5000/two:2");
	await store.tag("one:1", "one:also");
	const saved = await save(store, "one:1", "localhost:5000/two:2", "one:also");
	const other = new ImageStore(join(directory.path, "other/images"));
	await importImage(other, saved);
	expect(other.list()).toMatchObject([
		{ digest: two.digest, id: two.id, names: ["localhost:5000/two:2"] },
		{ digest: one.digest, id: one.id, names: ["one:1", "one:also"] },
	]);
	/* One name out of the archive, by what it is called there. */
	await other.remove([one.id, two.id]);
	await importImage(other, saved, { name: "one:also" });
	expect(other.list()).toMatchObject([{ digest: one.digest, names: ["one:also"] }]);
});

test("saveImages: an image that is given by ID has no name, and is loaded without", async () => {
	const store = directory.store();
	const { id, digest } = await bringIn(store, "one:1");
	const saved = await save(store, id.slice(7, 19));
	const other = new ImageStore(join(directory.path, "other/images"));
	await expect(async () => importImage(other, readStream(saved))).rejects.toMatchObject({
		code: "ERR_IMAGE_REFERENCE",
	});
	expect(await importImage(other, saved, { nameless: true })).toMatchObject([{ image: { digest }, names: [] }]);
	expect((await other.prune()).report).toEqual([`Deleted: ${id}`]);
});

async function* readStream(path: string): AsyncGenerator<Buffer> {
	yield readFileSync(path);
}

test("saveImages: skopeo reads it as an OCI archive and as a docker-archive", async () => {
	const store = directory.store();
	const { digest, id } = await bringIn(store, "one:1");
	const saved = await save(store, "one:1");
	const temporary = join(directory.path, "tmp");
	mkdirSync(temporary);
	const inspect = (source: string, ...options: string[]) =>
		execFileSync("skopeo", ["--insecure-policy", "--tmpdir", temporary, "inspect", "--raw", ...options, source], {
			stdio: "pipe",
		}).toString();
	expect(inspect(`oci-archive:${saved}`)).toBe(readFileSync(store.blobPath(digest), "utf8"));
	const docker = JSON.parse(inspect(`docker-archive:${saved}:one:1`)) as { config: { digest: string } };
	expect(docker.config.digest).toBe(id);
});

test("saveImages: nothing comes before an error", async () => {
	const store = directory.store();
	await expect(save(store, "none")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	const { digest } = await bringIn(store, "one:1");
	rmSync(store.blobPath(digest));
	await expect(save(store, "one:1")).rejects.toMatchObject({ code: "ERR_STORE_READ" });
});

test("historyOf pairs steps and layers, the last first", async () => {
	const store = directory.store();
	const history = [
		{ created: "2020-01-01T00:00:00Z", created_by: "ADD a" },
		{ created: "2020-01-02T00:00:00Z", created_by: "CMD sh", empty_layer: true, comment: "none" },
	];
	const image = await bringIn(store, "one:1", "x", { history });
	expect(await historyOf(store, image)).toEqual([
		{ created: undefined, createdBy: "", comment: "", sizeBytes: 1 },
		{ created: "2020-01-02T00:00:00Z", createdBy: "CMD sh", comment: "none", sizeBytes: 0 },
		{ created: "2020-01-01T00:00:00Z", createdBy: "ADD a", comment: "", sizeBytes: 1000 },
	]);
	writeFileSync(store.blobPath(image.id), "{");
	await expect(historyOf(store, image)).rejects.toMatchObject({ code: "ERR_STORE_READ" });
});

test("describeImage has Docker's fields, and those of the configuration that we do not know", async () => {
	const store = directory.store();
	const config = { author: "me", config: { Cmd: ["sh"], Volumes: { "/data": {} } } };
	const image = await bringIn(store, "one:1", "x", config);
	expect(await describeImage(store, store.list()[0]!)).toMatchObject({
		Id: image.id,
		RepoTags: ["one:1"],
		Author: "me",
		Os: "linux",
		Architecture: "amd64",
		Size: 1001,
		RootFS: { Type: "layers", Layers: [expect.stringMatching(/^sha256:/), expect.stringMatching(/^sha256:/)] },
		Config: { Cmd: ["sh"], Entrypoint: null, Volumes: { "/data": {} }, Env: [] },
	});
});
