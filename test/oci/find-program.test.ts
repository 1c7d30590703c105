/*
 * Whether a program is there is told before the container is made, by what its root and its mounts will be.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import type { Bundle } from "../../src/oci/bundle.ts";
import { checkProgram } from "../../src/oci/find-program.ts";

const folder = mkdtempSync(join(tmpdir(), "find-program-"));
const rootfs = join(folder, "rootfs");
for (const directory of ["usr/bin", "opt", "etc"]) mkdirSync(join(rootfs, directory), { recursive: true });
mkdirSync(join(folder, "tools"));
const programs = [join(rootfs, "usr/bin/tool"), join(rootfs, "etc/text"), join(folder, "tools/mounted")];
for (const file of programs) writeFileSync(file, "");
for (const file of [programs[0]!, programs[2]!]) chmodSync(file, 0o755);
symlinkSync("/usr/bin", join(rootfs, "bin"));
symlinkSync("tools/mounted", join(folder, "link"));
symlinkSync("../../../../../../usr/bin/tool", join(rootfs, "opt/climbs"));
symlinkSync("loop", join(rootfs, "opt/loop"));
/* Outside it is there, in the container it is not. */
symlinkSync(programs[2]!, join(rootfs, "opt/outside"));
afterAll(() => rmSync(folder, { recursive: true }));

function why(name: string, { env = ["PATH=/bin:/opt"], cwd = "/" } = {}): string | undefined {
	const mounts = [
		{ destination: "/tools", type: "bind", source: join(folder, "tools"), options: [] },
		{ destination: "/made/for/init", type: "bind", source: join(folder, "tools/mounted"), options: [] },
		{ destination: "/dev/init", type: "bind", source: join(folder, "link"), options: [] },
		{ destination: "/run", type: "tmpfs", source: "tmpfs", options: [] },
	];
	const bundle = { path: folder, rootfs, config: { mounts }, process: { args: [name], env, cwd } };
	try {
		checkProgram(bundle as unknown as Bundle);
		return undefined;
	} catch (error) {
		return (error as Error).message.replace("unable to start container process: exec: ", "");
	}
}

test("found: by PATH, through links that stay in the root, and in what is mounted", () => {
	for (const name of [
		"tool",
		"/bin/tool",
		"climbs",
		"/opt/climbs",
		"/tools/mounted",
		"/made/for/init",
		"/dev/init",
		"usr/bin/tool",
	])
		expect(why(name), name).toBeUndefined();
	expect(why("./tool", { cwd: "/usr/bin" })).toBeUndefined();
});

test("not looked for where only the guest can tell", () => {
	expect(why("/run/program")).toBeUndefined();
	expect(why("program", { env: ["PATH=/run"] })).toBeUndefined();
});

test("missing, or no program, in the words of runc", () => {
	expect(why("nosuch")).toBe('"nosuch": executable file not found in $PATH');
	expect(why("")).toBe('"": executable file not found in $PATH');
	expect(why("outside")).toBe('"outside": executable file not found in $PATH');
	expect(why("tool", { env: ["PATH=/sbin"] })).toBe('"tool": executable file not found in $PATH');
	expect(why("/no/such")).toBe('"/no/such": stat /no/such: no such file or directory');
	expect(why("/etc/text")).toBe('"/etc/text": permission denied');
	expect(why("/etc")).toBe('"/etc": permission denied');
	expect(why("/etc/text/more")).toBe('"/etc/text/more": stat /etc/text/more: no such file or directory');
});
