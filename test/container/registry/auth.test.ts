import type { IncomingMessage, ServerResponse } from "node:http";
import { expect, test } from "vitest";
import type { Credentials } from "../../../src/container/registry/credentials.ts";
import { pull } from "../../../src/container/registry/pull.ts";
import { ociLayout, tar, useDirectory } from "../image/archives.ts";
import { type FakeRegistry, quick, sendError, useRegistries } from "./fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();
const USER = { username: "me", password: "se:cret" };
const BASIC = `Basic ${Buffer.from("me:se:cret").toString("base64")}`;

/** A registry that wants tokens, and the service that gives them for what `token` says. */
async function guarded(token: (request: IncomingMessage, response: ServerResponse) => unknown, realm?: string) {
	const [registry, service] = [await registries.start(), await registries.start()];
	registry.add("app", "1", ociLayout([await tar([{ name: "a", data: "a" }])]));
	const where = realm ?? `http://${service.host}/token`;
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === "Bearer good" || request.url === "/v2/") return false;
		response.setHeader("www-authenticate", `Bearer realm="${where}",service="reg",scope="repository:app:pull"`);
		sendError(response, 401, "UNAUTHORIZED", "authentication required");
		return true;
	};
	service.misbehave = (request, response) => {
		token(request, response);
		return true;
	};
	return { registry, service };
}

const give = (_: IncomingMessage, response: ServerResponse) => response.end('{"token":"good"}');
const attempt = (registry: FakeRegistry, credentials?: Credentials) =>
	pull(directory.store(), `${registry.host}/app:1`, { ...quick(), credentials: async () => credentials });

test("a token is asked for once, without a password when there is none", async () => {
	const { registry, service } = await guarded(give);
	await attempt(registry);
	expect(service.requests).toEqual(["GET /token?service=reg&scope=repository%3Aapp%3Apull"]);
	expect(service.headers[0]!.authorization).toBeUndefined();
	expect(registry.headers.filter(({ authorization }) => authorization === "Bearer good").length).toBe(3);
});

test("a password goes to the token service and not to the registry", async () => {
	const { registry, service } = await guarded((request, response) =>
		request.headers.authorization === BASIC
			? response.end('{"access_token":"good"}')
			: sendError(response, 401, "DENIED"),
	);
	await attempt(registry, USER);
	expect(service.requests[0]).toBe("GET /token?service=reg&scope=repository%3Aapp%3Apull&account=me");
	expect(registry.headers.filter(({ authorization }) => authorization?.startsWith("Basic"))).toEqual([]);
});

test("an identity token is refreshed by OAuth2", async () => {
	let form = "";
	const { registry, service } = await guarded(async (request, response) => {
		for await (const chunk of request) form += chunk;
		response.end('{"access_token":"good"}');
	});
	await attempt(registry, { identityToken: "old" });
	expect(service.requests).toEqual(["POST /token"]);
	expect(Object.fromEntries(new URLSearchParams(form))).toEqual({
		grant_type: "refresh_token",
		client_id: "tsvmm",
		refresh_token: "old",
		scope: "repository:app:pull",
		service: "reg",
	});
});

test("a token that has run out is asked for again", async () => {
	let given = 0;
	const { registry, service } = await guarded((_, response) => {
		given++;
		response.end('{"token":"good"}');
	});
	const { misbehave } = registry;
	let refused = false;
	registry.misbehave = (request, response) => {
		if (refused || !request.url!.includes("/blobs/")) return misbehave(request, response);
		refused = true;
		request.headers.authorization = "Bearer old";
		return misbehave(request, response);
	};
	await attempt(registry);
	expect(given).toBe(2);
	expect(service.requests).toHaveLength(2);
});

test("Basic: the password is told when it is asked for", async () => {
	const registry = await registries.start();
	registry.add("app", "1", ociLayout([await tar([{ name: "a", data: "a" }])]));
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === BASIC) return false;
		response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
		return true;
	};
	await attempt(registry, USER);
	await expect(attempt(registry, { ...USER, password: "wrong" })).rejects.toMatchObject({ code: "ERR_REGISTRY_AUTH" });
	await expect(attempt(registry)).rejects.toMatchObject({
		code: "ERR_REGISTRY_AUTH",
		hint: `Run tsvmm login ${registry.host}, if it exists and needs other credentials`,
	});
	await expect(attempt(registry, { identityToken: "t" })).rejects.toMatchObject({ code: "ERR_REGISTRY_AUTH" });
});

test.each<[string, (request: IncomingMessage, response: ServerResponse) => unknown, string, RegExp]>([
	[
		"refuses the password",
		(_, r) => sendError(r, 401, "UNAUTHORIZED", "incorrect username or password"),
		"ERR_REGISTRY_AUTH",
		/access denied \(incorrect username or password\)$/,
	],
	[
		"gives a token that does not help",
		(_, r) => r.end('{"token":"bad"}'),
		"ERR_REGISTRY_AUTH",
		/access denied \(authentication required\)$/,
	],
	["gives none", (_, r) => r.end("{}"), "ERR_REGISTRY_RESPONSE", /has given no token$/],
	[
		"gives one that is no header",
		(_, r) => r.end('{"token":"a\\r\\nb: c"}'),
		"ERR_REGISTRY_RESPONSE",
		/has given no token$/,
	],
	["is broken", (_, r) => r.writeHead(500).end("<html>"), "ERR_REGISTRY_RESPONSE", /answers with status 500$/],
	["talks without end", (_, r) => r.end("x".repeat(300_000)), "ERR_REGISTRY_RESPONSE", /sends more than 262144 bytes/],
])("a token service that %s ends the pull", async (_, token, code, message) => {
	const { registry } = await guarded(token);
	const failure = await attempt(registry, USER).then(
		() => undefined,
		(error: unknown) => error as Error,
	);
	expect(failure).toMatchObject({ code });
	expect(failure!.message).toMatch(message);
});

test.each(["", "ftp://x/token", "token"])('a registry that wants tokens from "%s" is not obeyed', async (realm) => {
	const { registry } = await guarded(give, realm);
	await expect(attempt(registry, USER)).rejects.toMatchObject({
		code: "ERR_REGISTRY_RESPONSE",
		message: expect.stringContaining("which is no https address"),
	});
});
