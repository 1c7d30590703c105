/*
 * The host's side of vsock without a guest: the device and its unix socket on this machine, between a driver that gives the
 * same buffers again and again, and a process at the other end. The reference is a pair of unix sockets between two
 * processes in C: where Linux puts them, which is mostly on one processor, whose cache then has all bytes; and each on a
 * processor of its own, as here, where device and driver need one for themselves. All move blocks of 64 KiB
 * (test/bench/streams.c). Receive buffers have 4 KiB, as Linux's.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { packageRoot } from "../../src/host/native.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { virtio_vsock_hdr } from "../../src/virtio/vsock/packet.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import type { FakeQueue } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { CID, header, OP, type PacketFields } from "../virtio/vsock-guest.ts";
import { type BenchRow, rateRow } from "./row.ts";

const SIZE = 256;
const HEADER = 44;
const BLOCK = 64 * 1024;
const RX_PAYLOAD = 4096;
const BUF_ALLOC = 0x4000_0000;
/** Of test/bench/streams.c. */
const COMMAND = { sink: 1, source: 2 };
const LAST = 1;
const MIB = 1 << 20;
const PAIR = "a pair of unix sockets in C";
const APART = "the same, each end on a processor of its own";
const ROWS = [
	["host", "up", "pair-up", PAIR],
	["host", "up", "apart-up", APART],
	["guest", "down", "pair-down", PAIR],
	["guest", "down", "apart-down", APART],
] as const;

/** A guest with one stream to the host's port 52, whose queues go round without a driver's bookkeeping. */
class RoundGuest {
	readonly #driver: FakeDriver;
	readonly #rx: FakeQueue;
	readonly #tx: FakeQueue;
	readonly #buffers: readonly number[];
	readonly #block: number;
	readonly #control: number;
	#txIdx = 0;
	#rxSeen = 0;
	#sent = 0;
	/** Payload bytes that have come. */
	received = 0;
	#announced = 0;
	#fwdCnt = 0;
	#bufAlloc = 0;
	/** The last block, or the answer to it, has come. */
	#lastBlock = false;

