/*
 * One client of the GDB server: its packets and our answers (GDB manual, appendix "Remote Protocol"). A vCPU is a thread;
 * vCPU 0 is thread 1. All stop together. The machine stops at the client's first packet, and runs on when the client
 * detaches or goes away.
 *
 * The client is not trusted to be right: what it asks for is done or answered with an error, and never ends the machine,
 * except by "k", which asks for that.
 */
import { explain, TsvmmError } from "../../base/errors.ts";
import type { ShutdownReason } from "../../machine/shutdown-reason.ts";
import type { HardwareKind } from "../breakpoints.ts";
import type { MachineDebugger, Stop, VcpuAction } from "../debugger.ts";
import { monitor } from "./monitor.ts";
import { PACKET_BYTES } from "./packets.ts";
import { REGISTER_BYTES, readAll, readOne, targetDescription, writeAll, writeOne } from "./registers.ts";

/** What an answer to a packet is; undefined: none now. */
type Answer = Buffer | string | undefined;

const OK = "OK";
/** The client asks by other means. */
const UNKNOWN = "";
const SIGNAL = { interrupt: "02", trap: "05", abort: "06", segmentation: "0b" } as const;
const FEATURES = [
	`PacketSize=${PACKET_BYTES.toString(16)}`,
	"QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;swbreak+;hwbreak+;vContSupported+",
].join(";");
const WATCHES: Readonly<Record<string, HardwareKind>> = { "1": "execute", "2": "write", "4": "access" };
/** Each half of what a memory packet carries is two digits for a byte. */
const MAX_READ = PACKET_BYTES / 2;

/** What a session does to its connection. */
export interface SessionEvents {
	/** Sends a packet. */
	send(payload: Buffer | string): void;
	/** The client wants no acknowledgements from now on. */
	noAck(): void;
	/** The client has detached: nothing more is sent. */
	end(): void;
}

export class GdbSession {
	/** Memory packets have guest-physical addresses. */
	physical = false;
	readonly #debug: MachineDebugger;
	readonly #events: SessionEvents;
	readonly #endings: (() => void)[] = [];
	/** The vCPU that packets about registers and memory mean. */
	#vcpu = 0;
	/** The client has let the machine run and waits to hear of a stop. */
	#waits = false;
	/** A stop that follows is the client's own. */
	#interrupted = false;
	#last: Stop = { kind: "pause" };
	#open = true;

