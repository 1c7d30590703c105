import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { PasstBackend, userNetwork } from "../../src/backends/passt.ts";
import type { PortForward } from "../../src/backends/passt-ports.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";
import {
	ACK,
	ARP_QUESTION,
	ethernet,
	FIN,
	GATEWAY,
	HandTcp,
	ipHex,
	ipv4,
	macHex,
	OWN,
	PSH,
	SYN,
	udp,
	Wire,
} from "./passt-wire.ts";
import { segmentsOf } from "./segments-of.ts";

const closers: (() => unknown)[] = [];
afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
});

/** A guest that reaches the host's loopback at the gateway's address. */
async function wired(ports: PortForward[] = []) {
	const backend = await PasstBackend.open(ports, { hostLoopback: true });
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
			linkDown: () => undefined,
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

	/* passt leads TCP and UDP from the gateway on to the loopback, but not pings: those go to an address that exists. */
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
		const received: string[] = [];
		const port = await serve((socket) => {
			socket.on("data", (data) => received.push(data.toString()));
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
		expect(received.join("")).toBe("hello host");
	});

	test("UDP to the gateway reaches a socket on the host's loopback and comes back", async () => {
		const { wire } = await wired();
		const socket = createSocket("udp4");
		await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
		closers.push(() => new Promise<void>((resolve) => socket.close(() => resolve())));
		socket.on("message", (message, from) => socket.send(`${message} back`, from.port, from.address));
		wire.send(udp(5000, socket.address().port, Buffer.from("ping")));
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
		socket.on("message", (message) => {
			bytes += message.length;
		});
		/* No more at once than the socket of the host has room for. */
		for (let turn = 1; turn <= 4; turn++) {
			for (let i = 0; i < 5; i++) wire.send(udp(5000, socket.address().port, Buffer.alloc(16_000, i)));
			await expect.poll(() => bytes, { timeout: 10_000 }).toBe(turn * 5 * 16_000);
		}
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
			linkDown: () => undefined,
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

	test("a passt that is killed takes the link with it, and send drops what comes", async () => {
		const backend = await PasstBackend.open();
		closers.push(() => backend.close());
		let lost = 0;
		backend.start({
			readable: () => undefined,
			writable: () => undefined,
			linkDown: () => {
				lost++;
			},
		});
		process.kill(backend.pid, "SIGSTOP");
		const frame = segmentsOf(Buffer.concat([ethernet("88b5"), Buffer.alloc(60_000)]));
		for (let sent = 0; sent < 200 && backend.send(frame); sent++) await Promise.resolve();
		expect(backend.send(frame)).toBe(false);
		process.kill(backend.pid, "SIGKILL");
		await expect.poll(() => lost, { timeout: 10_000 }).toBe(1);
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
		const taken: PortForward = { hostPort: port, guestPort: 80, protocol: "tcp" };
		const free: PortForward = { hostPort: await freePort(), guestPort: 81, protocol: "tcp" };
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
		const forward: PortForward = { hostAddress: "127.0.0.1", hostPort: port, guestPort: 53, protocol: "udp" };
		await expect(PasstBackend.open([forward])).rejects.toMatchObject({
			code: "ERR_PORT_IN_USE",
			message: `Cannot forward udp port 127.0.0.1:${port}: the port is in use`,
		});
	});

	test("open says that an address is not the host's", async () => {
		const forward: PortForward = { hostAddress: "203.0.113.9", hostPort: 8080, guestPort: 80, protocol: "tcp" };
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
		expect(inRoot(`chroot ${root}`)).toMatch(/^ERR_PASST Use switch_root or pivot_root instead of chroot/);
		expect(inRoot(`cd ${root} && mount --move . / && exec chroot .`)).toBe("ran");
	}, 20_000);
});
