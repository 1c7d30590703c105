/* Files of each format, and what reads them: JSON, and tshark for packets. */
import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { MacAddress } from "../../src/base/mac.ts";
import { Observers } from "../../src/base/observer.ts";
import { packageRoot } from "../../src/host/native.ts";
import type { TraceEvent } from "../../src/trace/event.ts";
import { TraceFile } from "../../src/trace/trace-file.ts";
import { BlockDevice } from "../../src/virtio/block.ts";
import { NetDevice } from "../../src/virtio/net.ts";
import { VsockDevice } from "../../src/virtio/vsock/device.ts";
import { readChain } from "../driver/block-chains.ts";
import { FakeDriver } from "../driver/fake-driver.ts";
import { readable, writable } from "../driver/fake-queue.ts";
import { FakeRam } from "../driver/fake-ram.ts";
import { SlowDisk } from "../driver/slow-disk.ts";
import { FakeNet } from "../virtio/fake-net.ts";
import { GuestVsock } from "../virtio/vsock-guest.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-trace-"));
afterAll(() => rmSync(directory, { recursive: true }));

/** One line per packet with these fields, tabs between them. */
function tshark(path: string, ...fields: string[]): string[][] {
	const args = ["-r", path, "-T", "fields", ...fields.flatMap((field) => ["-e", field])];
	const output = execFileSync("tshark", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
	return output
		.trimEnd()
		.split("\n")
		.map((line) => line.split("\t"));
}

/** A UDP datagram to port 53 with a text, as a frame. */
function datagram(text: string): Buffer {
	const length = 8 + text.length;
	const ip = Buffer.from("450000000001000040110000c0000201c0000202", "hex");
	ip.writeUInt16BE(20 + length, 2);
	const udp = Buffer.alloc(8);
	udp.writeUInt16BE(40_000, 0);
	udp.writeUInt16BE(5_000, 2);
	udp.writeUInt16BE(length, 4);
	return Buffer.concat([Buffer.from("0200000000020200000000010800", "hex"), ip, udp, Buffer.from(text)]);
}

test("a .pcapng of a net device is what tshark says was sent and received", async () => {
	const path = join(directory, "net.pcapng");
	const net = new FakeNet();
	const mac = MacAddress.parse("02:00:00:00:00:01");
	const driver = new FakeDriver(new NetDevice(net, mac), { ram: new FakeRam([[0, 4 << 20]]) }).start();
	const trace = await TraceFile.open({ path });
	driver.observers.attach(trace.observer);
	await driver.queue(1).request([readable(Buffer.alloc(12)), readable(datagram("from the guest"))]);
	driver.queue(0).add([writable(1600)]);
	driver.queue(0).kick();
	net.arrive(datagram("to the guest"));
	await trace.close();
	const rows = tshark(
		path,
		"eth.src",
		"ip.dst",
		"udp.dstport",
		"data.data",
		"frame.interface_name",
		"frame.time_epoch",
	);
	expect(rows.map((row) => row.slice(0, 5))).toEqual([
		["02:00:00:00:00:01", "192.0.2.2", "5000", Buffer.from("from the guest").toString("hex"), "virtio-net0"],
		["02:00:00:00:00:01", "192.0.2.2", "5000", Buffer.from("to the guest").toString("hex"), "virtio-net0"],
	]);
	for (const [, , , , , time] of rows) {
		expect(time).toMatch(/^\d+\.\d{9}$/);
		expect(Math.abs(Number(time) - Date.now() / 1000)).toBeLessThan(60);
	}
});

test("a .pcapng of a vsock device has the packets as vsockmon gives them", async () => {
	const path = join(directory, "vsock.pcapng");
	const backend = await UnixVsock.open();
	const device = new VsockDevice(3, backend);
	const driver = new FakeDriver(device, { ram: new FakeRam([[0, 8 << 20]]) }).start();
	const trace = await TraceFile.open({ path });
	driver.observers.attach(trace.observer);
	const guest = new GuestVsock(driver);
	backend.listen(52, (stream) => void stream.end("hello guest"));
	const stream = guest.connect(52);
	await guest.until(() => stream.data.toString() === "hello guest");
	await device.close();
	await trace.close();
	const rows = tshark(
		path,
		"vsock.src_cid",
		"vsock.dst_cid",
		"vsock.dst_port",
		"vsock.op",
		"vsock.virtio.op",
		"vsock.payload",
	);
	expect(rows[0]).toEqual(["3", "2", "52", "1", "1", ""]);
	expect(rows[1]).toEqual(["2", "3", String(stream.guestPort), "1", "2", ""]);
	const payload = rows.find((row) => row[4] === "5");
	expect(payload).toEqual(["2", "3", String(stream.guestPort), "4", "5", Buffer.from("hello guest").toString("hex")]);
});

test("a .pcapng without packets is a file that tshark opens", async () => {
	const path = join(directory, "none.pcapng");
	await (await TraceFile.open({ path })).close();
	expect(tshark(path, "frame.number")).toEqual([[""]]);
});

/** A machine's events from a disk's driver. */
async function traced(path: string, events?: string[]): Promise<void> {
	const trace = await TraceFile.open({ path, events });
	const disk = new SlowDisk(65_536);
	const driver = new FakeDriver(new BlockDevice(disk));
	driver.observers.attach(trace.observer);
	driver.start();
	driver.observers.observer?.exit?.(0, 2);
	driver.observers.observer?.resume?.(0);
	driver.observers.observer?.console?.("serial", Buffer.from('[    0.0] Linux version "6"\n'));
	const heads = [driver.queue(0).add(readChain(0, 512)), driver.queue(0).add(readChain(1, 512))];
	driver.queue(0).kick();
	disk.answer(1);
	disk.answer(0);
	for (const head of heads) await driver.queue(0).next(head);
	driver.observers.observer?.exit?.(0, 6);
	await trace.close();
	await trace.close();
}

test("a .jsonl has an event per line, and only the events that were asked for", async () => {
	const path = join(directory, "some.jsonl");
	await traced(path, ["exits", "queues"]);
	const events = readFileSync(path, "utf8")
		.trimEnd()
		.split("\n")
		.map((line) => JSON.parse(line) as TraceEvent);
	expect(events.map(({ kind }) => kind)).toEqual([
		...["exit", "resume", "kick", "chain", "chain", "used", "used", "exit"],
	]);
	for (const { t } of events) expect(Number.isInteger(t)).toBe(true);
	expect(statSync(path).mode & 0o777).toBe(0o600);
});

test("a .json is an array of trace events as ui.perfetto.dev reads it", async () => {
	const path = join(directory, "all.json");
	await traced(path);
	const rows = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>[];
	for (const row of rows) {
		expect(row).toMatchObject({ name: expect.any(String), pid: 1, tid: expect.any(Number), ts: expect.any(Number) });
		expect(["X", "i", "b", "e", "M"]).toContain(row.ph);
		if (row.ph === "X") expect(row.dur).toBeGreaterThanOrEqual(0);
		if (row.ph === "i") expect(row.s).toBe("t");
		if (row.ph === "b" || row.ph === "e") expect(row).toMatchObject({ id: expect.any(Number), cat: "chain" });
	}
	const tracks = new Map(rows.filter(({ name }) => name === "thread_name").map(({ tid, args }) => [tid, args]));
	expect([...tracks.values()]).toEqual(
		expect.arrayContaining([{ name: "vCPU 0" }, { name: "virtio-blk0" }, { name: "boot" }, { name: "console" }]),
	);
	for (const { tid, ph } of rows) if (ph !== "M") expect([...tracks.keys()]).toContain(tid);
	const ids = (ph: string) => rows.filter((row) => row.ph === ph).map(({ id }) => id);
	expect(ids("b")).toEqual([1, 2]);
	expect(ids("e")).toEqual([2, 1]);
	expect(rows.filter(({ cat, ph }) => cat === "exit" && ph === "X")).toHaveLength(1);
});

test("a path that cannot be written, and a name without a format, are errors", async () => {
	await expect(TraceFile.open({ path: join(directory, "no/x.jsonl") })).rejects.toMatchObject({
		code: "ERR_TRACE_FILE",
	});
	await expect(TraceFile.open({ path: join(directory, "x.txt") })).rejects.toMatchObject({ code: "ERR_TRACE_FORMAT" });
});

test("a file that takes nothing loses events, counts them, and does not hold up the rest", async () => {
	const path = join(directory, "pipe");
	execFileSync("mkfifo", [path]);
	const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
	const trace = await TraceFile.open({ path, format: "jsonl" });
	const observers = new Observers();
	observers.attach(trace.observer);
	const line = Buffer.from("x".repeat(1 << 20));
	for (let i = 0; i < 40; i++) observers.observer?.console?.("serial", line);
	expect(trace.lost).toBeGreaterThan(0);
	const chunk = Buffer.alloc(1 << 20);
	const parts: Buffer[] = [];
	const closed = trace.close();
	let open = true;
	void closed.then(() => {
		open = false;
	});
	while (open) {
		try {
			const length = readSync(fd, chunk);
			parts.push(Buffer.from(chunk.subarray(0, length)));
		} catch {
			/* nothing there yet */
		}
		await new Promise((resolve) => setImmediate(resolve));
	}
	closeSync(fd);
	const text = Buffer.concat(parts).toString();
	const kept = text
		.split("\n")
		.filter((row) => row.startsWith("{"))
		.map((row) => JSON.parse(row) as TraceEvent);
	expect(kept.every(({ kind }) => kind === "console")).toBe(true);
	expect(kept.length).toBeLessThan(40);
});

test("what is held is written when the process ends, also by an error", () => {
	const path = join(directory, "ended.jsonl");
	const source = `
		import { TraceFile } from ${JSON.stringify(join(packageRoot(), "src/trace/trace-file.ts"))};
		const trace = await TraceFile.open({ path: ${JSON.stringify(path)} });
		for (let i = 0; i < 1000; i++) trace.observer.exit(0, 2);
		throw new Error("the end");
	`;
	const tsx = join(packageRoot(), "node_modules/.bin/tsx");
	const { status } = spawnSync(tsx, ["--input-type=module", "-e", source], { encoding: "utf8" });
	expect(status).toBe(1);
	const rows = readFileSync(path, "utf8").trimEnd().split("\n");
	/* And the phase "entry". */
	expect(rows).toHaveLength(1001);
	for (const row of rows) JSON.parse(row);
});
