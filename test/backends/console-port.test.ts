import { expect, it } from "vitest";
import type { HostConsole } from "../../src/backends/console.ts";
import { ConsolePort } from "../../src/backends/console-port.ts";
import type { ConsoleEvents } from "../../src/backends/contract.ts";

function connected() {
	const written: Uint8Array[] = [];
	const received: string[] = [];
	let type: (bytes: Uint8Array) => boolean = () => false;
	let resumed = 0;
	const console: HostConsole = {
		start: (onInput) => {
			type = onInput;
		},
		resume: () => {
			resumed++;
		},
		write: (bytes) => {
			written.push(bytes);
		},
		close: () => undefined,
	};
	const port = new ConsolePort(console);
	const events: ConsoleEvents = {
		input: (bytes) => received.push(Buffer.from(bytes).toString()),
		writable: () => undefined,
		resized: () => undefined,
	};
	port.start(events);
	return { port, written, received, type: (text: string) => type(Buffer.from(text)), resumed: () => resumed };
}

it("ConsolePort keeps a copy of what the guest wrote", () => {
	const { port, written } = connected();
	const guest = Uint8Array.from([104, 105]);
	expect(port.write(guest)).toBe(true);
	guest.fill(0);
	expect(written).toEqual([Uint8Array.from([104, 105])]);
});

it("ConsolePort passes input on, and pauses it while the guest reads too slowly", () => {
	const { port, received, type, resumed } = connected();
	expect(type("a")).toBe(true);
	port.setInputWanted(false);
	expect(type("b")).toBe(false);
	port.setInputWanted(true);
	expect(resumed()).toBe(1);
	expect(received).toEqual(["a", "b"]);
});
