import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import type { ImageStore } from "../../../src/container/image/store.ts";
import { pull } from "../../../src/container/registry/pull.ts";
import { ociLayout, tar, useDirectory } from "../image/archives.ts";
import { FakeRegistry, type Misbehaviour, quick, sendError, useRegistries } from "./fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();

/** A registry with one image whose layer is 300 KB, and a store. */
async function setting(): Promise<{ registry: FakeRegistry; store: ImageStore; name: string; layer: string }> {
	const registry = await registries.start();
	const data = await tar([{ name: "data", data: randomBytes(300_000) }]);
	registry.add("app", "1", ociLayout([data]));
	const layer = [...registry.blobs].find(([, blob]) => blob.length === data.length)![0];
	return { registry, store: directory.store(), name: `${registry.host}/app:1`, layer };
}

/** Nothing is in the store, nor on its way there. */
function expectNothing(store: ImageStore): void {
	expect(store.list()).toEqual([]);
	for (const name of ["staging", "blobs/sha256", "records", "names"]) {
		const path = `${store.directory}/${name}`;
		expect(existsSync(path) ? readdirSync(path) : []).toEqual([]);
	}
}

const isBlob = (request: IncomingMessage) => request.method === "GET" && request.url!.includes("/blobs/");
const isManifest = (request: IncomingMessage) => request.url!.includes("/manifests/");
/** Answers what `which` is true for. */
const answers =
	(which: (request: IncomingMessage) => boolean, answer: (response: ServerResponse) => unknown): Misbehaviour =>
	(request, response) => {
		if (!which(request)) return false;
		answer(response);
		return true;
	};

async function endless(response: ServerResponse): Promise<void> {
	const chunk = Buffer.alloc(1 << 20);
	while (!response.destroyed) await new Promise((resolve) => response.write(chunk, resolve));
}

test.each<[string, Misbehaviour, string, RegExp]>([
	[
		"a missing image",
		answers(isManifest, (r) => sendError(r, 404, "MANIFEST_UNKNOWN", "manifest unknown")),
		"ERR_REGISTRY_NOT_FOUND",
		/^Cannot pull [\d.:]+\/app:1: [\d.:]+ does not have it \(manifest unknown\)$/,
	],
	[
		"a missing blob",
		answers(isBlob, (r) => sendError(r, 404, "BLOB_UNKNOWN")),
		"ERR_REGISTRY_NOT_FOUND",
		/does not have it/,
	],
	[
		"a refusal",
		answers(isManifest, (r) => sendError(r, 403, "DENIED", "no")),
		"ERR_REGISTRY_AUTH",
		/access denied \(no\)$/,
	],
	[
		"401 without a challenge",
		answers(isManifest, (r) => sendError(r, 401, "UNAUTHORIZED")),
		"ERR_REGISTRY_AUTH",
		/access denied \(unauthorized\)$/,
	],
	[
		"an error of the server",
		answers(isManifest, (r) => r.writeHead(500).end("oops")),
		"ERR_REGISTRY_RESPONSE",
		/answers with status 500$/,
	],
	[
		"a server that stays busy",
		answers(isManifest, (r) => r.writeHead(503).end()),
		"ERR_REGISTRY_RESPONSE",
		/answers with status 503$/,
	],
	[
		"a limit that is reached",
		answers(isManifest, (r) => sendError(r, 429, "TOOMANYREQUESTS")),
		"ERR_REGISTRY_LIMIT",
		/takes no more requests now/,
	],
	[
		"a manifest that is none",
		answers(isManifest, (r) => r.end("<html>")),
		"ERR_IMAGE_MALFORMED",
		/the manifest: it is not JSON/,
	],
	["an empty manifest", answers(isManifest, (r) => r.end("")), "ERR_IMAGE_MALFORMED", /the manifest: it is empty/],
	[
		"an endless manifest",
		answers(isManifest, endless),
		"ERR_REGISTRY_RESPONSE",
		/sends more than 4194304 bytes as one document$/,
	],
	["an endless blob", answers(isBlob, endless), "ERR_IMAGE_MALFORMED", /more than its \d+ bytes are sent$/],
	[
		"a manifest of another digest than it says",
		answers(isManifest, (r) => r.setHeader("docker-content-digest", `sha256:${"0".repeat(64)}`).end("{}")),
		"ERR_IMAGE_DIGEST",
		/the manifest should be sha256:0+, but [\d.:]+ sends sha256:/,
	],
	[
		"redirects without end",
		answers(isBlob, (r) => r.writeHead(307, { location: "/v2/app/blobs/again" }).end()),
		"ERR_REGISTRY_RESPONSE",
		/redirects more than 5 times$/,
	],
	[
		"a redirect to a file",
		answers(isBlob, (r) => r.writeHead(302, { location: "file:///etc/passwd" }).end()),
		"ERR_REGISTRY_RESPONSE",
		/redirects to file:\/\/\/etc\/passwd$/,
	],
	[
		"a connection that is closed at once",
		answers(isManifest, (r) => r.destroy()),
		"ERR_REGISTRY_CONNECT",
		/the connection broke off$/,
	],
	[
		"an answer that is no HTTP",
		answers(isManifest, (r) => r.socket!.end("hello\r\n\r\n")),
		"ERR_REGISTRY_CONNECT",
		/the connection broke off$/,
	],
	[
		"headers without end",
		answers(isManifest, (r) => r.writeHead(200, { "x-long": "x".repeat(100_000) }).end()),
		"ERR_REGISTRY_CONNECT",
		/Headers Overflow/,
	],
])("pull: %s is an error, and nothing stays", async (_, misbehave, code, message) => {
	const { registry, store, name } = await setting();
	registry.misbehave = misbehave;
	const failure = await pull(store, name, quick()).then(
		() => undefined,
		(error: unknown) => error as Error & { code: string },
	);
	expect(failure).toMatchObject({ code });
	expect(failure!.message).toMatch(message);
	expectNothing(store);
});

