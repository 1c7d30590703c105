/*
 * In the lab: plays command lines with a runtime, and prints what each has answered, and what containers hold of the host
 * after it. podman's storage, networks and state are in the lab's RAM.
 *
 *     node play.mjs TABLE PROGRAM RUNTIME...       TABLE: a JSON file with { rows: [{ line, runc }], rootless, systemd }
 *
 * In a line "podman" is podman with that runtime, and "runc" is the runtime itself. A row that is not for runc has no
 * command there. Rootless, all of it is a user's.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { holdings, settle } from "./holdings.mjs";
import { home, prepare, variables } from "./host.mjs";
import { prepareUser, user } from "./user.mjs";

/** A row that takes longer has hung. */
const ROW_MS = 240_000;

const [table, program, ...runtimes] = process.argv.slice(2);
const { rows, rootless = false, systemd = false } = JSON.parse(readFileSync(table, "utf8"));

function podman(runtime) {
	const storage = ["--root", `${home}/storage`, "--runroot", `${home}/runroot`, "--tmpdir", `${home}/tmp`];
	const host = [
		"--storage-driver",
		"vfs",
		"--cgroup-manager",
		systemd ? "systemd" : "cgroupfs",
		"--network-config-dir",
		`${home}/networks`,
	];
	return ["podman", "--runtime", runtime, ...storage, ...host].join(" ");
}

/** @param line as the table has it @returns the same for a shell, with this runtime */
function scriptOf(line, runtime) {
	return line
		.replaceAll(/\brunc (?=[\w$-])/g, `${runtime === "runc" ? "runc" : `${home}/bin/${runtime}`} `)
		.replaceAll(/\bpodman (?=\w)/g, `${podman(runtime)} `);
}

/** @param shell whose shell plays it */
function play(runtime, env, [command, ...words]) {
	const run = (script) =>
		spawnSync(command, [...words, "-c", script], { env, encoding: "utf8", input: "", timeout: ROW_MS });
	/* What containers write to their root is there for the next one, but not for the other runtime. */
	run(`chmod -R u+w ${home}/rootfs; rm -rf ${home}/rootfs; cp -a ${home}/pristine ${home}/rootfs`);
	return rows.map(({ line, runc }) => {
		const startMs = Date.now();
		const script = runc || runtime !== "runc" ? scriptOf(line, runtime) : "true";
		const { status, stdout, stderr } = run(script);
		const ms = Date.now() - startMs;
		settle();
		return { line, status, stdout, stderr, ms, held: holdings() };
	});
}

prepare(program);
const env = rootless ? prepareUser(variables()) : variables();
const shell = rootless ? ["runuser", "-u", user, "--", "/bin/sh"] : ["/bin/sh"];
const answers = {};
for (const runtime of runtimes) answers[runtime] = play(runtime, env, shell);
process.stdout.write(JSON.stringify(answers));
