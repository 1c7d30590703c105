/*
 * The agent in the lab's VM as the supervisor sees it: behind a virtio-serial port of a QEMU that now and then loses a
 * wake-up of its emulated interrupt controller and then sleeps on. Something arriving at the port wakes it, so a PING
 * goes there five times a second for the machine's whole life; the answers tell that it lives.
 */

import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentBroker } from "../agent/broker.ts";
import { AgentClient, ExecError, type ExecSpec } from "../agent/client.ts";
import { encodeFrame, FRAME, KEEPALIVE_SESSION } from "../agent/protocol.ts";
import type { ExitStatus } from "../agent/session.ts";
import { duplexPair } from "../backends/duplex-pair.ts";
import { explain, HostError, TsvmmError } from "../base/errors.ts";
import { collect, type ExecResult, within } from "./collect.ts";
import type { Qemu } from "./qemu.ts";

const PING_MS = 200;
/** Its PONG is dropped by the broker. */
const PING = encodeFrame(FRAME.PING, 0, KEEPALIVE_SESSION);

/** Where guests/lab/enter puts the host's files together. */
export const LAB_ROOT = "/lab";

/**
 * CPUID leaf 0xD of each CPU: the second word is the size of the state that XCR0 has enabled. QEMU 7.2 lets a guest
 * change XCR0 of the machine around it, whose programs then lose registers or AVX, at some time or other.
 */
const XCR0_PROBE = "for c in /dev/cpu/*/cpuid; do dd if=$c bs=16 count=1 iflag=skip_bytes skip=13 2>/dev/null; done";
/** As long as a silent machine is given. */
const PROBE_TIMEOUT_MS = 60_000;
/** 128 + SIGKILL, EAGAIN and ENOMEM: the machine has no memory left, which is not its fault. */
const KILLED = 137;
const NO_MEMORY: ReadonlySet<number> = new Set([11, 12]);

export class LabVm {
	readonly #port: Duplex;
	readonly #pinger: NodeJS.Timeout;
	#answeredMs = 0;
	#broker: AgentBroker | undefined;
	#client: AgentClient | undefined;
	#ownXcr0: string | undefined;
	#probing: Promise<string | undefined> | undefined;

	private constructor(port: Duplex) {
		this.#port = port;
		this.#pinger = setInterval(() => {
			/* A machine that does not read gets no more than this. */
			if (port.writableLength < 64 * PING.length || this.#broker !== undefined) port.write(PING);
		}, PING_MS);
		port.write(PING);
	}

	/**
	 * Waits until the agent answers.
	 *
	 * @throws HostError ERR_LAB_BOOT when it does not in time, or QEMU ends
	 */
	static async open(qemu: Qemu, timeoutMs: number): Promise<LabVm> {
		const vm = new LabVm(qemu.agent);
		const given = new AbortController();
		const answered = new Promise<void>((resolve) => {
			qemu.agent.on("data", () => {
				vm.#answeredMs = performance.now();
				resolve();
			});
		});
		const late = sleep(timeoutMs, undefined, { signal: given.signal }).then(() => {
			throw new HostError("ERR_LAB_BOOT", `Cannot reach the lab's machine: no answer for ${timeoutMs / 1000} s`);
		});
		const ended = qemu.ended.then((how) => {
			throw new HostError("ERR_LAB_BOOT", `Cannot reach the lab's machine: QEMU has ended (${how})`);
		});
		/* QEMU ends some day, when nobody waits for this any more. */
		ended.catch(() => undefined);
		try {
			await Promise.race([answered, late, ended]);
		} catch (error) {
			vm.close();
			throw error;
		} finally {
			late.catch(() => undefined);
			given.abort();
		}
		return vm;
	}

	/** For how long the agent has not answered, in ms. */
	get silentMs(): number {
		return performance.now() - this.#answeredMs;
	}

	/**
	 * Sets up what `run` and `serve` need, and the clock, which stood still in the template.
	 *
	 * @param exited called with how each program ended
	 */
	async greet(exited: (status: ExitStatus) => void): Promise<void> {
		this.#broker = new AgentBroker(this.#port, exited);
		await this.#broker.ready;
		const [ours, theirs] = duplexPair();
		this.#broker.attach(theirs);
		this.#client = new AgentClient(ours);
		await this.#client.hello();
		await this.#client.setClock();
		this.#ownXcr0 = await this.#xcr0();
	}

	/**
	 * Looks whether programs run; callers at the same time share one look.
	 *
	 * @returns why they do not; undefined when they do, or when there is no memory to tell
	 */
	probe(): Promise<string | undefined> {
		this.#probing ??= this.#probe().finally(() => {
			this.#probing = undefined;
		});
		return this.#probing;
	}

	async #probe(): Promise<string | undefined> {
		try {
			const xcr0 = await this.#xcr0();
			if (xcr0 !== undefined && xcr0 !== this.#ownXcr0) return "a guest has changed XCR0";
			/* One of the host's files, with a dynamic linker. */
			const { status } = await this.#collect({ args: ["/bin/true"], root: LAB_ROOT }, PROBE_TIMEOUT_MS);
			return status === 0 || status === KILLED ? undefined : `/bin/true ends with status ${status}`;
		} catch (error) {
			if (error instanceof ExecError) return NO_MEMORY.has(error.errno) ? undefined : explain(error);
			return error instanceof TsvmmError && error.code === "ERR_LAB_TIMEOUT" ? "/bin/true does not end" : undefined;
		}
	}

	/** Stands for XCR0 of all CPUs; undefined when there was no memory to ask. */
	async #xcr0(): Promise<string | undefined> {
		const { status, stdout } = await this.#collect({ args: ["/bin/sh", "-c", XCR0_PROBE] }, PROBE_TIMEOUT_MS);
		return status === KILLED ? undefined : `${status} ${stdout.toString("hex")}`;
	}

	/** Runs a program in the lab's VM itself. @throws HostError ERR_LAB_ENTER when it fails, ERR_LAB_TIMEOUT */
	async run(args: ExecSpec["args"], timeoutMs: number): Promise<void> {
		const { status, stdout, stderr } = await this.#collect({ args }, timeoutMs);
		if (status !== 0) {
			const output = `${stdout}${stderr}`.trim();
			throw new HostError(
				"ERR_LAB_ENTER",
				`Cannot run ${args[1]} in the lab's machine: exit status ${status}\n${output}`,
			);
		}
	}

	async #collect(program: Pick<ExecSpec, "args" | "root">, timeoutMs: number): Promise<ExecResult> {
		if (this.#client === undefined) throw new Error("greet() comes first");
		const spec: ExecSpec = { ...program, env: { PATH: "/bin" }, stdin: "null" };
		const work = this.#client.exec(spec).then((session) => collect(session, undefined, undefined));
		return await within(work, timeoutMs, () => undefined);
	}

	/** Passes the agent's protocol to one more client. */
	serve(client: Duplex): void {
		this.#broker?.attach(client);
	}

	/** Stops talking; the machine runs on. */
	close(): void {
		clearInterval(this.#pinger);
		this.#client?.close();
		this.#broker?.close();
	}
}
