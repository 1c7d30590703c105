import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { ociLayout, tar } from "../container/image/archives.ts";
import { type FakeRegistry, useRegistries } from "../container/registry/fake-registry.ts";
import { bundle, expectError, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

const registries = useRegistries();
const BASIC = `Basic ${Buffer.from("me:secret").toString("base64")}`;
let directory = "";
let registry: FakeRegistry;

beforeEach(async () => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-login-"));
	registry = await registries.start();
	registry.add("app", "1", ociLayout([await tar([{ name: "a", data: "a" }])]));
	registry.misbehave = (request, response) => {
		if (request.headers.authorization === BASIC) return false;
		response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
		return true;
	};
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const call = (args: readonly string[], input = "") => tsvmm(args, { input, env: { DOCKER_CONFIG: directory } });
const config = () => JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));

test("login keeps what the registry takes, pull uses it, logout forgets it", async () => {
	const { host } = registry;
	const login = await call(["login", "-u", "me", "--password-stdin", host], "secret\n");
	expect(login).toMatchObject({ status: 0, stdout: "Login Succeeded\n", left: [] });
	expect(login.stderr).toContain(`the password is in ${directory}/config.json`);
	expect(config()).toEqual({ auths: { [host]: { auth: Buffer.from("me:secret").toString("base64") } } });
	expect(await call(["pull", "-q", `${host}/app:1`])).toMatchObject({ status: 0, stdout: `${host}/app:1\n` });
	expect(await call(["logout", `https://${host}/v1/`])).toMatchObject({
		status: 0,
		stdout: `Removing login credentials for ${host}\n`,
	});
	expect(config()).toEqual({ auths: {} });
	expect(await call(["logout", host])).toMatchObject({ status: 0, stdout: `Not logged in to ${host}\n` });
	expect((await call(["pull", "-q", `${host}/app:1`])).stderr).toContain("[ERR_REGISTRY_AUTH]");
});

test("login keeps nothing that the registry refuses", async () => {
	const { host } = registry;
	const outcome = await call(["login", "-u", "me", "-p", "wrong", host]);
	const hint = "Check the user name and the password";
	expectError(outcome, "ERR_REGISTRY_AUTH", `Cannot log in to ${host}: access denied`, hint);
	expect(existsSync(join(directory, "config.json"))).toBe(false);
});

test.each([
	[["-u", "me"], "", "standard input is no terminal to ask at", "Use --username and --password-stdin"],
	[["--password-stdin"], "", "standard input is no terminal to ask at", "Use --username and --password-stdin"],
	[["-u", "me", "--password-stdin", "-p", "x"], "", "--password and --password-stdin exclude each other"],
	[["-u", "me", "--password-stdin"], "\n", "a user name and a password are wanted"],
	[["-u", "me", "--password-stdin"], "x".repeat(70_000), "standard input is too long for a password"],
])("login %j is refused", async (args, input, found, hint?: string) => {
	expectError(
		await call(["login", ...args, registry.host], input),
		"ERR_REGISTRY_LOGIN",
		`Cannot log in: ${found}`,
		hint,
	);
	expect(registry.requests).toEqual([]);
});

test("login refuses what is no registry", async () => {
	const found = 'Cannot read registry "a b": HOST[:PORT] is wanted';
	expectError(await call(["login", "-u", "me", "-p", "x", "a b"]), "ERR_IMAGE_REFERENCE", found);
});
