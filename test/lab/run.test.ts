/*
 * `tsvmm run` as a user types it: a container in a microVM, in the lab where this machine has no KVM. All tests use one
 * lab, which has a runtime directory of its own.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureDemoImage } from "../../guests/images/demo.ts";
import { AgentClient } from "../../src/agent/client.ts";
import { packageRoot } from "../../src/host/native.ts";
import { fetchKernel } from "../../src/kernel/store.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const program = join(packageRoot(), "dist/tsvmm.js");
const directory = mkdtempSync(join(tmpdir(), "tsvmm-run-"));
const env = { ...process.env, TSVMM_RUNTIME: directory };
let image: string;

beforeAll(async () => {
	buildAgent();
	execFileSync(process.execPath, [join(packageRoot(), "scripts/bundle.mjs")]);
	image = await ensureDemoImage("busybox");
	expect((await run([], ["true"])).status).toBe(0);
});
afterAll(() => {
	execFileSync(process.execPath, [program, "lab", "down"], { env });
	rmSync(directory, { recursive: true, force: true });
});

function start(flags: string[], command: string[]): ChildProcess {
	return spawn(process.execPath, [program, "run", "-q", ...flags, image, ...command], { env, stdio: "pipe" });
}

async function run(flags: string[], command: string[], input?: Buffer) {
	const child = start(flags, command);
	const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
	const stdout: Buffer[] = [];
	const stderr: Buffer[] = [];
	child.stdout!.on("data", (chunk) => stdout.push(chunk));
	child.stderr!.on("data", (chunk) => stderr.push(chunk));
	child.stdin!.end(input);
	const status = await ended;
	return { status, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr).toString() };
}

describe("tsvmm run", () => {
	test("honours environment, directory, user and host name, separates the streams, passes exit code 42 on", async () => {
		const script = "env | sort; pwd; id -u; id -g; hostname; echo problem >&2; exit 42";
		const flags = ["-e", "COLOUR=green", "-w", "/some/where", "-u", "12:34", "--hostname", "box"];
		const { status, stdout, stderr } = await run(flags, ["sh", "-c", script]);
		expect(stderr).toBe("problem\n");
		expect(status).toBe(42);
		const lines = stdout.toString().trimEnd().split("\n");
		expect(lines.slice(-4)).toEqual(["/some/where", "12", "34", "box"]);
		for (const variable of ["COLOUR=green", "HOSTNAME=box", "HOME=/"]) expect(lines).toContain(variable);
	});
	test("passes 10 MiB of standard input through and back, byte for byte", async () => {
		const input = randomBytes(10 << 20);
		const { status, stdout } = await run(["-i"], ["cat"], input);
		expect(status).toBe(0);
		const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
		expect(hash(stdout)).toBe(hash(input));
	});
	test("passes SIGTERM to the payload, which is process 1, and reports its status", async () => {
		const child = start([], ["sh", "-c", "trap 'exit 17' TERM; echo $$; while :; do sleep 0.1; done"]);
		child.stdout!.once("data", (chunk) => {
			expect(String(chunk)).toBe("1\n");
			child.kill("SIGTERM");
		});
		expect(await new Promise((resolve) => child.once("close", resolve))).toBe(17);
	});
	test("publishes ports on this machine, and says when one is taken", async () => {
		const text = "hello from a port";
		const script = `echo ${text} > /page; httpd -p 80 -h /; trap exit TERM; echo ready; while :; do sleep 0.1; done`;
		const child = start(["-p", "127.0.0.1:8097:80"], ["sh", "-c", script]);
		const ended = new Promise((resolve) => child.once("close", resolve));
		await new Promise((resolve) => child.stdout!.once("data", resolve));
		const get = async () => await (await fetch("http://127.0.0.1:8097/page")).text();
		expect(await Promise.all([get(), get()])).toEqual([`${text}\n`, `${text}\n`]);
		const second = await run(["-p", "127.0.0.1:8097:80"], ["true"]);
		expect([second.status, second.stderr]).toEqual([125, expect.stringContaining("[ERR_PORT_IN_USE]")]);
		child.kill("SIGTERM");
		await ended;
		await expect(get()).rejects.toThrow();
	});
	test("gives a terminal of the user's size, which follows a resize", async () => {
		const agent = new NativeAgent();
		const client = new AgentClient(await agent.connect());
		try {
			await client.hello();
			const script = "stty size; tty; trap 'stty size; exit 5' WINCH; echo go; while :; do sleep 0.1; done";
			const session = await client.exec({
				args: [process.execPath, program, "run", "-q", "-i", "-t", image, "sh", "-c", script],
				env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
				tty: { columns: 111, rows: 33 },
			});
			let output = "";
			session.stdout.on("data", (chunk: Buffer) => {
				if (!output.includes("go") && `${output}${chunk}`.includes("go")) session.resize(77, 22);
				output += chunk;
			});
			expect(await session.exit).toEqual({ code: 5 });
			expect(output).toBe("33 111\r\n/dev/pts/0\r\ngo\r\n22 77\r\n");
		} finally {
			client.close();
			await agent.stop();
		}
	});
	test("exits with 127 for a missing command, 126 for one that cannot be executed, 125 for a missing user", async () => {
		expect(await run([], ["no-such-command"])).toMatchObject({ status: 127 });
		expect(await run([], ["/etc/passwd"])).toMatchObject({ status: 126 });
		const { status, stderr } = await run(["-u", "nosuch"], ["true"]);
		expect(status).toBe(125);
		expect(stderr).toContain("Unable to find user nosuch: no matching entries in passwd file [ERR_EXEC]");
	});
	test("uses all vCPUs and a distribution kernel with its drivers as modules", async () => {
		const kernel = await fetchKernel("6.1-cloud");
		const { status, stdout } = await run(["--cpus", "2", "--kernel", kernel.name], ["sh", "-c", "nproc; uname -r"]);
		expect(status).toBe(0);
		expect(stdout.toString()).toBe(`2\n${kernel.release}\n`);
	});
	test("reports a guest that cannot boot, with its console's last lines, as 125", async () => {
		const { status, stderr } = await run(["--cmdline", "rdinit=/nowhere root=/dev/nowhere"], ["true"]);
		expect(status).toBe(125);
		expect(stderr).toMatch(
			/guest kernel panic: .*\n {2}last lines of the guest's console:\n( {2}\| .*\n)+.*\[ERR_GUEST_PANIC\]/s,
		);
	});
});

/** Runs a program in the lab. */
function inLab(argv: string[]): Promise<{ status: number | null; stdout: string; stderr: string }> {
	const child = spawn(process.execPath, [program, "lab", "exec", "--", ...argv], { env, stdio: "pipe" });
	let stdout = "";
	let stderr = "";
	child.stdout.on("data", (chunk) => {
		stdout += chunk;
	});
	child.stderr.on("data", (chunk) => {
		stderr += chunk;
	});
	child.stdin.end();
	return new Promise((resolve) => child.once("close", (status) => resolve({ status, stdout, stderr })));
}

