/*
 * What the inspector's server answers, and above all what it does not: requests with a wrong token, of a foreign page, by
 * a foreign name.
 */
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { InspectorServer, RequestError } from "../../src/inspector/server.ts";

let server: InspectorServer;
let actions: unknown[];
beforeEach(async () => {
	actions = [];
	server = await InspectorServer.open(0, {
		get: {
			answer: (query) => ({ query: query.get("a"), big: 2n ** 40n, bytes: Buffer.from("hi") }),
			refuse: () => {
				throw new RequestError(409, "Cannot do it: not now");
			},
		},
		post: { act: (body) => void actions.push(body) },
		stream: (response) => response.end("frames"),
	});
});
afterEach(() => server.close());

interface Answer {
	status: number;
	headers: Record<string, unknown>;
	body: string;
}

function send(method: string, path: string, headers: Record<string, string> = {}, body = ""): Promise<Answer> {
	return new Promise((resolve, reject) => {
		const request = httpRequest({ host: "127.0.0.1", port: server.port, method, path, headers }, (response) => {
			text(response).then(
				(all) => resolve({ status: response.statusCode!, headers: response.headers, body: all }),
				reject,
			);
		});
		request.on("error", reject);
		request.end(body);
	});
}

const withToken = (headers: Record<string, string> = {}) => ({ Authorization: `Bearer ${server.token}`, ...headers });

it("InspectorServer gives the page to a browser that knows its address, and nothing else without the token", async () => {
	const page = await send("GET", "/");
	expect(page.status).toBe(200);
	expect(page.headers["content-type"]).toBe("text/html; charset=utf-8");
	expect(page.body).toContain("<h1>tsvmm");
	expect(page.body).not.toContain(server.token);
	for (const path of ["/api/answer", "/api/stream", "/api/nothing"]) expect((await send("GET", path)).status).toBe(401);
	expect((await send("POST", "/api/act")).status).toBe(401);
	expect(actions).toEqual([]);
});

it("InspectorServer answers a request with the token, in JSON", async () => {
	const answer = await send("GET", "/api/answer?a=1", withToken());
	expect([answer.status, JSON.parse(answer.body)]).toEqual([200, { query: "1", big: "0x10000000000", bytes: "6869" }]);
	expect((await send("POST", "/api/act", withToken(), '{"x":1}')).status).toBe(200);
	expect(actions).toEqual([{ x: 1 }]);
	expect((await send("GET", "/api/stream", withToken())).body).toBe("frames");
});

it.each([
	["none", undefined],
	["an empty one", ""],
	["a wrong one", `Bearer ${"0".repeat(32)}`],
	["the beginning of it", "half"],
	["one in another scheme", "basic"],
])("InspectorServer refuses a request with %s for a token", async (_name, kind) => {
	const half = `Bearer ${server.token.slice(0, 16)}`;
	const given = kind === "half" ? half : kind === "basic" ? `Basic ${server.token}` : kind;
	const answer = await send("POST", "/api/act", given === undefined ? {} : { Authorization: given });
	expect(answer.status).toBe(401);
	expect(actions).toEqual([]);
});

it("InspectorServer takes the token from no other place: not from a cookie, not from the address", async () => {
	const { token } = server;
	expect((await send("GET", `/api/answer?token=${token}`, { Cookie: `token=${token}` })).status).toBe(401);
});

