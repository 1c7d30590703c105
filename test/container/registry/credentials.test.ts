import {
	chmodSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readFileSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { DockerConfig } from "../../../src/container/registry/credentials.ts";
import { useDirectory } from "../image/archives.ts";

const directory = useDirectory();
beforeEach(() => vi.stubEnv("TSVMM_CACHE", join(directory.path, "cache")));
afterEach(() => vi.unstubAllEnvs());

const config = () => new DockerConfig({ DOCKER_CONFIG: directory.path });
const file = () => join(directory.path, "config.json");
const put = (value: unknown) => writeFileSync(file(), typeof value === "string" ? value : JSON.stringify(value));
const get = () => JSON.parse(readFileSync(file(), "utf8"));
const base64 = (text: string) => Buffer.from(text).toString("base64");

/** A helper that keeps secrets in a file, on PATH. */
function helper(name: string, script: string): void {
	const bin = join(directory.path, "bin");
	mkdirSync(bin, { recursive: true });
	writeFileSync(join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}`);
	chmodSync(join(bin, `docker-credential-${name}`), 0o755);
	vi.stubEnv("PATH", `${bin}:${process.env.PATH}`);
}

test("DockerConfig: where there is no file there are no credentials", async () => {
	expect(await config().find("quay.io")).toBeUndefined();
	expect(await config().erase("quay.io")).toBe(false);
	expect(existsSync(file())).toBe(false);
});

test("DockerConfig finds credentials by the keys that Docker has used", async () => {
	const auth = { auth: base64("me:pass:word") };
	put({
		auths: { "https://index.docker.io/v1/": auth, "https://old.example/v2/": auth, "r:5000": { identitytoken: "t" } },
	});
	const found = { username: "me", password: "pass:word" };
	expect(await config().find("docker.io")).toEqual(found);
	expect(await config().find("old.example")).toEqual(found);
	expect(await config().find("r:5000")).toEqual({ identityToken: "t" });
	expect(await config().find("r")).toBeUndefined();
	put({ auths: { a: {}, b: { username: "u", password: "p" } } });
	expect(await config().find("a")).toBeUndefined();
	expect(await config().find("b")).toEqual({ username: "u", password: "p" });
});

test("DockerConfig stores and erases for this user alone, and leaves the rest of the file", async () => {
	put({ HttpHeaders: { a: "b" }, auths: { other: { auth: "x" } } });
	chmodSync(file(), 0o644);
	expect(await config().store("docker.io", { username: "me", password: "secret" })).toBe(file());
	expect(statSync(file()).mode & 0o777).toBe(0o600);
	const auths = { other: { auth: "x" }, "https://index.docker.io/v1/": { auth: base64("me:secret") } };
	expect(get()).toEqual({ HttpHeaders: { a: "b" }, auths });
	expect(await config().find("docker.io")).toEqual({ username: "me", password: "secret" });
	expect(await config().erase("docker.io")).toBe(true);
	expect(get()).toEqual({ HttpHeaders: { a: "b" }, auths: { other: { auth: "x" } } });
});

test("DockerConfig makes its directory, and writes through a symbolic link", async () => {
	const made = new DockerConfig({ DOCKER_CONFIG: join(directory.path, "new") });
	await made.store("a", { username: "u", password: "p" });
	expect(statSync(join(directory.path, "new")).mode & 0o777).toBe(0o700);
	writeFileSync(join(directory.path, "real.json"), "{}");
	symlinkSync("real.json", file());
	await config().store("a", { username: "u", password: "p" });
	expect(lstatSync(file()).isSymbolicLink()).toBe(true);
	expect(Object.keys(get().auths)).toEqual(["a"]);
});

test("DockerConfig: of many log-ins at once none is lost", async () => {
	const names = Array.from({ length: 10 }, (_, i) => `r${i}`);
	await Promise.all(names.map((name) => config().store(name, { username: "u", password: name })));
	expect(Object.keys(get().auths).sort()).toEqual(names);
});

test("DockerConfig asks the helper of a registry, or the one for all", async () => {
	helper("one", 'read server; echo "{\\"Username\\":\\"$1\\",\\"Secret\\":\\"$server\\"}"\n');
	helper("all", 'cat >/dev/null; echo \'{"Username":"<token>","Secret":"t"}\'\n');
	put({ credsStore: "all", credHelpers: { "quay.io": "one" } });
	expect(await config().find("quay.io")).toEqual({ username: "get", password: "quay.io" });
	expect(await config().find("docker.io")).toEqual({ identityToken: "t" });
});

test("DockerConfig keeps a password in the helper, not in the file", async () => {
	const kept = join(directory.path, "kept");
	helper(
		"file",
		`case $1 in store) cat > ${kept};; get) cat ${kept} 2>/dev/null || { echo credentials not found in native keychain; exit 1; };; erase) rm ${kept};; esac\n`,
	);
	put({ credsStore: "file" });
	expect(await config().find("r:5000")).toBeUndefined();
	expect(await config().store("r:5000", { username: "u", password: "secret" })).toBe("docker-credential-file");
	expect(readFileSync(file(), "utf8")).not.toContain(base64("u:secret"));
	expect(get().auths).toEqual({ "r:5000": {} });
	expect(await config().find("r:5000")).toEqual({ username: "u", password: "secret" });
	expect(await config().erase("r:5000")).toBe(true);
	expect(existsSync(kept)).toBe(false);
	expect(await config().erase("r:5000")).toBe(false);
});

test.each<[string, unknown, RegExp]>([
	["is no JSON", "{", /^Cannot read .*config\.json: /],
	["is a list", "[]", /it is no JSON object$/],
	["has a damaged password", { auths: { a: { auth: "####" } } }, /"auth" of a is not the base64 of user:password$/],
	["names a helper by a path", { credsStore: "../x" }, /"\.\.\/x" is no name of a credential helper$/],
	[
		"names a helper that is not there",
		{ credsStore: "gone" },
		/docker-credential-gone, which Docker's config.json names, is not installed$/,
	],
	["names a helper that fails", { credsStore: "bad" }, /docker-credential-bad: locked$/],
	[
		"names a helper that says nothing of use",
		{ credsStore: "vague" },
		/docker-credential-vague has given no credentials$/,
	],
])("DockerConfig: a file that %s is an error", async (_, content, message) => {
	helper("bad", "cat >/dev/null; echo locked >&2; exit 3\n");
	helper("vague", "cat >/dev/null; echo '{}'\n");
	put(content);
	const failure = await config()
		.find("a")
		.then(
			() => undefined,
			(error: unknown) => error as Error,
		);
	expect(failure).toMatchObject({ code: "ERR_REGISTRY_CREDENTIALS" });
	expect(failure!.message).toMatch(message);
});
