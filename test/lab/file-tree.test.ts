/*
 * Which files of the host a lab sees. There is no lab: a shell runs in QEMU's place. Each test runs twice, in
 * namespaces of root's and in a user namespace.
 */
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
	closeSync,
	mkdirSync,
	mkdtempSync,
	realpathSync,
	renameSync,
	rmSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { CONFINED, FileTree } from "../../src/lab/file-tree.ts";
import { isLocked, takeLock } from "../../src/lab/lock.ts";
import type { Share } from "../../src/lab/shares.ts";

let directory: string;
let tree: FileTree;

const at = (...names: string[]) => join(directory, ...names);
/** A path in the directory as QEMU sees it. */
const inside = (...names: string[]) => join(CONFINED.files, directory, ...names);

/** Runs a shell script in QEMU's place. @returns its output */
function confined(script: string): string {
	const [program, ...words] = [...tree.confine(at("template"), at("console")), "/bin/sh", "-c", script];
	return execFileSync(program!, words, { encoding: "utf8", cwd: "/" });
}

async function open(limits: readonly Share[] = []): Promise<void> {
	const opened = await FileTree.open(limits);
	if (!(opened instanceof FileTree)) throw new Error(opened.refused);
	tree = opened;
}

describe.each(["root", "a user namespace"])("FileTree of %s", (whose) => {
	beforeEach(() => {
		directory = realpathSync(mkdtempSync(join(tmpdir(), "tree-")));
		for (const name of ["template", "a", "a/b", "a/b/c"]) mkdirSync(at(name));
		for (const name of ["console", "secret", "a/one", "a/b/two", "a/b/c/three"]) writeFileSync(at(name), name);
		if (whose !== "root") vi.spyOn(process, "getuid").mockReturnValue(1000);
	});
	afterEach(async () => {
		vi.restoreAllMocks();
		await tree?.close();
		rmSync(directory, { recursive: true });
	});

	it("share gives what is named, to read or to write, and nothing beside it", async () => {
		await open();
		await tree.share([
			{ path: at("a/b"), access: "ro" },
			{ path: at("a/b/c"), access: "rw" },
			{ path: at("a/one"), access: "rw" },
		]);
		expect(confined(`ls -A ${inside()} ${inside("a")}`)).toBe(`${inside()}:\na\n\n${inside("a")}:\nb\none\n`);
		const writes = ["a/one", "a/b/two", "a/b/c/three", "new"].map((name) => `(echo >>${inside(name)}) 2>&-; echo $?`);
		expect(confined(writes.join("; "))).toBe("0\n2\n0\n2\n");
		expect(tree.shares).toEqual([
			{ path: at("a/b"), access: "ro" },
			{ path: at("a/b/c"), access: "rw" },
			{ path: at("a/one"), access: "rw" },
		]);
	});

	it("share adds to a tree that is in use; what is shared later covers nothing", async () => {
		await open();
		await tree.share([{ path: at("a/b"), access: "ro" }]);
		await tree.share([{ path: at("a"), access: "rw" }]);
		expect(confined(`cat ${inside("a/one")} ${inside("a/b/two")}; touch ${inside("a/new")}`)).toBe("a/onea/b/two");
		expect(confined(`touch ${inside("a/b/new")} 2>&-; echo $?`)).toBe("1\n");
		await tree.share([{ path: at("a/b"), access: "rw" }]);
		expect(confined(`touch ${inside("a/b/new")}; echo $?`)).toBe("0\n");
	});

	it("share follows what has been replaced or removed", async () => {
		await open();
		await tree.share([{ path: at("a/one"), access: "ro" }]);
		writeFileSync(at("next"), "next");
		renameSync(at("next"), at("a/one"));
		await tree.share([]);
		expect(confined(`cat ${inside("a/one")}`)).toBe("next");
		rmSync(at("a/one"));
		await tree.share([]);
		expect(confined(`ls -A ${inside("a")}`)).toBe("");
		expect(tree.shares).toEqual([]);
	});

	it("share goes on when a directory is removed that was shared within another, and follows a new one", async () => {
		await open();
		await tree.share([
			{ path: at("a"), access: "ro" },
			{ path: at("a/b"), access: "rw" },
		]);
		rmSync(at("a/b"), { recursive: true });
		await tree.share([]);
		expect(confined(`ls -A ${inside("a")}`)).toBe("one\n");
		mkdirSync(at("a/b"));
		await tree.share([{ path: at("a/b"), access: "rw" }]);
		rmSync(at("a/b"), { recursive: true });
		/* Takes the inode's number. */
		writeFileSync(at("other"), "");
		mkdirSync(at("next"));
		renameSync(at("next"), at("a/b"));
		await tree.share([]);
		expect(confined(`touch ${inside("a/b/new")}; echo $?; ls -A ${inside("a")}`)).toBe("0\nb\none\n");
	});

	it("share makes the links that a path leads through, not those in a share that lead out", async () => {
		symlinkSync("a", at("link"));
		symlinkSync("/link/that/leads/nowhere", at("nowhere"));
		symlinkSync(at("secret"), at("a/b/out"));
		await open();
		await tree.share([
			{ path: at("link/b"), access: "ro" },
			{ path: at("nowhere"), access: "ro" },
			{ path: at("no/such"), access: "ro" },
		]);
		expect(confined(`readlink ${inside("link")}; cat ${inside("link/b/two")}`)).toBe("a\na/b/two");
		expect(confined(`cat ${inside("a/b/out")} 2>&-; echo $?`)).toBe("1\n");
	});

	it("limits hold in whatever is shared", async () => {
		await open([
			{ path: at("a/b"), access: "ro" },
			{ path: at("a/b/c"), access: "none" },
		]);
		await tree.share([{ path: at("a"), access: "rw" }]);
		expect(confined(`cat ${inside("a/b/two")}; ls -A ${inside("a/b/c")}`)).toBe("a/b/two");
		const writes = ["a/new", "a/b/new", "a/b/c/new"].map((name) => `touch ${inside(name)} 2>&-; echo $?`);
		expect(confined(writes.join("; "))).toBe("0\n1\n1\n");
	});

	it("share refuses /", async () => {
		await open();
		await expect(tree.share([{ path: "/", access: "ro" }])).rejects.toMatchObject({ code: "ERR_LAB_SHARE" });
		await tree.share([{ path: "/", access: "directory" }]);
	});

	it("confine hands the lab's lock on to QEMU, which has it until it is killed", async () => {
		await open();
		const lock = takeLock(at("lock"))!;
		const [program, ...words] = [
			...tree.confine(at("template"), at("console")),
			"/bin/sh",
			"-c",
			"echo up; exec sleep 60",
		];
		const qemu = spawn(program!, words, { cwd: "/", stdio: ["ignore", "pipe", "inherit", "ignore", "ignore", lock] });
		closeSync(lock);
		await once(qemu.stdout!, "data");
		expect(isLocked(at("lock"))).toBe(true);
		qemu.kill("SIGKILL");
		await once(qemu, "exit");
		await vi.waitFor(() => expect(isLocked(at("lock"))).toBe(false));
	});

	it("confine leaves no file but the shared and the system's, and no right but those on files", async () => {
		await open();
		const top = confined("ls -A /").split("\n");
		expect(top).toEqual(expect.arrayContaining(["console", "files", "proc", "template", "usr"]));
		for (const name of ["home", "root", "tmp", "var", "srv", "sys", "run"]) expect(top).not.toContain(name);
		expect(confined("touch /usr/x /x /files/x 2>&-; echo $?")).toBe("1\n");
		/* CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID */
		const rights = (whose === "root" ? 0x1b : 0).toString(16).padStart(16, "0");
		const status = confined("cat /proc/self/status");
		expect(status).toMatch(`CapEff:\t${rights}\n`);
		expect(status).toMatch(`CapBnd:\t${rights}\n`);
		expect(status).toMatch("NoNewPrivs:\t1\n");
		expect(confined(`ls /proc/${process.pid}/root 2>&-; echo $?`)).toBe("2\n");
	});
});
