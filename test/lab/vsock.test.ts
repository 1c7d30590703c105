/*
 * vsock of a Linux guest in the lab, by Firecracker's protocol on unix sockets: 64 MiB over 8 streams, from either side
 * and back, half-close, and connections that nobody accepts. guests/test/vsock-echo.c is the guest's side. The host's
 * side runs in the lab, where the sockets are.
 */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { packageRoot } from "../../src/host/native.ts";
import { GuestShell } from "./guest-shell.ts";
import { Linux } from "./linux.ts";

const UDS = "/run/vsock.sock";
const STREAMS = 8;
const BYTES = 8 << 20;
const LARGE_MS = 240_000;

let linux: Linux;
let guest: GuestShell;

beforeAll(async () => {
	execFileSync(process.execPath, [join(packageRoot(), "scripts/build-test-programs.mjs")]);
	linux = await Linux.up("vsock");
	guest = await GuestShell.start(linux, {
		kernel: "minimal",
		programs: { "vsock-echo": join(packageRoot(), "guests/out/vsock-echo") },
		args: ["--vsock", `cid=42,uds=${UDS}`],
		timeoutMs: LARGE_MS,
	});
});
afterAll(async () => {
	const end = await guest?.stop();
	const left = await linux?.sh(`ls ${UDS}* 2>/dev/null || true`);
	await linux?.down();
	expect(end?.status).toBe(0);
	expect(left).toBe("");
});

/** Runs a script of the host's side in the lab. @returns what it printed as JSON */
async function host<T>(script: string, ...args: (string | number)[]): Promise<T> {
	const { status, stdout, stderr } = await linux.lab.exec([process.execPath, "-e", script, UDS, ...args.map(String)], {
		timeoutMs: LARGE_MS,
	});
	if (status !== 0) throw new Error(`the host's side: status ${status}: ${stderr}`);
	return JSON.parse(String(stdout)) as T;
}

/** Connects to a port of the guest, and prints what it has received when the connection ends. */
const CONNECT = `
	const [uds, port] = process.argv.slice(1);
	const socket = require("net").connect(uds);
	let received = "";
	socket.write("CONNECT " + port + "\\n");
	socket.on("data", (data) => (received += data)).on("close", () => console.log(JSON.stringify(received)));
`;

/**
 * Sends BYTES over each of STREAMS connections to the guest and ends its half of each. The guest must send back the
 * same bytes, and then their number. Each stream sends another part of the same random bytes.
 */
const SEND = `
	const [uds, port, streams, bytes] = process.argv.slice(1).map((arg, i) => (i === 0 ? arg : Number(arg)));
	const random = require("crypto").randomBytes(bytes + streams * 512);
	const stream = (i) =>
		new Promise((resolve, reject) => {
			const sent = random.subarray(i * 512, i * 512 + bytes);
			const socket = require("net").connect({ path: uds, allowHalfOpen: true });
			let hello = "", received = 0, trailer = "", equal = true;
			socket.write("CONNECT " + port + "\\n");
			socket.on("data", (data) => {
				if (!hello.endsWith("\\n")) {
					const end = data.indexOf(10) + 1;
					hello += data.latin1Slice(0, end || data.length);
					data = data.subarray(end || data.length);
					if (!hello.endsWith("\\n")) return;
					for (let at = 0; at < bytes; at += 65536) socket.write(sent.subarray(at, at + 65536));
					socket.end();
				}
				const echo = data.subarray(0, bytes - received);
				if (!echo.equals(sent.subarray(received, received + echo.length))) equal = false;
				received += echo.length;
				trailer += data.latin1Slice(echo.length);
			});
			socket.on("error", reject);
			socket.on("close", () => resolve({ hello: hello.replace(/[0-9]+/, "N"), received, trailer, equal }));
		});
	Promise.all(Array.from({ length: streams }, (_, i) => stream(i))).then((all) => console.log(JSON.stringify(all)));
`;

/** Accepts STREAMS connections of the guest. Sends back what comes until the guest ends its half, and then its length. */
const SERVE = `
	const [uds, port, streams] = process.argv.slice(1);
	const counts = [];
	const server = require("net").createServer({ allowHalfOpen: true }, (socket) => {
		let count = 0;
		socket.on("data", (data) => (count += data.length));
		socket.pipe(socket, { end: false });
		socket.on("end", () => socket.end(count + "\\n"));
		socket.on("close", () => {
			if (counts.push(count) < streams) return;
			console.log(JSON.stringify(counts));
			server.close();
		});
	});
	server.listen(uds + "_" + port, () => console.error("listening"));
`;

describe("virtio-vsock under Linux", () => {
	it(
		"carries 64 MiB over 8 streams of the host to the guest and back, each half closed in turn",
		async () => {
			await guest.sh(
				`vsock-echo serve 1024 ${STREAMS} >/tmp/serve & while ! grep -q listening /tmp/serve; do sleep 0.1; done`,
			);
			const results = await host<object[]>(SEND, 1024, STREAMS, BYTES);
			const good = { hello: "OK N\n", received: BYTES, trailer: `${BYTES}\n`, equal: true };
			expect(results).toEqual(Array(STREAMS).fill(good));
			expect(await guest.sh("wait; cat /tmp/serve")).toBe("listening\n0 of 8 streams failed\n");
		},
		LARGE_MS,
	);
	it(
		"carries 64 MiB over 8 streams of the guest to the host and back, each half closed in turn",
		async () => {
			const counts = host<number[]>(SERVE, 52, STREAMS);
			await linux.sh(`while ! test -S ${UDS}_52; do sleep 0.1; done`);
			expect(await guest.sh(`vsock-echo send 52 ${STREAMS} ${BYTES}`)).toBe("0 of 8 streams failed\n");
			expect(await counts).toEqual(Array(STREAMS).fill(BYTES));
		},
		LARGE_MS,
	);
	it("closes the host's socket when nobody listens at the guest's port, or the line is none", async () => {
		expect(await host(CONNECT, 4711)).toBe("");
		expect(await host(CONNECT, "nonsense")).toBe("");
	});
	it("resets the guest's connection when nobody listens at the host's port", async () => {
		expect(await guest.sh("vsock-echo probe 53")).toBe("Connection reset by peer\n");
	});
	it("refuses a socket that another machine listens on", async () => {
		const { status, stderr } = await linux.boot({
			kernel: "minimal",
			script: "true",
			args: ["--vsock", `cid=43,uds=${UDS}`],
		});
		expect(status).not.toBe(0);
		expect(stderr).toContain(`Cannot listen on ${UDS}: another process listens there`);
	});
});
