/*
 * Container with the real agent and no VM: its process, more processes, signals, early ends.
 */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import type { Readable } from "node:stream";
import { afterEach, beforeAll, describe, expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { TsvmmError } from "../../src/base/errors.ts";
import { signalNumber } from "../../src/base/signals.ts";
import { Container, type ContainerPlan } from "../../src/container/container.ts";
import { firstConnection } from "../../src/container/guest.ts";
import { runContainer } from "../../src/container/run.ts";
import { buildAgent } from "../agent/native-agent.ts";
import { endsWhenRefused, FakeMachine, stopAgents } from "./fake-machine.ts";

const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];

beforeAll(buildAgent);
afterEach(stopAgents);

test("firstConnection takes one connection of the guest; the port is closed to the next", async () => {
	const vsock = await UnixVsock.open();
	try {
		const first = firstConnection(vsock, 1024);
		const guest = await vsock.open(1024);
		guest!.write("hello");
		expect(String((await once(await first, "data"))[0])).toBe("hello");
		expect(await vsock.open(1024)).toBe(undefined);
	} finally {
		await vsock.close();
	}
});

describe("Container", () => {
	const start = (args: string[], more: Partial<ContainerPlan> = {}) =>
		Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process: () => ({ args, env }), ...more });
	const text = async (stream: Readable) => Buffer.concat(await stream.toArray()).toString();

	test("has streams, an exit status, and ends with its process", async () => {
		const container = await start(["sh", "-c", "cat; echo err >&2; exit 3"]);
		container.stdin.end("in");
		expect(await Promise.all([text(container.stdout), text(container.stderr)])).toEqual(["in", "err\n"]);
		expect(await container.exit).toEqual({ code: 3 });
		expect(await container.ended).toEqual({ reason: "stopped" });
	});
	test("powers its machine off when somebody keeps what it has written", async () => {
		const container = await start(["true"], { keeps: true });
		expect(await container.exit).toEqual({ code: 0 });
		expect(await container.ended).toEqual({ reason: "power-off" });
	});
	test("runs more processes, in its own namespaces and with its environment", async () => {
		await using container = await start(["sleep", "100"], { init: true });
		const one = await container.exec({ args: ["sh", "-c", "echo $$; exit 5"] });
		expect(Number(await text(one.stdout))).toBeLessThan(20);
		expect(await one.exit).toEqual({ code: 5 });
		await expect(container.exec({ args: ["nowhere"] })).rejects.toMatchObject({ exitStatus: 127 });
		const long = await container.exec({ args: ["sleep", "100"] });
		container.kill("SIGTERM");
		expect(await container.exit).toEqual({ signal: 15 });
		await expect(long.exit).rejects.toMatchObject({ code: "ERR_AGENT_LOST" });
		await container.ended;
		await expect(container.exec({ args: ["true"] })).rejects.toBeInstanceOf(TsvmmError);
	});
	test("its process is process 1, which ignores what it does not handle and takes all others with it", async () => {
		await using container = await start(["sh", "-c", "echo $$; exec sleep 100"]);
		expect(String((await once(container.stdout, "data"))[0])).toBe("1\n");
		container.kill("SIGTERM");
		const other = await container.exec({ args: ["sleep", "100"] });
		container.kill("SIGKILL");
		expect(await container.exit).toEqual({ signal: 9 });
		expect(await other.exit).toEqual({ signal: 9 });
	});
	test("resize tells the process's terminal its new size", async () => {
		const script = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 0.05; done";
		const process = () => ({ args: ["sh", "-c", script], env, tty: { columns: 100, rows: 30 } });
		await using container = await Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process });
		const first = String((await once(container.stdout, "data"))[0]);
		container.resize(90, 20);
		expect(first + (await text(container.stdout))).toBe("30 100\r\n20 90\r\n");
		expect(await container.exit).toEqual({ code: 0 });
	});
	test("with init its process is below a process 1 that reaps", async () => {
		await using container = await start(["sh", "-c", "echo $$"], { init: true });
		expect(await text(container.stdout)).toMatch(/^[2-9]\n/);
		expect(await container.exit).toEqual({ code: 0 });
	});
	test("sets the machine up before the container", async () => {
		const file = mkdtempSync(`${tmpdir()}/tsvmm-run-`);
		const container = await Container.start(endsWhenRefused(new FakeMachine()), {
			machineSteps: [["file", `${file}/machine\t644\tfirst`]],
			steps: [
				["mount", `\t${file}\t${file}\tbind`],
				["file", `${file}/container\t644\tsecond`],
			],
			process: () => ({ args: ["sh", "-c", `cat ${file}/machine ${file}/container`], env }),
		});
		expect(await text(container.stdout)).toBe("firstsecond");
		await container.ended;
		rmSync(file, { recursive: true });
	});
	test("exec bounds a process as the container's own, unless it is privileged", async () => {
		const own = { capabilities: 0x20n, groups: ["4242"], rlimits: [{ name: "nofile", soft: 77, hard: 77 }] };
		const process = () => ({ args: ["sleep", "100"], env, ...own });
		await using container = await Container.start(endsWhenRefused(new FakeMachine()), { steps: [], process });
		const script = "sed -n 's/^CapEff:.0*//p' /proc/self/status; id -G; ulimit -n";
		const bound = await container.exec({ args: ["sh", "-c", script] });
		expect(await text(bound.stdout)).toBe("20\n0 4242\n77\n");
		const free = await container.exec({ args: ["sh", "-c", script], privileged: true });
		expect(await text(free.stdout)).toMatch(/^1f\w+\n0 4242\n77\n$/);
	});
	test("an abort ends a process that exec started, and nothing else", async () => {
		await using container = await start(["sleep", "100"]);
		const abort = new AbortController();
		const session = await container.exec({ args: ["sleep", "100"], signal: abort.signal });
		abort.abort();
		expect(await session.exit).toEqual({ signal: 1 });
		await expect(container.exec({ args: ["true"], signal: abort.signal })).rejects.toBe(abort.signal.reason);
		expect(await (await container.exec({ args: ["true"] })).exit).toEqual({ code: 0 });
	});
	test("stop sends the stop signal, and kills what does not mind", async () => {
		const orderly = await start(["sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done"], {
			stopSignal: 10,
		});
		await once(orderly.stdout, "data");
		await orderly.stop();
		expect(await orderly.exit).toEqual({ code: 9 });
		const stubborn = await start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"]);
		await once(stubborn.stdout, "data");
		await stubborn.stop({ timeoutMs: 50 });
		expect(await stubborn.exit).toEqual({ signal: 9 });
	});
	test("an abort ends it with the reason, before its process runs and after", async () => {
		const reason = new Error("enough");
		await expect(start(["true"], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
		const abort = new AbortController();
		const container = await start(["sleep", "100"], { signal: abort.signal });
		abort.abort(reason);
		await expect(container.exit).rejects.toBe(reason);
		await container.ended;
	});
	test("a slow reader gets all output after the machine is gone", async () => {
		const container = await start(["sh", "-c", "head -c 200000 /dev/zero"]);
		await container.ended;
		expect((await text(container.stdout)).length).toBe(200_000);
	});
});

test("runContainer wants an image or a root file system", async () => {
	await expect(runContainer({ args: ["true"] })).rejects.toMatchObject({ code: "ERR_RUN_ROOT" });
});

test.each([
	["SIGQUIT", 3],
	["QUIT", 3],
	["15", 15],
	["SIGNONE", undefined],
	[undefined, undefined],
])("signalNumber reads %s as %s", (words, number) => {
	expect(signalNumber(words)).toBe(number);
});
