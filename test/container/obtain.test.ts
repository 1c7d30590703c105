import { afterEach, expect, test, vi } from "vitest";
import { obtainForRun } from "../../src/cli/obtain.ts";
import { importImage } from "../../src/container/image/import.ts";
import { obtainImage } from "../../src/container/obtain.ts";
import { ociLayout, packFiles, tar, useDirectory } from "./image/archives.ts";
import { quick, useRegistries } from "./registry/fake-registry.ts";

const directory = useDirectory();
const registries = useRegistries();
afterEach(() => {
	vi.unstubAllEnvs();
	vi.restoreAllMocks();
});

const image = async (text: string, architecture = "amd64") =>
	ociLayout([await tar([{ name: "a", data: text }])], { config: { architecture } });

test("obtainImage asks the registry only for what is missing, unless it is to ask always or never", async () => {
	const registry = await registries.start();
	const first = registry.add("app", "1", await image("1"));
	const store = directory.store();
	const name = `${registry.host}/app:1`;
	const obtain = async (pull?: "missing" | "always" | "never") =>
		(await obtainImage(store, name, { ...quick(), pull })).digest;
	await expect(obtain("never")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	expect(registry.requests).toEqual([]);
	expect(await obtain()).toBe(first);
	const second = registry.add("app", "1", await image("2"));
	registry.requests.length = 0;
	expect(await obtain("missing")).toBe(first);
	expect(await obtain("never")).toBe(first);
	expect(registry.requests).toEqual([]);
	expect(await obtain("always")).toBe(second);
	vi.stubEnv("TSVMM_LAB", "1");
	registry.requests.length = 0;
	expect(await obtain("always")).toBe(second);
	expect(registry.requests).toEqual([]);
});

test("obtainImage gives only what can run here", async () => {
	const registry = await registries.start();
	registry.add("app", "arm", await image("1", "arm64"));
	const store = directory.store();
	const obtain = (pull: "missing" | "never", platform?: string) =>
		obtainImage(store, `${registry.host}/app:arm`, { ...quick(), pull, platform });
	await expect(obtain("missing")).rejects.toMatchObject({ code: "ERR_IMAGE_PLATFORM" });
	await expect(obtain("missing", "linux/arm64")).rejects.toMatchObject({ code: "ERR_IMAGE_PLATFORM" });
	expect(store.list()).toMatchObject([{ config: { architecture: "arm64" } }]);
	await expect(obtain("never")).rejects.toMatchObject({ code: "ERR_IMAGE_PLATFORM" });
	await expect(obtain("never", "linux/arm64")).rejects.toMatchObject({ code: "ERR_IMAGE_PLATFORM" });
});

test("obtainImage: for a slip of the pen the hint is what the store has", async () => {
	const registry = await registries.start();
	const store = directory.store();
	const archive = directory.file("app.tar", await packFiles(await image("1")));
	await importImage(store, archive, { name: "app:1" });
	const obtain = (name: string) => obtainImage(store, `${registry.host}/${name}`, quick());
	await expect(obtain("ap")).rejects.toMatchObject({ code: "ERR_REGISTRY_NOT_FOUND", hint: "Try app:1" });
	await expect(obtain("zebra")).rejects.toMatchObject({ code: "ERR_REGISTRY_NOT_FOUND", hint: undefined });
	await expect(obtainImage(store, `sha256:${"0".repeat(64)}`)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
});

test("obtainForRun says on stderr that it pulls, unless it is to be quiet", async () => {
	const registry = await registries.start();
	registry.add("app", "latest", await image("1"));
	const store = directory.store();
	vi.stubEnv("DOCKER_CONFIG", directory.path);
	let text = "";
	vi.spyOn(process.stderr, "write").mockImplementation((chunk) => {
		text += chunk;
		return true;
	});
	const name = `${registry.host}/app`;
	await obtainForRun(store, name, { pull: "missing", quiet: false });
	expect(text).toBe(`Unable to find image '${name}:latest' locally\n`);
	await obtainForRun(store, name, { pull: "always", quiet: false });
	expect(text).toBe(`Unable to find image '${name}:latest' locally\ntsvmm: pulling ${name}:latest\n`);
	await obtainForRun(store, name, { pull: "always", quiet: true });
	await obtainForRun(store, name, { pull: "missing", quiet: false });
	expect(text.split("\n")).toHaveLength(3);
});
