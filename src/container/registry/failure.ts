/*
 * The errors of registries. Each message begins with what was attempted: "Cannot pull quay.io/org/app:1: ...".
 */
import { errnoName, explain, HostError, TsvmmError } from "../../base/errors.ts";

const TIMEOUTS = ["UND_ERR_CONNECT_TIMEOUT", "UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT", "ETIMEDOUT"];
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER|ERR_TLS_CERT/;
/** The server has not answered by TLS. */
const NO_TLS = /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG/;
/** The connection broke. A second attempt may succeed. */
const BROKEN = ["ECONNRESET", "EPIPE", "UND_ERR_SOCKET", "UND_ERR_RES_CONTENT_LENGTH_MISMATCH", "UND_ERR_INFO"];

export function isTimeout(error: unknown): boolean {
	return TIMEOUTS.includes(errnoName(error) ?? "") || (error instanceof Error && error.name === "TimeoutError");
}

/** True when the same request may well succeed the next time. */
export function isBroken(error: unknown): boolean {
	return BROKEN.includes(errnoName(error) ?? "") || /^HPE_/.test(errnoName(error) ?? "");
}

/** Turns what the HTTP library throws into one of ours; leaves errors of ours alone. */
export function connectionFailure(attempt: string, host: string, error: unknown): unknown {
	if (error instanceof TsvmmError) return error;
	const code = errnoName(error) ?? "";
	if (isTimeout(error)) {
		return new HostError("ERR_REGISTRY_TIMEOUT", `Cannot ${attempt}: ${host} does not answer in time`, {
			hint: "Set TSVMM_REGISTRY_TIMEOUT to the seconds that a registry may be silent",
			cause: error,
		});
	}
	if (CERTIFICATE.test(code)) {
		const found = `the certificate of ${host} is not trusted (${explain(error)})`;
		return new HostError("ERR_REGISTRY_CERTIFICATE", `Cannot ${attempt}: ${found}`, {
			hint: `Copy its CA to /etc/docker/certs.d/${host}/ca.crt, or use --insecure`,
			cause: error,
		});
	}
	if (!(error instanceof Error)) return error;
	return new HostError("ERR_REGISTRY_CONNECT", `Cannot ${attempt}: ${host}: ${describe(error, code)}`, {
		hint: NO_TLS.test(code) ? "Use --insecure to allow plain http" : undefined,
		cause: error,
	});
}

function describe(error: Error, code: string): string {
	if (code === "ECONNREFUSED") return "connection refused";
	if (code === "ENOTFOUND") return "there is no such host";
	if (code === "EAI_AGAIN") return "name servers do not answer";
	if (NO_TLS.test(code)) return "it does not speak TLS";
	if (isBroken(error)) return "the connection broke off";
	return explain(error);
}

/** The registry has answered, but not as the specification has it. */
export function unexpected(attempt: string, found: string): HostError {
	return new HostError("ERR_REGISTRY_RESPONSE", `Cannot ${attempt}: ${found}`);
}

/** The error for a response whose status is none of those that mean success. */
export function refusal(
	attempt: string,
	{ registry, status, message }: { registry: string; status: number; message: string },
): HostError {
	const why = message === "" ? "" : ` (${message})`;
	switch (status) {
		case 401:
		case 403:
			return new HostError("ERR_REGISTRY_AUTH", `Cannot ${attempt}: access denied${why}`, {
				hint: `Run tsvmm login ${registry}, if it exists and needs other credentials`,
			});
		case 404:
			return new HostError("ERR_REGISTRY_NOT_FOUND", `Cannot ${attempt}: ${registry} does not have it${why}`);
		case 429:
			return new HostError("ERR_REGISTRY_LIMIT", `Cannot ${attempt}: ${registry} takes no more requests now${why}`, {
				hint: `Try again later, run tsvmm login ${registry}, or set TSVMM_REGISTRY_MIRROR`,
			});
		default:
			return unexpected(attempt, `${registry} answers with status ${status}${why}`);
	}
}
