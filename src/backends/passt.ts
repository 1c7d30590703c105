/*
 * User-mode networking (--net user). passt, one process per interface, turns the guest's connections into sockets of
 * the host. It needs no tap and no privilege. Frames pass over a socket pair in QEMU's stream protocol, each after its
 * length as a big-endian u32:
 *
 *     NetDevice -> send -> batch -> socket pair -> passt -> sockets of the host
 *     NetDevice <- receive <- frames <-'
 *
 * passt ends when the other end of the pair closes, so it never outlives this process. The guest's addresses are fixed
 * (userNetwork), so it needs no DHCP client. The guest cannot reach the host's loopback, unless `hostLoopback` maps it
 * to the gateway's address.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { Socket } from "node:net";
import { type Enter, enterDirectly } from "../base/enter.ts";
import { HostError, ignore } from "../base/errors.ts";
import { log, logRateLimited } from "../base/log.ts";
import type { Segments } from "../base/segments.ts";
import { keepTail } from "../host/command.ts";
import { close, errnoNameOf, setSendBuffer, socketPair } from "../host/libc.ts";
import { findTool, toolMissing } from "../host/tools.ts";
import type { NetBackend, NetEvents, NetOffloads } from "./contract.ts";
import { LoopbackFilter } from "./loopback-filter.ts";
import { claimPorts, type PortForward, portInUse } from "./passt-ports.ts";

/** The network of a guest on --net user. Each guest has its own, so the addresses are always the same. */
export const userNetwork = {
	address: "10.0.2.15",
	prefixLength: 24,
	gateway: "10.0.2.2",
	dns: "10.0.2.3",
	/** The guest's and the gateway's Ethernet addresses. */
	mac: "52:54:0a:00:02:0f",
	gatewayMac: "52:55:0a:00:02:02",
	/** passt passes data on in pieces of up to this size. No real wire carries such frames. */
	mtu: 65_520,
} as const;

const LENGTH_BYTES = 4;
const MAX_FRAME_BYTES = userNetwork.mtu + 18;
const MIN_FRAME_BYTES = 14;
/** The most bytes that are received but not fetched. Then passt has to wait. */
const RECEIVE_BYTES = 1 << 20;
/** The most bytes that are sent but not taken by passt. Then the guest has to wait. */
const SEND_BYTES = 1 << 20;
const BATCH_BYTES = 256 * 1024;
/**
 * The size of the kernel's buffer for passt's frames. passt sends a whole TCP window at once and drops frames that the
 * socket does not take. Then the connection stands still until a TCP timer fires.
 */
const SOCKET_BYTES = 8 << 20;
const START_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 2000;

/** A running passt and our end of the socket pair. */
interface Passt {
	child: ChildProcess;
	socket: Socket;
	/** Settles when the process has ended. */
	ended: Promise<void>;
}

/** Options of `PasstBackend.open`. */
export interface PasstOptions {
	/** True: the gateway's address leads to the host's loopback. False when missing. */
	hostLoopback?: boolean | undefined;
	/** The way into the machine that the network belongs to. */
	enter?: Enter;
	/** Aborts the wait, with the signal's reason. */
	signal?: AbortSignal | undefined;
}

export class PasstBackend implements NetBackend {
	readonly offloads: NetOffloads = { vnetHeader: false, csum: false, tso: false, guestCsum: false, guestTso: false };
	readonly mtu = userNetwork.mtu;
	/** passt's process ID. */
	readonly pid: number;
	readonly #child: ChildProcess;
	readonly #filter: LoopbackFilter;
	readonly #enter: Enter;
	readonly #socket: Socket;
	readonly #ended: Promise<void>;
	#events: NetEvents | undefined;
	/* Frames received. Those before #first are fetched. */
	#frames: Buffer[] = [];
	#first = 0;
	#receivedBytes = 0;
	/** Bytes of a frame that is not complete yet. */
	#rest: Buffer | undefined;
	/** `receive` has returned 0, or was not called yet. */
	#starved = true;
	#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
	#batched = 0;
	#refused = false;
	#closing = false;

