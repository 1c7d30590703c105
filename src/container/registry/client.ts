/*
 * One repository of one registry by the OCI distribution specification 1.1: manifests and blobs, read and written.
 * Log-in, attempts and redirects happen below; digests of manifests are checked here, those of blobs where they are
 * written.
 *
 *     GET  /v2/NAME/manifests/REFERENCE      PUT  /v2/NAME/manifests/REFERENCE
 *     GET  /v2/NAME/blobs/DIGEST             POST /v2/NAME/blobs/uploads/  -> Location, PUT Location?digest=DIGEST
 */
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ImageError } from "../../base/errors.ts";
import { MAX_DOCUMENT_BYTES } from "../image/documents.ts";
import { digestOf } from "../image/formats/archived-image.ts";
import { Authorizer, errorMessage } from "./auth.ts";
import type { Credentials } from "./credentials.ts";
import { connectionFailure, isBroken, refusal, unexpected } from "./failure.ts";
import { discard, Http, type HttpRequest, type HttpResponse, header } from "./http.ts";
import { isInsecure, type RegistrySettings } from "./settings.ts";

/** The media types that we understand, the preferred one first. */
const ACCEPTED = [
	"application/vnd.oci.image.index.v1+json",
	"application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v2+json",
].join(", ");
const MAX_ERROR_BYTES = 64 * 1024;
/** How often a request is sent when the connection breaks or the registry is busy. */
const ATTEMPTS = 4;
const BUSY = [429, 502, 503, 504];
const MAX_RETRY_AFTER_MS = 10_000;

export interface ClientOptions {
	/** For messages: "pull quay.io/org/app:1". */
	readonly attempt: string;
	/** As the user knows it: "docker.io", "localhost:5000". */
	readonly registry: string;
	/** The host to ask. Without a scheme it is "https://", unless the registry is insecure. */
	readonly base: string | URL;
	/** Of the repository: "library/busybox"; "" for the registry as a whole. */
	readonly path: string;
	readonly actions: "pull" | "pull,push";
	readonly settings: RegistrySettings;
	readonly credentials: () => Promise<Credentials | undefined>;
	readonly signal?: AbortSignal | undefined;
}

export interface FetchedManifest {
	readonly data: Buffer;
	readonly digest: string;
}

export class RegistryClient implements AsyncDisposable {
	readonly #options: ClientOptions;
	readonly #http: Http;
	readonly #insecure: boolean;
	readonly #scope: string;
	#base: Promise<URL> | undefined;
	#authorizer: Authorizer;

	constructor(options: ClientOptions) {
		const { attempt, registry, path, actions, settings, credentials, base } = options;
		this.#options = options;
		const host = base instanceof URL ? base.host : base;
		const insecure = (name: string) => name === host && isInsecure(settings, host);
		this.#insecure = insecure(host);
		this.#http = new Http({ attempt, timeoutMs: settings.timeoutMs, insecure });
		this.#scope = path === "" ? "" : `repository:${path}:${actions}`;
		const plain = this.#insecure || (base instanceof URL && base.protocol === "http:");
		this.#authorizer = new Authorizer({ attempt, registry, http: this.#http, credentials, insecure: plain });
	}

	/**
	 * A manifest or an index by tag or digest, its digest checked.
	 *
	 * @throws HostError ERR_REGISTRY_NOT_FOUND, ERR_REGISTRY_AUTH and others; ImageError ERR_IMAGE_DIGEST
	 */
	async manifest(reference: string): Promise<FetchedManifest> {
		const { attempt, registry, signal } = this.#options;
		const response = await this.#request("GET", `manifests/${reference}`, { headers: { accept: ACCEPTED } });
		if (response.status !== 200) throw await this.#refused(response);
		const data = await this.#http.read(response, MAX_DOCUMENT_BYTES, signal);
		const digest = digestOf(data);
		const expected = reference.includes(":") ? reference : header(response, "docker-content-digest");
		if (expected.startsWith("sha256:") && expected !== digest) {
			throw new ImageError(
				"ERR_IMAGE_DIGEST",
				`Cannot ${attempt}: the manifest should be ${expected}, but ${registry} sends ${digest}`,
			);
		}
		return { data, digest };
	}

	/**
	 * A blob from `offset` on. A registry may send it from its beginning nevertheless: `start` says where it begins.
	 *
	 * @throws HostError; the caller handles errors of the body
	 */
	async blob(digest: string, offset: number): Promise<{ body: Readable; start: number }> {
		const headers: Record<string, string> = offset === 0 ? {} : { range: `bytes=${offset}-` };
		const response = await this.#request("GET", `blobs/${digest}`, { headers });
		if (response.status === 200) return { body: response.body, start: 0 };
		if (response.status === 206 && header(response, "content-range").startsWith(`bytes ${offset}-`)) {
			return { body: response.body, start: offset };
		}
		throw await this.#refused(response);
	}

	/** True when the registry has the blob. */
	async hasBlob(digest: string): Promise<boolean> {
		const response = await this.#request("HEAD", `blobs/${digest}`);
		if (response.status !== 200 && response.status !== 404) throw await this.#refused(response);
		discard(response.body);
		return response.status === 200;
	}