test.each(["layer", "configuration"])("pull: a %s of another content is refused by its digest", async (which) => {
	const { registry, store, name, layer } = await setting();
	const config = [...registry.blobs.keys()].find(
		(digest) => digest !== layer && !registry.manifests.has(`app@${digest}`),
	)!;
	const digest = which === "layer" ? layer : config;
	const data = Buffer.from(registry.blobs.get(digest)!);
	data[data.length >> 1]! ^= 1;
	registry.blobs.set(digest, data);
	await expect(pull(store, name, quick())).rejects.toMatchObject({ code: "ERR_IMAGE_DIGEST" });
	expectNothing(store);
});

test("pull: a manifest asked for by digest must have it", async () => {
	const { registry, store } = await setting();
	const asked = `sha256:${"1".repeat(64)}`;
	registry.manifests.set(`app@${asked}`, registry.manifests.get("app:1")!);
	registry.misbehave = (_, response) => {
		const write = response.writeHead.bind(response);
		response.writeHead = ((status: number, headers: Record<string, unknown>) =>
			write(status, { ...headers, "docker-content-digest": asked } as never)) as never;
		return false;
	};
	await expect(pull(store, `${registry.host}/app@${asked}`, quick())).rejects.toMatchObject({
		code: "ERR_IMAGE_DIGEST",
	});
});

test.each<[string, Misbehaviour]>([
	["before its headers", (request) => isManifest(request)],
	["within a manifest", answers(isManifest, (r) => r.write("{"))],
	["within a blob", answers(isBlob, (r) => r.write("x"))],
])("pull: a registry that hangs %s ends it by time", async (_, misbehave) => {
	const { registry, store, name } = await setting();
	registry.misbehave = misbehave;
	const pulling = pull(store, name, quick({ timeoutMs: 200 }));
	await expect(pulling).rejects.toMatchObject({ code: "ERR_REGISTRY_TIMEOUT", hint: /TSVMM_REGISTRY_TIMEOUT/ });
	expectNothing(store);
});

test("pull: a host that takes connections and says nothing ends it by time", async () => {
	const server = createServer(() => undefined);
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port } = server.address() as { port: number };
	try {
		const pulling = pull(directory.store(), `127.0.0.1:${port}/app`, quick({ timeoutMs: 200 }));
		await expect(pulling).rejects.toMatchObject({ code: "ERR_REGISTRY_TIMEOUT" });
	} finally {
		server.close();
	}
});

