import { afterEach, expect, test, vi } from "vitest";
import { Entry } from "../../src/machine/entry.ts";
import type { ShutdownReason } from "../../src/machine/shutdown-reason.ts";

afterEach(() => vi.restoreAllMocks());

test("Entry.enter ends the machine when what it runs throws, and says who threw", () => {
	const stderr = vi.spyOn(process.stderr, "write").mockReturnValue(true);
	const entry = new Entry();
	const ends: ShutdownReason[] = [];
	entry.onEnd((end) => ends.push(end));
	entry.enter("virtio-blk0", () => {
		throw new Error("of the test");
	});
	expect(ends).toEqual([{ reason: "device-failed", detail: "virtio-blk0: of the test" }]);
	expect(String(stderr.mock.calls[0]![0])).toContain("error: virtio-blk0: Error: of the test");
});

test("Entry.enter takes whatever is thrown", () => {
	vi.spyOn(process.stderr, "write").mockReturnValue(true);
	const entry = new Entry();
	entry.enter("own", () => {
		throw undefined;
	});
	expect(entry.ended).toEqual({ reason: "device-failed", detail: "own: undefined" });
});

test("Entry.enter runs nothing after the end, and the first cause stays", () => {
	const entry = new Entry();
	let runs = 0;
	entry.enter("one", () => runs++);
	entry.end({ reason: "reset" });
	entry.end({ reason: "stopped" });
	entry.enter("two", () => runs++);
	expect([runs, entry.ended]).toEqual([1, { reason: "reset" }]);
});

test("Entry.onEnd tells of an end that came before", () => {
	const entry = new Entry();
	entry.end({ reason: "reset" });
	const ends: ShutdownReason[] = [];
	entry.onEnd((end) => ends.push(end));
	expect(ends).toEqual([{ reason: "reset" }]);
});
