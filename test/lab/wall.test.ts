/*
 * Which files of the host a lab sees, from the command line: those that the command needs and those of --share, and no
 * others of the user's home directory.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { Lab } from "../../src/lab/lab.ts";

const BUNDLE = join(packageRoot(), "dist/tsvmm.js");
let runtime: string;
/** In the user's home directory. */
let home: string;
let lab: Lab;

beforeAll(async () => {
	runtime = mkdtempSync(join(tmpdir(), "tsvmm-wall-"));
	process.env.TSVMM_RUNTIME = runtime;
	home = mkdtempSync(join(homedir(), ".tsvmm-wall-"));
	lab = await Lab.up();
});
afterAll(async () => {
	await lab?.down();
	for (const directory of [runtime, home]) rmSync(directory, { recursive: true });
});

interface Ended {
	status: number | null;
	stdout: string;
	stderr: string;
}

function tsvmm(args: readonly string[], cwd = packageRoot(), through: readonly string[] = []): Ended {
	const [program, ...words] = [...through, process.execPath, BUNDLE, ...args];
	const { status, stdout, stderr } = spawnSync(program!, words, { cwd, encoding: "utf8" });
	return { status, stdout, stderr };
}

test("the home directory is not there; a file of it that is shared later is, and is followed when it is replaced", async () => {
	const path = join(home, "later");
	writeFileSync(path, "one");
	expect((await lab.exec(["cat", path])).status).toBe(1);
	await lab.share([{ path, access: "ro" }]);
	expect(String((await lab.exec(["cat", path])).stdout)).toBe("one");
	expect((await lab.exec(["sh", "-c", `echo >${path}`])).status).not.toBe(0);
	writeFileSync(join(home, "new"), "two");
	renameSync(join(home, "new"), path);
	await lab.share([]);
	expect(String((await lab.exec(["cat", path])).stdout)).toBe("two");
	rmSync(path);
});

test("the lab does not see the sockets on which supervisors listen", async () => {
	expect(readdirSync(join(runtime, "lab"))).toContain("default");
	expect(String((await lab.exec(["ls", join(runtime, "lab")])).stdout)).toBe("");
});

test("lab exec gives the lab the working directory and what --share names, and nothing beside it", () => {
	const [work, shared] = [join(home, "work"), join(home, "shared")];
	for (const made of [work, shared]) mkdirSync(made);
	for (const path of ["secret", "work/in", "shared/in", "read-only"]) writeFileSync(join(home, path), path);
	const shares = ["--share", "../shared", "--share", `${home}/read-only:ro`];
	const script = `
		cat in ../shared/in ../read-only
		echo made >out && echo made >../shared/out
		echo changed >../read-only || echo cannot write
		cat ../secret || echo no secret`;
	const { status, stdout } = tsvmm(["lab", "exec", ...shares, "--", "sh", "-c", script], work);
	expect([status, stdout]).toEqual([0, "work/inshared/inread-onlycannot write\nno secret\n"]);
	for (const made of [work, shared]) expect(readFileSync(join(made, "out"), "utf8")).toBe("made\n");
	expect(readFileSync(join(home, "read-only"), "utf8")).toBe("read-only");
	const listed = tsvmm(["lab", "status"]).stdout;
	for (const line of [`${work} (rw)`, `${shared} (rw)`, `${home}/read-only (ro)`]) {
		expect(listed).toContain(`shares  ${line}\n`);
	}
});

test.each([
	["/no/such", "no such file or directory"],
	["/proc/self:ro", "it has its own there"],
	["/", "Cannot share / with the lab"],
])("lab up refuses to share %s, and leaves the lab as it is", async (path, why) => {
	const { status, stderr } = tsvmm(["lab", "up", "--share", path]);
	expect(status).toBe(125);
	expect(stderr).toContain(why);
	expect(stderr).toContain("[ERR_LAB_SHARE]");
	expect((await lab.exec(["true"])).status).toBe(0);
});

test("a lab sees all files where namespaces are refused; status and one line say so", async () => {
	const refuse = "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_mnt_namespaces";
	const through = ["unshare", "--user", "--map-root-user", "sh", "-c", `${refuse}; exec "$@"`, "sh"];
	const path = join(home, "seen");
	writeFileSync(path, "seen");
	const why = "all files, because this machine refuses namespaces: unshare: unshare failed: No space left on device";
	try {
		const command = ["lab", "exec", "--name", "all", "--", "cat", path];
		expect(tsvmm(command, "/", through)).toEqual({
			status: 0,
			stdout: "seen",
			stderr: `tsvmm: the lab sees ${why}\n`,
		});
		expect(tsvmm(["lab", "status", "--name", "all"]).stdout).toContain(`shares  ${why}\n`);
	} finally {
		await Lab.down("all");
	}
});
