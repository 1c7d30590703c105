/*
 * One HTTP request to a registry, or to where it redirects. It bounds a hostile or broken server: how long it may be
 * silent, how often it may redirect, and how long a document may be. The Authorization header goes only to its own
 * host.
 */
import type { Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { certificatesFor } from "./certificates.ts";
import { connectionFailure, unexpected } from "./failure.ts";
import { proxyFor } from "./proxy.ts";

export interface HttpRequest {
	readonly method: "GET" | "HEAD" | "POST" | "PUT";
	readonly url: URL;
	readonly headers?: Readonly<Record<string, string>>;
	/** Called once per attempt. */
	readonly body?: () => string | Uint8Array | Readable;
	readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
	readonly status: number;
	readonly headers: Readonly<Record<string, string | string[] | undefined>>;
	/** To be read to its end, or destroyed. */
	readonly body: Dispatcher.ResponseData["body"];
	/** Where the answer came from, after redirects. */
	readonly url: URL;
}

export interface HttpOptions {
	/** For messages: "pull quay.io/org/app:1". */
	readonly attempt: string;
	readonly timeoutMs: number;
	/** Hosts ("localhost:5000") whose certificate is not looked at. */
	readonly insecure: (host: string) => boolean;
}

type Undici = Pick<typeof import("undici"), "Agent" | "ProxyAgent" | "request">;

const MAX_REDIRECTS = 5;
const REDIRECTS = [301, 302, 303, 307, 308];
/** A document may trickle in, but not for ever. */
const DOCUMENT_PATIENCE = 4;
const MAX_DISCARDED = 64 * 1024;

export class Http implements AsyncDisposable {
	readonly options: HttpOptions;
	readonly #dispatchers = new Map<string, Dispatcher>();
	/* Loaded with the first request: in the bundle it is a file of its own. */
	#undici: Promise<Undici> | undefined;

	constructor(options: HttpOptions) {
		this.options = options;
	}

	/**
	 * Sends a request, and again where it is redirected to.
	 *
	 * @throws HostError ERR_REGISTRY_CONNECT, ERR_REGISTRY_TIMEOUT, ERR_REGISTRY_CERTIFICATE, ERR_REGISTRY_RESPONSE
	 * (redirects that lead nowhere); the signal's reason
	 */
	async send(wanted: HttpRequest): Promise<HttpResponse> {
		const { attempt } = this.options;
		let url = wanted.url;
		let headers = { "user-agent": "tsvmm", ...wanted.headers };
		for (let redirects = 0; ; redirects++) {
			const response = await this.#once({ ...wanted, url, headers }).catch((error: unknown) => {
				wanted.signal?.throwIfAborted();
				throw connectionFailure(attempt, url.host, error);
			});
			const location = response.headers.location;
			const follows = (wanted.method === "GET" || wanted.method === "HEAD") && REDIRECTS.includes(response.status);
			if (!follows || typeof location !== "string") return response;
			discard(response.body);
			if (redirects === MAX_REDIRECTS) {
				throw unexpected(attempt, `${wanted.url.host} redirects more than ${MAX_REDIRECTS} times`);
			}
			const next = URL.canParse(location, url.href) ? new URL(location, url) : undefined;
			const safe = next?.protocol === "https:" || (next?.protocol === "http:" && url.protocol === "http:");
			if (!safe) throw unexpected(attempt, `${url.host} redirects to ${location.slice(0, 200)}`);
			if (next!.origin !== url.origin) headers = without(headers, "authorization");
			url = next!;
		}
	}

	/**
	 * All of a short answer.
	 *
	 * @param most bytes
	 * @throws HostError ERR_REGISTRY_RESPONSE when it is longer, ERR_REGISTRY_TIMEOUT when it takes too long
	 */
	async read({ body, url }: HttpResponse, most: number, signal?: AbortSignal): Promise<Buffer> {
		const { attempt, timeoutMs } = this.options;
		const timer = setTimeout(() => {
			body.destroy(Object.assign(new Error("too slow"), { code: "ETIMEDOUT" }));
		}, DOCUMENT_PATIENCE * timeoutMs);
		const chunks: Buffer[] = [];
		let size = 0;
		try {
			for await (const chunk of body as AsyncIterable<Buffer>) {
				size += chunk.length;
				if (size > most) throw unexpected(attempt, `${url.host} sends more than ${most} bytes as one document`);
				chunks.push(chunk);
			}
			return Buffer.concat(chunks);
		} catch (error) {
			signal?.throwIfAborted();
			throw connectionFailure(attempt, url.host, error);
		} finally {
			clearTimeout(timer);
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await Promise.all([...this.#dispatchers.values()].map((dispatcher) => dispatcher.destroy()));
	}

	async #once({ method, url, headers, body, signal }: HttpRequest): Promise<HttpResponse> {
		this.#undici ??= import("undici");
		const undici: Undici = await this.#undici;
		const answer = await undici.request(url, {
			method,
			dispatcher: this.#dispatcher(undici, url),
			headers: { ...headers },
			body: body?.() ?? null,
			signal: signal ?? null,
		});
		return { status: answer.statusCode, headers: answer.headers, body: answer.body, url };
	}

	#dispatcher(undici: Undici, url: URL): Dispatcher {
		let dispatcher = this.#dispatchers.get(url.origin);
		if (dispatcher === undefined) {
			dispatcher = this.#createDispatcher(undici, url);
			this.#dispatchers.set(url.origin, dispatcher);
		}
		return dispatcher;
	}

	#createDispatcher({ Agent, ProxyAgent }: Undici, url: URL): Dispatcher {
		const { timeoutMs, insecure } = this.options;
		const tls = insecure(url.host) ? { rejectUnauthorized: false } : { ca: certificatesFor(url.host) };
		const times = { headersTimeout: timeoutMs, bodyTimeout: timeoutMs };
		const connect = { timeout: timeoutMs, ...(url.protocol === "https:" ? tls : {}) };
		const proxy = proxyFor(url);
		if (proxy === undefined) return new Agent({ ...times, connect });
		/* Requests without TLS go to the proxy itself, because few proxies allow tunnels to other ports than 443. */
		const tunnel = url.protocol === "https:";
		return new ProxyAgent({
			...times,
			uri: proxy,
			requestTls: connect,
			proxyTls: { timeout: timeoutMs },
			proxyTunnel: tunnel,
		});
	}
}

/** Passes over a body that nobody wants to read. A short one leaves its connection usable. */
export function discard(body: HttpResponse["body"]): void {
	body.on("error", () => undefined);
	body.dump({ limit: MAX_DISCARDED }).catch(() => undefined);
}

/** The first value of a header; "" when there is none. */
export function header({ headers }: HttpResponse, name: string): string {
	const value = headers[name];
	return (Array.isArray(value) ? value[0] : value) ?? "";
}

function without(headers: Readonly<Record<string, string>>, name: string) {
	return {
		"user-agent": "",
		...Object.fromEntries(Object.entries(headers).filter(([key]) => key.toLowerCase() !== name)),
	};
}