	private constructor({ child, socket, ended }: Passt, filter: LoopbackFilter, enter: Enter) {
		this.pid = child.pid!;
		this.#filter = filter;
		this.#enter = enter;
		this.#child = child;
		this.#socket = socket;
		this.#ended = ended;
		socket.on("data", (chunk: Buffer) => enter("passt", () => this.#received(chunk)));
		socket.on("drain", () => enter("passt", () => this.#drained()));
		socket.on("close", () => enter("passt", () => this.#lost()));
	}

	/**
	 * Starts passt and waits until it answers.
	 *
	 * @param ports ports of the host that lead to the guest @throws HostError ERR_TOOL_MISSING, ERR_PORT_IN_USE,
	 *   ERR_PORT, ERR_PASST
	 * @example const backend = await PasstBackend.open([{ hostPort: 8080, guestPort: 80, protocol: "tcp" }]);
	 */
	static async open(
		ports: readonly PortForward[] = [],
		{ hostLoopback = false, enter = enterDirectly, signal }: PasstOptions = {},
	): Promise<PasstBackend> {
		const path = findTool("passt");
		if (path === undefined) throw toolMissing("passt");
		await claimPorts(ports);
		const filter = new LoopbackFilter(userNetwork.gateway, ports, hostLoopback);
		const pair = socketPair();
		if (typeof pair === "number") {
			throw new HostError("ERR_PASST", `Cannot start passt: socketpair: ${errnoNameOf(-pair)}`);
		}
		const [ours, theirs] = pair;
		setSendBuffer(theirs, SOCKET_BYTES);
		const child = spawn(path, passtArguments(ports, filter.mapGateway), {
			cwd: "/",
			stdio: ["ignore", "ignore", "pipe", theirs],
			/* Its own session, so that Ctrl-C does not end it. */
			detached: true,
		});
		close(theirs);
		const stderr = keepTail(child.stderr!, 65_536);
		const failed = new Promise<Error>((resolve) => child.once("error", resolve));
		const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
		const socket = new Socket({ fd: ours, readable: true, writable: true });
		socket.on("error", ignore);
		const abort = () => child.kill("SIGKILL");
		signal?.addEventListener("abort", abort, { once: true });
		const answer = await greet(socket, Promise.race([failed, ended]));
		signal?.removeEventListener("abort", abort);
		if (answer !== undefined) return new PasstBackend({ child, socket, ended }, filter, enter).#started(answer);
		socket.destroy();
		child.kill("SIGKILL");
		const cause = await Promise.race([failed, ended]);
		signal?.throwIfAborted();
		throw failure(stderr(), ports, cause);
	}

	#started(rest: Buffer): PasstBackend {
		if (rest.length > 0) this.#received(rest);
		/* passt must not keep this process alive. */
		this.#child.unref();
		(this.#child.stderr as Socket).unref();
		this.#socket.unref();
		this.#socket.resume();
		return this;
	}

	start(events: NetEvents): void {
		this.#events = events;
		if (this.#socket.destroyed) events.linkDown();
		if (this.#first < this.#frames.length) this.#wake();
	}

	setGuestOffloads(): void {
		/* None are offered. */
	}

	send(frame: Segments): boolean {
		const length = frame.totalBytes;
		if (length > MAX_FRAME_BYTES || this.#socket.destroyed) return true;
		if (this.#socket.writableLength >= SEND_BYTES) {
			this.#refused = true;
			return false;
		}
		if (this.#batched + LENGTH_BYTES + length > BATCH_BYTES) this.#flush();
		const at = this.#batched;
		this.#batch.writeUInt32BE(length, at);
		frame.copyTo(this.#batch.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + length));
		if (!this.#filter.admits(this.#batch, at + LENGTH_BYTES, length)) {
			logRateLimited("passt", "warn", "the guest may not reach the host's loopback: its frame is dropped");
			return true;
		}
		/* One write has all frames of this turn. */
		if (at === 0) queueMicrotask(() => this.#enter("passt", () => this.#flush()));
		this.#batched = at + LENGTH_BYTES + length;
		return true;
	}

	receive(into: Segments): number {
		const frame = this.#frames[this.#first];
		if (frame === undefined) {
			this.#starved = true;
			return 0;
		}
		this.#first++;
		if (this.#first === this.#frames.length) {
			this.#frames = [];
			this.#first = 0;
		}
		const before = this.#receivedBytes;
		this.#receivedBytes = before - frame.length;
		if (before >= RECEIVE_BYTES && this.#receivedBytes < RECEIVE_BYTES) this.#socket.resume();
		if (frame.length > into.totalBytes) return -1;
		return into.copyFrom(frame);
	}

	async close(): Promise<void> {
		this.#closing = true;
		this.#events = undefined;
		this.#child.ref();
		this.#socket.destroy();
		const killer = setTimeout(() => this.#child.kill("SIGKILL"), END_TIMEOUT_MS);
		await this.#ended;
		clearTimeout(killer);
	}

	#flush(): void {
		const length = this.#batched;
		this.#batched = 0;
		if (length === 0 || this.#socket.destroyed) return;
		this.#socket.write(this.#batch.subarray(0, length));
		/* Bytes that the kernel did not take wait here. */
		if (this.#socket.writableLength > 0) this.#batch = Buffer.allocUnsafeSlow(BATCH_BYTES);
	}

	#lost(): void {
		if (this.#closing) return;
		log("error", "passt has ended: the guest's network is gone");
		this.#refused = false;
		this.#events?.linkDown();
	}

	#drained(): void {
		if (!this.#refused) return;
		this.#refused = false;
		this.#events?.writable();
	}

	#received(chunk: Buffer): void {
		const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
		let at = 0;
		while (bytes.length - at >= LENGTH_BYTES) {
			const length = bytes.readUInt32BE(at);
			if (length < MIN_FRAME_BYTES || length > MAX_FRAME_BYTES) {
				log("error", `passt sent a frame of ${length} bytes`);
				this.#socket.destroy();
				return;
			}
			const end = at + LENGTH_BYTES + length;
			if (end > bytes.length) break;
			const frame = bytes.subarray(at + LENGTH_BYTES, end);
			this.#filter.saw(frame);
			this.#frames.push(frame);
			this.#receivedBytes += length;
			at = end;
		}
		this.#rest = at === bytes.length ? undefined : bytes.subarray(at);
		if (this.#receivedBytes >= RECEIVE_BYTES) this.#socket.pause();
		if (this.#first < this.#frames.length) this.#wake();
	}

	#wake(): void {
		if (!this.#starved || this.#events === undefined) return;
		this.#starved = false;
		this.#events.readable();
	}
}

function passtArguments(ports: readonly PortForward[], mapGateway: boolean): string[] {
	const { address, prefixLength, gateway, dns, gatewayMac } = userNetwork;
	const addresses = ["-a", address, "-n", String(prefixLength), "-g", gateway, "--dns-forward", dns, "-M", gatewayMac];
	const forwards = ports.flatMap(({ hostAddress, hostPort, guestPort, protocol }) => [
		protocol === "tcp" ? "-t" : "-u",
		`${hostAddress === undefined ? "" : `${hostAddress}/`}${hostPort}:${guestPort}`,
	]);
	/* passt copies an interface's addresses. A host without a default route has only its loopback. */
	const template = hasDefaultRoute() ? [] : ["-i", "lo"];
	const loopback = mapGateway ? [] : ["--no-map-gw"];
	return ["-f", "-q", "-4", ...loopback, ...template, ...addresses, ...forwards, "-F", "3"];
}

function hasDefaultRoute(): boolean {
	try {
		const routes = readFileSync("/proc/net/route", "latin1").split("\n").slice(1);
		return routes.some((line) => line.split("\t")[1] === "00000000");
	} catch {
		return true;
	}
}

/**
 * Asks for the gateway's Ethernet address, as the guest does. The answer shows that passt runs. Returns the bytes after
 * the answer, or undefined when passt has ended.
 */
function greet(socket: Socket, ended: Promise<unknown>): Promise<Buffer | undefined> {
	const question = arpRequest();
	return new Promise((resolve) => {
		let got: Buffer = Buffer.alloc(0);
		const settle = (rest: Buffer | undefined) => {
			clearTimeout(timer);
			socket.off("data", read);
			socket.pause();
			resolve(rest);
		};
		const timer = setTimeout(() => settle(undefined), START_TIMEOUT_MS);
		const read = (chunk: Buffer) => {
			got = Buffer.concat([got, chunk]);
			if (got.length >= question.length) settle(got.subarray(question.length));
		};
		socket.on("data", read);
		socket.write(question);
		void ended.then(() => settle(undefined));
	});
}

/** An ARP request (RFC 826) of the guest for its gateway, with its length in front. */
function arpRequest(): Buffer {
	const mac = (text: string) => text.replaceAll(":", "");
	const ip = (text: string) => Buffer.from(text.split(".").map(Number)).toString("hex");
	const { mac: own, address, gateway } = userNetwork;
	const head = `0000002a${"ff".repeat(6)}${mac(own)}0806`;
	return Buffer.from(`${head}0001080006040001${mac(own)}${ip(address)}${"00".repeat(6)}${ip(gateway)}`, "hex");
}

/** Says why passt did not start, from its stderr. */
function failure(stderr: string, ports: readonly PortForward[], cause: unknown): HostError {
	const lines = stderr.split("\n").filter((line) => line !== "" && !/to syslog$|^Don't run as root/.test(line));
	const spec = /Failed to bind any port for '-[tu] (?:\S+\/)?(\d+):/.exec(stderr)?.[1];
	const port = ports.find((p) => String(p.hostPort) === spec);
	if (port !== undefined) return portInUse(port, lines.join("; "));
	const hint = stderr.includes("user namespace")
		? "Use switch_root or pivot_root instead of chroot: passt needs a user namespace, which a chroot forbids"
		: undefined;
	const what = lines.join("; ") || (cause instanceof Error ? cause.message : "it did not answer");
	return new HostError("ERR_PASST", `Cannot start passt: ${what}`, { hint, cause });
}
