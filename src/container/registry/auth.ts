/*
 * Answers a registry's challenge: with the user's password (Basic), or with a token (Bearer). The service that the
 * challenge names gives the token, for the password or without one (distribution-spec, Docker's token and OAuth2
 * documents). Tokens are kept until this process ends.
 */
import { parseChallenges } from "./challenge.ts";
import type { Credentials } from "./credentials.ts";
import { refusal, unexpected } from "./failure.ts";
import type { Http, HttpRequest } from "./http.ts";

const MAX_TOKEN_BYTES = 256 * 1024;
const MAX_ERROR_BYTES = 64 * 1024;

export interface AuthorizerOptions {
	/** For messages: "pull quay.io/org/app:1". */
	readonly attempt: string;
	readonly registry: string;
	readonly http: Http;
	/** Looked up once, when the registry asks. */
	readonly credentials: () => Promise<Credentials | undefined>;
	/** True when this registry may get passwords by plain http. */
	readonly insecure: boolean;
}

export class Authorizer {
	readonly #options: AuthorizerOptions;
	readonly #headers = new Map<string, string>();
	#credentials: Promise<Credentials | undefined> | undefined;

	constructor(options: AuthorizerOptions) {
		this.#options = options;
	}

	/** The Authorization header for a scope ("repository:library/busybox:pull", or "" for none), if one is known. */
	header(scope: string): string | undefined {
		return this.#headers.get(scope);
	}

	/**
	 * Makes the header that a challenge wants.
	 *
	 * @returns false when we have no answer
	 * @throws HostError ERR_REGISTRY_AUTH when the credentials are refused, ERR_REGISTRY_CREDENTIALS, and as Http
	 */
	async answer(challenge: string, scope: string, signal?: AbortSignal): Promise<boolean> {
		const challenges = parseChallenges(challenge);
		const bearer = challenges.find(({ scheme }) => scheme === "bearer");
		this.#credentials ??= this.#options.credentials();
		const credentials = await this.#credentials;
		if (bearer !== undefined) {
			const token = await this.#token(bearer.parameters, { scope, credentials, signal });
			this.#headers.set(scope, `Bearer ${token}`);
			return true;
		}
		const basic = challenges.some(({ scheme }) => scheme === "basic");
		if (!basic || credentials === undefined || !("password" in credentials)) return false;
		this.#headers.set(scope, basicHeader(credentials));
		return true;
	}

	async #token(
		parameters: ReadonlyMap<string, string>,
		{
			scope,
			credentials,
			signal,
		}: { scope: string; credentials: Credentials | undefined; signal?: AbortSignal | undefined },
	): Promise<string> {
		const { attempt, registry, http } = this.#options;
		const url = this.#realm(parameters.get("realm") ?? "");
		const service = parameters.get("service");
		const scopes = [...new Set([scope, parameters.get("scope") ?? ""])].filter((one) => one !== "");
		const wanted = tokenRequest(url, { service, scopes, credentials });
		const response = await http.send({ ...wanted, signal });
		if (response.status !== 200) {
			const body = await http.read(response, MAX_ERROR_BYTES, signal);
			throw refusal(attempt, { registry, status: response.status, message: errorMessage(body) });
		}
		const body = await http.read(response, MAX_TOKEN_BYTES, signal);
		const token = tokenIn(body);
		if (token === undefined) throw unexpected(attempt, `${url.host} has given no token`);
		return token;
	}

	/** The service that gives tokens. A registry that needs TLS may not make us send passwords without it. */
	#realm(text: string): URL {
		const { attempt, registry, insecure } = this.#options;
		const url = URL.canParse(text) ? new URL(text) : undefined;
		if (url?.protocol === "https:" || (url?.protocol === "http:" && insecure)) return url;
		throw unexpected(attempt, `${registry} wants tokens from "${text.slice(0, 200)}", which is no https address`);
	}
}

function tokenRequest(
	realm: URL,
	{
		service,
		scopes,
		credentials,
	}: { service: string | undefined; scopes: readonly string[]; credentials: Credentials | undefined },
): HttpRequest {
	if (credentials !== undefined && "identityToken" in credentials) {
		const form = new URLSearchParams({
			grant_type: "refresh_token",
			client_id: "tsvmm",
			refresh_token: credentials.identityToken,
			scope: scopes.join(" "),
			...(service === undefined ? {} : { service }),
		});
		const headers = { "content-type": "application/x-www-form-urlencoded" };
		return { method: "POST", url: realm, headers, body: () => form.toString() };
	}
	const url = new URL(realm);
	if (service !== undefined) url.searchParams.set("service", service);
	for (const scope of scopes) url.searchParams.append("scope", scope);
	if (credentials === undefined) return { method: "GET", url };
	url.searchParams.set("account", credentials.username);
	return { method: "GET", url, headers: { authorization: basicHeader(credentials) } };
}

function basicHeader({ username, password }: { username: string; password: string }): string {
	return `Basic ${Buffer.from(`${username}:${password}`).toString("base64")}`;
}

function tokenIn(body: Buffer): string | undefined {
	try {
		const { token, access_token } = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
		const found = token ?? access_token;
		/* It becomes a header, which has no control characters. */
		return typeof found === "string" && /^[\x21-\x7e]+$/.test(found) ? found : undefined;
	} catch {
		return undefined;
	}
}

/** What a registry says went wrong: {"errors":[{"code":"DENIED","message":"..."}]}; "" when it does not say so. */
export function errorMessage(body: Buffer): string {
	try {
		const { errors, details } = JSON.parse(body.toString("utf8")) as {
			errors?: { code?: unknown; message?: unknown }[];
			details?: unknown;
		};
		const { code, message } = errors?.[0] ?? { message: details };
		const text = typeof message === "string" && message !== "" ? message : code;
		return typeof text === "string" ? text.slice(0, 200) : "";
	} catch {
		return "";
	}
}