	constructor(device: VsockDevice, ram: FakeRam) {
		this.#driver = new FakeDriver(device, { ram }).start();
		this.#rx = this.#driver.queue(0);
		this.#tx = this.#driver.queue(1);
		this.#buffers = Array.from({ length: SIZE }, () => ram.alloc(HEADER + RX_PAYLOAD));
		this.#block = ram.alloc(HEADER + BLOCK);
		this.#control = ram.alloc(HEADER + 64);
		for (const gpa of this.#buffers) this.#rx.add([{ write: true, length: HEADER + RX_PAYLOAD, gpa }]);
		for (let i = 0; i < SIZE; i++) this.#tx.add([{ write: false, length: HEADER + BLOCK, gpa: this.#block }]);
		this.#driver.memory.write(this.#block, header({ bufAlloc: BUF_ALLOC }, BLOCK));
		this.#rx.rawAvailIdx(SIZE);
		this.#driver.transport.notify(0);
	}

	/** The host has answered. */
	get isConnected(): boolean {
		return this.#bufAlloc > 0;
	}

	/** Sends a packet that is no block. */
	control(fields: PacketFields, payload: Uint8Array = new Uint8Array(0)): void {
		const memory = this.#driver.memory;
		const packet = Buffer.concat([header({ bufAlloc: BUF_ALLOC, ...fields }, payload.length), payload]);
		memory.write(this.#control, packet);
		const descriptor = this.#tx.desc + 16 * (this.#txIdx % SIZE);
		memory.write(descriptor, descriptorOf(this.#control, packet.length));
		this.#sent += payload.length;
		this.#offer(1);
		memory.write(descriptor, descriptorOf(this.#block, HEADER + BLOCK));
	}

	/** Sends as many blocks as the host has room for. Returns their bytes. */
	blocks(most = SIZE / 2): number {
		const credit = this.#bufAlloc - ((this.#sent - this.#fwdCnt) >>> 0);
		const count = Math.min(most, Math.floor(credit / BLOCK));
		this.#sent += count * BLOCK;
		if (count > 0) this.#offer(count);
		return count * BLOCK;
	}

	/** The first byte of the blocks that follow. */
	mark(byte: number): void {
		this.#driver.memory.setU8(this.#block + HEADER, byte);
	}

	/** Takes what has come, and gives the buffers again. True when the last block was among it. */
	take(): boolean {
		const { memory, transport } = this.#driver;
		const idx = memory.u16(this.#rx.used + 2);
		if (idx === this.#rxSeen) return this.#lastBlock;
		for (; this.#rxSeen !== idx; this.#rxSeen = (this.#rxSeen + 1) & 0xffff) {
			const entry = this.#rx.used + 4 + 8 * (this.#rxSeen % SIZE);
			const gpa = this.#buffers[memory.u32(entry)]!;
			const payload = memory.u32(entry + 4) - HEADER;
			this.#fwdCnt = memory.u32(gpa + virtio_vsock_hdr.fwd_cnt);
			this.#bufAlloc = memory.u32(gpa + virtio_vsock_hdr.buf_alloc);
			const boundary = (BLOCK - (this.received % BLOCK)) % BLOCK;
			if (boundary < payload && memory.u8(gpa + HEADER + boundary) === LAST) this.#lastBlock = true;
			this.received += payload;
		}
		this.#rx.rawAvailIdx((this.#rxSeen + SIZE) & 0xffff);
		transport.notify(0);
		if (this.received - this.#announced > BUF_ALLOC / 4) {
			this.#announced = this.received;
			this.control({ op: OP.CREDIT_UPDATE, fwdCnt: this.received >>> 0 });
		}
		return this.#lastBlock;
	}

	#offer(count: number): void {
		this.#txIdx = (this.#txIdx + count) & 0xffff;
		this.#tx.rawAvailIdx(this.#txIdx);
		this.#driver.transport.notify(1);
	}
}

function descriptorOf(gpa: number, length: number): Uint8Array {
	const bytes = Buffer.alloc(16);
	bytes.writeBigUInt64LE(BigInt(gpa));
	bytes.writeUInt32LE(length, 8);
	return bytes;
}

function commandOf(op: number, milliseconds: number): Uint8Array {
	return Buffer.from(Uint32Array.of(op, milliseconds).buffer);
}

/** Bytes a second in one direction, over a new device and a new process. */
async function ours(program: string, uds: string, up: boolean, milliseconds: number): Promise<number> {
	const peer = spawn(program, ["listen", `${uds}_52`], { stdio: "ignore" });
	const mapped = GuestRam.map([{ gpa: 0, sizeBytes: 64 << 20 }]);
	const device = new VsockDevice(CID, await UnixVsock.open(uds));
	try {
		while (!existsSync(`${uds}_52`)) await turn();
		const guest = new RoundGuest(device, new FakeRam([[0, 64 << 20]], () => mapped.regions[0]!));
		guest.control({ op: OP.REQUEST });
		while (!guest.isConnected) {
			guest.take();
			await turn();
		}
		return await (up ? sendBlocks(guest, milliseconds) : takeBlocks(guest, milliseconds));
	} finally {
		await device.close();
		peer.kill("SIGKILL");
		await mapped.close();
	}
}

async function sendBlocks(guest: RoundGuest, milliseconds: number): Promise<number> {
	guest.control({ op: OP.RW }, commandOf(COMMAND.sink, milliseconds));
	const start = performance.now();
	let bytes = 0;
	while (performance.now() - start < milliseconds) {
		bytes += guest.blocks();
		guest.take();
		await turn();
	}
	guest.mark(LAST);
	for (let last = 0; last === 0; bytes += last) {
		last = guest.blocks(1);
		guest.take();
		await turn();
	}
	while (!guest.take()) await turn();
	return bytes / ((performance.now() - start) / 1000);
}

async function takeBlocks(guest: RoundGuest, milliseconds: number): Promise<number> {
	guest.control({ op: OP.RW }, commandOf(COMMAND.source, milliseconds));
	const start = performance.now();
	while (!guest.take()) await turn();
	return guest.received / ((performance.now() - start) / 1000);
}

/** The rows of this file; needs neither KVM nor the lab. The best of `rounds`. */
export async function benchVsockHost({ milliseconds, rounds }: { milliseconds: number; rounds: number }) {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-bench-"));
	const program = join(directory, "streams");
	const source = join(packageRoot(), "test/bench/streams.c");
	execFileSync("musl-gcc", ["-static", "-O2", "-s", "-o", program, source]);
	const best = { up: 0, down: 0 };
	const pairs = { "pair-up": 0, "pair-down": 0, "apart-up": 0, "apart-down": 0 };
	try {
		for (let round = 0; round < rounds; round++) {
			best.up = Math.max(best.up, await ours(program, join(directory, `up-${round}`), true, milliseconds));
			best.down = Math.max(best.down, await ours(program, join(directory, `down-${round}`), false, milliseconds));
			const text = execFileSync(program, ["pair", `${milliseconds}`], { encoding: "utf8" });
			for (const name of Object.keys(pairs) as (keyof typeof pairs)[]) {
				pairs[name] = Math.max(pairs[name], Number(new RegExp(`@@${name} ([0-9.]+)@@`).exec(text)![1]));
			}
		}
	} finally {
		rmSync(directory, { recursive: true, force: true });
	}
	return ROWS.map(
		([to, way, pair, against]) =>
			rateRow(
				`vsock without a guest, to the ${to}, MiB`,
				best[way] / MIB,
				pairs[pair] / MIB,
				against,
			) satisfies BenchRow,
	);
}

if (process.argv[1] === import.meta.filename)
	console.log(JSON.stringify(await benchVsockHost({ milliseconds: 1000, rounds: 3 }), null, "\t"));
