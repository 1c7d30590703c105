import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { PasstBackend, userNetwork } from "../../src/backends/passt.ts";
import type { Forward } from "../../src/backends/passt-ports.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";
import { bytesOf, segmentsOf } from "./segments-of.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

const macHex = (text: string) => text.replaceAll(":", "");
const ipHex = (text: string) => Buffer.from(text.split(".").map(Number)).toString("hex");
const OWN = ipHex(userNetwork.address);
const GATEWAY = ipHex(userNetwork.gateway);

const ARP_QUESTION = `0001080006040001${macHex(userNetwork.mac)}${OWN}000000000000${GATEWAY}`;

function sum16(...parts: Buffer[]): number {
	const data = Buffer.concat(parts);
	let sum = 0;
	for (let i = 0; i < data.length; i += 2) sum += (data[i]! << 8) + (data[i + 1] ?? 0);
	while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
	return sum ^ 0xffff;
}

function ethernet(type: string): Buffer {
	return Buffer.from(`${macHex(userNetwork.gatewayMac)}${macHex(userNetwork.mac)}${type}`, "hex");
}

/** An IPv4 frame of the guest. `checksumAt` is where the payload's checksum goes. */
function ipv4(protocol: number, payload: Buffer, checksumAt: number, to = GATEWAY): Buffer {
	const head = Buffer.from(`450000000000400040000000${OWN}${to}`, "hex");
	head.writeUInt16BE(20 + payload.length, 2);
	head[9] = protocol;
	head.writeUInt16BE(sum16(head), 10);
	const pseudo = Buffer.from(`${OWN}${to}00000000`, "hex");
	pseudo[9] = protocol;
	pseudo.writeUInt16BE(payload.length, 10);
	payload.writeUInt16BE(protocol === 1 ? sum16(payload) : sum16(pseudo, payload), checksumAt);
	return Buffer.concat([ethernet("0800"), head, payload]);
}

const FIN = 1;
const SYN = 2;
const ACK = 16;
const PSH = 8;

/** One hand-made TCP connection of the guest. */
class HandTcp {
	seq = 1000;
	ack = 0;
	received = Buffer.alloc(0);
	readonly #net: Wire;
	readonly #own: number;
	readonly #peer: number;

	constructor(net: Wire, own: number, peer: number) {
		this.#net = net;
		this.#own = own;
		this.#peer = peer;
	}

	send(flags: number, data: Buffer = Buffer.alloc(0)): void {
		const tcp = Buffer.alloc(20);
		tcp.writeUInt16BE(this.#own, 0);
		tcp.writeUInt16BE(this.#peer, 2);
		tcp.writeUInt32BE(this.seq, 4);
		tcp.writeUInt32BE(this.ack, 8);
		tcp[12] = 5 << 4;
		tcp[13] = flags;
		tcp.writeUInt16BE(65_535, 14);
		this.#net.send(ipv4(6, Buffer.concat([tcp, data]), 16));
		this.seq += data.length + (flags & (SYN | FIN) ? 1 : 0);
	}

	/** The next segment of this connection, taken into account. */
	async segment(): Promise<{ flags: number; data: Buffer }> {
		const frame = await this.#net.next(
			(f) => f[23] === 6 && f.readUInt16BE(34) === this.#peer && f.readUInt16BE(36) === this.#own,
		);
		const length = frame.readUInt16BE(16) - 20 - (frame[46]! >> 4) * 4;
		const start = 34 + (frame[46]! >> 4) * 4;
		const data = frame.subarray(start, start + length);
		const flags = frame[47]!;
		this.ack = frame.readUInt32BE(38) + data.length + (flags & (SYN | FIN) ? 1 : 0);
		this.received = Buffer.concat([this.received, data]);
		return { flags, data };
	}
}

/** The guest's end of the wire. */
class Wire {
	readonly backend: PasstBackend;
	#wake: () => void = () => undefined;