	/** Sends a blob, in one piece. @param open gives it from its beginning, once per attempt */
	async putBlob({ digest, sizeBytes }: { digest: string; sizeBytes: number }, open: () => Readable): Promise<void> {
		const { attempt, registry } = this.#options;
		const begun = await this.#request("POST", "blobs/uploads/", { headers: { "content-length": "0" } });
		if (begun.status !== 202) throw await this.#refused(begun);
		discard(begun.body);
		const location = header(begun, "location");
		if (location === "" || !URL.canParse(location, begun.url.href)) {
			throw unexpected(attempt, `${registry} does not say where to upload to`);
		}
		const url = new URL(location, begun.url);
		url.searchParams.set("digest", digest);
		const headers = { "content-type": "application/octet-stream", "content-length": String(sizeBytes) };
		const response = await this.#send({ method: "PUT", url, headers, body: open });
		if (response.status !== 201) throw await this.#refused(response);
		discard(response.body);
	}

	/** Gives a manifest its tag. */
	async putManifest(reference: string, data: Buffer, mediaType: string): Promise<void> {
		const headers = { "content-type": mediaType };
		const response = await this.#request("PUT", `manifests/${reference}`, { headers, body: () => data });
		if (response.status !== 201) throw await this.#refused(response);
		discard(response.body);
	}

	/**
	 * Checks that the host is a registry and accepts our credentials. @throws HostError ERR_REGISTRY_AUTH when it does
	 * not
	 */
	async ping(): Promise<void> {
		const response = await this.#send({ method: "GET", url: new URL("/v2/", await this.#origin()) });
		if (response.status !== 200) throw await this.#refused(response);
		discard(response.body);
	}

	async [Symbol.asyncDispose](): Promise<void> {
		await this.#http[Symbol.asyncDispose]();
	}

	async #request(
		method: HttpRequest["method"],
		path: string,
		more: Pick<HttpRequest, "headers" | "body"> = {},
	): Promise<HttpResponse> {
		const base = await this.#origin();
		const prefix = base.pathname.replace(/\/$/, "");
		const url = new URL(`${prefix}/v2/${this.#options.path}/${path}`, base);
		const mayRepeat = method === "GET" || method === "HEAD";
		for (let attempt = 1; ; attempt++) {
			const last = !mayRepeat || attempt === ATTEMPTS;
			try {
				const response = await this.#send({ method, url, ...more });
				if (last || !BUSY.includes(response.status)) return response;
				discard(response.body);
				await this.pause(attempt, Number(header(response, "retry-after")) * 1000);
			} catch (error) {
				if (last || !isBroken((error as { cause?: unknown }).cause)) throw error;
				await this.pause(attempt);
			}
		}
	}

	/** Waits before an attempt that follows `attempt` others. @throws the signal's reason */
	async pause(attempt: number, wantedMs = 0): Promise<void> {
		const { settings, signal } = this.#options;
		const ms = Math.max(settings.retryMs * 2 ** (attempt - 1), Math.min(wantedMs || 0, MAX_RETRY_AFTER_MS));
		await sleep(ms, undefined, { signal }).catch(() => signal?.throwIfAborted());
	}

	/** Sends a request with our authorization; answers a challenge once. */
	async #send(request: HttpRequest): Promise<HttpResponse> {
		const { signal } = this.#options;
		const base = await this.#origin();
		for (let answered = false; ; answered = true) {
			/* An upload may go to another host, which is told no secret. */
			const authorization = request.url.origin === base.origin ? this.#authorizer.header(this.#scope) : undefined;
			const headers = { ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
			const response = await this.#http.send({ ...request, headers, signal });
			if (response.status !== 401 || answered || request.url.origin !== base.origin) return response;
			const challenge = header(response, "www-authenticate");
			if (!(await this.#authorizer.answer(challenge, this.#scope, signal))) return response;
			discard(response.body);
		}
	}

	/** Where the registry is: an insecure one is asked by TLS first, then without. */
	#origin(): Promise<URL> {
		const { base } = this.#options;
		this.#base ??= base instanceof URL ? Promise.resolve(base) : this.#findScheme(base);
		return this.#base;
	}

	async #findScheme(host: string): Promise<URL> {
		const { signal } = this.#options;
		const secure = new URL(`https://${host}`);
		if (!this.#insecure) return secure;
		try {
			discard((await this.#http.send({ method: "GET", url: new URL("/v2/", secure), signal })).body);
			return secure;
		} catch (error) {
			signal?.throwIfAborted();
			if ((error as { code?: unknown }).code === "ERR_REGISTRY_TIMEOUT") throw error;
			return new URL(`http://${host}`);
		}
	}

	async #refused(response: HttpResponse): Promise<unknown> {
		const { attempt, registry, signal } = this.#options;
		const { status } = response;
		try {
			const message = errorMessage(await this.#http.read(response, MAX_ERROR_BYTES, signal));
			return refusal(attempt, { registry, status, message });
		} catch {
			signal?.throwIfAborted();
			return refusal(attempt, { registry, status, message: "" });
		}
	}

	/** An error of a body that `blob` has given, as one of ours. */
	failure(error: unknown): unknown {
		return connectionFailure(this.#options.attempt, this.#options.registry, error);
	}
}
