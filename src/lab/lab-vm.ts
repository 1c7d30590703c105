/*
 * The supervisor's side of the lab's VM: it talks to the agent there through a virtio-serial port. QEMU now and then
 * loses a wake-up of its emulated interrupt controller, and the VM sleeps until something arrives at the port. So the
 * supervisor sends a PING five times a second. The answers show that the VM is alive.
 */
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentBroker } from "../agent/broker.ts";
import { AgentClient, ExecError } from "../agent/client.ts";
import type { ExecSpec } from "../agent/exec-spec.ts";
import { encodeFrame, FRAME, KEEPALIVE_SESSION } from "../agent/protocol.ts";
import type { ExitStatus } from "../agent/session.ts";
import { duplexPair } from "../backends/duplex-pair.ts";
import { explain, HostError, TsvmmError } from "../base/errors.ts";
import { collect, type ExecResult, within } from "./collect.ts";
import type { Qemu } from "./qemu.ts";

const PING_MS = 200;
/** The broker drops the PONG. */
const PING = encodeFrame(FRAME.PING, 0, KEEPALIVE_SESSION);

/** The directory in which guests/lab/enter puts the host's files together. */
export const LAB_ROOT = "/lab";

/**
 * Prints CPUID leaf 0xD of each CPU. Its second word is the size of the register state that XCR0 enables. QEMU 7.2 lets
 * a guest change XCR0 of the VM around it; programs of the VM then lose AVX or the contents of registers.
 */
const XCR0_PROBE = "for c in /dev/cpu/*/cpuid; do dd if=$c bs=16 count=1 iflag=skip_bytes skip=13 2>/dev/null; done";
/** The same time that a VM may be silent (supervisor.ts). */
const PROBE_TIMEOUT_MS = 60_000;
/** 128 + SIGKILL, EAGAIN and ENOMEM: the VM is out of memory, but not broken. */
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
			/* A VM that does not read is sent no more than 64. */
			if (port.writableLength < 64 * PING.length || this.#broker !== undefined) port.write(PING);
		}, PING_MS);
		port.write(PING);
	}

	/**
	 * Waits until the agent answers.
	 *
	 * @throws HostError ERR_LAB_BOOT when it does not answer in time, or QEMU ends
	 */
	static async open(qemu: Qemu, timeoutMs: number): Promise<LabVm> {
		const vm = new LabVm(qemu.agent);
		const cancelTimeout = new AbortController();
		const answered = new Promise<void>((resolve) => {
			qemu.agent.on("data", () => {
				vm.#answeredMs = performance.now();
				resolve();
			});
		});
		const late = sleep(timeoutMs, undefined, { signal: cancelTimeout.signal }).then(() => {
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
			cancelTimeout.abort();
		}
		return vm;
	}

	/** For how long the agent has not answered, in ms. */
	get silentMs(): number {
		return performance.now() - this.#answeredMs;
	}

	/**
	 * Sets up what `run` and `serve` need. Sets the clock, which stood still in the template.
	 *
	 * @param exited called with the exit status of each program that ends
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
	 * Checks that programs run. Calls at the same time share one check.
	 *
	 * @returns why they do not run; undefined when they do, or when the VM has no memory for the check
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
			/* A program of the host that needs the dynamic linker: both come by 9p. */
			const { status } = await this.#collect({ args: ["/bin/true"], root: LAB_ROOT }, PROBE_TIMEOUT_MS);
			return status === 0 || status === KILLED ? undefined : `/bin/true ends with status ${status}`;
		} catch (error) {
			if (error instanceof ExecError) return NO_MEMORY.has(error.errno) ? undefined : explain(error);
			return error instanceof TsvmmError && error.code === "ERR_LAB_TIMEOUT" ? "/bin/true does not end" : undefined;
		}
	}

	/** A text that changes with XCR0 of any CPU. Undefined when the VM has no memory to read it. */
	async #xcr0(): Promise<string | undefined> {
		const { status, stdout } = await this.#collect({ args: ["/bin/sh", "-c", XCR0_PROBE] }, PROBE_TIMEOUT_MS);
		return status === KILLED ? undefined : `${status} ${stdout.toString("hex")}`;
	}

	/** Runs a program in the initramfs of the VM. @throws HostError ERR_LAB_ENTER when it fails, ERR_LAB_TIMEOUT */
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

	/** Connects one more client to the agent. */
	serve(client: Duplex): void {
		this.#broker?.attach(client);
	}

	/** Ends the connection to the agent. The VM runs on. */
	close(): void {
		clearInterval(this.#pinger);
		this.#client?.close();
		this.#broker?.close();
	}
}
