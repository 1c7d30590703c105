/*
 * The check of lab 7: the program exports `Disk`, a virtio-blk device. A driver finds it through the registers of
 * virtio-mmio, as Linux does, and sends it requests, good ones and others.
 */
import type { VirtioDevice } from "../../virtio/device.ts";
import { VIRTIO_MMIO } from "../../virtio/spec.ts";
import { type Answer, MmioDriver, type Piece } from "../../workbench/mmio-driver.ts";
import type { Attempt } from "../attempt.ts";
import type { Lab } from "../lab.ts";
import { count, type Report } from "../report.ts";

type DiskClass = new (bytes: Uint8Array) => VirtioDevice;

const SECTORS = 64;
const SECTOR = 512;
const [IN, OUT, FLUSH, GET_ID] = [0, 1, 4, 8];
const [OK, IOERR, UNSUPP] = [0, 1, 2];
const STATUS = ["VIRTIO_BLK_S_OK", "VIRTIO_BLK_S_IOERR", "VIRTIO_BLK_S_UNSUPP"];

export const diskLab: Lab = {
	number: 7,
	name: "disk",
	title: "a block device",
	needsKvm: false,
	async check(attempt) {
		const type = await attempt.exported<DiskClass>("Disk", "class");
		await attempt.call("Disk", () => {
			const bench = new Bench(attempt, type);
			bench.report.doing("the driver finds the device");
			checkDevice(bench);
			checkReads(bench);
			checkWrites(bench);
			checkOthers(bench);
			checkHostile(bench);
			checkBatch(bench);
			checkReset(bench);
		});
	},
};

/** A disk whose sectors hold their number in each byte, plus one. */
class Bench {
	readonly report: Report;
	readonly bytes = Uint8Array.from({ length: SECTORS * SECTOR }, (_, i) => Math.floor(i / SECTOR) + 1);
	readonly device: VirtioDevice;
	readonly driver: MmioDriver;

	constructor({ report }: Attempt, type: DiskClass) {
		this.report = report;
		this.device = new type(this.bytes);
		this.driver = new MmioDriver(this.device);
	}

	/** An answer; a request without one ends the check. */
	request(what: string, buffers: readonly Piece[]): Answer {
		this.report.doing(what);
		const answer = this.driver.request(buffers);
		if (answer !== undefined) return answer;
		this.report.fail(
			`${what}: no answer came`,
			"In notify, pop every chain, push each with the number of bytes that you have written, and flush at the end",
		);
	}
}

/** struct virtio_blk_req: type, reserved, sector. */
function header(type: number, sector: number): Uint8Array {
	const bytes = new Uint8Array(16);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, type, true);
	view.setBigUint64(8, BigInt(sector), true);
	return bytes;
}

const statusOf = ({ data }: Answer): number => data.at(-1)!;
const name = (status: number): string =>
	`${status} (${STATUS[status] ?? (status === 0xee ? "nothing was written there" : "unknown")})`;

function checkDevice({ report, driver, device }: Bench): void {
	const id = driver.read(VIRTIO_MMIO.DeviceID);
	report.must(
		id === 2,
		"DeviceID is 2: Linux binds virtio_blk",
		`DeviceID is ${id}; 2, a block device, was expected`,
		"Set deviceId = 2",
	);
	const capacity = new DataView(driver.config(0, 8).slice().buffer).getBigUint64(0, true);
	report.must(
		capacity === BigInt(SECTORS),
		`the configuration says ${SECTORS} sectors`,
		`the configuration says ${capacity} sectors; ${SECTORS} were expected for ${SECTORS * SECTOR} bytes`,
		"The first 8 bytes of config are the capacity, in sectors of 512 bytes, little-endian",
	);
	const most = device.queueSizes[0] ?? 0;
	const fault = most < 64 ? `its queue 0 has ${most} entries, 64 at least are needed` : driver.start();
	report.must(
		fault === undefined,
		"the driver negotiates and says DRIVER_OK",
		`the driver cannot start: ${fault}`,
		"queueSizes = [128]",
	);
}

