import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, expect, test, vi } from "vitest";
import { ociLayout, tar } from "../container/image/archives.ts";
import { useRegistries } from "../container/registry/fake-registry.ts";
import { bundle, expectError, tsvmm } from "./tsvmm.ts";

vi.setConfig({ testTimeout: 60_000 });
beforeAll(bundle, 60_000);

const registries = useRegistries();
const image = async () => ociLayout([await tar([{ name: "a", data: "a" }])]);

test("pull prints what Docker prints, and -q the name alone", async () => {
	const registry = await registries.start();
	const digest = registry.add("org/app", "latest", await image());
	const name = `${registry.host}/org/app`;
	const lines = [
		"Using default tag: latest",
		"latest: Pulling from org/app",
		`Digest: ${digest}`,
		`Status: Downloaded newer image for ${name}`,
		`${name}:latest`,
	];
	expect(await tsvmm(["pull", name])).toEqual({ status: 0, stdout: `${lines.join("\n")}\n`, stderr: "", left: [] });
	const quiet = await tsvmm(["image", "pull", "-q", `${name}:latest`]);
	expect(quiet).toEqual({ status: 0, stdout: `${name}:latest\n`, stderr: "", left: [] });
});

test("push sends what pull has brought", async () => {
	const registry = await registries.start();
	const digest = registry.add("app", "1", await image());
	const cache = mkdtempSync(join(tmpdir(), "tsvmm-push-"));
	const env = { TSVMM_CACHE: cache };
	try {
		await tsvmm(["pull", "-q", `${registry.host}/app:1`], { env });
		await tsvmm(["tag", `${registry.host}/app:1`, `${registry.host}/new:2`], { env });
		const size = registry.blobs.get(digest)!.length;
		expect(await tsvmm(["push", `${registry.host}/new:2`], { env })).toEqual({
			status: 0,
			stdout: `The push refers to repository [${registry.host}/new]\n2: digest: ${digest} size: ${size}\n`,
			stderr: "",
			left: [],
		});
		expect(registry.manifests.get("new:2")).toEqual(registry.manifests.get("app:1"));
	} finally {
		rmSync(cache, { recursive: true, force: true });
	}
});

test.each([
	["y\n", true],
	["n\n", false],
	["", false],
])("image prune asks, and %j is an answer", async (input, agrees) => {
	const { status, stdout } = await tsvmm(["image", "prune"], { input });
	expect(status).toBe(0);
	expect(stdout).toMatch(/^WARNING! This will remove all dangling images\.\nAre you sure .* \[y\/N\] /);
	expect(stdout.includes("Total reclaimed space: 0B")).toBe(agrees);
});

test("pull says what is wrong in one line", async () => {
	const registry = await registries.start();
	const name = `${registry.host}/app:1`;
	const outcome = await tsvmm(["pull", "-q", name]);
	const found = `${registry.host} does not have it (manifest_unknown)`;
	expectError(outcome, "ERR_REGISTRY_NOT_FOUND", `Cannot pull ${name}: ${found}`);
});

test.each(["SIGINT", "SIGTERM"] as const)("pull that %s ends leaves nothing", async (signal) => {
	const registry = await registries.start();
	registry.add("app", "1", await image());
	let cache = "";
	let asked: (value?: unknown) => void;
	const began = new Promise((resolve) => {
		asked = resolve;
	});
	registry.misbehave = (request) => {
		if (!request.url!.includes("/blobs/")) return false;
		asked();
		return true;
	};
	const outcome = await tsvmm(["pull", `${registry.host}/app:1`], {
		prepare: (directory) => {
			cache = join(directory, "../cache/images");
		},
		onOutput: (_, __, kill) => void began.then(() => kill(signal)),
		onEnd: () => {
			expect(readdirSync(join(cache, "staging"))).toEqual([]);
			expect(readdirSync(join(cache, "blobs/sha256"))).toEqual([]);
			expect(existsSync(join(cache, "names"))).toBe(true);
		},
	});
	expect(outcome.status).toBe(signal === "SIGINT" ? 130 : 143);
	expect(outcome.stderr).toBe(
		`tsvmm: error: Cannot pull ${registry.host}/app:1: interrupted by ${signal} [ERR_INTERRUPTED]\n`,
	);
});
