import { expect, test } from "vitest";
import { PanicWatch } from "../../src/machine/panic-watch.ts";
import { Random } from "../driver/random.ts";
import { refusesOrWorks } from "../driver/state-fuzz.ts";

test("PanicWatch sees a panic whose line began before it was saved, and tells one that it has seen only once", () => {
	const before = new PanicWatch();
	before.write(Buffer.from("ok\nKernel panic - not sync"));
	const told: string[] = [];
	const after = new PanicWatch((why) => told.push(why));
	after.restore(structuredClone(before.save()));
	after.write(Buffer.from("ing: VFS\nKernel panic - not syncing: again\n"));
	expect([after.detail, told]).toEqual(["VFS", ["VFS"]]);
	const last = new PanicWatch((why) => told.push(why));
	last.restore(after.save());
	last.write(Buffer.from("Kernel panic - not syncing: again\n"));
	expect([last.detail, told]).toEqual(["VFS", ["VFS"]]);
});

test("PanicWatch refuses a damaged state, or works with it, and shows no control character", async () => {
	const watch = new PanicWatch();
	watch.write(Buffer.from("Kernel panic - not syncing: VFS\nnext"));
	const { refused, taken } = await refusesOrWorks(watch.save(), new Random(3), (state) => {
		const other = new PanicWatch();
		other.restore(state);
		return () => other.write(Buffer.from("more\n"));
	});
	expect([refused > 20, taken > 0]).toEqual([true, true]);
	const forged = new PanicWatch();
	forged.restore({ version: 1, line: "", detail: "\x1b[2J" });
	expect(forged.detail).toBe("\\x1b[2J");
});
