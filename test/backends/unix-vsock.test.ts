import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, GuestVsock } from "../virtio/vsock-guest.ts";

let directory: string;
let uds: string;
const closers: (() => unknown)[] = [];

beforeEach(() => {
	directory = mkdtempSync(join(tmpdir(), "tsvmm-vsock-"));
	uds = join(directory, "v.sock");
});

afterEach(async () => {
	for (const close of closers.splice(0).reverse()) await close();
	expect(existsSync(uds)).toBe(false);
	rmSync(directory, { recursive: true });
});

async function started() {
	const backend = await UnixVsock.open(uds);
	const device = new VsockDevice(CID, backend);
	closers.push(() => device.close());
	const guest = new GuestVsock(new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start());
	return { backend, device, guest };
}

function client(path = uds) {
	const socket = connect({ path, allowHalfOpen: true });
	closers.push(() => socket.destroy());
	return watched(socket);
}

function watched(socket: Socket) {
	const state = { socket, text: "", bytes: 0, chunks: [] as Buffer[], ended: false, closed: false };
	socket.on("error", () => undefined);
	socket.on("data", (chunk: Buffer) => {
		state.chunks.push(chunk);
		state.bytes += chunk.length;
		if (state.text.length < 1000) state.text += chunk.toString("latin1");
	});
	socket.on("end", () => {
		state.ended = true;
	});
	socket.on("close", () => {
		state.closed = true;
	});
	return state;
}

/** A process of the host that listens for the guest's port `port`. */
async function serve(port: number) {
	const accepted: ReturnType<typeof watched>[] = [];
	const server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(watched(socket)));
	await new Promise<void>((resolve) => server.listen(`${uds}_${port}`, resolve));
	closers.push(() => {
		for (const { socket } of accepted) socket.destroy();
		return new Promise((resolve) => server.close(resolve));
	});
	return accepted;
}

