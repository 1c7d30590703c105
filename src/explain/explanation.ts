/*
 * A story as data: what `tsvmm explain --json` prints and the text report is made of.
 */
import type { StoppedState } from "../base/stopped-state.ts";
import { diagnose } from "./diagnose.ts";
import type { Finding, NamesSource } from "./finding.ts";
import type { Look, Phase, Story } from "./story.ts";
import { type NameKernel, numbers } from "./symbols.ts";

/** A device in short. */
export interface DeviceSummary {
	readonly id: string;
	readonly name: string;
	/** Nanoseconds since the start. */
	readonly firstT: number | undefined;
	readonly readyT: number | undefined;
	readonly firstChainT: number | undefined;
	readonly firstRequest: string | undefined;
	readonly status: readonly string[];
	readonly accesses: number;
	readonly chains: number;
	readonly interrupts: number;
	/** Mean and longest time that the device had a chain of a request queue, in nanoseconds. */
	readonly meanTook: number | undefined;
	readonly longestTook: number | undefined;
}

export interface Explanation {
	/** How a machine that lives was looked at; missing for a trace. All that follows is of that time then. */
	readonly look?: Look;
	readonly machine:
		| { readonly kernel: string; readonly cmdline: string; readonly cpus: number; readonly memoryMiB: number }
		| undefined;
	readonly startedAt: string | undefined;
	/** Nanoseconds from the start to the last event. */
	readonly lastT: number;
	readonly end: { readonly reason: string; readonly detail?: string } | undefined;
	readonly events: number;
	/** Events that are not in the trace. */
	readonly lost: number;
	/** In order, with how long until the next. */
	readonly phases: readonly (Phase & { readonly lasted: number })[];
	/** Most first. */
	readonly exits: readonly { readonly reason: string; readonly count: number; readonly took: number }[];
	/** Registers that the guest used most, and addresses without a device. */
	readonly places: readonly { readonly place: string; readonly reads: number; readonly writes: number }[];
	readonly devices: readonly DeviceSummary[];
	readonly state: (StoppedState & { readonly symbols: readonly string[] }) | undefined;
	/** Where the names of addresses are from. */
	readonly names: NamesSource;
	/** The last lines of the console. */
	readonly output: readonly string[];
	/** Likeliest first. */
	readonly findings: readonly Finding[];
}

const LAST_LINES = 10;
const MOST_PLACES = 8;

/** @param names names addresses of the kernel */
export function explain(story: Story, names: NameKernel = numbers("no symbols were given")): Explanation {
	const { created, ended, state, lastT } = story;
	const { name, source } = names(story);
	return {
		...(story.look === undefined ? {} : { look: story.look }),
		machine: created && {
			kernel: created.kernel,
			cmdline: created.cmdline,
			cpus: created.cpus,
			memoryMiB: created.memoryMiB,
		},
		startedAt: story.startedAt,
		lastT,
		end: ended && { reason: ended.reason, ...(ended.detail === undefined ? {} : { detail: ended.detail }) },
		events: story.events,
		lost: story.lost,
		phases: story.phases.map((phase, i) => ({ ...phase, lasted: (story.phases[i + 1]?.t ?? lastT) - phase.t })),
		exits: [...story.exits]
			.map(([reason, { count, took }]) => ({ reason, count, took }))
			.sort((a, b) => b.count - a.count),
		places: [...story.places.values()]
			.toSorted((a, b) => b.reads + b.writes - a.reads - a.writes)
			.slice(0, MOST_PLACES)
			.map(({ bus, device, register, address, reads, writes }) => {
				return { place: `${bus} 0x${address.toString(16)} ${device} ${register ?? ""}`.trimEnd(), reads, writes };
			}),
		devices: [...story.devices.values()].map((device): DeviceSummary => {
			const queues = [...device.queues.values()];
			const asked = queues.filter((queue) => queue.used > 0 && !/^(receiveq|rx|event)/.test(queue.name ?? ""));
			const used = asked.reduce((sum, queue) => sum + queue.used, 0);
			const took = asked.reduce((sum, queue) => sum + queue.took, 0);
			return {
				id: device.id,
				name: device.name,
				firstT: device.firstT,
				readyT: device.readyT,
				firstChainT: device.firstChainT,
				firstRequest: device.firstRequest,
				status: device.bits,
				accesses: device.accesses,
				chains: queues.reduce((sum, queue) => sum + queue.chains, 0),
				interrupts: device.interrupts,
				meanTook: used === 0 ? undefined : took / used,
				longestTook: used === 0 ? undefined : Math.max(...asked.map((queue) => queue.longest)),
			};
		}),
		state: state && { ...state, symbols: state.vcpus.map(({ rip }) => name(rip)) },
		names: source,
		output: story.output.slice(-LAST_LINES),
		findings: diagnose(story, name),
	};
}