function checkReads(bench: Bench): void {
	const { report } = bench;
	const one = bench.request("a read of sector 7", [header(IN, 7), SECTOR, 1]);
	report.must(
		statusOf(one) === OK,
		"a read of sector 7 has status 0",
		`a read of sector 7 has status ${name(statusOf(one))}`,
		"The last writable byte of a request is its status",
	);
	report.must(
		one.data.subarray(0, SECTOR).every((byte) => byte === 8),
		"and gives the bytes of sector 7",
		`and gives ${one.data[0]}, ${one.data[1]}, ...; the bytes of sector 7 are all 8`,
		"Sector s begins at byte 512 * s of the disk; the sector is a u64 at offset 8 of the header",
	);
	report.expect(
		one.written === SECTOR + 1,
		"and was pushed with 513 written bytes: data and status",
		`and was pushed with ${count(one.written, "written byte")}: 512 of data and 1 of status were expected`,
	);
	const three = bench.request("a read into three buffers", [header(IN, 1), 100, 700, 224, 1]);
	const right = three.data.subarray(0, 1024).every((byte, i) => byte === (i < SECTOR ? 2 : 3));
	report.expect(
		statusOf(three) === OK && right,
		"a read into buffers of 100, 700 and 224 bytes: where they are cut does not matter",
		`a read of two sectors into buffers of 100, 700 and 224 bytes has status ${name(statusOf(three))} and ${right ? "the right" : "wrong"} data`,
		"Treat writable as one row of bytes: copyFrom fills it over all its pieces",
	);
}

function checkWrites(bench: Bench): void {
	const { report, bytes } = bench;
	const data = new Uint8Array(2 * SECTOR).fill(0xab);
	const answer = bench.request("a write of sectors 10 and 11", [header(OUT, 10), data, 1]);
	const there = bytes.subarray(10 * SECTOR, 12 * SECTOR).every((byte) => byte === 0xab);
	const beside = bytes[10 * SECTOR - 1] === 10 && bytes[12 * SECTOR] === 13;
	report.must(
		statusOf(answer) === OK && there && beside,
		"a write of two sectors changes those two",
		`a write of sectors 10 and 11 has status ${name(statusOf(answer))}; ${there ? "" : "the data did not arrive"}${beside ? "" : " and sectors beside it have changed"}`,
		"The data follows the header in readable, from byte 16",
	);
	report.expect(
		answer.written === 1,
		"and was pushed with 1 written byte: the status",
		`a write was pushed with ${count(answer.written, "written byte")}: only the status is written to the guest`,
	);
	const split = bench.request("a write whose header is cut in two", [
		header(OUT, 20).subarray(0, 5),
		Buffer.concat([header(OUT, 20).subarray(5), data.subarray(0, 300)]),
		data.subarray(300, SECTOR),
		1,
	]);
	report.expect(
		statusOf(split) === OK && bytes.subarray(20 * SECTOR, 21 * SECTOR).every((byte) => byte === 0xab),
		"a write whose header is cut in two buffers works, too",
		`a write whose 16-byte header lies in two buffers has status ${name(statusOf(split))}, and byte 0 of sector 20 is ${bytes[20 * SECTOR]}`,
		"Copy the header out by readable.copyTo(header), which reads over all pieces",
	);
}

function checkOthers(bench: Bench): void {
	const { report } = bench;
	const flush = bench.request("a flush", [header(FLUSH, 0), 1]);
	report.expect(statusOf(flush) === OK, "a flush has status 0", `a flush (type 4) has status ${name(statusOf(flush))}`);
	const id = bench.request("GET_ID", [header(GET_ID, 0), 20, 1]);
	const text = Buffer.from(id.data.subarray(0, 20)).toString("latin1").replace(/\0+$/, "");
	report.expect(
		statusOf(id) === OK && /^[\x20-\x7e]{1,20}$/.test(text),
		"GET_ID gives a name of at most 20 characters",
		`GET_ID (type 8) has status ${name(statusOf(id))} and gives ${JSON.stringify(text)}`,
		"Write a name into the 20 bytes before the status; the rest is 0",
	);
	const unknown = bench.request("a request of type 77", [header(77, 0), SECTOR, 1]);
	report.expect(
		statusOf(unknown) === UNSUPP,
		"a request of an unknown type has status 2",
		`a request of type 77 has status ${name(statusOf(unknown))}; 2 (VIRTIO_BLK_S_UNSUPP) was expected`,
	);
}

