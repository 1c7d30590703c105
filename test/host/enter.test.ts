/*
 * Every event of the host enters by the given Enter, under the given name.
 */
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { FileDisk } from "../../src/backends/file-disk.ts";
import { UnixVsock } from "../../src/backends/unix-vsock.ts";
import { Segments } from "../../src/base/segments.ts";
import { EventFd } from "../../src/host/eventfd.ts";
import { IoRing } from "../../src/host/io-ring.ts";
import { GuestRam } from "../../src/host/ram.ts";
import { WRITABLE, watch } from "../../src/host/reactor.ts";
import { RecordedEnter } from "../driver/recorded-enter.ts";

const directory = mkdtempSync(join(tmpdir(), "tsvmm-enter-"));
const image = join(directory, "disk");
writeFileSync(image, "");
truncateSync(image, 1 << 20);
afterAll(() => rmSync(directory, { recursive: true }));

const defect = () => {
	throw new Error("of the test");
};

test("EventFd.watch and watch enter for each event", async () => {
	const recorded = new RecordedEnter();
	const event = new EventFd();
	event.watch(defect, recorded.enter, "kick");
	event.signal();
	await expect.poll(() => recorded.failures).toEqual(["kick: of the test"]);
	event.close();
	const other = new EventFd();
	const seen: number[] = [];
	const watching = watch(
		other.fd,
		WRITABLE,
		(ready) => {
			seen.push(ready);
			watching.close();
		},
		{ enter: recorded.enter, name: "tap" },
	);
	await expect.poll(() => seen).toEqual([WRITABLE]);
	expect(recorded.names).toEqual(["kick", "tap"]);
	other.close();
});

test.each([false, true])("IoRing tells of each completion on its own (threads: %s)", async (forceThreads) => {
	const recorded = new RecordedEnter();
	const told: number[] = [];
	const options = { forceThreads, name: "disk", enter: recorded.enter };
	const ring = new IoRing((token) => {
		told.push(token);
		if (token === 1) defect();
	}, options);
	const event = new EventFd(); /* which cannot be synced: three failures in one batch */
	for (const token of [1, 2, 3]) ring.fsync(token, event.fd);
	ring.submit();
	await expect.poll(() => [...told].sort()).toEqual([1, 2, 3]);
	expect([recorded.failures, recorded.names.length]).toEqual([["disk: of the test"], 3]);
	ring.close();
	event.close();
});

test("FileDisk enters for each answer", async () => {
	const recorded = new RecordedEnter();
	const disk = FileDisk.open(image, { enter: recorded.enter });
	const ram = GuestRam.map([{ gpa: 0, sizeBytes: 4096 }]);
	const { hva, buffer } = ram.regions[0]!;
	const segments = new Segments();
	segments.add({ bytes: new Uint8Array(buffer), hva }, 0, 512);
	disk.start(defect);
	disk.read(1, 0, segments);
	disk.flush(2);
	disk.submit();
	await expect.poll(() => recorded.failures).toEqual(Array(2).fill(`disk ${image}: of the test`));
	await disk.close();
	ram.close();
});

test("UnixVsock enters for each client of its socket", async () => {
	const recorded = new RecordedEnter();
	const uds = join(directory, "v.sock");
	const vsock = await UnixVsock.open(uds, { enter: recorded.enter });
	vsock.start({ connect: defect });
	const client = connect(uds);
	client.on("error", () => undefined);
	client.write("CONNECT 52\n");
	await expect.poll(() => recorded.failures).toEqual(["vsock: of the test"]);
	client.destroy();
	await vsock.close();
});
