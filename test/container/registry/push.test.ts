import { rmSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { expect, test } from "vitest";
import { importImage } from "../../../src/container/image/import.ts";
import type { ImageStore } from "../../../src/container/image/store.ts";
import { pull } from "../../../src/container/registry/pull.ts";
import { push } from "../../../src/container/registry/push.ts";
import { ociLayout, packFiles, tar, useDirectory } from "../image/archives.ts";
import { quick, sendError, useRegistries } from "./fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();

/** A registry, and a store that has an image of its own under a name there. */
async function setting() {
	const registry = await registries.start();
	const store = directory.store();
	const layers = [await tar([{ name: "a", data: "a".repeat(5000) }]), await tar([{ name: "b", data: "b" }])];
	const archive = directory.file("app.tar", await packFiles(ociLayout(layers, { compress: gzipSync })));
	const name = `${registry.host}/org/app:1`;
	const { image } = (await importImage(store, archive, { name }))[0]!;
	return { registry, store, name, digest: image.digest };
}

test("push sends what the registry lacks, and a pull brings back the same", async () => {
	const { registry, store, name, digest } = await setting();
	const states: string[] = [];
	const onProgress = ({ state }: { state: string }) => states.push(state);
	expect(await push(store, name, { ...quick(), onProgress })).toMatchObject({ name, digest });
	expect(new Set(states)).toEqual(new Set(["waiting", "sent", "done"]));
	expect(registry.count(/^PUT .*blobs\/uploads/)).toBe(3);
	expect(store.list()).toMatchObject([{ repoDigests: [`${registry.host}/org/app@${digest}`] }]);
	await store.remove([name]);
	expect(await pull(store, name, quick())).toMatchObject({ digest, image: { digest } });
	states.length = 0;
	await push(store, name, { ...quick(), onProgress });
	expect(states).toEqual(["waiting", "waiting", "present", "present"]);
	expect(registry.count(/^PUT .*blobs\/uploads/)).toBe(3);
});

test("push asks for a token that allows it", async () => {
	const { registry, store, name } = await setting();
	const service = await registries.start();
	service.misbehave = (_, response) => {
		response.end('{"token":"good"}');
		return true;
	};
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === "Bearer good" || request.url === "/v2/") return false;
		response.writeHead(401, { "www-authenticate": `Bearer realm="http://${service.host}/t"` }).end();
		return true;
	};
	await push(store, name, quick());
	expect(service.requests.every((line) => line === "GET /t?scope=repository%3Aorg%2Fapp%3Apull%2Cpush")).toBe(true);
});

test("push begins an upload again that broke off", async () => {
	const { registry, store, name, digest } = await setting();
	let cut = 0;
	registry.misbehave = (request) => {
		if (request.method !== "PUT" || !request.url!.includes("/blobs/") || cut === 2) return false;
		cut++;
		request.socket.destroy();
		return true;
	};
	expect(await push(store, name, quick())).toMatchObject({ digest });
	expect(cut).toBe(2);
	registry.blobs.clear();
	registry.misbehave = (request) => request.method === "PUT" && void request.socket.destroy() === undefined;
	await expect(push(store, name, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
});

test("push: an upload to another host is told no secret", async () => {
	const { registry, store, name } = await setting();
	const other = await registries.start();
	other.misbehave = (request, response) => {
		request.resume().on("end", () => response.writeHead(201).end());
		return true;
	};
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === undefined && request.url !== "/v2/") {
			response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
			return true;
		}
		if (request.method !== "POST") return false;
		response.writeHead(202, { location: `http://${other.host}/upload?x=1` }).end();
		return true;
	};
	await push(store, name, { ...quick(), credentials: async () => ({ username: "me", password: "secret" }) });
	expect(other.headers.map(({ authorization }) => authorization)).toEqual([undefined, undefined, undefined]);
	expect(other.requests[0]).toMatch(/^PUT \/upload\?x=1&digest=sha256%3A/);
});

const answer = (method: string, status: number, code: string) => (store: ImageStore, name: string) => ({
	store,
	name,
	method,
	status,
	code,
});
test.each([
	["a refusal", answer("POST", 403, "DENIED"), "ERR_REGISTRY_AUTH"],
	["a digest that is not believed", answer("PUT", 400, "DIGEST_INVALID"), "ERR_REGISTRY_RESPONSE"],
	["an upload that leads nowhere", answer("POST", 202, ""), "ERR_REGISTRY_RESPONSE"],
])("push: %s is an error", async (_, wrong, code) => {
	const { registry, store, name } = await setting();
	const { method, status, code: said } = wrong(store, name);
	registry.misbehave = (request, response) => {
		if (request.method !== method) return false;
		request.resume();
		sendError(response, status, said);
		return true;
	};
	await expect(push(store, name, quick())).rejects.toMatchObject({ code });
});

test("push: a registry that hangs ends it by time, and a signal at once", async () => {
	const { registry, store, name } = await setting();
	registry.misbehave = (request) => request.method === "PUT";
	await expect(push(store, name, quick({ timeoutMs: 200 }))).rejects.toMatchObject({ code: "ERR_REGISTRY_TIMEOUT" });
	const abort = new AbortController();
	const pushing = push(store, name, { ...quick(), signal: abort.signal });
	setTimeout(() => abort.abort(new Error("enough")), 50);
	await expect(pushing).rejects.toThrow("enough");
});

test("push: what the store does not have, or has no tag, is not sent", async () => {
	const { registry, store, name, digest } = await setting();
	await expect(push(store, `${registry.host}/other`, quick())).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	await expect(push(store, `${registry.host}/org/app@${digest}`, quick())).rejects.toMatchObject({
		code: "ERR_IMAGE_REFERENCE",
	});
	rmSync(store.blobPath(digest));
	await expect(push(store, name, quick())).rejects.toMatchObject({ code: "ERR_STORE_READ" });
	expect(registry.requests).toEqual([]);
});
