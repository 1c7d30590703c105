/*
 * What a container has changed, from the lists and the tar that its guest gives.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { commitImage } from "../../../src/container/image/commit.ts";
import { importImage } from "../../../src/container/image/import.ts";
import { applyInstructions } from "../../../src/container/image/instructions.ts";
import { ImageStore } from "../../../src/container/image/store.ts";
import { chunks, type FileRange } from "../../../src/container/image/tar/entry.ts";
import { readTar } from "../../../src/container/image/tar/read.ts";
import { padding, tarEnd, tarHeader } from "../../../src/container/image/tar/write.ts";
import { findChanges, layerOf, readListing } from "../../../src/container/life/changes.ts";

const directory = mkdtempSync(join(tmpdir(), "changes-"));
afterAll(() => rmSync(directory, { recursive: true }));

const image = ["./etc", "./etc/passwd", "./etc/group", "./etc/hosts", "./dir", "./dir/a", "./dir/b", "./dev", "./gone"];
const root = ["./etc", "./etc/passwd", "./etc/hosts", "./dir", "./dir/new", "./dev", "./dev/null", "./top"];
/* ./dir was removed and made again: the overlay has it opaque, without whiteouts for what was in it. */
const upper = ["./etc", "./etc/passwd", "./etc/group", "./etc/hosts", "./dir", "./dir/new", "./dev", "./gone", "./top"];
const trees = { image, root, upper };

function openFile(name: string, ...parts: (Buffer | string)[]): FileRange {
	const path = join(directory, name);
	writeFileSync(path, Buffer.concat(parts.map((part) => Buffer.from(part as string))));
	const fd = openSync(path, "r");
	return { fd, start: 0, size: fstatSync(fd).size };
}

const rest = { uid: 0, gid: 0, mtime: 1, target: "", major: 0, minor: 0, xattrs: new Map() };
const file = (path: string, content: string) =>
	Buffer.concat([
		tarHeader({ ...rest, path, type: "file", mode: 0o644, size: content.length }),
		Buffer.from(content),
		padding(content.length),
	]);

describe("findChanges", () => {
	it("findChanges tells added, changed and deleted files, without what tsvmm puts there", () => {
		expect(findChanges(trees).map(({ kind, path }) => `${kind} ${path}`)).toEqual([
			"C dir",
			"D dir/a",
			"D dir/b",
			"A dir/new",
			"C etc",
			"D etc/group",
			"C etc/passwd",
			"D gone",
			"A top",
		]);
	});

	it("findChanges leaves out /etc when only tsvmm has changed it", () => {
		const own = ["./etc", "./etc/hosts", "./etc/resolv.conf"];
		expect(findChanges({ image: ["./etc"], root: own, upper: own })).toEqual([]);
	});

	it("findChanges tells of a tree that is gone only its top", () => {
		expect(findChanges({ image: ["./a", "./a/b", "./a/b/c"], root: [], upper: ["./a"] })).toEqual([
			{ kind: "D", path: "a" },
		]);
	});
});

describe("readListing", () => {
	const lists = (...all: string[][]) => all.map((list) => `${list.map((path) => `${path}\0`).join("")}\0`).join("");

	it("readListing finds the lists and the tar behind them, also where a list is empty", () => {
		const range = openFile("listing", lists(["./a\nb"], ["./a\nb", "./c"], []), file("./c", "text"), tarEnd());
		const found = readListing(range);
		expect(found.trees).toEqual({ image: ["./a\nb"], root: ["./a\nb", "./c"], upper: [] });
		expect([...readTar(found.archive, "it")].map(({ path }) => path)).toEqual(["./c"]);
		closeSync(range.fd);
	});

	it.each([
		["", "missing"],
		["./a\0", "no end"],
		[lists(["./a"], ["./a"]), "no end"],
	])("readListing refuses %j", (text, why) => {
		const range = openFile("bad", text);
		expect(() => readListing(range)).toThrow(expect.objectContaining({ code: "ERR_CHANGES" }));
		expect(() => readListing(range)).toThrow(why);
		closeSync(range.fd);
	});
});

