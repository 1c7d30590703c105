/*
 * User-mode networking (--net user). passt, one process per interface, turns the guest's connections into sockets of
 * the host. It needs no tap and no privilege. Frames pass over a socket pair (frame-stream.ts):
 *
 *     NetDevice -> send -> socket pair -> passt -> sockets of the host
 *     NetDevice <- receive <---'
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
import { FrameStream, STREAM_MTU } from "./frame-stream.ts";
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
	mtu: STREAM_MTU,
} as const;

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

/** The addresses on a network of passt's. */
export interface PasstNetwork {
	/** The guest's. */
	address: string;
	prefixLength: number;
	gateway: string;
	/** Where passt answers name lookups from the host's resolver; nowhere when missing. */
	dns?: string;
	/** The guest's and the gateway's Ethernet addresses. */
	mac: string;
	gatewayMac: string;
}

/** Options of `PasstBackend.open`. */
export interface PasstOptions {
	/** True: the gateway's address leads to the host's loopback. False when missing. */
	hostLoopback?: boolean | undefined;
	/** The addresses; those of `userNetwork` when missing. */
	network?: PasstNetwork | undefined;
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
	readonly #stream: FrameStream;
	readonly #ended: Promise<void>;

	private constructor({ child, socket, ended }: Passt, filter: LoopbackFilter, enter: Enter) {
		this.pid = child.pid!;
		this.#child = child;
		this.#ended = ended;
		/* passt must not keep this process alive. */
		child.unref();
		(child.stderr as Socket).unref();
		socket.unref();
		this.#stream = new FrameStream(socket, {
			name: "passt",
			enter,
			saw: (frame) => filter.saw(frame),
			admits: (bytes, at, length) => {
				if (filter.admits(bytes, at, length)) return true;
				logRateLimited("passt", "warn", "the guest may not reach the host's loopback: its frame is dropped");
				return false;
			},
		});
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
		{ hostLoopback = false, network = userNetwork, enter = enterDirectly, signal }: PasstOptions = {},
	): Promise<PasstBackend> {
		const path = findTool("passt");
		if (path === undefined) throw toolMissing("passt");
		await claimPorts(ports);
		const filter = new LoopbackFilter(network.gateway, ports, hostLoopback);
		const pair = socketPair();
		if (typeof pair === "number") {
			throw new HostError("ERR_PASST", `Cannot start passt: socketpair: ${errnoNameOf(-pair)}`);
		}
		const [ours, theirs] = pair;
		setSendBuffer(theirs, SOCKET_BYTES);
		const child = spawn(path, passtArguments(network, ports, filter.mapGateway), {
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
		const answered = await greet(socket, network, Promise.race([failed, ended]));
		signal?.removeEventListener("abort", abort);
		if (answered) return new PasstBackend({ child, socket, ended }, filter, enter);
		socket.destroy();
		child.kill("SIGKILL");
		const cause = await Promise.race([failed, ended]);
		signal?.throwIfAborted();
		throw failure(stderr(), ports, cause);
	}

	start(events: NetEvents): void {
		this.#stream.start({
			readable: () => events.readable(),
			writable: () => events.writable(),
			lost: () => {
				log("error", "passt has ended: the guest's network is gone");
				events.linkDown();
			},
		});
	}

	setGuestOffloads(): void {
		/* None are offered. */
	}

	send(frame: Segments): boolean {
		return this.#stream.send(frame);
	}

	receive(into: Segments): number {
		return this.#stream.receive(into);
	}

	async close(): Promise<void> {
		this.#child.ref();
		this.#stream.close();
		const killer = setTimeout(() => this.#child.kill("SIGKILL"), END_TIMEOUT_MS);
		await this.#ended;
		clearTimeout(killer);
	}
}

function passtArguments(network: PasstNetwork, ports: readonly PortForward[], mapGateway: boolean): string[] {
	const { address, prefixLength, gateway, dns, gatewayMac } = network;
	const names = dns === undefined ? [] : ["--dns-forward", dns];
	const addresses = ["-a", address, "-n", String(prefixLength), "-g", gateway, ...names, "-M", gatewayMac];
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
 * Asks for the gateway's Ethernet address, as the guest does. The answer shows that passt runs; what follows it is left
 * in the paused socket. False when passt has ended.
 */
function greet(socket: Socket, network: PasstNetwork, ended: Promise<unknown>): Promise<boolean> {
	const question = arpRequest(network);
	return new Promise((resolve) => {
		let got: Buffer = Buffer.alloc(0);
		const settle = (answered: boolean) => {
			clearTimeout(timer);
			socket.off("data", read);
			socket.pause();
			resolve(answered);
		};
		const timer = setTimeout(() => settle(false), START_TIMEOUT_MS);
		const read = (chunk: Buffer) => {
			got = Buffer.concat([got, chunk]);
			if (got.length < question.length) return;
			settle(true);
			if (got.length > question.length) socket.unshift(got.subarray(question.length));
		};
		socket.on("data", read);
		socket.write(question);
		void ended.then(() => settle(false));
	});
}

/** An ARP request (RFC 826) of the guest for its gateway, with its length in front. */
function arpRequest({ mac: own, address, gateway }: PasstNetwork): Buffer {
	const mac = (text: string) => text.replaceAll(":", "");
	const ip = (text: string) => Buffer.from(text.split(".").map(Number)).toString("hex");
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