	constructor(backend: PasstBackend) {
		this.backend = backend;
		backend.start({ readable: () => this.#wake(), writable: () => undefined });
	}

	send(frame: Buffer): void {
		if (!this.backend.send(segmentsOf(frame, 33))) throw new Error("no room");
	}

	async next(wanted: (frame: Buffer) => boolean): Promise<Buffer> {
		const into = segmentsOf(Buffer.alloc(66_000), 1500);
		const end = performance.now() + 4000;
		const late = setTimeout(() => this.#wake(), 4000);
		try {
			while (performance.now() < end) {
				const length = this.backend.receive(into);
				if (length > 0) {
					const frame = bytesOf(into, length);
					if (wanted(frame)) return frame;
				} else {
					await new Promise<void>((resolve) => {
						this.#wake = resolve;
					});
				}
			}
			throw new Error("no such frame came");
		} finally {
			clearTimeout(late);
		}
	}
}

async function wired(ports: Forward[] = []) {
	const backend = await PasstBackend.open(ports);
	closers.push(() => backend.close());
	return { backend, wire: new Wire(backend) };
}

async function serve(onSocket: (socket: Socket) => void, host = "127.0.0.1"): Promise<number> {
	const server: Server = createServer(onSocket);
	await new Promise<void>((resolve) => server.listen(0, host, resolve));
	closers.push(() => new Promise((resolve) => server.close(resolve)));
	return (server.address() as { port: number }).port;
}

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
	const port = await serve(() => undefined);
	await closers.pop()!();
	return port;
}

const isAlive = (pid: number) =>
	existsSync(`/proc/${pid}/stat`) && !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "latin1"));

async function gone(pid: number): Promise<void> {
	for (let i = 0; i < 200 && isAlive(pid); i++) await new Promise((resolve) => setTimeout(resolve, 10));
	expect(isAlive(pid)).toBe(false);
}

describe("PasstBackend", () => {
	test("what a receiver of frames throws is its machine's to catch", async () => {
		const recorded = new RecordedEnter();
		const backend = await PasstBackend.open([], { enter: recorded.enter });
		closers.push(() => backend.close());
		backend.start({
			readable: () => {
				throw new Error("of the test");
			},
			writable: () => undefined,
		});
		backend.send(segmentsOf(Buffer.from(`ffffffffffff${macHex(userNetwork.mac)}0806${ARP_QUESTION}`, "hex"), 1500));
		await expect.poll(() => recorded.failures).toEqual(["passt: of the test"]);
	});

	test("the gateway answers ARP with its own address", async () => {
		const { wire } = await wired();
		wire.send(Buffer.from(`ffffffffffff${macHex(userNetwork.mac)}0806${ARP_QUESTION}`, "hex"));
		const answer = await wire.next((f) => f.readUInt16BE(12) === 0x0806);
		expect(answer.subarray(0, 6).toString("hex")).toBe(macHex(userNetwork.mac));
		expect(answer.subarray(22, 32).toString("hex")).toBe(macHex(userNetwork.gatewayMac) + GATEWAY);
	});

	/* passt leads TCP and UDP to the gateway to the loopback, but not pings: those go to an address that exists. */
	test("an address of the host answers a ping where the host lets everybody ping", async () => {
		const address = "10.231.78.1";
		execFileSync("ip", ["addr", "add", `${address}/32`, "dev", "lo"]);
		closers.push(() => execFileSync("ip", ["addr", "del", `${address}/32`, "dev", "lo"]));
		const groups = "/proc/sys/net/ipv4/ping_group_range";
		const before = readFileSync(groups, "latin1");
		closers.push(() => writeFileSync(groups, before));
		writeFileSync(groups, "0 2147483647");
		const { wire } = await wired();
		wire.send(
			ipv4(1, Buffer.concat([Buffer.from("08000000004d0001", "hex"), Buffer.from("payload!")]), 2, ipHex(address)),
		);
		const answer = await wire.next((f) => f[23] === 1 && f[34] === 0);
		expect(answer.subarray(-8).toString()).toBe("payload!");
	});

	test("TCP to the gateway reaches a server on the host's loopback, both ways", async () => {
		const { wire } = await wired();
		const said: string[] = [];
		const port = await serve((socket) => {
			socket.on("data", (data) => said.push(data.toString()));
			socket.on("error", () => undefined);
			socket.write("hello guest");
		});
		const tcp = new HandTcp(wire, 40_000, port);
		tcp.send(SYN);
		expect((await tcp.segment()).flags & (SYN | ACK)).toBe(SYN | ACK);
		tcp.send(ACK);
		tcp.send(ACK | PSH, Buffer.from("hello host"));
		while (tcp.received.length < 11) await tcp.segment();
		expect(tcp.received.toString()).toBe("hello guest");
		tcp.send(ACK | FIN);
		while (((await tcp.segment()).flags & FIN) === 0);
		tcp.send(ACK);
		expect(said.join("")).toBe("hello host");
	});

	test("UDP to the gateway reaches a socket on the host's loopback and comes back", async () => {
		const { wire } = await wired();
		const socket = createSocket("udp4");
		await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
		closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
		socket.on("message", (message, from) => socket.send(`${message} back`, from.port, from.address));
		const udp = Buffer.alloc(8 + 4);
		udp.writeUInt16BE(5000, 0);
		udp.writeUInt16BE(socket.address().port, 2);
		udp.writeUInt16BE(udp.length, 4);
		udp.write("ping", 8);
		wire.send(ipv4(17, udp, 6));
		const answer = await wire.next((f) => f[23] === 17 && f.readUInt16BE(36) === 5000);
		expect(answer.subarray(42, 42 + 9).toString()).toBe("ping back");
	});

	test("a forwarded port leads to the guest", async () => {
		const hostPort = await freePort();
		const { wire } = await wired([{ hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol: "tcp" }]);
		const client = connect(hostPort, "127.0.0.1");
		client.on("error", () => undefined);
		closers.push(() => client.destroy());
		const syn = await wire.next((f) => f[23] === 6 && f.readUInt16BE(36) === 80);
		expect(syn[47]! & SYN).toBe(SYN);
		expect(syn.subarray(26, 34).toString("hex")).toBe(GATEWAY + OWN);
	});

	test("many frames in one turn all arrive", async () => {
		const { wire } = await wired();
		const socket = createSocket("udp4");
		await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
		closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
		let bytes = 0;
		const all = new Promise<void>((resolve) => {
			socket.on("message", (message) => {
				bytes += message.length;
				if (bytes === 20 * 16_000) resolve();
			});
		});
		for (let i = 0; i < 20; i++) {
			const udp = Buffer.alloc(8 + 16_000, i);
			udp.writeUInt16BE(5000, 0);
			udp.writeUInt16BE(socket.address().port, 2);
			udp.writeUInt16BE(udp.length, 4);
			udp.writeUInt16BE(0, 6);
			wire.send(ipv4(17, udp, 6));
			if (i % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 20));
		}
		await all;
	});

	test("send gives way when passt takes nothing, and writable comes when it does again", async () => {
		const backend = await PasstBackend.open();
		closers.push(() => backend.close());
		let writable = 0;
		backend.start({
			readable: () => undefined,
			writable: () => {
				writable++;
			},
		});
		process.kill(backend.pid, "SIGSTOP");
		const frame = segmentsOf(Buffer.concat([ethernet("88b5"), Buffer.alloc(60_000)]));
		let sent = 0;
		while (sent < 200 && backend.send(frame)) {
			sent++;
			await Promise.resolve();
		}
		expect(sent).toBeGreaterThan(15);
		expect(sent).toBeLessThan(60);
		expect(writable).toBe(0);
		process.kill(backend.pid, "SIGCONT");
		for (let i = 0; i < 200 && writable === 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
		expect(writable).toBe(1);
		expect(backend.send(frame)).toBe(true);
	});

	test("a frame larger than the place for it is dropped with -1", async () => {
		const { backend, wire } = await wired();
		wire.send(Buffer.from(`ffffffffffff${macHex(userNetwork.mac)}0806${ARP_QUESTION}`, "hex"));
		const small = segmentsOf(Buffer.alloc(41));
		let got = 0;
		for (let i = 0; i < 300 && got === 0; i++) {
			got = backend.receive(small);
			await new Promise((resolve) => setTimeout(resolve, 5));
		}
		expect(got).toBe(-1);
	});

	test("close ends passt, twice is once", async () => {
		const backend = await PasstBackend.open();
		expect(isAlive(backend.pid)).toBe(true);
		await backend.close();
		await backend.close();
		expect(isAlive(backend.pid)).toBe(false);
	});

	test("close ends a passt that is stopped", async () => {
		const backend = await PasstBackend.open();
		process.kill(backend.pid, "SIGSTOP");
		await backend.close();
		expect(isAlive(backend.pid)).toBe(false);
	});

	test("passt ends with its owner, even one that is killed", async () => {
		const file = new URL("../../src/backends/passt.ts", import.meta.url).href;
		const script = `const { PasstBackend } = await import(${JSON.stringify(file)});
			const backend = await PasstBackend.open(); console.log(backend.pid); setInterval(() => {}, 1000);`;
		const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script], {
			cwd: new URL("../..", import.meta.url),
			stdio: ["ignore", "pipe", "inherit"],
		});
		const pid = Number(await new Promise<Buffer>((resolve) => child.stdout.once("data", resolve)));
		expect(isAlive(pid)).toBe(true);
		child.kill("SIGKILL");
		await gone(pid);
	});

