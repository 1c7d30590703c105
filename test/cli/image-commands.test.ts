/*
 * images, tag, rmi, history, save, load and prune as a user calls them, each in this process.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Command } from "commander";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { imageListCommand } from "../../src/cli/image-list.ts";
import { historyCommand, pruneImagesCommand, removeImagesCommand, tagCommand } from "../../src/cli/image-names.ts";
import { loadCommand, saveCommand } from "../../src/cli/save.ts";
import { importImage } from "../../src/container/image/import.ts";
import { ImageStore } from "../../src/container/image/store.ts";
import { ContainerStore } from "../../src/container/life/store.ts";
import { ociLayout, packFiles, tar } from "../container/image/archives.ts";
import { containerConfig } from "../container/life/container-config.ts";

let directory = "";
let store: ImageStore;
beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-cli-images-"));
	vi.stubEnv("TSVMM_CACHE", join(directory, "cache"));
	store = new ImageStore();
});
afterEach(() => {
	vi.unstubAllEnvs();
	rmSync(directory, { recursive: true, force: true });
});

const HISTORY = [{ created: "2020-01-01T00:00:00Z", created_by: `RUN\t${"x".repeat(60)}\u001b[2J`, comment: "made" }];

async function bringIn(name: string, created: string, labels: Record<string, string> = {}): Promise<string> {
	const layout = ociLayout([await tar([{ name: "a", data: name }])], {
		run: { Cmd: ["sh"], Labels: labels },
		config: { created, history: HISTORY },
	});
	const archive = join(directory, "archive.tar");
	writeFileSync(archive, await packFiles(layout));
	return (await importImage(store, archive, { name }))[0]!.image.id;
}

/** What a command writes on stdout. */
async function output(command: Command, ...args: string[]): Promise<string> {
	let text = "";
	const write = vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
		text += chunk;
		return true;
	});
	try {
		await command.exitOverride().parseAsync(args, { from: "user" });
	} finally {
		write.mockRestore();
	}
	return text;
}
const images = (...args: string[]) => output(imageListCommand("images"), ...args);

test("images lists the newest first, in Docker's columns", async () => {
	const old = await bringIn("old:1", "2020-01-01T00:00:00Z");
	const young = await bringIn("localhost:5000/young:2", "2021-01-01T00:00:00Z");
	const lines = (await images()).split("\n");
	expect(lines[0]).toBe("REPOSITORY             TAG       IMAGE ID       CREATED       SIZE");
	expect(lines[1]).toMatch(
		new RegExp(`^localhost:5000/young   2         ${young.slice(7, 19)}   \\d years ago   22B$`),
	);
	expect(lines[2]).toMatch(new RegExp(`^old                    1         ${old.slice(7, 19)}   \\d years ago   5B$`));
	expect(await images("-q")).toBe(`${young.slice(7, 19)}\n${old.slice(7, 19)}\n`);
	expect(await images("-q", "--no-trunc", "old")).toBe(`${old}\n`);
	expect((await images("--digests", "old")).split("\n")[1]).toMatch(/^old +1 +<none> +/);
	expect(await images("--format", "{{.Repository}}:{{.Tag}} {{.CreatedAt}}", "old:*")).toBe(
		"old:1 2020-01-01 00:00:00 +0000 UTC\n",
	);
	expect(JSON.parse(await images("--format", "json", "old"))).toMatchObject({
		ID: old.slice(7, 19),
		Repository: "old",
		Tag: "1",
	});
	expect(JSON.parse(await images("--json"))).toMatchObject([{ id: young }, { id: old }]);
});

