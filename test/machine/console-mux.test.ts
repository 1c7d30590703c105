import { expect, test } from "vitest";
import type { ConsoleBackend, ConsoleEvents } from "../../src/backends/contract.ts";
import { ConsoleMux } from "../../src/machine/console-mux.ts";

class Terminal implements ConsoleBackend {
	readonly size = { columns: 80, rows: 25 };
	readonly calls: string[] = [];
	events!: ConsoleEvents;
	room = true;

	start(events: ConsoleEvents): void {
		this.calls.push("start");
		this.events = events;
	}
	write(bytes: Uint8Array): boolean {
		this.calls.push(`write ${Buffer.from(bytes)}`);
		return this.room;
	}
	setInputWanted(wanted: boolean): void {
		this.calls.push(`wanted ${wanted}`);
	}
	async close(): Promise<void> {
		this.calls.push("close");
	}
}

/** A terminal with two lines, of which the last one has the input, each with what it was told. */
function shared() {
	const terminal = new Terminal();
	const entered: string[] = [];
	const mux = new ConsoleMux(terminal, (name, run) => {
		entered.push(name);
		run();
	});
	const told: string[] = [];
	const lines = [mux.line("serial"), mux.line("virtio-console0")] as const;
	lines.forEach((line, i) => {
		line.start?.({
			input: (bytes) => told.push(`${i} input ${Buffer.from(bytes)}`),
			writable: () => told.push(`${i} writable`),
			resized: (columns, rows) => told.push(`${i} ${columns}x${rows}`),
		});
	});
	mux.start();
	return { terminal, lines, told, entered };
}

test("ConsoleMux starts its console once, gives input to the last line, and room and size to all", () => {
	const { terminal, told, entered } = shared();
	terminal.events.input(Buffer.from("typed"));
	expect([told.splice(0), entered.splice(0)]).toEqual([["1 input typed"], ["virtio-console0 input"]]);
	terminal.events.writable();
	terminal.events.resized(132, 43);
	expect(told).toEqual(["0 writable", "1 writable", "0 132x43", "1 132x43"]);
	expect(entered).toEqual(["serial", "virtio-console0", "serial", "virtio-console0"]);
	expect(terminal.calls).toEqual(["start"]);
});

test("ConsoleMux passes output and its answer on, and only the line with input may stop it", () => {
	const { terminal, lines } = shared();
	expect(lines[0].write(Buffer.from("a"))).toBe(true);
	terminal.room = false;
	expect(lines[1].write(Buffer.from("b"))).toBe(false);
	lines[0].setInputWanted?.(false);
	lines[1].setInputWanted?.(false);
	expect(terminal.calls).toEqual(["start", "write a", "write b", "wanted false"]);
	expect(lines[1].size).toEqual({ columns: 80, rows: 25 });
});

test("ConsoleMux leaves its console open when a line is closed, and tells that line nothing any more", async () => {
	const { terminal, lines, told } = shared();
	await lines[1].close();
	terminal.events.writable();
	terminal.events.input(Buffer.from("lost"));
	expect([told, terminal.calls]).toEqual([["0 writable"], ["start"]]);
});
