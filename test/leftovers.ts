/*
 * Global set-up of every test run: gives the run a temporary, a runtime and a state directory of its own, and fails it
 * when a test has left something there, or a process, a network interface or a mount. Processes are told by an
 * environment variable that they inherit, however far they have daemonized.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const MARK = "TSVMM_TEST_RUN";
/** Caches of tools that tests run, not of tests. */
const TOOL_CACHES = /^(node-compile-cache|tsx-\d+|node-coverage|v8-compile-cache.*)$/;
const PATIENCE_MS = 5000;

function read(path: string): string {
	try {
		return readFileSync(path, "latin1");
	} catch {
		return "";
	}
}

/** Command lines of the processes that carry our mark, without this one and vitest's workers. */
function processes(run: string): string[] {
	return readdirSync("/proc")
		.filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
		.filter((pid) => read(`/proc/${pid}/environ`).split("\0").includes(`${MARK}=${run}`))
		.filter((pid) => !/^State:\s+[ZX]/m.test(read(`/proc/${pid}/status`)))
		.map((pid) => `${pid} ${read(`/proc/${pid}/cmdline`).replaceAll("\0", " ").trim()}`)
		.filter((line) => !/vitest|esbuild.*--service/.test(line));
}

/** Files, sockets and locks below a directory; directories without any may stay for the next who needs them. */
const files = (directory: string) =>
	readdirSync(directory, { recursive: true, withFileTypes: true })
		.filter((entry) => !entry.isDirectory())
		.map((entry) => join(entry.parentPath, entry.name));

const interfaces = () => readdirSync("/sys/class/net").map((name) => `network interface ${name}`);

const mounts = (directory: string) =>
	read("/proc/self/mountinfo")
		.split("\n")
		.map((line) => line.split(" ")[4] ?? "")
		.filter((path) => path.startsWith(directory))
		.map((path) => `mount ${path}`);

export default function setup(): () => Promise<void> {
	/* Short, because the path of a unix socket has at most 107 bytes; and no socket can be made on what the lab shares. */
	const directory = mkdtempSync(process.env.TSVMM_LAB === "1" ? "/dev/shm/tsvmm-" : "/tmp/tsvmm-");
	const runtime = join(directory, "run");
	mkdirSync(runtime, { mode: 0o700 });
	mkdirSync(join(directory, "tmp"));
	process.env.TMPDIR = join(directory, "tmp");
	process.env.TSVMM_RUNTIME = runtime; /* test/own-directories.ts gives each worker one in it */
	process.env.TSVMM_STATE = join(directory, "state");
	process.env[MARK] = directory;
	const before = new Set(interfaces());

	const left = () => [
		...processes(directory).map((line) => `process ${line}`),
		...readdirSync(join(directory, "tmp"))
			.filter((name) => !TOOL_CACHES.test(name))
			.map((name) => `temporary file ${name}`),
		...files(runtime).map((name) => `in the runtime directory ${name}`),
		...mounts(directory),
		...interfaces().filter((name) => !before.has(name)),
	];
	return async () => {
		/* A process that was told to end may need a moment. */
		for (let waited = 0; left().length > 0 && waited < PATIENCE_MS; waited += 100) {
			await new Promise((resolve) => setTimeout(resolve, 100));
		}
		const found = left();
		if (mounts(directory).length === 0) rmSync(directory, { recursive: true, force: true });
		if (found.length === 0) return;
		/* vitest prints an error of the teardown, and ends with status 0 all the same. */
		process.exitCode = 1;
		throw new Error(`The tests have left behind:\n  ${found.join("\n  ")}`);
	};
}
