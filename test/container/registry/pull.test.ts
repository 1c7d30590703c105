import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { pull } from "../../../src/container/registry/pull.ts";
import { json, ociLayout, sha256, tar, useDirectory } from "../image/archives.ts";
import { quick, useRegistries } from "./fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";

const layersOf = async (...texts: string[]) =>
	Promise.all(texts.map((text, i) => tar([{ name: `file${i}`, data: text }])));

test("pull brings an image with plain, gzip and zstd layers, under its name and its digest", async () => {
	const registry = await registries.start();
	const [plain, small] = await layersOf("a".repeat(1000), "b");
	const layout = ociLayout([plain!, small!], {
		compress: (data) => (data === plain ? gzipSync(data) : execFileSync("zstd", ["-c", "-q"], { input: data })),
	});
	const digest = registry.add("org/app", "1", layout);
	const store = directory.store();
	const seen: string[] = [];
	const pulled = await pull(store, `${registry.host}/org/app:1`, {
		...quick(),
		onProgress: ({ state }) => seen.push(state),
	});
	expect(pulled).toMatchObject({ name: `${registry.host}/org/app:1`, digest, isNewer: true, image: { digest } });
	expect(store.list()).toMatchObject([
		{ names: [`${registry.host}/org/app:1`], repoDigests: [`${registry.host}/org/app@${digest}`] },
	]);
	expect(new Set(seen)).toEqual(new Set(["waiting", "sent", "done"]));
	expect(store.find(`${registry.host}/org/app@${digest}`).sizeBytes).toBe(1001);
});

test("pull leaves what the store has where it is", async () => {
	const registry = await registries.start();
	const [base, one, two] = await layersOf("base", "one", "two");
	registry.add("app", "1", ociLayout([base!, one!]));
	registry.add("app", "2", ociLayout([base!, two!]));
	const store = directory.store();
	await pull(store, `${registry.host}/app:1`, quick());
	registry.requests.length = 0;
	const states = new Map<string, string>();
	const onProgress = ({ digest, state }: { digest: string; state: string }) => states.set(digest, state);
	await pull(store, `${registry.host}/app:2`, { ...quick(), onProgress });
	expect(states).toEqual(
		new Map([
			[sha256(base!), "present"],
			[sha256(two!), "done"],
		]),
	);
	expect(registry.count(/blobs/)).toBe(2);
	registry.requests.length = 0;
	expect(await pull(store, `${registry.host}/app:2`, quick())).toMatchObject({ isNewer: false });
	expect(registry.count(/blobs/)).toBe(0);
});

test("pull takes the platform's manifest of an index, and the index's digest finds it", async () => {
	const registry = await registries.start();
	const [layer] = await layersOf("x");
	const amd = registry.add("app", "amd", ociLayout([layer!]));
	const arm = registry.add("app", "arm", ociLayout([layer!], { config: { architecture: "arm64" } }));
	const size = (digest: string) => registry.blobs.get(digest)!.length;
	const entry = (digest: string, architecture: string) => ({
		mediaType: MANIFEST,
		digest,
		size: size(digest),
		platform: { os: architecture === "unknown" ? "unknown" : "linux", architecture },
	});
	const index = json({
		schemaVersion: 2,
		manifests: [entry(arm, "arm64"), entry(amd, "amd64"), entry(amd, "unknown")],
	});
	const digest = registry.addManifest("app", "latest", index, "application/vnd.oci.image.index.v1+json");
	const store = directory.store();
	const name = `${registry.host}/app`;
	expect(await pull(store, name, quick())).toMatchObject({ digest, image: { digest: amd } });
	expect(store.find(`${name}@${digest}`).digest).toBe(amd);
	const other = await pull(store, name, { ...quick(), platform: "linux/arm64" });
	expect(other.image).toMatchObject({ digest: arm, config: { architecture: "arm64" } });
	await expect(pull(store, name, { ...quick(), platform: "linux/riscv64" })).rejects.toMatchObject({
		code: "ERR_IMAGE_PLATFORM",
	});
	await expect(pull(store, name, { ...quick(), platform: "linux" })).rejects.toMatchObject({
		code: "ERR_IMAGE_REFERENCE",
	});
});

test("pull by digest gives the image no tag", async () => {
	const registry = await registries.start();
	const digest = registry.add("app", "1", ociLayout(await layersOf("x")));
	const store = directory.store();
	await pull(store, `${registry.host}/app@${digest}`, quick());
	expect(store.list()).toMatchObject([{ names: [], repoDigests: [`${registry.host}/app@${digest}`] }]);
	expect(await store.remove([`${registry.host}/app@${digest}`])).toContain(`Untagged: ${registry.host}/app@${digest}`);
	expect(store.list()).toEqual([]);
});

test("pull asks a mirror first, and the registry when the mirror fails", async () => {
	const [mirror, registry] = [await registries.start(), await registries.start()];
	const digest = registry.add("app", "1", ociLayout(await layersOf("x")));
	mirror.add("app", "1", ociLayout(await layersOf("x")));
	const mirrors = new Map([[registry.host, [new URL(`http://${mirror.host}/`)]]]);
	const store = directory.store();
	expect(await pull(store, `${registry.host}/app:1`, quick({ mirrors }))).toMatchObject({ digest });
	expect(registry.requests).toEqual([]);
	await store.remove([`${registry.host}/app:1`]);
	mirror.misbehave = (request, response) => {
		if (!request.url!.includes("/blobs/")) return false;
		response.writeHead(500).end();
		return true;
	};
	expect(await pull(store, `${registry.host}/app:1`, quick({ mirrors }))).toMatchObject({ digest });
	expect(registry.count(/^GET \/v2\/app\/blobs/)).toBe(2);
});

test("pull ends with its signal and leaves nothing", async () => {
	const registry = await registries.start();
	registry.add("app", "1", ociLayout(await layersOf("x", "y")));
	registry.misbehave = (request) => request.url!.includes("/blobs/");
	const store = directory.store();
	const abort = new AbortController();
	const pulling = pull(store, `${registry.host}/app:1`, { ...quick(), signal: abort.signal });
	setTimeout(() => abort.abort(new Error("enough")), 50);
	await expect(pulling).rejects.toThrow("enough");
	expect(readdirSync(`${store.directory}/staging`)).toEqual([]);
	expect(readdirSync(`${store.directory}/blobs/sha256`)).toEqual([]);
	expect(store.list()).toEqual([]);
});
