/*
 * Against Debian's docker-registry, with images that skopeo has put there; what we push skopeo brings back. The same
 * bytes everywhere: all digests are equal.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ImageStore } from "../../../src/container/image/store.ts";
import { pull } from "../../../src/container/registry/pull.ts";
import { push } from "../../../src/container/registry/push.ts";
import { ociLayout, sha256, tar, writeDirectory } from "../image/archives.ts";
import { DockerRegistry } from "./docker-registry.ts";
import { quick } from "./fake-registry.ts";

let registry: DockerRegistry;
let store: ImageStore;
let directory = "";
let host = "";

beforeAll(async () => {
	registry = await DockerRegistry.start();
	({ host, directory } = registry);
	store = new ImageStore(join(directory, "cache/images"));
}, 30_000);
afterAll(() => registry.stop());

/** Puts an OCI layout into the registry by skopeo. */
async function put(name: string, layout: ReturnType<typeof ociLayout>, ...options: string[]): Promise<void> {
	const from = writeDirectory(layout, directory);
	await registry.skopeo("copy", "--dest-tls-verify=false", ...options, `oci:${from}`, `docker://${host}/${name}`);
}

/** The digest of what the registry has under a name, and the bytes of that manifest. */
async function inRegistry(name: string): Promise<{ digest: string; manifest: string }> {
	const manifest = await registry.skopeo("inspect", "--raw", "--tls-verify=false", `docker://${host}/${name}`);
	return { digest: sha256(manifest), manifest };
}

const layers = async (text: string) => [
	await tar([
		{ name: "etc/", type: "directory" },
		{ name: "etc/a", data: text.repeat(5000) },
	]),
	await tar([{ name: "etc/b", data: text }]),
];

test.each([
	["OCI", ["--format", "oci"], "application/vnd.oci.image.config.v1+json"],
	["Docker's schema 2", ["--format", "v2s2"], "application/vnd.docker.container.image.v1+json"],
	["zstd", ["--format", "oci", "--dest-compress-format", "zstd"], "application/vnd.oci.image.config.v1+json"],
])("an image as %s goes around with its digests", async (kind, options, mediaType) => {
	const path = `round/${kind.toLowerCase().replace(/\W/g, "")}`;
	await put(`${path}:1`, ociLayout(await layers(kind)), ...options);
	const before = await inRegistry(`${path}:1`);
	expect(JSON.parse(before.manifest).config.mediaType).toBe(mediaType);
	const pulled = await pull(store, `${host}/${path}:1`, quick());
	expect(pulled.digest).toBe(before.digest);
	await store.tag(`${host}/${path}:1`, `${host}/${path}/again:2`);
	expect(await push(store, `${host}/${path}/again:2`, quick())).toMatchObject({ digest: before.digest });
	expect(await inRegistry(`${path}/again:2`)).toEqual(before);
	/* skopeo checks every layer's digest on the way. */
	const to = join(directory, `back-${kind.length}`);
	await registry.skopeo("copy", "--src-tls-verify=false", `docker://${host}/${path}/again:2`, `dir:${to}`);
	expect(sha256(readFileSync(join(to, "manifest.json")))).toBe(before.digest);
});

test("an image of an index: the platform's own manifest", async () => {
	const amd = writeDirectory(ociLayout(await layers("amd"), { compress: gzipSync }), directory);
	await registry.skopeo("copy", "--dest-tls-verify=false", `oci:${amd}`, `docker://${host}/multi:amd64`);
	const { digest, manifest } = await inRegistry("multi:amd64");
	const entry = { mediaType: JSON.parse(manifest).mediaType, digest, size: manifest.length };
	const platform = { os: "linux", architecture: "amd64" };
	const other = { ...platform, architecture: "s390x" };
	const mediaType = "application/vnd.docker.distribution.manifest.list.v2+json";
	const index = JSON.stringify({
		schemaVersion: 2,
		mediaType,
		manifests: [
			{ ...entry, platform: other },
			{ ...entry, platform },
		],
	});
	const answer = await fetch(`http://${host}/v2/multi/manifests/latest`, {
		method: "PUT",
		headers: { "content-type": mediaType },
		body: index,
	});
	expect(answer.status).toBe(201);
	const pulled = await pull(store, `${host}/multi`, quick());
	expect(pulled).toMatchObject({ digest: sha256(index), image: { digest } });
});

test("what the registry does not have is an error", async () => {
	await expect(pull(store, `${host}/none`, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_NOT_FOUND" });
});
