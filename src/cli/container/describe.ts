/*
 * A container in words, as Docker's listings have them: times, states, ports, commands.
 */

import type { PortForward } from "../../backends/passt-ports.ts";
import type { ContainerState } from "../../container/life/state.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** "3 seconds", "About a minute", "5 weeks". */
export function describeDuration(ms: number): string {
	const seconds = Math.floor(ms / SECOND);
	if (seconds < 1) return "Less than a second";
	if (seconds === 1) return "1 second";
	if (seconds < 60) return `${seconds} seconds`;
	const minutes = Math.floor(ms / MINUTE);
	if (minutes === 1) return "About a minute";
	if (minutes < 60) return `${minutes} minutes`;
	const hours = Math.round(ms / HOUR);
	if (hours === 1) return "About an hour";
	if (hours < 48) return `${hours} hours`;
	const days = Math.floor(ms / DAY);
	if (days < 14) return `${days} days`;
	if (days < 60) return `${Math.floor(days / 7)} weeks`;
	if (days < 730) return `${Math.floor(days / 30)} months`;
	return `${Math.floor(days / 365)} years`;
}

/** "Up 3 minutes (Paused)", "Exited (0) 2 hours ago". */
export function describeState(state: ContainerState, nowMs = Date.now()): string {
	const since = (time: string) => describeDuration(Math.max(0, nowMs - Date.parse(time)));
	switch (state.status) {
		case "created":
			return "Created";
		case "running": {
			const health = state.health?.status;
			const note = health === undefined ? "" : health === "starting" ? " (health: starting)" : ` (${health})`;
			return `Up ${since(state.startedAt)}${note}`;
		}
		case "paused":
			return `Up ${since(state.startedAt)} (Paused)`;
		case "restarting":
			return `Restarting (${state.exitCode}) ${since(state.finishedAt)} ago`;
		case "exited":
			return `Exited (${state.exitCode})${state.finishedAt === "" ? "" : ` ${since(state.finishedAt)} ago`}`;
	}
}

/** "0.0.0.0:8080->80/tcp, 9000/tcp": published ports, and those that the image names. */
export function describePorts(published: readonly PortForward[], exposed: readonly string[]): string {
	const guest = (port: PortForward) => `${port.guestPort}/${port.protocol}`;
	const lines = published.map((port) => `${hostAddress(port)}->${guest(port)}`);
	const rest = exposed.filter((name) => !published.some((port) => guest(port) === name));
	return [...lines, ...rest].join(", ");
}

/** "0.0.0.0:8080" */
export function hostAddress({ hostAddress: address = "0.0.0.0", hostPort }: PortForward): string {
	return `${address.includes(":") ? `[${address}]` : address}:${hostPort}`;
}

/** At most `most` characters, the last of them an ellipsis where some are missing. */
export function shorten(text: string, most: number): string {
	const characters = [...text];
	return characters.length <= most ? text : `${characters.slice(0, most - 1).join("")}…`;
}