	test("open names the port that is in use, and leaves nothing behind", async () => {
		const port = await serve(() => undefined, "0.0.0.0");
		const taken: Forward = { hostPort: port, guestPort: 80, protocol: "tcp" };
		const free: Forward = { hostPort: await freePort(), guestPort: 81, protocol: "tcp" };
		await expect(PasstBackend.open([free, taken])).rejects.toMatchObject({
			code: "ERR_PORT_IN_USE",
			message: `Cannot forward tcp port ${port}: the port is in use`,
		});
	});

	test("open names a UDP port that is in use", async () => {
		const socket = createSocket("udp4");
		await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
		closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
		const { port } = socket.address();
		const forward: Forward = { hostAddress: "127.0.0.1", hostPort: port, guestPort: 53, protocol: "udp" };
		await expect(PasstBackend.open([forward])).rejects.toMatchObject({
			code: "ERR_PORT_IN_USE",
			message: `Cannot forward udp port 127.0.0.1:${port}: the port is in use`,
		});
	});

	test("open says that an address is not the host's", async () => {
		const forward: Forward = { hostAddress: "203.0.113.9", hostPort: 8080, guestPort: 80, protocol: "tcp" };
		await expect(PasstBackend.open([forward])).rejects.toMatchObject({ code: "ERR_PORT" });
	});

	test("open says why passt cannot start in a chroot, and it starts once the root is moved", () => {
		const file = new URL("../../src/backends/passt.ts", import.meta.url).href;
		const script = `const { PasstBackend } = await import(${JSON.stringify(file)});
			await PasstBackend.open().then((b) => b.close().then(() => console.log("ran")), (e) => console.log(e.code, e.hint));`;
		const root = mkdtempSync(join(tmpdir(), "tsvmm-root-"));
		closers.push(() => rmdirSync(root));
		const inRoot = (enter: string) => {
			const steps = `mount --make-rprivate / && mount --rbind / ${root} && ${enter} sh -c 'cd "$0" && exec "$@"' "$@"`;
			const node = [process.execPath, "--import", "tsx", "--input-type=module", "-e", script];
			const command = ["--mount", "sh", "-c", steps, "sh", process.cwd(), ...node];
			return execFileSync("unshare", command, { encoding: "utf8" }).trim();
		};
		expect(inRoot(`chroot ${root}`)).toMatch(/^ERR_PASST passt needs user namespaces, which a process in a chroot/);
		expect(inRoot(`cd ${root} && mount --move . / && exec chroot .`)).toBe("ran");
	}, 20_000);
});
