/*
 * tsvmm-oci's command line, where no machine is needed: runc's words and exit statuses, which its callers read.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { OciContainer } from "../../src/oci/state.ts";
import { defaultConfig, TestBundle } from "../oci/bundles.ts";
import { bundle } from "./tsvmm.ts";

const program = join(packageRoot(), "dist/tsvmm-oci.js");
const folder = mkdtempSync(join(tmpdir(), "tsvmm-oci-"));
const root = join(folder, "root");

beforeAll(bundle);
afterAll(() => rmSync(folder, { recursive: true }));

function oci(...words: string[]): { status: number | null; stdout: string; stderr: string } {
	const env = { ...process.env, TSVMM_RUNTIME: join(folder, "run") };
	return spawnSync(process.execPath, [program, "--root", root, ...words], { encoding: "utf8", env, cwd: folder });
}

const says = (message: string) =>
	new RegExp(`^time="[^"]+Z" level=error msg=${JSON.stringify(JSON.stringify(message)).slice(1, -1)}\n$`);

const REFUSED: [line: string, status: number, message: string][] = [
	["state nope", 1, "container does not exist"],
	["start nope", 1, "container does not exist"],
	["kill nope", 1, "container does not exist"],
	["kill nope KILL", 1, "container does not exist"],
	["pause nope", 1, "container does not exist"],
	["resume nope", 1, "container does not exist"],
	["update nope", 1, "container does not exist"],
	["ps nope", 1, "container does not exist"],
	["events nope", 1, "container does not exist"],
	["delete nope", 1, "container does not exist"],
	["exec nope true", 255, "exec failed: container does not exist"],
	["create --bundle /nope new", 1, "tsvmm-oci create failed: chdir /nope: no such file or directory"],
	["create new", 1, "tsvmm-oci create failed: JSON specification file config.json not found"],
	["create a/b", 1, "tsvmm-oci create failed: invalid id format: a/b"],
	["create ..", 1, "tsvmm-oci create failed: invalid id format: .."],
	["frob", 3, "No help topic for 'frob'"],
	["create --frob new", 1, "Incorrect Usage: flag provided but not defined: -frob"],
	["list --format xml", 1, "invalid format option"],
	["events --interval soon nope", 1, 'invalid duration "soon"'],
];

test.each(REFUSED)("%s", (line, status, message) => {
	const outcome = oci(...line.split(" "));
	expect(outcome).toMatchObject({ status, stdout: "" });
	expect(outcome.stderr).toMatch(says(message));
});

test("a container that is not there is deleted by force without a word", () => {
	expect(oci("delete", "--force", "nope")).toEqual(expect.objectContaining({ status: 0, stdout: "", stderr: "" }));
});

test("with --log the error is in the file, as JSON if wanted, and its words are on standard error", () => {
	const log = join(folder, "log");
	const outcome = oci("--log", log, "--log-format", "json", "state", "nope");
	expect(outcome).toMatchObject({ status: 1, stderr: "container does not exist\n" });
	expect(JSON.parse(readFileSync(log, "utf8"))).toMatchObject({ level: "error", msg: "container does not exist" });
});

test("spec writes a config.json that create would take, and none over one that is there", () => {
	expect(oci("spec")).toMatchObject({ status: 0, stderr: "" });
	expect(JSON.parse(readFileSync(join(folder, "config.json"), "utf8"))).toMatchObject({ process: { args: ["sh"] } });
	expect(oci("spec").stderr).toMatch(says("File config.json exists. Remove it first"));
});

test("a terminal and a console socket go together", () => {
	using without = new TestBundle(defaultConfig());
	const config = defaultConfig();
	config.process.terminal = true;
	using terminal = new TestBundle(config);
	expect(oci("create", "--bundle", terminal.path, "new").stderr).toContain("cannot allocate tty");
	expect(oci("create", "--bundle", without.path, "--console-socket", "/s", "new").stderr).toContain(
		"cannot use console",
	);
});

test("a program that is not there is told before anything is made", () => {
	const config = defaultConfig();
	config.process.args = ["nosuch"];
	using missing = new TestBundle(config);
	const { status, stderr } = oci("create", "--bundle", missing.path, "new");
	expect(status).toBe(1);
	expect(stderr).toContain('exec: \\"nosuch\\": executable file not found in $PATH');
	expect(readdirSync(root)).toEqual([]);
});

test("a state file that is damaged is an error, and delete --force removes it", () => {
	const container = new OciContainer(root, "damaged");
	container.make();
	expect(oci("state", "damaged").stderr).toMatch(says("container does not exist"));
	container.write("nonsense" as never);
	expect(oci("state", "damaged")).toMatchObject({ status: 1 });
	expect(oci("list", "-q")).toMatchObject({ status: 0, stdout: "" });
	expect(oci("delete", "--force", "damaged")).toMatchObject({ status: 0, stderr: "" });
	expect(readdirSync(root)).toEqual([]);
});

test("it says what it is and what it can do", () => {
	expect(oci("--version").stdout).toMatch(/^tsvmm-oci version \d+\.\d+\.\d+\nspec: 1\.0\.2\n$/);
	expect(JSON.parse(oci("features").stdout)).toMatchObject({ ociVersionMax: "1.0.2" });
	expect(oci("list").stdout).toBe("ID          PID         STATUS      BUNDLE      CREATED     OWNER\n");
	expect(oci("--help").stdout).toContain("an OCI runtime");
});
