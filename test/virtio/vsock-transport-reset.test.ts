/*
 * How long a guest may take to read that its streams are gone.
 */
import { afterEach, expect, test, vi } from "vitest";
import type { Virtqueue } from "../../src/virtio/queue.ts";
import { TransportReset } from "../../src/virtio/vsock/transport-reset.ts";

afterEach(() => vi.restoreAllMocks());

test("TransportReset waits for a guest on a busy host, and not for ever for a driver that tells nothing", () => {
	const clock = vi.spyOn(performance, "now").mockReturnValue(1000);
	const writable = { totalBytes: 8, copyFrom: () => undefined };
	let chain: object | undefined = { writable };
	const queue = {
		isSeen: false,
		pop: () => {
			const popped = chain;
			chain = undefined;
			return popped;
		},
		push: () => undefined,
		flush: () => undefined,
	} as unknown as Virtqueue;
	const reset = new TransportReset();
	reset.require();
	reset.announce(queue);
	clock.mockReturnValue(11_000);
	expect(reset.isUnread(queue)).toBe(true);
	clock.mockReturnValue(40_000);
	expect(reset.isUnread(queue)).toBe(false);
});
