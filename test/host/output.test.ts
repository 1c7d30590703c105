/*
 * openOutput on a FIFO whose reader sleeps, and on a terminal.
 */
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, read, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, expect, test } from "vitest";
import { AgentClient } from "../../src/agent/client.ts";
import { openOutput } from "../../src/host/output.ts";
import { buildAgent, NativeAgent } from "../agent/native-agent.ts";

const directory = mkdtempSync(`${tmpdir()}/tsvmm-output-`);
afterAll(() => rmSync(directory, { recursive: true }));

function fifo(name: string): number {
	execFileSync("mkfifo", [`${directory}/${name}`]);
	return openSync(`${directory}/${name}`, constants.O_RDWR);
}

const isNonBlocking = (fd: number) =>
	(Number.parseInt(/flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))![1]!, 8) &
		constants.O_NONBLOCK) !==
	0;

test("openOutput lets the loop run while nobody reads, writes every byte, and leaves the descriptor blocking", async () => {
	const fd = fifo("slow");
	const output = openOutput(fd)!;
	const data = Buffer.alloc(1 << 20, "0123456789abcdef\n");
	let written = false;
	const done = new Promise<void>((resolve, reject) =>
		output.write(data, (error) => {
			written = true;
			if (error) reject(error);
			else resolve();
		}),
	);
	await sleep(20);
	expect(written).toBe(false);
	expect(isNonBlocking(fd)).toBe(false);
	const chunks: Buffer[] = [];
	for (let bytes = 0; bytes < data.length; ) {
		const buffer = Buffer.alloc(65536);
		const { bytesRead } = await promisify(read)(fd, buffer, 0, buffer.length, null);
		chunks.push(buffer.subarray(0, bytesRead));
		bytes += bytesRead;
	}
	await done;
	expect(Buffer.concat(chunks).equals(data)).toBe(true);
	output.destroy();
	closeSync(fd);
});
test("openOutput that is destroyed while nobody reads drops what waits", async () => {
	const fd = fifo("stuck");
	const output = openOutput(fd)!;
	output.on("error", () => undefined);
	const failed = new Promise((resolve) => output.write(Buffer.alloc(1 << 20), (error) => resolve(error)));
	await sleep(10);
	output.destroy();
	expect(await failed).toBeInstanceOf(Error);
	closeSync(fd);
});
test("openOutput reports a reader that has gone as EPIPE", async () => {
	const fd = fifo("gone");
	const writer = openSync(`${directory}/gone`, constants.O_WRONLY);
	const output = openOutput(writer)!;
	const error = new Promise((resolve) => output.once("error", resolve));
	output.write(Buffer.alloc(1 << 20));
	await sleep(10);
	closeSync(fd);
	expect(await error).toMatchObject({ code: "EPIPE" });
	closeSync(writer);
});
test("openOutput leaves a file to Node", () => {
	const fd = openSync(`${directory}/file`, "w");
	expect(openOutput(fd)).toBe(undefined);
	closeSync(fd);
});
test("openOutput lets the loop run while a terminal is stopped", async () => {
	buildAgent();
	const agent = new NativeAgent();
	const client = new AgentClient(await agent.connect());
	await client.hello();
	const script = `${directory}/program.ts`;
	const source = new URL("../../src/host/output.ts", import.meta.url).href;
	/* Nobody reads the session's output, so after its window and the terminal's buffer a write would block. */
	writeFileSync(
		script,
		`import { writeFileSync } from "node:fs";
		import { openOutput } from "${source}";
		const output = openOutput(1);
		output.write(Buffer.alloc(1 << 20, "x"));
		setTimeout(() => { writeFileSync("${directory}/alive", String(output.writableLength > 0)); process.exit(7); }, 50);`,
	);
	try {
		const session = await client.exec({
			args: [process.execPath, "--import", "tsx", script],
			env: { PATH: process.env.PATH ?? "" },
			cwd: process.cwd(),
			tty: { columns: 80, rows: 24 },
		});
		for (let i = 0; i < 1000; i++) {
			await sleep(10);
			try {
				if (readFileSync(`${directory}/alive`, "utf8") !== "") break;
			} catch {
				/* not yet */
			}
		}
		expect(readFileSync(`${directory}/alive`, "utf8")).toBe("true");
		session.stdout.resume();
		expect(await session.exit).toEqual({ code: 7 });
	} finally {
		client.close();
		await agent.stop();
	}
});