describe("with the right token", () => {
	it.each([
		["a foreign name (DNS rebinding)", { Host: "evil.example" }, 421],
		["a foreign name with our port", { Host: "evil.example:PORT" }, 421],
		["our address without the port", { Host: "127.0.0.1" }, 421],
		["another address of the loopback", { Host: "127.0.0.2:PORT" }, 421],
		["a page of another origin", { Origin: "http://evil.example" }, 403],
		["a page of another port", { Origin: "http://127.0.0.1:1" }, 403],
		["a page of https", { Origin: "https://127.0.0.1:PORT" }, 403],
		["a sandboxed page", { Origin: "null" }, 403],
		["our other name as origin", { Origin: "http://localhost:PORT" }, 403],
		["another site, as the browser says", { "Sec-Fetch-Site": "cross-site" }, 403],
		["another port, as the browser says", { "Sec-Fetch-Site": "same-site" }, 403],
	] as const)("InspectorServer refuses %s, for the page as for its data", async (_name, headers, status) => {
		const own = Object.fromEntries(
			Object.entries(headers).map(([name, value]) => [name, value.replace("PORT", `${server.port}`)]),
		);
		expect((await send("GET", "/", own)).status).toBe(status);
		expect((await send("GET", "/api/answer", withToken(own))).status).toBe(status);
		expect((await send("POST", "/api/act", withToken(own))).status).toBe(status);
		expect(actions).toEqual([]);
	});

	it.each(["127.0.0.1", "localhost"])("InspectorServer answers as %s, to its own page", async (name) => {
		const host = `${name}:${server.port}`;
		const headers = { Host: host, Origin: `http://${host}`, "Sec-Fetch-Site": "same-origin" };
		expect((await send("POST", "/api/act", withToken(headers), "{}")).status).toBe(200);
	});

	it("InspectorServer refuses every upgrade", async () => {
		const socket = connect(server.port, "127.0.0.1");
		const upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
		const key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
		const lines = ["GET /api/stream HTTP/1.1", `Host: 127.0.0.1:${server.port}`, ...upgrade, key];
		socket.write(`${[...lines, `Authorization: Bearer ${server.token}`].join("\r\n")}\r\n\r\n`);
		expect(await text(socket)).toMatch(/^HTTP\/1\.1 403 /);
	});

	it("InspectorServer lets no other page read, frame or run anything", async () => {
		for (const path of ["/", "/main.js", "/api/answer", "/nothing"]) {
			const { headers } = await send("GET", path, withToken());
			expect(headers["access-control-allow-origin"]).toBeUndefined();
			expect(headers["content-security-policy"]).toContain("default-src 'none'");
			expect(headers["content-security-policy"]).toContain("frame-ancestors 'none'");
			expect(headers["x-content-type-options"]).toBe("nosniff");
			expect(headers["cross-origin-resource-policy"]).toBe("same-origin");
			expect(headers["set-cookie"]).toBeUndefined();
		}
		const { headers } = await send("OPTIONS", "/api/act", { Origin: "http://evil.example" });
		expect(headers["access-control-allow-origin"]).toBeUndefined();
	});

	it("InspectorServer gives no file besides those of the page", async () => {
		for (const path of ["/../server.ts", "/..%2fserver.ts", "/tsconfig.json", "/page/main.js", "//etc/passwd"]) {
			expect((await send("GET", path)).status, path).toBe(404);
		}
		expect((await send("PUT", "/main.js")).status).toBe(405);
		expect((await send("GET", "/api/toString", withToken())).status).toBe(404);
		expect((await send("POST", "/api/constructor", withToken())).status).toBe(404);
	});

	it("InspectorServer refuses a body that is too long or no JSON, and says what a route says", async () => {
		expect((await send("POST", "/api/act", withToken(), "x".repeat(70_000))).status).toBe(413);
		expect((await send("POST", "/api/act", withToken(), "{")).status).toBe(400);
		const refused = await send("GET", "/api/refuse", withToken());
		expect([refused.status, refused.body]).toEqual([409, '{"error":"Cannot do it: not now"}']);
	});
});

it("InspectorServer says when its port is taken", async () => {
	const other = InspectorServer.open(server.port, { get: {}, post: {}, stream: () => undefined });
	await expect(other).rejects.toThrow(`Cannot open the inspector on port ${server.port}: another program has it`);
});

it("InspectorServer closes with connections open", async () => {
	const socket = connect(server.port, "127.0.0.1");
	socket.on("error", () => undefined);
	socket.write("GET / HTTP/1.1\r\n");
	await new Promise((resolve) => socket.once("connect", resolve));
	const closed = new Promise((resolve) => socket.once("close", resolve));
	await server.close();
	await closed;
});
