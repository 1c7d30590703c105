import { expect, test } from "vitest";
import { InterruptedError, signalStatus } from "../../src/base/signals.ts";

test("signalStatus is 128 and the signal's number", () => {
	expect(signalStatus(15)).toBe(143);
});

test("InterruptedError names what was interrupted and the signal", () => {
	expect(new InterruptedError("build the kernel", 2)).toMatchObject({
		message: "Cannot build the kernel: interrupted by SIGINT",
		code: "ERR_INTERRUPTED",
		exitStatus: 130,
	});
	expect(new InterruptedError("wait", 34).message).toBe("Cannot wait: interrupted by signal 34");
});