test("pull: nobody at the port, and no such host", async () => {
	const registry = await FakeRegistry.start();
	await registry.close();
	const attempt = (name: string) => pull(directory.store(), name, quick());
	await expect(attempt("127.0.0.1:1/app")).rejects.toMatchObject({
		code: "ERR_REGISTRY_CONNECT",
		message: "Cannot pull 127.0.0.1:1/app:latest: 127.0.0.1:1: connection refused",
	});
	await expect(attempt("registry.invalid/app")).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
});

/** Sends a blob from where it is asked for, and breaks off after `bytes`. */
const breaksOff =
	(registry: FakeRegistry, bytes: number, { knowsRange = true } = {}): Misbehaviour =>
	(request, response) => {
		const data = registry.blobs.get(/\/blobs\/(.+)$/.exec(request.url!)?.[1] ?? "");
		if (data === undefined || data.length < 10_000 || request.method !== "GET") return false;
		const asked = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
		const from = knowsRange ? asked : 0;
		const headers = { "content-length": data.length - from };
		if (from > 0)
			response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${data.length - 1}/${data.length}` });
		else response.writeHead(200, headers);
		const end = knowsRange ? from + bytes : asked + bytes;
		response.write(data.subarray(from, end), () => (end < data.length ? response.destroy() : response.end()));
		return true;
	};

test("pull goes on by Range where a connection broke off", async () => {
	const { registry, store, name, layer } = await setting();
	registry.misbehave = breaksOff(registry, 100_000);
	await pull(store, name, quick());
	/* A connection that is reset may take some of its last bytes with it. */
	const count = registry.count(new RegExp(`blobs/${layer}`));
	expect(count).toBeGreaterThanOrEqual(4);
	const ranges = registry.headers.map(({ range }) => range).filter((range) => range !== undefined);
	expect(ranges).toHaveLength(count - 1);
	expect(store.find(name).layers[0]!.digest).toBe(layer);
});

test("pull goes on also with a registry that knows no Range", async () => {
	const { registry, store, name, layer } = await setting();
	registry.misbehave = breaksOff(registry, 100_000, { knowsRange: false });
	await pull(store, name, quick());
	expect(registry.count(new RegExp(`blobs/${layer}`))).toBeGreaterThanOrEqual(4);
});

test("pull gives up on a registry that always breaks off", async () => {
	const { registry, store, name, layer } = await setting();
	registry.misbehave = breaksOff(registry, 100);
	await expect(pull(store, name, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
	expect(registry.count(new RegExp(`blobs/${layer}`))).toBe(5);
	expectNothing(store);
});

test("pull: a blob that ends early without a word is asked for again, and then refused", async () => {
	const { registry, store, name, layer } = await setting();
	registry.blobs.set(layer, registry.blobs.get(layer)!.subarray(0, 1000));
	registry.misbehave = (request, response) => {
		if (!request.headers.range) return false;
		response.writeHead(206, { "content-range": `bytes 1000-999/1000` }).end();
		return true;
	};
	await expect(pull(store, name, quick())).rejects.toMatchObject({
		code: "ERR_REGISTRY_CONNECT",
		message: expect.stringMatching(/ends after 1000 of \d+ bytes$/),
	});
	expectNothing(store);
});

test("pull asks again where a registry was busy or a connection broke off", async () => {
	const { registry, store, name } = await setting();
	let requests = 0;
	registry.misbehave = answers(
		(request) => isManifest(request) && ++requests < 4,
		(response) => (requests === 1 ? response.destroy() : response.writeHead(requests === 2 ? 503 : 429).end()),
	);
	await pull(store, name, quick());
	expect(requests).toBe(4);
});

test("pull follows redirects and tells their target no secret", async () => {
	const { registry, store, name } = await setting();
	const other = await registries.start();
	other.misbehave = (request, response) => {
		response.end(registry.blobs.get(request.url!.slice(1)));
		return true;
	};
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === undefined) {
			response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
			return true;
		}
		if (!isBlob(request)) return false;
		response.writeHead(307, { location: `http://${other.host}/${/sha256:.*/.exec(request.url!)![0]}` }).end();
		return true;
	};
	await pull(store, name, { ...quick(), credentials: async () => ({ username: "me", password: "secret" }) });
	expect(other.requests).toHaveLength(2);
	expect(other.headers.map(({ authorization }) => authorization)).toEqual([undefined, undefined]);
});
