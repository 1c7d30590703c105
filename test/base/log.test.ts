import { expect, test } from "vitest";
import { Logger, log, logRateLimited, printable } from "../../src/base/log.ts";

function logger(level?: "error" | "warn" | "info", prefix?: string) {
	const lines: string[] = [];
	return { lines, logger: new Logger({ level, prefix, write: (line) => void lines.push(line) }) };
}

test("log goes to the logger in place, and to the one before afterwards", () => {
	const outer = logger();
	const inner = logger("error", "vm1");
	outer.logger.run(() => {
		log("warn", "one");
		inner.logger.run(() => {
			log("warn", "not shown");
			log("error", "two");
		});
		expect(() =>
			inner.logger.run(() => {
				throw new Error("of the test");
			}),
		).toThrow("of the test");
		log("warn", "three");
	});
	expect(outer.lines).toEqual(["tsvmm: warn: one\n", "tsvmm: warn: three\n"]);
	expect(inner.lines).toEqual(["tsvmm: error: vm1: two\n"]);
});

test("limited counts by logger, so that one machine does not silence another", () => {
	const [one, other] = [logger(), logger()];
	for (const { logger } of [one, one, other]) logger.run(() => logRateLimited("virtio-blk0", "warn", "refused"));
	expect([one.lines.length, other.lines.length]).toEqual([1, 1]);
});

test("log escapes what could be a guest's escape sequence", () => {
	const { lines, logger: quiet } = logger();
	quiet.run(() => log("error", "name \x1b[2J\x9b\r\nline\tend"));
	expect(lines).toEqual(["tsvmm: error: name \\x1b[2J\\x9b\\x0d\nline\tend\n"]);
});

test("printable leaves text alone that a terminal shows", () => {
	expect(printable("größe 100 % \u{1f600}\n\t")).toBe("größe 100 % \u{1f600}\n\t");
});