describe("UnixVsock", () => {
	test("CONNECT leads to the guest's port, and OK comes before the guest's first byte", async () => {
		const { guest } = await started();
		guest.listening.add(1024);
		guest.onAccept = (stream) => stream.write("welcome");
		const host = client();
		host.socket.write("CONNECT 1024\nearly bytes");
		await guest.until(() => host.text.endsWith("welcome"), "the welcome");
		expect(host.text).toMatch(/^OK 1073741824\nwelcome$/);
		const [stream] = [...guest.streams.values()];
		await guest.until(() => stream!.receivedBytes === 11, "the early bytes");
		expect(stream!.data.toString()).toBe("early bytes");
	});

	test("CONNECT in pieces is understood", async () => {
		const { guest } = await started();
		guest.listening.add(1024);
		const host = client();
		for (const piece of ["CON", "NECT 10", "24", "\n", "x"]) {
			host.socket.write(piece);
			await guest.settle(3);
		}
		await guest.until(() => host.text.startsWith("OK ") && guest.streams.size === 1, "OK");
		const [stream] = [...guest.streams.values()];
		await guest.until(() => stream!.receivedBytes === 1, "the byte");
	});

	test.each([
		"HELLO\n",
		"CONNECT\n",
		"CONNECT 4294967296\n",
		"CONNECT -1\n",
		"connect 5\n",
		`CONNECT ${"1".repeat(100)}`,
		"CONNECT 9\n",
	])("%j closes the socket without an answer", async (line) => {
		const { guest } = await started();
		const host = client();
		host.socket.write(line);
		await guest.until(() => host.closed || host.ended, "the close");
		expect(host.text).toBe("");
	});

	test("a client that ends before its line is closed", async () => {
		const { guest } = await started();
		const host = client();
		host.socket.end("CONN");
		await guest.until(() => host.closed, "the close");
	});

	test("a guest's connection to port 52 reaches the socket with that suffix", async () => {
		const { guest } = await started();
		const accepted = await serve(52);
		const stream = guest.connect(52);
		stream.write("from the guest");
		await guest.until(() => accepted[0]?.text === "from the guest", "the guest's bytes");
		accepted[0]!.socket.end("from the host");
		await guest.until(() => stream.hostShutdown !== 0, "the end");
		expect(stream.data.toString()).toBe("from the host");
		stream.write(", and more");
		stream.finish = 2;
		await guest.until(() => accepted[0]!.ended, "the guest's end");
		expect(accepted[0]!.text).toBe("from the guest, and more");
	});

	test("a guest's connection to a port without socket is reset", async () => {
		const { guest } = await started();
		const stream = guest.connect(53);
		await guest.until(() => stream.state === "reset", "the reset");
	});

	test("a client that half-closes still receives what the guest answers", async () => {
		const { guest } = await started();
		guest.listening.add(1024);
		const host = client();
		const data = randomBytes(3 << 20);
		host.socket.write("CONNECT 1024\n");
		host.socket.end(data);
		await guest.until(() => [...guest.streams.values()].some((s) => s.hostShutdown === 2), "the host's end");
		const [stream] = [...guest.streams.values()];
		expect(stream!.data.equals(data)).toBe(true);
		stream!.write(stream!.data);
		stream!.finish = 3;
		await guest.until(() => host.ended, "the answer");
		const answer = Buffer.concat(host.chunks);
		expect(answer.subarray(answer.indexOf("\n") + 1).equals(data)).toBe(true);
	}, 15_000);

	test("a client that goes away while the guest still sends resets the guest's stream", async () => {
		const { guest } = await started();
		guest.listening.add(1024);
		const host = client();
		host.socket.write("CONNECT 1024\n");
		await guest.until(() => host.text.startsWith("OK"), "OK");
		const [stream] = [...guest.streams.values()];
		host.socket.destroy();
		await guest.until(() => stream!.hostShutdown !== 0 || stream!.state === "reset", "the end");
		stream!.write(Buffer.alloc(100_000));
		stream!.write(Buffer.alloc(100_000));
		await guest.until(() => stream!.state === "reset", "the reset");
	});

	test("the socket belongs to its owner alone", async () => {
		await started();
		expect(statSync(uds).mode & 0o777).toBe(0o600);
	});

	test("open replaces a socket file that nobody listens on", async () => {
		const { execFileSync } = await import("node:child_process");
		const script = "require('net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))";
		expect(() => execFileSync(process.execPath, ["-e", script, uds])).toThrow();
		expect(existsSync(uds)).toBe(true);
		const { guest } = await started();
		guest.listening.add(1);
		const host = client();
		host.socket.write("CONNECT 1\n");
		await guest.until(() => host.text.startsWith("OK"), "OK");
	});

	test("open refuses a socket that somebody listens on", async () => {
		await started();
		await expect(UnixVsock.open(uds)).rejects.toMatchObject({ code: "ERR_SOCKET_IN_USE" });
		expect(existsSync(uds)).toBe(true);
	});

	test("open refuses a path that is a file or has no directory, and leaves the file alone", async () => {
		const file = join(directory, "file");
		writeFileSync(file, "precious");
		await expect(UnixVsock.open(file)).rejects.toMatchObject({ code: "ERR_SOCKET" });
		expect(statSync(file).size).toBe(8);
		const nowhere = join(directory, "none/v.sock");
		await expect(UnixVsock.open(nowhere)).rejects.toMatchObject({
			code: "ERR_SOCKET",
			message: expect.stringContaining(nowhere),
		});
	});

	test("close ends clients that have said nothing yet and removes the socket", async () => {
		const { device, guest } = await started();
		const host = client();
		await guest.settle();
		await device.close();
		await guest.until(() => host.closed || host.ended, "the close");
		expect(existsSync(uds)).toBe(false);
	});
});

test("UnixVsock.connect gives up when its signal is aborted", async () => {
	const backend = await UnixVsock.open(uds);
	closers.push(() => backend.close());
	const streams: Duplex[] = [];
	backend.start({ connect: (_port, stream) => void streams.push(stream) });
	const abort = new AbortController();
	const connecting = backend.connect(7, { signal: abort.signal });
	abort.abort(new Error("no time"));
	await expect(connecting).rejects.toThrow("no time");
	/* As the contract has it: so the request is withdrawn. */
	expect(streams[0]!.destroyed).toBe(true);
	await expect(backend.connect(7, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: "AbortError" });
	expect(streams.length).toBe(1);
});
