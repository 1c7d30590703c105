/*
 * The outer machine's agent as the keeper sees it: behind a virtio-serial port of a QEMU that now and then loses a
 * wake-up of its emulated interrupt controller and then sleeps on. Something arriving at the port wakes it, so a PING
 * goes there five times a second for the machine's whole life; the answers tell that it lives.
 */

import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { AgentBroker } from "../agent/broker.ts";
import { AgentClient, type ExecSpec } from "../agent/client.ts";
import { encodeFrame, FRAME, KEEPALIVE_SESSION } from "../agent/protocol.ts";
import { duplexPair } from "../base/duplex-pair.ts";
import { HostError } from "../base/errors.ts";
import { collect, within } from "./collect.ts";
import type { Qemu } from "./qemu.ts";

const PING_MS = 200;
/** Its PONG is dropped by the broker. */
const PING = encodeFrame(FRAME.PING, 0, KEEPALIVE_SESSION);

export class Outer {
	readonly #port: Duplex;
	readonly #pinger: NodeJS.Timeout;
	#heardMs = 0;
	#broker: AgentBroker | undefined;
	#client: AgentClient | undefined;

	private constructor(port: Duplex) {
		this.#port = port;
		this.#pinger = setInterval(() => {
			// A machine that does not read gets no more than this.
			if (port.writableLength < 64 * PING.length || this.#broker !== undefined) port.write(PING);
		}, PING_MS);
		port.write(PING);
	}

	/**
	 * Waits until the agent answers.
	 *
	 * @throws HostError ERR_LAB_BOOT when it does not in time, or QEMU ends
	 */
	static async open(qemu: Qemu, timeoutMs: number): Promise<Outer> {
		const outer = new Outer(qemu.agent);
		const given = new AbortController();
		const heard = new Promise<void>((resolve) => {
			qemu.agent.on("data", () => {
				outer.#heardMs = performance.now();
				resolve();
			});
		});
		const late = sleep(timeoutMs, undefined, { signal: given.signal }).then(() => {
			throw new HostError("ERR_LAB_BOOT", `Cannot reach the lab's machine: no answer for ${timeoutMs / 1000} s`);
		});
		const ended = qemu.ended.then((how) => {
			throw new HostError("ERR_LAB_BOOT", `Cannot reach the lab's machine: QEMU has ended (${how})`);
		});
		ended.catch(() => undefined); // it does end one day
		try {
			await Promise.race([heard, late, ended]);
		} catch (error) {
			outer.close();
			throw error;
		} finally {
			late.catch(() => undefined);
			given.abort();
		}
		return outer;
	}

	/** For how long the agent has not answered, in ms. */
	get silentMs(): number {
		return performance.now() - this.#heardMs;
	}

	/** Sets up what `run` and `serve` need, and the clock, which stood still in the template. */
	async greet(): Promise<void> {
		this.#broker = new AgentBroker(this.#port);
		await this.#broker.ready;
		const [ours, theirs] = duplexPair();
		this.#broker.attach(theirs);
		this.#client = new AgentClient(ours);
		await this.#client.hello();
		await this.#client.setClock();
	}

	/** Runs a program in the outer machine itself. @throws HostError ERR_LAB_ENTER when it fails, ERR_LAB_TIMEOUT */
	async run(args: ExecSpec["args"], timeoutMs: number): Promise<void> {
		if (this.#client === undefined) return;
		const spec: ExecSpec = { args, env: { PATH: "/bin" }, stdin: "null" };
		const work = this.#client.exec(spec).then((session) => collect(session, undefined, undefined));
		const { status, stdout, stderr } = await within(work, timeoutMs, () => undefined);
		if (status !== 0) {
			const said = `${stdout}${stderr}`.trim();
			throw new HostError(
				"ERR_LAB_ENTER",
				`Cannot run ${args[1]} in the lab's machine: exit status ${status}\n${said}`,
			);
		}
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
