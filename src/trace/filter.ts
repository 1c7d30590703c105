/*
 * Which events a trace has: words with commas between them. An event passes that any of the words names. A word names
 * kinds of events, or a device with all of its events:
 *
 *     exits,mmio          vCPU exits, and accesses to devices by address
 *     blk0,interrupts     all of virtio-blk0, and the interrupts of all devices
 *
 * The machine's life, what drivers did wrong, and lost events are in every trace.
 */
import { UsageError } from "../base/errors.ts";
import { DEVICE_TYPE_NAMES } from "./device-types.ts";
import type { TraceEvent, TraceEventKind } from "./event.ts";

/** Words for kinds of events, with the kinds. "pio" and "mmio" are accesses on one bus. */
const KINDS = {
	pio: [],
	mmio: ["status"],
	exits: ["exit", "resume"],
	queues: ["kick", "chain", "used", "unpop"],
	interrupts: ["interrupt", "acknowledge", "complete"],
	status: ["status"],
	console: ["console"],
	boot: ["boot"],
	agent: ["agent"],
} as const satisfies Record<string, readonly TraceEventKind[]>;

/**
 * A word of a trace filter that names kinds of events. "pio" and "mmio" are accesses to devices, "exits" those of vCPUs,
 * "queues" kicks and chains. "interrupts" has their acknowledgements, too, and requests that were answered. "status" is a
 * driver's steps, "console" the guest's output, "boot" the phases of its boot, "agent" the frames of the agent.
 */
export type TraceKind = keyof typeof KINDS;

/** All of them. */
export const TRACE_KINDS = Object.keys(KINDS) as readonly TraceKind[];

const ALWAYS: ReadonlySet<TraceEventKind> = new Set(["machine", "state", "violation", "lost"]);
const PLATFORM = ["serial", "i8042", "rtc", "acpi", "pci", "pvpanic", "hot-plug", "nothing"];
/** For a device of one's own, whose name may be anything. */
const OWN = "device=";

/** Says for each event whether it is in the trace. */
export class TraceFilter {
	/** "all" was among the words, or there were none. */
	readonly all: boolean;
	readonly #kinds = new Set<TraceEventKind>();
	readonly #buses = new Set<string>();
	readonly #devices: ((device: string) => boolean)[] = [];
	readonly #known = new Map<string, boolean>();

	/**
	 * @param words "exits", "blk0"; all events when there are none
	 * @throws UsageError ERR_OPTION_TRACE for a word that names nothing
	 */
	constructor(words: readonly string[] = []) {
		this.all = words.length === 0 || words.includes("all");
		for (const word of words) this.#add(word);
	}

	/** True when events of this kind may pass, of any device. */
	mayPass(kind: TraceEventKind): boolean {
		return this.all || ALWAYS.has(kind) || this.#kinds.has(kind) || this.#devices.length > 0 || this.#byBus(kind);
	}

	passes(event: TraceEvent): boolean {
		if (this.all || ALWAYS.has(event.kind) || this.#kinds.has(event.kind)) return true;
		if (event.kind === "access" && this.#buses.has(event.bus)) return true;
		return "device" in event && this.#devices.length > 0 && this.#names(event.device);
	}

	/** True when packets of this device are wanted. Words for kinds of events do not take them away. */
	passesPacket(device: string): boolean {
		return this.all || this.#devices.length === 0 || this.#names(device);
	}

	#byBus(kind: TraceEventKind): boolean {
		return kind === "access" && this.#buses.size > 0;
	}

	#names(device: string): boolean {
		let named = this.#known.get(device);
		if (named === undefined) {
			named = this.#devices.some((names) => names(device));
			this.#known.set(device, named);
		}
		return named;
	}

	#add(word: string): void {
		if (word === "all") return;
		if (Object.hasOwn(KINDS, word)) for (const kind of KINDS[word as TraceKind]) this.#kinds.add(kind);
		if (word === "pio" || word === "mmio") this.#buses.add(word);
		const device = deviceOf(word);
		if (device !== undefined) this.#devices.push(device);
		else if (!Object.hasOwn(KINDS, word)) {
			throw new UsageError("ERR_OPTION_TRACE", `Cannot trace "${word}"`, {
				hint: `Choose from ${TRACE_KINDS.join(", ")}, devices such as blk0, net, serial, or all`,
			});
		}
	}
}

/** Which devices a word names; undefined when it names none. */
function deviceOf(word: string): ((device: string) => boolean) | undefined {
	if (word.startsWith(OWN)) return (device) => device === word.slice(OWN.length);
	if (PLATFORM.includes(word)) return (device) => device === word;
	const [, type, index] = /^(?:virtio-)?([a-z]+)(\d*)$/.exec(word) ?? [];
	if (type === undefined || !DEVICE_TYPE_NAMES.includes(type)) return undefined;
	if (index !== "") return (device) => device === `virtio-${type}${index}`;
	return (device) => new RegExp(`^virtio-${type}\\d+$`).test(device);
}
