import { execFileSync } from "node:child_process";
import { createReadStream, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { ImageBudget } from "../../../src/container/image/budget.ts";
import { decompress, layerCompression } from "../../../src/container/image/decompress.ts";
import { type ImportOptions, importImage } from "../../../src/container/image/import.ts";
import {
	type Change,
	dockerArchive,
	type Files,
	json,
	type Member,
	ociLayout,
	packFiles,
	remake,
	sha256,
	tar,
	useDirectory,
	withFile,
	writeDirectory,
} from "./archives.ts";

const directory = useDirectory();
const xz = (data: Buffer) => execFileSync("xz", ["-c"], { input: data });
const zstd = (data: Buffer) => execFileSync("zstd", ["-q", "-c"], { input: data });
const base: Member[] = [
	{ name: "bin/" },
	{ name: "bin/sh", data: "#!", mode: 0o755 },
	{ name: "etc/passwd", data: "root:x:0:0::/:/bin/sh\n" },
];

async function take(archive: Buffer | Files, options: ImportOptions = {}, file = "image.tar") {
	const data = Buffer.isBuffer(archive) ? archive : await packFiles(archive);
	return importImage(directory.store(), directory.file(file, data), options);
}

/** The error that importing gives, after which the store must hold nothing. */
async function refused(archive: Buffer | Files, options: ImportOptions = { name: "x" }) {
	const error = await take(archive, options).then(
		() => undefined,
		(thrown: unknown) => thrown as { code: string; message: string; hint?: string },
	);
	const store = join(directory.path, "cache/images");
	for (const part of ["blobs/sha256", "records", "names", "staging"])
		expect(readdirSync(join(store, part))).toEqual([]);
	return error;
}

describe("importImage", () => {
	test("takes an OCI layout directory, with what its configuration says", async () => {
		const run = {
			Env: ["A=1"],
			Entrypoint: ["/init"],
			Cmd: null,
			WorkingDir: "/srv",
			User: "33:33",
			Labels: { a: "b" },
			ExposedPorts: { "80/tcp": {} },
			StopSignal: "SIGQUIT",
			Healthcheck: { Test: ["CMD-SHELL", "ping -c 1 db"], Interval: 5e9, Timeout: 0, Retries: 4 },
		};
		const files = ociLayout([await tar(base)], { run, config: { created: "2024-01-02T03:04:05Z" } });
		const [imported] = await importImage(directory.store(), writeDirectory(files, directory.path), { name: "a/b" });
		const { image, names } = imported!;
		expect(names).toEqual(["a/b:latest"]);
		expect(image.config).toEqual({
			env: ["A=1"],
			entrypoint: ["/init"],
			cmd: [],
			workingDir: "/srv",
			user: "33:33",
			labels: { a: "b" },
			exposedPorts: ["80/tcp"],
			stopSignal: "SIGQUIT",
			healthcheck: { args: ["/bin/sh", "-c", "ping -c 1 db"], intervalMs: 5000, retries: 4 },
			architecture: "amd64",
			os: "linux",
		});
		expect(image).toMatchObject({ created: "2024-01-02T03:04:05Z", sizeBytes: 24 });
		expect(directory.store().find("a/b")).toEqual(image);
	});

	test.each([
		["plain", (d: Buffer) => d],
		["gzip", (d: Buffer) => gzipSync(d)],
		["zstd", zstd],
		["xz", xz],
	])("takes layers and archives that are %s, whatever they are called", async (_name, compress) => {
		const files = ociLayout([await tar(base), await tar([{ name: "b" }])], { compress });
		const [found] = await take(compress(await packFiles(files)), { name: "x" }, "image.bin");
		expect(found!.image.layers.map((layer) => layer.diffId)).toEqual([
			sha256(await tar(base)),
			sha256(await tar([{ name: "b" }])),
		]);
	});

	test("takes a stream", async () => {
		const path = directory.file("a.tgz", gzipSync(await packFiles(dockerArchive([await tar(base)], ["app:1"]))));
		const [found] = await importImage(directory.store(), createReadStream(path));
		expect(found!.names).toEqual(["app:1"]);
	});

	test("takes every image of a docker-archive under its names, or the one that is asked for", async () => {
		const one = dockerArchive([await tar(base)], ["docker.io/library/one:1", "one:latest"]);
		const two = dockerArchive([await tar([{ name: "two" }])], ["two"], { Cmd: ["two"] });
		const renamed = new Map([...two].map(([name, data]) => [name.replace("layer0", "other"), data]));
		const list = [JSON.parse(String(one.get("manifest.json")))[0], JSON.parse(String(two.get("manifest.json")))[0]];
		list[1].Layers = ["other/layer.tar"];
		const both = withFile(new Map([...one, ...renamed]), "manifest.json", json(list));
		expect((await take(both)).map((image) => image.names)).toEqual([["one:1", "one:latest"], ["two:latest"]]);
		expect((await take(both, { name: "two" }))[0]!.image.config.cmd).toEqual(["two"]);
		await expect(take(both, { name: "three" })).rejects.toMatchObject({ code: "ERR_IMAGE_AMBIGUOUS" });
	});

	test("takes what docker save writes now: an OCI layout with a manifest.json beside it", async () => {
		const files = ociLayout([await tar(base)], {
			annotations: { "io.containerd.image.name": "docker.io/library/app:2", "org.opencontainers.image.ref.name": "2" },
		});
		const [found] = await take(withFile(files, "manifest.json", "not looked at"));
		expect(found!.names).toEqual(["app:2"]);
	});

	test("tells images without names apart, and asks which one is meant", async () => {
		const [one, two] = [ociLayout([await tar(base)]), ociLayout([await tar([{ name: "two" }])])];
		const [a, b] = [one, two].map((files) => JSON.parse(String(files.get("index.json"))).manifests[0]);
		const both = withFile(new Map([...one, ...two]), "index.json", json({ schemaVersion: 2, manifests: [a, b] }));
		await expect(take(both, { name: "x" })).rejects.toMatchObject({ code: "ERR_IMAGE_AMBIGUOUS" });
		expect((await take(both)).map(({ image, names }) => [image.digest, names])).toEqual([
			[a.digest, []],
			[b.digest, []],
		]);
	});

	test("names an image by the annotation's tag and the file, or by the file alone", async () => {
		const tagged = ociLayout([await tar(base)], { annotations: { "org.opencontainers.image.ref.name": "1.0" } });
		expect((await take(tagged, {}, "My App.tar"))[0]!.names).toEqual(["my-app:1.0"]);
		expect((await take(ociLayout([await tar(base)]), {}, "app.tar"))[0]!.names).toEqual(["app:latest"]);
	});

	test("takes a plain root file system, the same twice the same image", async () => {
		const [first] = await take(await tar(base), { name: "plain" });
		const [second] = await take(gzipSync(await tar(base)), { name: "plain:again" });
		expect(first!.image).toEqual(second!.image);
		expect(first!.image.config.env).toEqual(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
		expect(first!.image.created).toBe("2001-09-09T01:46:40.000Z");
	});

	test("picks linux/amd64 from an index of platforms, in an index", async () => {
		const files = ociLayout([await tar(base)]);
		const [ours] = JSON.parse(String(files.get("index.json"))).manifests;
		const other = { ...ours, digest: sha256("arm"), platform: { os: "linux", architecture: "arm64" } };
		const attestation = { ...ours, digest: sha256("att"), platform: { os: "unknown", architecture: "unknown" } };
		const mine = { ...ours, platform: { os: "linux", architecture: "amd64" } };
		const inner = json({ schemaVersion: 2, manifests: [other, attestation, mine] });
		const outer = { mediaType: "application/vnd.oci.image.index.v1+json", digest: sha256(inner), size: inner.length };
		const nested = withFile(
			withFile(files, `blobs/${sha256(inner).replace(":", "/")}`, inner),
			"index.json",
			json({ schemaVersion: 2, manifests: [outer] }),
		);
		expect((await take(nested, { name: "x" }))[0]!.image.digest).toBe(ours.digest);
		const without = withFile(files, "index.json", json({ schemaVersion: 2, manifests: [other, attestation] }));
		await expect(take(without, { name: "y" })).rejects.toMatchObject({
			code: "ERR_IMAGE_PLATFORM",
			message: "Cannot import image: it is for linux/arm64, not for linux/amd64",
		});
	});

	test("follows links between the layers of an old docker-archive, inside it only", async () => {
		const layer = await tar(base);
		const files = dockerArchive([layer], ["x"]);
		files.delete("layer0/layer.tar");
		const pack = async (linkname: string) =>
			tar([
				...[...files].map(([name, data]) => ({ name, data })),
				{ name: "real/layer.tar", data: layer },
				{ name: "layer0/layer.tar", type: "symlink", linkname },
			]);
		await take(await pack("../real/layer.tar"));
		for (const away of ["/etc/passwd", "../../etc/passwd"]) {
			await expect(take(await pack(away), { name: "y" })).rejects.toMatchObject({ code: "ERR_IMAGE_PATH" });
		}
	});

	test("refuses a layout directory whose blob is a link out of it, or a FIFO", async () => {
		const layer = await tar(base);
		const files = ociLayout([layer]);
		const blob = `blobs/${sha256(layer).replace(":", "/")}`;
		files.delete(blob);
		directory.file("outside.tar", layer);
		const linked = writeDirectory(files, directory.path);
		symlinkSync(join(directory.path, "outside.tar"), join(linked, blob));
		await expect(importImage(directory.store(), linked, { name: "x" })).rejects.toMatchObject({
			code: "ERR_IMAGE_PATH",
		});
		const piped = writeDirectory(files, directory.path);
		execFileSync("mkfifo", [join(piped, blob)]);
		await expect(importImage(directory.store(), piped, { name: "x" })).rejects.toMatchObject({
			code: "ERR_IMAGE_MALFORMED",
		});
	});
});

describe("importImage refuses", () => {
	test("zero bytes, an empty archive, compressed nothing", async () => {
		for (const data of [Buffer.alloc(0), Buffer.alloc(1024), gzipSync(Buffer.alloc(0))]) {
			expect(await refused(data)).toMatchObject({ code: "ERR_IMAGE_EMPTY" });
		}
	});

	test("what is no archive", async () => {
		expect(await refused(Buffer.from("hello".repeat(500)))).toMatchObject({ code: "ERR_IMAGE_FORMAT" });
		expect(await refused(Buffer.from("BZh91AY"))).toMatchObject({ code: "ERR_IMAGE_FORMAT" });
		await expect(importImage(directory.store(), join(directory.path, "nowhere"))).rejects.toMatchObject({
			code: "ERR_IMAGE_NOT_FOUND",
		});
		mkdirSync(join(directory.path, "empty"));
		await expect(importImage(directory.store(), join(directory.path, "empty"))).rejects.toMatchObject({
			code: "ERR_IMAGE_FORMAT",
		});
	});

	test("archives that are cut off, in each compression", async () => {
		const data = await packFiles(ociLayout([await tar([{ name: "a", data: "abcdefgh".repeat(20_000) }])]));
		for (const whole of [data, gzipSync(data), zstd(data), xz(data)]) {
			const error = await refused(whole.subarray(0, Math.floor(whole.length * 0.6)));
			expect(error).toMatchObject({ code: "ERR_IMAGE_MALFORMED" });
		}
	});

	test("a layer whose gzip is cut off", async () => {
		const layer = await tar([{ name: "a", data: "abc".repeat(10_000) }]);
		const error = await refused(ociLayout([layer], { compress: (d) => gzipSync(d).subarray(0, 60) }));
		expect(error).toMatchObject({ code: "ERR_IMAGE_MALFORMED", message: expect.stringContaining("layer sha256:") });
	});

	test("a blob that is not what its digest says, a layer that is not what its diff_id says", async () => {
		const layer = await tar(base);
		const files = ociLayout([layer]);
		const other = Buffer.from(layer);
		other[other.length - 1] = 1;
		const path = `blobs/${sha256(layer).replace(":", "/")}`;
		expect(await refused(withFile(files, path, other))).toMatchObject({
			code: "ERR_IMAGE_DIGEST",
			message: expect.stringContaining(path),
		});
		const lie = remake(files, { config: (c) => ({ ...c, rootfs: { type: "layers", diff_ids: [sha256("no")] } }) });
		expect(await refused(lie)).toMatchObject({ code: "ERR_IMAGE_DIGEST", message: expect.stringContaining("diff_id") });
		expect(await refused(withFile(dockerArchive([layer], ["x"]), "layer0/layer.tar", other))).toMatchObject({
			code: "ERR_IMAGE_DIGEST",
		});
	});

	test("sizes that lie, in both directions", async () => {
		const files = ociLayout([await tar(base)]);
		for (const by of [-1, 1]) {
			const lie = remake(files, {
				manifest: (m) => ({ ...m, layers: [{ ...m.layers[0], size: m.layers[0].size + by }] }),
			});
			expect(await refused(lie)).toMatchObject({
				code: "ERR_IMAGE_MALFORMED",
				message: expect.stringContaining("size"),
			});
		}
	});

	test("what unpacks to more than the limit, in each compression", async () => {
		const zeros = await tar([{ name: "zeros", data: Buffer.alloc(3_000_000) }]);
		for (const compress of [gzipSync, zstd, xz]) {
			const options = { name: "x", limits: { writtenBytes: 1_000_000 } };
			expect(await refused(compress(zeros), options)).toMatchObject({ code: "ERR_IMAGE_TOO_LARGE" });
			expect(await refused(ociLayout([zeros], { compress }), options)).toMatchObject({ code: "ERR_IMAGE_TOO_LARGE" });
		}
	});

	test("layers with paths that lead out, and says which", async () => {
		for (const name of ["../../evil", "a/../../evil"]) {
			const error = await refused(ociLayout([await tar([{ name, data: "x" }])]));
			expect(error).toMatchObject({ code: "ERR_IMAGE_PATH", message: expect.stringContaining(name) });
		}
	});

	test("an image without a name from a stream", async () => {
		const path = directory.file("a", await tar(base));
		await expect(importImage(directory.store(), createReadStream(path))).rejects.toMatchObject({
			code: "ERR_IMAGE_REFERENCE",
		});
	});

	const oci = (change: (files: Files) => Files) => async () => change(ociLayout([await tar(base)]));
	const docker = (change: (files: Files) => Files) => async () => change(dockerArchive([await tar(base)], ["x"]));
	const manifest = (change: Change) => oci((files) => remake(files, { manifest: change }));
	const config = (change: Change) => oci((files) => remake(files, { config: change }));
	const index = (value: unknown) => oci((files) => withFile(files, "index.json", json(value)));
	const archive = (value: unknown) => docker((files) => withFile(files, "manifest.json", json(value)));
	const without = (path: string) => (files: Files) => new Map([...files].filter(([name]) => !name.startsWith(path)));

	test.each<[string, () => Promise<Files>, string, string]>([
		["oci-layout that is not JSON", oci((f) => withFile(f, "oci-layout", "{")), "oci-layout", "not JSON"],
		[
			"oci-layout of version 2",
			oci((f) => withFile(f, "oci-layout", '{"imageLayoutVersion":"2.0.0"}')),
			"oci-layout",
			"imageLayoutVersion",
		],
		["a layout without index.json", oci(without("index.json")), "index.json", "missing"],
		["an empty index.json", oci((f) => withFile(f, "index.json", "")), "index.json", "empty"],
		["index.json that is not JSON", oci((f) => withFile(f, "index.json", "[1,")), "index.json", "not JSON"],
		["index.json that is null", index(null), "index.json", "the document"],
		["an index without images", index({ schemaVersion: 2, manifests: [] }), "index.json", "lists no image"],
		["an index of schema 1", index({ schemaVersion: 1, manifests: [] }), "index.json", "schemaVersion"],
		[
			"a digest that leads away",
			index({ schemaVersion: 2, manifests: [{ digest: "sha256:../../x", size: 1 }] }),
			"index.json",
			"manifests[0].digest",
		],
		[
			"a digest of another algorithm",
			index({ schemaVersion: 2, manifests: [{ digest: `sha512:${"a".repeat(128)}`, size: 1 }] }),
			"index.json",
			"manifests[0].digest",
		],
		[
			"a negative size",
			index({ schemaVersion: 2, manifests: [{ digest: sha256("a"), size: -1 }] }),
			"index.json",
			"manifests[0].size",
		],
		[
			"a manifest that is missing",
			index({ schemaVersion: 2, manifests: [{ digest: sha256("a"), size: 1 }] }),
			"blobs/sha256/",
			"missing",
		],
		["a manifest that is not JSON", manifest(() => "nonsense"), "blobs/sha256/", "not JSON"],
		["a manifest without layers", manifest(({ layers: _, ...m }) => m), "blobs/sha256/", "layers"],
		["a manifest without a configuration", manifest(({ config: _, ...m }) => m), "blobs/sha256/", "config"],
		[
			"a layer that is missing",
			manifest((m) => ({ ...m, layers: [{ digest: sha256("no"), size: 2 }] })),
			"blobs/sha256/",
			"missing",
		],
		["a configuration that is not JSON", config(() => "{"), "blobs/sha256/", "not JSON"],
		["a configuration without os", config(({ os: _, ...c }) => c), "blobs/sha256/", "os"],
		["Env that is no list", config((c) => ({ ...c, config: { Env: "A=1" } })), "blobs/sha256/", "config.Env"],
		["Cmd with a number", config((c) => ({ ...c, config: { Cmd: ["a", 1] } })), "blobs/sha256/", "config.Cmd[1]"],
		[
			"too few diff_ids",
			config((c) => ({ ...c, rootfs: { type: "layers", diff_ids: [] } })),
			"blobs/sha256/",
			"rootfs.diff_ids",
		],
		[
			"a document of 5 MiB",
			oci((f) => withFile(f, "index.json", Buffer.alloc(5 * 2 ** 20, 0x20))),
			"index.json",
			"too many",
		],
		["manifest.json that is not JSON", docker((f) => withFile(f, "manifest.json", "[")), "manifest.json", "not JSON"],
		["manifest.json without images", archive([]), "manifest.json", "lists no image"],
		[
			"manifest.json with RepoTags that are no list",
			archive([{ Config: "a", RepoTags: "x", Layers: [] }]),
			"manifest.json",
			"[0].RepoTags",
		],
		[
			"a docker-archive without its configuration",
			archive([{ Config: "no.json", RepoTags: ["x"], Layers: [] }]),
			"no.json",
			"missing",
		],
		["a docker-archive without its layer", docker(without("layer0")), "layer0/layer.tar", "missing"],
	])("%s", async (_what, make, file, field) => {
		const error = await refused(await make());
		expect(error).toMatchObject({ code: "ERR_IMAGE_MALFORMED" });
		expect(error!.message).toContain(file);
		expect(error!.message).toContain(field);
	});

	test.each([
		["absolute", { Config: "/etc/passwd", RepoTags: ["x"], Layers: [] }],
		["leading out", { Config: "../../etc/passwd", RepoTags: ["x"], Layers: [] }],
	])("docker-archive paths that are %s", async (_what, image) => {
		expect(await refused(await archive([image])())).toMatchObject({ code: "ERR_IMAGE_PATH" });
	});

	test("an image for another architecture, and names it", async () => {
		const arm = ociLayout([await tar(base)], { config: { architecture: "arm64" } });
		expect(await refused(arm)).toMatchObject({
			code: "ERR_IMAGE_PLATFORM",
			message: "Cannot import image: it is for linux/arm64, not for linux/amd64",
		});
	});
});

describe("decompress", () => {
	test("zstd data comes out the same in any chunking; a cut is told", async () => {
		const data = Buffer.concat([await tar(base), Buffer.alloc(500_000), Buffer.from("tail".repeat(5000))]);
		const packed = zstd(data);
		const unpack = async (pieces: Buffer[]) => {
			const out = [];
			for await (const chunk of decompress(pieces, "zstd", "x", new ImageBudget())) out.push(chunk);
			return Buffer.concat(out);
		};
		for (const step of [7, 4096, packed.length]) {
			const pieces = [];
			for (let at = 0; at < packed.length; at += step) pieces.push(packed.subarray(at, at + step));
			expect((await unpack(pieces)).equals(data)).toBe(true);
		}
		await expect(unpack([packed.subarray(0, packed.length - 20)])).rejects.toMatchObject({
			code: "ERR_IMAGE_MALFORMED",
			message: expect.stringContaining("damaged or truncated zstd data"),
		});
	});

	test("decompress passes the source's own failure on and leaves no child behind", async () => {
		async function* broken() {
			yield xz(Buffer.alloc(100_000)).subarray(0, 50);
			throw new Error("the disk has gone");
		}
		await expect(async () => {
			for await (const _ of decompress(broken(), "xz", "x", new ImageBudget()));
		}).rejects.toThrow("the disk has gone");
	});

	test("layerCompression goes by the first bytes", () => {
		expect(
			[gzipSync(""), zstd(Buffer.from("a")), xz(Buffer.from("a")), Buffer.from("BZh9"), Buffer.alloc(0)].map(
				layerCompression,
			),
		).toEqual(["gzip", "zstd", "xz", "bzip2", "none"]);
		/* A tar whose first member is called "]". */
		expect(layerCompression(Buffer.from("]\0\0\0\0\0"))).toBe("none");
	});
});