function checkHostile(bench: Bench): void {
	const { report, bytes } = bench;
	for (const [what, sector, sectors] of [
		["a read that begins beyond the end", SECTORS, 1],
		["a read that ends beyond the end", SECTORS - 1, 2],
		["a read of sector 2^60", 2 ** 60, 1],
	] as const) {
		const answer = bench.request(what, [header(IN, sector), sectors * SECTOR, 1]);
		report.expect(
			statusOf(answer) === IOERR,
			`${what} has status 1`,
			`${what} has status ${name(statusOf(answer))}; 1 (VIRTIO_BLK_S_IOERR) was expected`,
			"Compare sector and length with the capacity before you touch a byte",
		);
	}
	const before = bytes.slice();
	const late = bench.request("a write that ends beyond the end", [header(OUT, SECTORS - 1), new Uint8Array(1024), 1]);
	report.expect(
		statusOf(late) === IOERR && Buffer.compare(before, bytes) === 0,
		"a write that ends beyond the end has status 1 and changes nothing",
		`a write of two sectors from the last one has status ${name(statusOf(late))}, and ${Buffer.compare(before, bytes) === 0 ? "changes nothing" : "has changed the disk"}`,
	);
	const short = bench.request("a request whose header has 3 bytes of 16", [header(IN, 0).subarray(0, 3), SECTOR, 1]);
	report.expect(
		statusOf(short) !== OK,
		"a request whose header has 3 bytes of 16 does not succeed",
		`a request whose header has 3 bytes of 16 has status ${name(statusOf(short))}: what the driver has not sent was taken for a read of sector 0`,
		"Check readable.totalBytes before you copy the header",
	);
	report.doing("a request that is too short: 3 bytes, and none for a status");
	bench.driver.request([header(IN, 0).subarray(0, 3)]);
	const next = bench.request("a read after a request that was too short", [header(IN, 3), SECTOR, 1]);
	report.expect(
		statusOf(next) === OK && next.data[0] === 4,
		"a request of 3 bytes, without room for a status, does not stop the device",
		`after a request of 3 bytes a read of sector 3 has status ${name(statusOf(next))}`,
		"Check readable.totalBytes and writable.totalBytes first, and push such a chain with 0 written bytes",
	);
}

function checkBatch({ report, driver }: Bench): void {
	report.doing("eight reads with one kick");
	const before = driver.interrupts;
	const offered = Array.from({ length: 8 }, (_, i) => driver.offer([header(IN, i), SECTOR, 1]));
	driver.kick();
	const answers = driver.collect();
	const right = offered.filter(({ head, parts }, i) => answers.has(head) && driver.dataOf(parts)[0] === i + 1);
	report.must(
		right.length === 8,
		"eight reads with one kick are all answered",
		`eight reads with one kick: ${right.length} were answered with the right data`,
		"A notification stands for any number of chains: pop until there is none",
	);
	report.expect(
		driver.interrupts === before + 1,
		"with one interrupt",
		`with ${count(driver.interrupts - before, "interrupt")}: one is enough`,
		"Call flush once, after the loop",
	);
}

function checkReset({ report, driver, device }: Bench): void {
	report.doing("a reset, then notify");
	void driver.reset();
	device.notify(0);
	const fault = driver.start();
	report.expect(
		fault === undefined,
		"after a reset the driver can start again",
		`after a reset the driver cannot start again: ${fault}`,
		"In reset, forget the queue; notify without a queue does nothing",
	);
}
