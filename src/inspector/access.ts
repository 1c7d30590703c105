/*
 * Which HTTP requests the inspector answers. Any page in the user's browser can send requests to a port of this
 * machine, so an address on the loopback protects nothing. These rules do:
 *
 *     Host             names this server itself: no foreign name that resolves to 127.0.0.1 (DNS rebinding)
 *     Origin           is missing, or this server's own: no page of another origin
 *     Sec-Fetch-Site   is missing, "same-origin", or "none" (the user has typed the address)
 *     Authorization    has the token, for all that shows or changes the guest
 *
 * The token is no cookie. Cookies of 127.0.0.1 go to every port of it, and come with requests that no page of ours made.
 */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";

/** Why a request is refused. */
export interface Refusal {
	readonly status: 401 | 403 | 421;
	readonly why: string;
}

/** A new token: 128 bits that nobody guesses. */
export function newToken(): string {
	return randomBytes(16).toString("hex");
}

/** Why a request is refused wherever it goes; undefined for one of our own page, or of a program. */
export function refusalOf(headers: IncomingHttpHeaders, port: number): Refusal | undefined {
	const { host, origin } = headers;
	const site = headers["sec-fetch-site"];
	if (host !== `127.0.0.1:${port}` && host !== `localhost:${port}`) {
		return { status: 421, why: "this server has another name" };
	}
	if (origin !== undefined && origin !== `http://${host}`)
		return { status: 403, why: "this is a page of another origin" };
	if (site !== undefined && site !== "same-origin" && site !== "none") {
		return { status: 403, why: "this is a request of another site" };
	}
	return undefined;
}

/** True for a request that has the token. */
export function hasToken({ authorization = "" }: IncomingHttpHeaders, token: string): boolean {
	const given = Buffer.from(authorization);
	const wanted = Buffer.from(`Bearer ${token}`);
	return given.length === wanted.length && timingSafeEqual(given, wanted);
}
