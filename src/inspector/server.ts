/*
 * The inspector's HTTP server: the page's files, and below /api/ what the page asks for. It listens on the loopback only,
 * and each request passes access.ts first. It knows nothing of machines: `routes` does.
 *
 *     GET  /                 the page and its files
 *     GET  /api/stream       frames as lines of JSON, without an end (frames.ts)
 *     GET  /api/...          an answer in JSON
 *     POST /api/...          an action; body and answer are JSON
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { errnoName, explain, HostError, TsvmmError } from "../base/errors.ts";
import { hasToken, newToken, refusalOf } from "./access.ts";
import { readAsset } from "./assets.ts";

/** Of every answer. Nothing of the page comes from elsewhere, and no other page may frame it or read it. */
const HEADERS: Readonly<Record<string, string>> = {
	"Content-Security-Policy":
		"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"X-Content-Type-Options": "nosniff",
	"X-Frame-Options": "DENY",
	"Referrer-Policy": "no-referrer",
	"Cross-Origin-Opener-Policy": "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Cross-Origin-Embedder-Policy": "require-corp",
	"Cache-Control": "no-store",
};

/** No request has more: the longest is a line of console input. */
const MOST_BODY_BYTES = 64 * 1024;
/** Of all pages together. */
const MOST_CONNECTIONS = 64;
/** How long a page may take to read the last frame. */
const LAST_MS = 500;

/** What lies below /api/. An error that a route throws becomes an answer. */
export interface Routes {
	/** Answers. */
	readonly get: Readonly<Record<string, (query: URLSearchParams) => unknown>>;
	/** Actions. */
	readonly post: Readonly<Record<string, (body: unknown) => unknown>>;
	/** Takes a stream of frames over: it writes lines, and ends when the response is closed. */
	stream(response: ServerResponse, query: URLSearchParams): void;
}

/** A request that cannot be answered. */
export class RequestError extends Error {
	readonly status: number;

	constructor(status: number, message: string) {
		super(message);
		this.status = status;
	}
}

export class InspectorServer {
	readonly token = newToken();
	readonly #server: Server;
	readonly #routes: Routes;

	/** @throws HostError ERR_INSPECT_PORT */
	static async open(port: number, routes: Routes): Promise<InspectorServer> {
		const server = new InspectorServer(routes);
		try {
			await new Promise<void>((resolve, reject) => {
				server.#server.once("error", reject);
				server.#server.listen(port, "127.0.0.1", resolve);
			});
		} catch (cause) {
			const taken = errnoName(cause) === "EADDRINUSE";
			const message = `Cannot open the inspector on port ${port}: ${taken ? "another program has it" : explain(cause)}`;
			const hint = taken ? "Leave the number away: --inspect takes a free port" : undefined;
			throw new HostError("ERR_INSPECT_PORT", message, { cause, hint });
		}
		return server;
	}

	private constructor(routes: Routes) {
		this.#routes = routes;
		this.#server = createServer({ requestTimeout: 10_000, headersTimeout: 10_000 }, (request, response) => {
			this.#answer(request, response).catch((error: unknown) => this.#failed(response, error));
		});
		this.#server.maxConnections = MOST_CONNECTIONS;
		/* Nothing here is for an upgrade, so that no WebSocket of another page gets in. */
		this.#server.on("upgrade", (_request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"));
		this.#server.on("connect", (_request, socket) => socket.end("HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"));
	}

	get port(): number {
		return (this.#server.address() as AddressInfo).port;
	}

	/** The page's address for a browser. The token is in the part that no browser sends. */
	get url(): string {
		return `http://127.0.0.1:${this.port}/#${this.token}`;
	}

	/** Ends all connections. Pages that read have LAST_MS to do so. */
	async close(): Promise<void> {
		const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
		this.#server.closeIdleConnections();
		const timer = setTimeout(() => this.#server.closeAllConnections(), LAST_MS);
		await closed;
		clearTimeout(timer);
	}

	async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
		for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
		const refusal = refusalOf(request.headers, this.port);
		if (refusal !== undefined) throw new RequestError(refusal.status, `Cannot answer: ${refusal.why}`);
		const target = `http://localhost${request.url ?? "/"}`;
		if (!URL.canParse(target)) throw new RequestError(400, "Cannot answer: this is no address");
		const { pathname, searchParams } = new URL(target);
		if (!pathname.startsWith("/api/")) return this.#file(request, response, pathname);
		if (!hasToken(request.headers, this.token))
			throw new RequestError(401, "Cannot answer: the token is missing or wrong");
		const name = pathname.slice("/api/".length);
		if (request.method === "GET" && name === "stream") return this.#routes.stream(response, searchParams);
		if (request.method === "GET") {
			const get = own(this.#routes.get, name);
			if (get !== undefined) return sendJson(response, 200, await get(searchParams));
		} else if (request.method === "POST") {
			const post = own(this.#routes.post, name);
			if (post !== undefined) return sendJson(response, 200, (await post(await bodyOf(request))) ?? {});
		}
		throw new RequestError(404, `Cannot ${request.method} ${pathname}: there is nothing`);
	}

	async #file(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
		if (request.method !== "GET" && request.method !== "HEAD") throw new RequestError(405, "Cannot change the page");
		const asset = await readAsset(path);
		if (asset === undefined) throw new RequestError(404, `Cannot get ${path}: the page has no such file`);
		response.writeHead(200, { "Content-Type": asset.type, "Content-Length": asset.bytes.length });
		response.end(request.method === "HEAD" ? undefined : asset.bytes);
	}

	#failed(response: ServerResponse, error: unknown): void {
		if (response.headersSent) {
			response.destroy();
			return;
		}
		const status = error instanceof RequestError ? error.status : error instanceof TsvmmError ? 409 : 500;
		/* The rest of a body that was not read is of no use. */
		response.setHeader("Connection", "close");
		sendJson(response, status, { error: error instanceof Error ? error.message : String(error) });
	}
}

function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
	return Object.hasOwn(record, name) ? record[name] : undefined;
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
	response.writeHead(status, { "Content-Type": "application/json" });
	response.end(toJson(value));
}

/** JSON with bigints as "0x..." and bytes as hexadecimal digits. */
export function toJson(value: unknown): string {
	return JSON.stringify(value, function (this: Record<string, unknown>, key) {
		/* Not the second parameter: a Buffer has become a list of numbers there. */
		const one = this[key];
		if (typeof one === "bigint") return `0x${one.toString(16)}`;
		return one instanceof Uint8Array ? Buffer.from(one.buffer, one.byteOffset, one.length).toString("hex") : one;
	});
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
	const parts: Buffer[] = [];
	let bytes = 0;
	for await (const part of request as AsyncIterable<Buffer>) {
		bytes += part.length;
		if (bytes > MOST_BODY_BYTES) throw new RequestError(413, `Cannot read more than ${MOST_BODY_BYTES} bytes`);
		parts.push(part);
	}
	if (bytes === 0) return {};
	try {
		return JSON.parse(Buffer.concat(parts).toString());
	} catch {
		throw new RequestError(400, "Cannot read the body: it is no JSON");
	}
}