	constructor(debug: MachineDebugger, events: SessionEvents) {
		this.#debug = debug;
		this.#events = events;
		this.#endings.push(debug.onStop((stop) => this.#stopped(stop)));
		void debug.machine.ended.then((end) => this.#ended(end));
	}

	/** The vCPU that registers and memory are of. */
	get vcpu(): number {
		return this.#vcpu;
	}

	/** Answers a packet. Never rejects. */
	async packet(payload: Buffer): Promise<void> {
		let answer: Answer;
		try {
			/* The first one; later ones find it stopped, or wait for that and send none. */
			if (!this.#waits && !this.#debug.isStopped) await this.#debug.stop();
			answer = await this.#answer(payload);
		} catch (error) {
			answer = this.#debug.machine.state === "ended" ? "E01" : `E.${oneLine(error)}`;
		}
		if (answer !== undefined && this.#open) this.#events.send(answer);
	}

	/** The client has sent 0x03. */
	interrupt(): void {
		if (!this.#waits) return;
		this.#interrupted = true;
		this.#debug.stop().catch(() => undefined);
	}

	/** The client has gone. The machine runs on without its breakpoints. */
	async close(): Promise<void> {
		if (!this.#open) return;
		this.#open = false;
		for (const end of this.#endings) end();
		try {
			if (!this.#debug.isStopped) await this.#debug.stop();
			this.#debug.clearBreakpoints();
			this.#debug.resume();
		} catch {
			/* The machine has ended, or a snapshot is being taken, after which it goes on. */
		}
	}

	async #answer(packet: Buffer): Promise<Answer> {
		const text = packet.toString("latin1");
		const rest = text.slice(1);
		switch (text[0]) {
			case "?":
				return this.#stopReply(this.#last);
			case "g":
				return readAll(this.#debug, this.#vcpu).toString("hex");
			case "G":
				return this.#writeAll(rest);
			case "p":
				return readOne(this.#debug, this.#vcpu, number(rest))?.toString("hex") ?? "E01";
			case "P":
				return this.#writeOne(rest);
			case "m":
				return this.#read(rest);
			case "M":
				return this.#write(rest, Buffer.from(rest.slice(rest.indexOf(":") + 1), "hex"));
			case "X":
				return this.#write(rest, packet.subarray(packet.indexOf(":") + 1));
			case "H":
				return this.#choose(rest);
			case "T":
				return this.#index(rest) === undefined ? "E01" : OK;
			case "Z":
			case "z":
				return this.#breakpoint(text[0] === "Z", rest);
			case "c":
			case "C":
			case "s":
			case "S":
				return this.#resume([[text[0].toLowerCase() === "s" ? "step" : "continue", undefined]]);
			case "v":
				return this.#longPacket(rest);
			case "q":
			case "Q":
				return this.#query(text);
			case "D":
				this.#events.send(OK);
				this.#events.end();
				return undefined;
			case "k":
				this.#kill();
				return undefined;
			default:
				return UNKNOWN;
		}
	}

	#longPacket(rest: string): Answer {
		if (rest === "Cont?") return "vCont;c;C;s;S";
		if (rest.startsWith("Cont;")) {
			const actions = rest.slice("Cont;".length).split(";");
			return this.#resume(
				actions.map((action) => {
					const [what = "", thread] = action.split(":");
					return [/^s/i.test(what) ? "step" : "continue", thread];
				}),
			);
		}
		if (!rest.startsWith("Kill")) return UNKNOWN;
		this.#kill();
		return OK;
	}

	async #query(text: string): Promise<Answer> {
		const [name = "", ...rest] = text.split(/[:,]/);
		switch (name) {
			case "qSupported":
				return FEATURES;
			case "QStartNoAckMode":
				this.#events.noAck();
				return OK;
			case "qC":
				return `QC${thread(this.#vcpu)}`;
			case "qAttached":
				return "1";
			case "qfThreadInfo":
				return `m${this.#threads.map(thread).join(",")}`;
			case "qsThreadInfo":
				return "l";
			case "qThreadExtraInfo": {
				const index = this.#index(rest[0] ?? "");
				return index === undefined ? "E01" : Buffer.from(`vCPU ${index}`).toString("hex");
			}
			case "qRcmd": {
				const words = Buffer.from(rest[0] ?? "", "hex").toString("latin1");
				const output = monitor(this.#debug, this, words);
				return output === "" ? OK : Buffer.from(output).toString("hex");
			}
			case "qXfer":
				return this.#transfer(rest);
			default:
				return UNKNOWN;
		}
	}

	/** qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH */
	#transfer([object, operation, annex, offset = "", length = ""]: string[]): Answer {
		if (operation !== "read") return UNKNOWN;
		let whole: string;
		if (object === "features" && annex === "target.xml") whole = targetDescription();
		else if (object === "threads" && annex === "") whole = this.#threadList();
		else return object === "features" || object === "threads" ? "E00" : UNKNOWN;
		const from = number(offset);
		/* Nothing in it is longer when it is escaped, but that. */
		const count = Math.min(number(length), PACKET_BYTES / 2);
		const part = whole.slice(from, from + count);
		return `${from + part.length < whole.length ? "m" : "l"}${part}`;
	}

	#threadList(): string {
		const rows = this.#threads.map((index) => `<thread id="${thread(index)}" core="${index}" name="vCPU ${index}"/>`);
		return `<?xml version="1.0"?><threads>${rows.join("")}</threads>`;
	}

	get #threads(): number[] {
		return Array.from({ length: this.#debug.cpus }, (_, index) => index);
	}

	/** The vCPU of a thread's id. Undefined: no such thread. */
	#index(id: string): number | undefined {
		const index = /^[0-9a-f]{1,8}$/i.test(id) ? number(id) - 1 : -1;
		return index >= 0 && index < this.#debug.cpus ? index : undefined;
	}

	/** Hg and Hc. 0 and -1 stand for any thread. */
	#choose(rest: string): Answer {
		const id = rest.slice(1);
		if (id === "0" || id === "-1") return OK;
		const index = this.#index(id);
		if (index === undefined) return "E01";
		if (rest[0] === "g") this.#vcpu = index;
		return OK;
	}

	/** Each vCPU takes the first action that is for it, or stays where it is. */
	#resume(actions: readonly (readonly [VcpuAction, thread: string | undefined])[]): Answer {
		const plan = new Map<number, VcpuAction>();
		for (const [action, id] of actions) {
			const isAll = id === undefined || id === "-1" || id === "0";
			const index = isAll ? undefined : this.#index(id);
			if (!isAll && index === undefined) return "E01";
			for (const one of isAll ? this.#threads : [index!]) if (!plan.has(one)) plan.set(one, action);
		}
		if (plan.size === 0) return "E01";
		this.#waits = true;
		try {
			this.#debug.resume(plan);
		} catch (error) {
			this.#waits = false;
			throw error;
		}
		return undefined;
	}

	#stopped(stop: Stop): void {
		this.#last = stop;
		if (stop.kind !== "pause") this.#vcpu = stop.vcpu;
		if (!this.#waits) return;
		this.#waits = false;
		const reply = this.#stopReply(stop);
		this.#interrupted = false;
		this.#events.send(reply);
	}

	#stopReply(stop: Stop): string {
		const signal = stop.kind === "pause" && this.#interrupted ? SIGNAL.interrupt : SIGNAL.trap;
		const head = `T${signal}thread:${thread(this.#vcpu)};`;
		switch (stop.kind) {
			case "breakpoint":
				if (stop.hardware) return `${head}hwbreak:;`;
				/* At an address that GDB does not know of it would run on. */
				return this.#debug.breakpoints.isAskedFor(stop.address) ? `${head}swbreak:;` : head;
			case "watchpoint":
				return `${head}${stop.access === "write" ? "watch" : "awatch"}:${stop.address.toString(16)};`;
			default:
				return head;
		}
	}

	/** The machine has ended: as a process that has exited, or was killed by a signal. */
	#ended(end: ShutdownReason): void {
		if (!this.#open) return;
		const { reason } = end;
		const isOrderly = reason === "power-off" || reason === "reset" || reason === "stopped";
		const signal = reason === "triple-fault" ? SIGNAL.segmentation : SIGNAL.abort;
		if (this.#waits) this.#events.send(isOrderly ? "W00" : `X${signal}`);
		this.#waits = false;
		this.#events.end();
	}

	#kill(): void {
		void this.#debug.machine.stop();
	}

	#writeAll(digits: string): Answer {
		const bytes = Buffer.from(digits, "hex");
		if (bytes.length !== REGISTER_BYTES) return "E01";
		writeAll(this.#debug, this.#vcpu, bytes);
		return OK;
	}

	#writeOne(rest: string): Answer {
		const [which = "", digits = ""] = rest.split("=");
		return writeOne(this.#debug, this.#vcpu, number(which), Buffer.from(digits, "hex")) ? OK : "E01";
	}

	#read(rest: string): Answer {
		const { address, length } = range(rest);
		const wanted = Math.min(length, MAX_READ);
		const bytes = this.physical
			? this.#readPhysical(address, wanted)
			: this.#debug.readVirtual(this.#vcpu, address, wanted);
		/* Nothing there is an error, but to read nothing is none. */
		return bytes.length === 0 && wanted > 0 ? "E14" : bytes.toString("hex");
	}

	#readPhysical(address: bigint, length: number): Buffer {
		const gpa = Number(address);
		return this.#debug.machine.memory.contains(gpa, length) ? this.#debug.readPhysical(gpa, length) : Buffer.alloc(0);
	}