describe("layerOf and commitImage", () => {
	const archive = () =>
		openFile(
			"upper.tar",
			tarHeader({ ...rest, path: "./", type: "directory", mode: 0o755, size: 0 }),
			tarHeader({ ...rest, path: "./etc/", type: "directory", mode: 0o755, size: 0 }),
			file("./etc/passwd", "new\n"),
			file("./etc/hosts", "127.0.0.1 localhost\n"),
			tarHeader({ ...rest, path: "./gone", type: "char", mode: 0, size: 0 }),
			tarHeader({ ...rest, path: "./etc/group", type: "char", mode: 0, size: 0 }),
			file("./top", "top"),
			tarHeader({ ...rest, path: "./dir/new", type: "link", target: "./top", mode: 0o644, size: 0 }),
			tarEnd(),
		);

	it("layerOf keeps what has changed, with whiteouts for what is gone", () => {
		const range = archive();
		const layer = openFile("layer.tar", ...layerOf(range, trees));
		const members = [...readTar(layer, "the layer")];
		expect(members.map(({ path, type, target }) => [path, type, target])).toEqual([
			["etc/", "directory", ""],
			["etc/passwd", "file", ""],
			["top", "file", ""],
			["dir/new", "link", "top"],
			["dir/.wh.a", "file", ""],
			["dir/.wh.b", "file", ""],
			["etc/.wh.group", "file", ""],
			[".wh.gone", "file", ""],
		]);
		const passwd = members.find(({ path }) => path === "etc/passwd")!;
		expect(Buffer.concat([...chunks(layer, passwd.offset, passwd.size)]).toString()).toBe("new\n");
		closeSync(range.fd);
		closeSync(layer.fd);
	});

	it("commitImage adds a layer, a step of history and what was changed to an image", async () => {
		const store = new ImageStore(join(directory, "images"));
		const plain = join(directory, "rootfs.tar");
		writeFileSync(plain, Buffer.concat([file("etc/passwd", "old\n"), file("gone", ""), tarEnd()]));
		const [imported] = await importImage(store, plain, { name: "base" });
		const range = archive();
		const made = await commitImage(store, {
			parent: imported!.image,
			layer: layerOf(range, trees),
			name: "changed:v1",
			author: "me",
			comment: "why",
			createdBy: "sh",
			change: (config) => applyInstructions(config, ["ENV A=1 B='two words'", 'CMD ["cat", "/top"]', "EXPOSE 80"]),
		});
		closeSync(range.fd);
		expect(store.find("changed:v1")).toEqual(made);
		expect(made.layers.map(({ digest }) => digest).slice(0, 1)).toEqual(
			imported!.image.layers.map((one) => one.digest),
		);
		expect(made.layers).toHaveLength(2);
		expect(made.config).toMatchObject({
			env: [expect.stringMatching(/^PATH=/), "A=1", "B=two words"],
			cmd: ["cat", "/top"],
			exposedPorts: ["80/tcp"],
		});
		expect(made.sizeBytes).toBe("new\n".length + "top".length);
	});
});

describe("applyInstructions", () => {
	it("applyInstructions takes each instruction in both forms", () => {
		const lines = ["CMD echo hi", 'ENTRYPOINT ["sh"]', "ENV OLD form of it", 'LABEL a="b c" d=e', "VOLUME /a /b"];
		expect(applyInstructions({ Env: ["OLD=1"] }, [...lines, "USER me", "WORKDIR sub", "STOPSIGNAL INT"])).toEqual({
			Cmd: ["/bin/sh", "-c", "echo hi"],
			Entrypoint: ["sh"],
			Env: ["OLD=form of it"],
			Labels: { a: "b c", d: "e" },
			Volumes: { "/a": {}, "/b": {} },
			User: "me",
			WorkingDir: "/sub",
			StopSignal: "INT",
		});
	});

	it.each(["RUN true", "ENV", "ENV alone", "EXPOSE http", "LABEL =x", ""])("applyInstructions refuses %j", (line) => {
		expect(() => applyInstructions({}, [line])).toThrow(expect.objectContaining({ code: "ERR_COMMIT_CHANGE" }));
	});
});
