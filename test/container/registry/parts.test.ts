import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseReference } from "../../../src/container/image/reference.ts";
import { certificatesFor } from "../../../src/container/registry/certificates.ts";
import { parseChallenges } from "../../../src/container/registry/challenge.ts";
import { fullName, isLoopback, locate } from "../../../src/container/registry/location.ts";
import { proxyFor } from "../../../src/container/registry/proxy.ts";
import { isInsecure, registrySettings } from "../../../src/container/registry/settings.ts";
import { useDirectory } from "../image/archives.ts";

const directory = useDirectory();

test.each([
	["busybox", "docker.io", "registry-1.docker.io", "library/busybox"],
	["user/app", "docker.io", "registry-1.docker.io", "user/app"],
	["docker.io/library/busybox", "docker.io", "registry-1.docker.io", "library/busybox"],
	["quay.io/org/app", "quay.io", "quay.io", "org/app"],
	["localhost/app", "localhost", "localhost", "app"],
	["localhost:5000/a/b", "localhost:5000", "localhost:5000", "a/b"],
	["[::1]:5000/app", "[::1]:5000", "[::1]:5000", "app"],
	["Host/app", "Host", "Host", "app"],
])("locate: %s is in %s", (name, registry, host, path) => {
	expect(locate(parseReference(name).repository)).toEqual({ registry, host, path });
});

test("fullName names registry, path and tag", () => {
	expect(fullName(parseReference("busybox"))).toBe("docker.io/library/busybox:latest");
	expect(fullName(parseReference("localhost:5000/app:1"))).toBe("localhost:5000/app:1");
});

test.each([
	["localhost:5000", true],
	["127.9.9.9", true],
	["[::1]:5000", true],
	["localhost.example", false],
	["10.0.0.5:5000", false],
])("isLoopback: %s %s", (host, loopback) => {
	expect(isLoopback(host)).toBe(loopback);
});

test("parseChallenges reads what registries send", () => {
	const read = (header: string) =>
		parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);
	expect(read('Bearer realm="https://auth/token",service="reg",scope="repository:a:pull,push"')).toEqual([
		["bearer", { realm: "https://auth/token", service: "reg", scope: "repository:a:pull,push" }],
	]);
	expect(read('Basic realm="a \\"b\\"", charset=UTF-8, BEARER Realm=x , Negotiate')).toEqual([
		["basic", { realm: 'a "b"', charset: "UTF-8" }],
		["bearer", { realm: "x" }],
		["negotiate", {}],
	]);
	for (const header of ["", "=", '"', ",,,", 'Basic realm="x', "a=b=c"]) expect(() => read(header)).not.toThrow();
});

test.each<[string, Record<string, string>, string | undefined]>([
	["https://a.example/", {}, undefined],
	["https://a.example/", { HTTPS_PROXY: "http://p:3128" }, "http://p:3128"],
	["https://a.example/", { https_proxy: "p:3128", HTTPS_PROXY: "q" }, "http://p:3128"],
	["https://a.example/", { HTTP_PROXY: "http://p" }, undefined],
	["http://a.example/", { HTTP_PROXY: "http://p" }, "http://p"],
	["https://localhost:5000/", { HTTPS_PROXY: "http://p" }, undefined],
	["https://127.0.0.1/", { HTTPS_PROXY: "http://p" }, undefined],
	["https://a.example/", { HTTPS_PROXY: "http://p", NO_PROXY: "*" }, undefined],
	["https://a.example/", { HTTPS_PROXY: "http://p", NO_PROXY: "b, .example" }, undefined],
	["https://example/", { HTTPS_PROXY: "http://p", no_proxy: "*.example" }, undefined],
	["https://a.example/", { HTTPS_PROXY: "http://p", NO_PROXY: "le" }, "http://p"],
	["https://a.example:5000/", { HTTPS_PROXY: "http://p", NO_PROXY: "a.example:443" }, "http://p"],
	["https://a.example/", { HTTPS_PROXY: "http://p", NO_PROXY: "a.example:443" }, undefined],
	["https://10.1.2.3/", { HTTPS_PROXY: "http://p", NO_PROXY: "10.0.0.0/8" }, undefined],
	["https://11.1.2.3/", { HTTPS_PROXY: "http://p", NO_PROXY: "10.0.0.0/8,10.0.0.0/99,x/8" }, "http://p"],
	["https://[fd00::1]/", { HTTPS_PROXY: "http://p", NO_PROXY: "fd00::/8" }, undefined],
])("proxyFor: %s with %j is %s", (url, env, proxy) => {
	expect(proxyFor(new URL(url), env)).toBe(proxy);
});

test("registrySettings reads the environment and the file", () => {
	const env = { XDG_CONFIG_HOME: directory.path };
	expect(registrySettings(env)).toMatchObject({ insecure: new Set(), mirrors: new Map(), timeoutMs: 30_000 });
	mkdirSync(join(directory.path, "tsvmm"));
	const file = join(directory.path, "tsvmm/registries.json");
	writeFileSync(
		file,
		'{ "mirrors": { "docker.io": ["http://b"], "quay.io": ["https://c/p"] }, "insecure": ["r:5000"] }',
	);
	const settings = registrySettings({
		...env,
		TSVMM_REGISTRY_MIRROR: "https://a",
		TSVMM_INSECURE_REGISTRIES: "s:1, t",
		TSVMM_REGISTRY_TIMEOUT: "5",
	});
	expect(settings.timeoutMs).toBe(5000);
	expect([...settings.insecure]).toEqual(["r:5000", "s:1", "t"]);
	expect(settings.mirrors.get("docker.io")!.map(String)).toEqual(["https://a/", "http://b/"]);
	expect(settings.mirrors.get("quay.io")!.map(String)).toEqual(["https://c/p"]);
	expect(["r:5000", "r", "127.0.0.1:1", "x"].map((host) => isInsecure(settings, host))).toEqual([
		true,
		false,
		true,
		false,
	]);
	for (const text of [
		"{",
		"[1]",
		"null",
		'{"insecure":"x"}',
		'{"mirrors":{"a":"https://b"}}',
		'{"mirrors":{"a":["ftp://b"]}}',
	]) {
		writeFileSync(file, text);
		expect(() => registrySettings(env)).toThrow(expect.objectContaining({ code: "ERR_REGISTRY_SETTINGS" }));
	}
	writeFileSync(file, "{}");
	for (const wrong of [
		{ TSVMM_REGISTRY_MIRROR: "mirror" },
		{ TSVMM_REGISTRY_TIMEOUT: "0" },
		{ TSVMM_REGISTRY_TIMEOUT: "x" },
	]) {
		expect(() => registrySettings({ ...env, ...wrong })).toThrow(
			expect.objectContaining({ code: "ERR_REGISTRY_SETTINGS" }),
		);
	}
});

test("certificatesFor adds what Docker keeps for a registry", () => {
	mkdirSync(join(directory.path, "r:5000"));
	writeFileSync(join(directory.path, "r:5000/ca.crt"), "CA");
	writeFileSync(join(directory.path, "r:5000/client.key"), "KEY");
	const all = certificatesFor("r:5000", directory.path);
	expect(all.at(-1)).toBe("CA");
	expect(all.length).toBe(certificatesFor("other", directory.path).length + 1);
	expect(all).not.toContain("KEY");
});