test("images filters as Docker does", async () => {
	await bringIn("a:1", "2020-01-01T00:00:00Z", { tier: "web" });
	await bringIn("b:1", "2021-01-01T00:00:00Z", { tier: "db" });
	await bringIn("user/c:1", "2022-01-01T00:00:00Z");
	await bringIn("a:2", "2023-01-01T00:00:00Z");
	await store.tag("a:2", "a:1");
	const names = async (...filters: string[]) =>
		(await images("--format", "{{.Repository}}:{{.Tag}}", ...filters.flatMap((filter) => ["--filter", filter])))
			.trim()
			.split("\n");
	expect(await names("dangling=true")).toEqual(["<none>:<none>"]);
	expect(await names("dangling=false", "label=tier")).toEqual(["b:1"]);
	expect(await names("label=tier=web")).toEqual(["<none>:<none>"]);
	expect(await names("reference=a")).toEqual(["a:1", "a:2"]);
	expect(await names("reference=user/*")).toEqual(["user/c:1"]);
	expect(await names("reference=docker.io/library/?:1")).toEqual(["a:1", "b:1"]);
	expect(await names("before=user/c:1")).toEqual(["b:1", "<none>:<none>"]);
	expect(await names("since=b:1")).toEqual(["a:1", "a:2", "user/c:1"]);
	for (const wrong of ["tier", "tier=1", "dangling=maybe", "label="]) {
		await expect(names(wrong)).rejects.toMatchObject({ code: "ERR_FILTER" });
	}
	await expect(names("since=none")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
});

test("tag gives a name, rmi takes it away and the image with the last one", async () => {
	const id = await bringIn("a:1", "2020-01-01T00:00:00Z");
	expect(await output(tagCommand(), id.slice(7, 15), "quay.io/org/b")).toBe("");
	expect(store.list()).toMatchObject([{ names: ["a:1", "quay.io/org/b:latest"] }]);
	await expect(output(tagCommand(), "none", "b")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	await expect(output(tagCommand(), "a:1", "B")).rejects.toMatchObject({ code: "ERR_IMAGE_REFERENCE" });
	await expect(output(tagCommand(), "a:1", `b@${id}`)).rejects.toMatchObject({ code: "ERR_IMAGE_REFERENCE" });
	expect(await output(removeImagesCommand("rmi"), "a:1")).toBe("Untagged: a:1\n");
	expect(await output(removeImagesCommand("rmi"), "-f", id)).toBe(`Untagged: quay.io/org/b:latest\nDeleted: ${id}\n`);
});

test("history shows each step in one line", async () => {
	const id = await bringIn("a:1", "2020-01-01T00:00:00Z");
	const lines = (await output(historyCommand(), "a:1")).split("\n");
	expect(lines[0]).toMatch(/^IMAGE +CREATED +CREATED BY +SIZE +COMMENT$/);
	expect(lines[1]).toMatch(new RegExp(`^${id.slice(7, 19)}   \\d years ago   RUN x{40}…   3B        made$`));
	expect(await output(historyCommand(), "-q", "--no-trunc", "a:1")).toBe(`${id}\n`);
	const format = ["--no-trunc", "--no-human", "--format", "{{.CreatedBy}}|{{.CreatedSince}}|{{.Size}}"];
	const full = `RUN ${"x".repeat(60)}\\x1b[2J|2020-01-01 00:00:00 +0000 UTC|3\n`;
	expect(await output(historyCommand(), ...format, "a:1")).toBe(full);
});

test("save and load pass images on; a file appears when it is whole", async () => {
	const id = await bringIn("a:1", "2020-01-01T00:00:00Z");
	const file = join(directory, "saved.tar");
	expect(await output(saveCommand(), "-o", file, "a:1")).toBe("");
	await store.remove(["a:1"]);
	expect(await output(loadCommand(), "-i", file)).toBe("Loaded image: a:1\n");
	await output(saveCommand(), "-o", file, id);
	await store.remove(["a:1"]);
	expect(await output(loadCommand(), "-i", file)).toBe(`Loaded image ID: ${id}\n`);
	const before = readdirSync(directory).sort();
	const none = join(directory, "none.tar");
	await expect(output(saveCommand(), "-o", none, "none")).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	rmSync(store.blobPath(id));
	await expect(output(saveCommand(), "-o", none, id)).rejects.toMatchObject({ code: "ERR_STORE_READ" });
	const away = join(directory, "away/none.tar");
	await expect(output(saveCommand(), "-o", away, id)).rejects.toMatchObject({ code: "ERR_SAVE" });
	await expect(output(loadCommand(), "-i", none)).rejects.toMatchObject({ code: "ERR_IMAGE_NOT_FOUND" });
	expect(readdirSync(directory).sort()).toEqual(before);
});

test("image prune removes what no name stands for", async () => {
	const id = await bringIn("a:1", "2020-01-01T00:00:00Z");
	await bringIn("a:1", "2021-01-01T00:00:00Z");
	const text = await output(pruneImagesCommand(), "--force");
	expect(text).toMatch(new RegExp(`^Deleted Images:\nDeleted: ${id}\n\nTotal reclaimed space: [\\d.]+k?B\n$`));
	expect(await output(pruneImagesCommand(), "--force")).toBe("Total reclaimed space: 0B\n");
	expect(existsSync(store.blobPath(id))).toBe(false);
	expect(store.list()).toHaveLength(1);
});

test("rmi and image prune keep the images of containers", async () => {
	const id = await bringIn("a:1", "2020-01-01T00:00:00Z");
	await bringIn("b:1", "2021-01-01T00:00:00Z");
	const { digest } = store.find("a:1");
	const container = await new ContainerStore().create(
		containerConfig({}, { image: { name: "a:1", digest, id } }),
		"rmi-user",
	);
	try {
		const inUse = { code: "ERR_IMAGE_IN_USE", message: "Cannot remove image a:1: container rmi-user is made of it" };
		await expect(output(removeImagesCommand("rmi"), "a:1")).rejects.toMatchObject(inUse);
		await store.tag("a:1", "a:2");
		await expect(output(removeImagesCommand("rmi"), id)).rejects.toMatchObject({ code: "ERR_IMAGE_IN_USE" });
		await expect(output(removeImagesCommand("rmi"), "a:1", "a:2")).rejects.toMatchObject(inUse);
		expect(await output(removeImagesCommand("rmi"), "a:2")).toBe("Untagged: a:2\n");
		expect(await output(pruneImagesCommand(), "--all", "--force")).toContain("Untagged: b:1");
		expect(store.list()).toMatchObject([{ id, names: ["a:1"] }]);
		expect(await output(removeImagesCommand("rmi"), "--force", "a:1")).toBe(`Untagged: a:1\nDeleted: ${id}\n`);
	} finally {
		await container.erase();
	}
});