test("run with an output that nobody reads hears signals all the same", async () => {
	await run(["--net", "none"], ["true"]); /* prepares what takes writing */
	const command = `${process.execPath} ${program} run -q --net none ${image} yes`;
	/* The pipe's other end is open, but nobody reads from it. */
	const script = `cd /run; mkfifo full; exec 9<>full; ${command} >&9 & pid=$!; sleep 10; kill $pid; sleep 1; kill $pid; sleep 1; kill $pid; wait $pid; echo $? >&2`;
	const { stderr } = await inLab(["bash", "-c", script]);
	expect(stderr).toMatch(/^143$/m);
});

test("runContainer gives streams, more processes and an end", async () => {
	await run(["--net", "none"], ["true"]);
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-library.mjs")]);
	const source = `
		import { runContainer } from "${join(packageRoot(), "dist/lib/index.js")}";
		const text = async (stream) => Buffer.concat(await stream.toArray()).toString();
		const container = await runContainer({ image: "${image}", args: ["cat"], stdin: "pipe", env: { A: "1" } });
		const ps = await container.exec({ args: ["sh", "-c", "echo $A; ps | wc -l; exit 4"] });
		console.log(JSON.stringify([await text(ps.stdout), await ps.exit]));
		container.stdin.end("through");
		console.log(JSON.stringify([await text(container.stdout), await container.exit, (await container.ended).reason]));
	`;
	const { stdout, stderr } = await inLab([process.execPath, "--input-type=module", "-e", source]);
	expect(stderr).toBe("");
	const [exec, main] = stdout
		.trim()
		.split("\n")
		.map((line) => JSON.parse(line) as unknown[]);
	expect(exec).toEqual([expect.stringMatching(/^1\n[3-8]\n$/), { code: 4 }]);
	expect(main).toEqual(["through", { code: 0 }, "stopped"]);
});
