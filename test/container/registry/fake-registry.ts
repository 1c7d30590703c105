/*
 * A registry in this process that serves images from memory, takes pushed ones, and misbehaves where a test says so.
 */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach } from "vitest";
import type { PullOptions } from "../../../src/container/registry/pull.ts";
import type { RegistrySettings } from "../../../src/container/registry/settings.ts";
import type { Files } from "../image/archives.ts";

/** Answers a request itself, or leaves it to the registry by returning false. */
export type Misbehaviour = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

const sha256 = (data: Buffer) => `sha256:${createHash("sha256").update(data).digest("hex")}`;

export class FakeRegistry {
	readonly blobs = new Map<string, Buffer>();
	/** By "name:tag" and "name@digest". */
	readonly manifests = new Map<string, { data: Buffer; mediaType: string }>();
	/** "GET /v2/..." of each request, without those that look for TLS. */
	readonly requests: string[] = [];
	readonly headers: IncomingMessage["headers"][] = [];
	misbehave: Misbehaviour = () => false;
	readonly #server: Server;

	private constructor(server: Server) {
		this.#server = server;
	}

	static async start(): Promise<FakeRegistry> {
		const server = createServer({ keepAliveTimeout: 60_000 });
		const registry = new FakeRegistry(server);
		server.on("request", (request, response) => void registry.#answer(request, response));
		/* A client that tries TLS first. */
		server.on("clientError", (_, socket) => socket.destroy());
		await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
		return registry;
	}

	/** "127.0.0.1:40123" */
	get host(): string {
		return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
	}

	async close(): Promise<void> {
		this.#server.closeAllConnections();
		await new Promise((resolve) => this.#server.close(resolve));
	}

	/** Serves the image of an OCI layout, and gives its manifest's digest. */
	add(name: string, tag: string, files: Files): string {
		const [descriptor] = JSON.parse(files.get("index.json")!.toString()).manifests;
		for (const [path, data] of files) {
			if (path.startsWith("blobs/")) this.blobs.set(path.slice("blobs/".length).replace("/", ":"), data);
		}
		const data = this.blobs.get(descriptor.digest)!;
		this.addManifest(name, tag, data, descriptor.mediaType);
		return descriptor.digest;
	}

	addManifest(name: string, tag: string, data: Buffer, mediaType: string): string {
		this.manifests.set(`${name}:${tag}`, { data, mediaType });
		this.manifests.set(`${name}@${sha256(data)}`, { data, mediaType });
		return sha256(data);
	}

	/** How many requests have a line that matches. */
	count(pattern: RegExp): number {
		return this.requests.filter((line) => pattern.test(line)).length;
	}

	async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
		this.requests.push(`${request.method} ${request.url}`);
		this.headers.push(request.headers);
		if (await this.misbehave(request, response)) return;
		const url = new URL(request.url!, "http://registry");
		if (url.pathname === "/v2/") return void response.end("{}");
		const [, name, kind, rest] = /^\/v2\/(.+?)\/(manifests|blobs)\/(.+)$/.exec(url.pathname) ?? [];
		if (kind === "manifests") return this.#manifest(request, response, name!, rest!);
		if (kind === "blobs") return this.#blob(request, response, rest!, url);
		sendError(response, 404, "NAME_UNKNOWN");
	}

	async #manifest(request: IncomingMessage, response: ServerResponse, name: string, reference: string) {
		const key = reference.includes(":") ? `${name}@${reference}` : `${name}:${reference}`;
		if (request.method === "PUT") {
			const data = await readAll(request);
			const digest = this.addManifest(name, reference, data, request.headers["content-type"]!);
			response.writeHead(201, { "docker-content-digest": digest }).end();
			return;
		}
		const found = this.manifests.get(key);
		if (found === undefined) return sendError(response, 404, "MANIFEST_UNKNOWN");
		response.writeHead(200, { "content-type": found.mediaType, "docker-content-digest": sha256(found.data) });
		response.end(found.data);
	}

	async #blob(request: IncomingMessage, response: ServerResponse, rest: string, url: URL) {
		if (request.method === "POST") {
			response.writeHead(202, { location: `${url.pathname}0123?state=x` }).end();
			return;
		}
		if (request.method === "PUT") {
			const data = await readAll(request);
			const digest = url.searchParams.get("digest")!;
			if (digest !== sha256(data)) return sendError(response, 400, "DIGEST_INVALID");
			this.blobs.set(digest, data);
			response.writeHead(201).end();
			return;
		}
		const data = this.blobs.get(rest);
		if (data === undefined) return sendError(response, 404, "BLOB_UNKNOWN");
		const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? Number.NaN);
		if (Number.isNaN(from)) response.writeHead(200, { "content-length": data.length });
		else response.writeHead(206, { "content-range": `bytes ${from}-${data.length - 1}/${data.length}` });
		response.end(request.method === "HEAD" ? undefined : data.subarray(from || 0));
	}
}

export function sendError(response: ServerResponse, status: number, code: string, message = code.toLowerCase()): void {
	response.writeHead(status, { "content-type": "application/json" });
	response.end(JSON.stringify({ errors: [{ code, message }] }));
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of request) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}

/** Starts registries that end with the test. */
export function useRegistries(): { start(): Promise<FakeRegistry> } {
	const started: FakeRegistry[] = [];
	afterEach(async () => {
		for (const registry of started.splice(0)) await registry.close();
	});
	return {
		start: async () => {
			const registry = await FakeRegistry.start();
			started.push(registry);
			return registry;
		},
	};
}

/** Short times, nothing of the user's. */
export function quick(more: Partial<RegistrySettings> = {}): Pick<PullOptions, "settings" | "credentials"> {
	const settings = { insecure: new Set<string>(), mirrors: new Map(), timeoutMs: 5000, retryMs: 1, ...more };
	return { settings, credentials: async () => undefined };
}
