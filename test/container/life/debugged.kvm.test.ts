/* GDB's server and the inspector of a container's machine, on a bare-metal guest. Needs /dev/kvm. */
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { afterAll, afterEach, expect, test } from "vitest";
import { Debugged } from "../../../src/container/life/debugged.ts";
import { encodePacket } from "../../../src/debug/gdb/packets.ts";
import { Machine } from "../../../src/machine/machine.ts";
import { COUNT, outb, TinyKernels } from "../../guest/tiny-kernel.ts";

const kernels = new TinyKernels();
afterAll(() => kernels.remove());
let machine: Machine;
afterEach(() => machine.stop());

const make = async () => {
	machine = await Machine.create({ kernel: kernels.write("", [...outb(0x3f8, 0x41), ...COUNT]), memoryMiB: 64 });
	return machine;
};

/** An answer of GDB's server. */
async function ask(port: number, command: string): Promise<string> {
	const socket = connect(port, "127.0.0.1");
	socket.write(encodePacket(Buffer.from(command)));
	const [answer] = await once(socket, "data");
	socket.destroy();
	return String(answer);
}

async function isFree(port: number): Promise<boolean> {
	const server = createServer();
	const free = new Promise<boolean>((resolve) => {
		server.once("error", () => resolve(false));
		server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
	});
	return await free;
}

test("Debugged.open says where, lets nobody without the token in, and frees its ports with the machine", async () => {
	const said: string[] = [];
	await Debugged.open(await make(), { gdb: 0, gdbWait: true, inspect: 0 }, (line) => said.push(line));
	const [url] = /http:\S+/.exec(said[0]!)!;
	const port = Number(/^tsvmm: gdb can attach: target remote 127\.0\.0\.1:(\d+)$/.exec(said[1]!)![1]);
	machine.start();
	/* It waits for its debugger. */
	expect(await ask(port, "?")).toMatch(/^\+\$T05/);
	const { origin, port: page, hash } = new URL(url!);
	const memory = `${origin}/api/memory?address=0&length=4`;
	expect((await fetch(memory)).status).toBe(401);
	const headers = { Authorization: `Bearer ${hash.slice(1)}` };
	expect(await (await fetch(memory, { headers })).json()).toMatchObject({ address: 0 });
	expect((await fetch(`${origin}/api/resume`, { method: "POST", headers })).status).toBe(200);
	/* The console's output is seen, too. */
	const printed = async () => {
		const response = await fetch(`${origin}/api/stream`, { headers });
		for await (const part of response.body! as unknown as AsyncIterable<Uint8Array>) {
			for (const line of Buffer.from(part).toString().split("\n")) {
				const { console } = line.startsWith('{"ms"') ? JSON.parse(line) : { console: "" };
				if (console !== "") return Buffer.from(console, "base64").toString();
			}
		}
		return undefined;
	};
	expect(await printed()).toBe("A");
	expect([await isFree(port), await isFree(Number(page))]).toEqual([false, false]);
	await machine.stop();
	await expect.poll(async () => [await isFree(port), await isFree(Number(page))]).toEqual([true, true]);
});

test("Debugged.open opens nothing when one port is taken", async () => {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as { port: number };
	const said: string[] = [];
	const opening = Debugged.open(await make(), { gdb: port, inspect: 0 }, (line) => said.push(line));
	await expect(opening).rejects.toMatchObject({ code: "ERR_GDB_LISTEN" });
	expect(await isFree(Number(new URL(/http:\S+/.exec(said[0]!)![0]).port))).toBe(true);
	server.close();
});
