/*
 * TLS and proxies: the way to a registry that is not on this machine. Names that no server has are reached by a proxy of
 * the test's own.
 */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer, request as httpRequest, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { type AddressInfo, connect } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { pull } from "../../../src/container/registry/pull.ts";
import { ociLayout, tar, useDirectory } from "../image/archives.ts";
import { type FakeRegistry, quick, useRegistries } from "./fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();
const servers: Server[] = [];
let registry: FakeRegistry;

beforeEach(async () => {
	registry = await registries.start();
	registry.add("app", "1", ociLayout([await tar([{ name: "a", data: "a" }])]));
});
afterEach(async () => {
	vi.unstubAllEnvs();
	for (const server of servers.splice(0)) {
		server.closeAllConnections();
		await new Promise((resolve) => server.close(resolve));
	}
});

const portOf = (server: Server) => (server.address() as AddressInfo).port;
async function listen<T extends Server>(server: T): Promise<T> {
	servers.push(server);
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	return server;
}

/** Passes requests on to the registry, whatever host they name. */
const passOn: RequestListener = (request, response) => {
	const path = request.url!.replace(/^http:\/\/[^/]+/, "");
	const onward = httpRequest(`http://${registry.host}${path}`, { method: request.method!, headers: request.headers });
	onward.on("response", (answer) => {
		response.writeHead(answer.statusCode!, answer.headers);
		answer.pipe(response);
	});
	request.pipe(onward);
};

/** The registry behind TLS, with a certificate for registry.test that nobody has signed. */
async function tlsRegistry(): Promise<{ port: number; certificate: string }> {
	const [key, certificate] = [join(directory.path, "key.pem"), join(directory.path, "cert.pem")];
	const names = "subjectAltName=DNS:registry.test,IP:127.0.0.1";
	const subject = ["-subj", "/CN=registry.test", "-addext", names, "-days", "2"];
	const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
	execFileSync("openssl", ["req", "-x509", ...curve, ...subject, "-keyout", key, "-out", certificate], {
		stdio: "pipe",
	});
	const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(certificate) }, passOn);
	await listen(server as unknown as Server);
	return { port: portOf(server as unknown as Server), certificate };
}

/** A proxy that leads every name to this machine and remembers what it was asked. */
async function proxy(status = 200): Promise<{ url: string; asked: string[] }> {
	const asked: string[] = [];
	const server = createServer((request, response) => {
		asked.push(`${request.method} ${request.url}`);
		passOn(request, response);
	});
	server.on("connect", (request, socket, head) => {
		asked.push(`CONNECT ${request.url} ${request.headers["proxy-authorization"] ?? ""}`.trim());
		if (status !== 200) return void socket.end(`HTTP/1.1 ${status} No\r\n\r\n`);
		const onward = connect(Number(request.url!.split(":")[1]), "127.0.0.1", () => {
			socket.write("HTTP/1.1 200 OK\r\n\r\n");
			onward.write(head);
			onward.pipe(socket).pipe(onward);
		});
		onward.on("error", () => socket.destroy());
		socket.on("error", () => onward.destroy());
	});
	return { url: `http://127.0.0.1:${portOf(await listen(server))}`, asked };
}

test("a certificate that nobody vouches for is refused, and taken when a registry is insecure", async () => {
	const { port } = await tlsRegistry();
	const { url, asked } = await proxy();
	vi.stubEnv("HTTPS_PROXY", url);
	const name = `registry.test:${port}/app:1`;
	await expect(pull(directory.store(), name, quick())).rejects.toMatchObject({
		code: "ERR_REGISTRY_CERTIFICATE",
		message: `Cannot pull ${name}: the certificate of registry.test:${port} is not trusted (self-signed certificate)`,
	});
	await pull(directory.store(), name, { ...quick(), insecure: true });
	expect(new Set(asked)).toEqual(new Set([`CONNECT registry.test:${port}`]));
	await pull(directory.store(), name, quick({ insecure: new Set([`registry.test:${port}`]) }));
});

test("a registry on this machine is asked by TLS first, with a certificate of any signer", async () => {
	const { port } = await tlsRegistry();
	vi.stubEnv("HTTPS_PROXY", "http://127.0.0.1:1");
	await pull(directory.store(), `127.0.0.1:${port}/app:1`, quick());
});

test("a registry without TLS is refused unless it is insecure", async () => {
	const { url, asked } = await proxy();
	vi.stubEnv("HTTP_PROXY", url);
	vi.stubEnv("HTTPS_PROXY", url);
	const port = registry.host.split(":")[1];
	const name = `registry.test:${port}/app:1`;
	await expect(pull(directory.store(), name, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
	await pull(directory.store(), name, { ...quick(), insecure: true });
	/* What needs no tunnel is asked of the proxy itself. */
	expect(asked).toContain(`GET http://registry.test:${port}/v2/app/manifests/1`);
});

test("a proxy is told its password, and its refusal is an error", async () => {
	const open = await proxy();
	vi.stubEnv("HTTPS_PROXY", open.url.replace("//", "//me:secret@"));
	const { port } = await tlsRegistry();
	const name = `registry.test:${port}/app:1`;
	await pull(directory.store(), name, { ...quick(), insecure: true });
	const secret = Buffer.from("me:secret").toString("base64");
	expect(open.asked[0]).toBe(`CONNECT registry.test:${port} Basic ${secret}`);
	const closed = await proxy(403);
	vi.stubEnv("HTTPS_PROXY", closed.url);
	await expect(pull(directory.store(), name, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
	vi.stubEnv("NO_PROXY", "registry.test");
	await expect(pull(directory.store(), name, quick())).rejects.toMatchObject({ code: "ERR_REGISTRY_CONNECT" });
	expect(closed.asked).toHaveLength(1);
});

test("a CA that the system trusts is trusted", async () => {
	const { port, certificate } = await tlsRegistry();
	vi.resetModules();
	vi.stubEnv("SSL_CERT_FILE", certificate);
	vi.stubEnv("HTTPS_PROXY", (await proxy()).url);
	const fresh = await import("../../../src/container/registry/pull.ts");
	await fresh.pull(directory.store(), `registry.test:${port}/app:1`, quick());
});