	#write(rest: string, bytes: Buffer): Answer {
		const { address, length } = range(rest.slice(0, rest.indexOf(":")));
		if (bytes.length !== length) return "E01";
		const done = this.physical
			? this.#debug.writePhysical(Number(address), bytes)
			: this.#debug.writeVirtual(this.#vcpu, address, bytes);
		return done === length ? OK : "E14";
	}

	/** Z0: in memory. Z1: a debug register. Z2, Z4: watchpoints. Z3, reads alone: GDB then takes Z4. */
	#breakpoint(insert: boolean, rest: string): Answer {
		const [type = "", ...place] = rest.split(",");
		const { address, length } = range(place.slice(0, 2).join(","));
		if (type === "0") {
			if (insert) this.#debug.setBreakpoint(this.#vcpu, address);
			else this.#debug.removeBreakpoint(address);
			return OK;
		}
		const kind = WATCHES[type];
		if (kind === undefined) return UNKNOWN;
		for (const point of kind === "execute" ? [{ address, bytes: 1 }] : aligned(address, length)) {
			if (insert) this.#debug.setHardware({ kind, ...point });
			else this.#debug.removeHardware({ kind, ...point });
		}
		return OK;
	}
}

/** "ADDRESS,LENGTH" in hexadecimal. @throws TsvmmError for anything else */
function range(text: string): { address: bigint; length: number } {
	const match = /^([0-9a-f]{1,16}),([0-9a-f]{1,8})$/i.exec(text);
	if (match === null)
		throw new TsvmmError("ERR_GDB_PACKET", `Cannot use ${JSON.stringify(text)}: no address and length`);
	return { address: BigInt(`0x${match[1]}`), length: number(match[2]!) };
}

/** A number in hexadecimal. NaN when it is none. */
function number(digits: string): number {
	return Number.parseInt(digits, 16);
}

/** The id of a vCPU's thread. */
function thread(index: number): string {
	return (index + 1).toString(16);
}

/** The parts that a debug register can watch. At most as many as there are registers, and one that is refused. */
function aligned(address: bigint, length: number): { address: bigint; bytes: number }[] {
	const parts = [];
	let at = address;
	const end = address + BigInt(length);
	while (at < end && parts.length < 5) {
		const bytes = [8, 4, 2, 1].find((size) => at % BigInt(size) === 0n && at + BigInt(size) <= end)!;
		parts.push({ address: at, bytes });
		at += BigInt(bytes);
	}
	return parts;
}

/** What GDB prints of an error. */
function oneLine(error: unknown): string {
	return explain(error)
		.replace(/[^ -~]/g, "?")
		.slice(0, 200);
}
