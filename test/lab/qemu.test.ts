/*
 * The lab's QEMU process that does not come up: what it has said is in the error.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { expect, test } from "vitest";
import { Qemu } from "../../src/lab/qemu.ts";

test("a QEMU that ends at once is told of with what it has printed", async () => {
	const directory = mkdtempSync(join(tmpdir(), "tsvmm-qemu-"));
	const program = "#!/bin/sh\necho 'qemu: no memory for it' >&2\nexit 3\n";
	writeFileSync(join(directory, "qemu-system-x86_64"), program, { mode: 0o755 });
	const { PATH } = process.env;
	process.env.PATH = [directory, PATH].join(delimiter);
	const lock = openSync("/dev/null", "r");
	try {
		const file = (name: string) => join(directory, name);
		const files = { vmlinux: file("k"), initramfs: file("i"), ram: file("r"), state: file("s") };
		const qemu = Qemu.boot(files, { size: { memoryMiB: 64, cpus: 1 }, console: file("c"), lock });
		await expect(qemu.save(file("s"))).rejects.toMatchObject({
			code: "ERR_LAB_QEMU",
			message: "Cannot start QEMU: exit status 3\nqemu: no memory for it",
		});
	} finally {
		process.env.PATH = PATH;
		closeSync(lock);
		rmSync(directory, { recursive: true });
	}
});
