/*
 * Rules about accesses: ports where no device is, loops around one register, storms of exits.
 */
import { counted, hex, type Rule } from "../finding.ts";
import type { PlaceTally } from "../story.ts";

/** The other serial ports of a PC. */
const SERIAL_PORTS = new Map([
	[0x2f8, "COM2 (ttyS1)"],
	[0x3e8, "COM3 (ttyS2)"],
	[0x2e8, "COM4 (ttyS3)"],
]);
/** The kernel looks whether a port is there with a few accesses. */
const MANY_WRITES = 8;
const MANY_READS = 1000;
/** The share of all accesses that a loop around one register has. */
const MOST = 0.8;
const STORM_PER_SECOND = 20_000;
const STORM_EXITS = 20_000;
/** Ports that kernels write to without an answer: delays and POST codes. */
const HARMLESS = new Set([0x80, 0xed]);

export const consoleElsewhere: Rule = ({ story }) => {
	for (const [port, name] of SERIAL_PORTS) {
		const place = story.places.get(`pio ${port}`);
		if (place === undefined || place.device !== "nothing" || place.writes < MANY_WRITES) continue;
		const what = `The guest writes its console to ${name}, and the machine has only COM1 (ttyS0) at 0x3f8.`;
		const because = [`${counted(place.writes, "write")} to port ${hex(port)}, where no device is`];
		return { cause: "console-elsewhere", what, because, hint: "Set console=ttyS0 in --cmdline" };
	}
	return undefined;
};

const total = ({ reads, writes }: PlaceTally) => reads + writes;

/** Nearly all that the guest does is one register. */
export const spinsOnRegister: Rule = ({ story }) => {
	const places = [...story.places.values()];
	const all = places.reduce((sum, place) => sum + total(place), 0);
	const most = places.toSorted((a, b) => b.reads - a.reads)[0];
	if (most === undefined || most.reads < MANY_READS || most.reads < MOST * all) return undefined;
	const where =
		most.device === "nothing"
			? `${most.bus} ${hex(most.address)}, where no device is`
			: `${most.register ?? hex(most.address)} of ${most.device}`;
	const what = `The guest reads ${where} again and again, and waits for a value that does not come.`;
	const because = [
		`${most.reads} of ${all} accesses are reads of ${most.bus} ${hex(most.address)}; the last gave ${hex(most.last)}`,
	];
	return { cause: "spins-on-register", what, because };
};

export const exitStorm: Rule = ({ story }) => {
	const { exitCount, lastT } = story;
	const perSecond = lastT === 0 ? 0 : exitCount / (lastT / 1e9);
	if (exitCount < STORM_EXITS || perSecond < STORM_PER_SECOND) return undefined;
	const [reason, tally] = [...story.exits].toSorted(([, a], [, b]) => b.count - a.count)[0]!;
	const place = [...story.places.values()].toSorted((a, b) => total(b) - total(a))[0];
	const because = [
		`${exitCount} exits in ${(lastT / 1e9).toFixed(2)} s, ${tally.count} of them ${reason}`,
		...(place === undefined ? [] : [`most of them at ${place.bus} ${hex(place.address)} (${place.device})`]),
	];
	return { cause: "exit-storm", what: "The guest leaves the processor so often that it gets little done.", because };
};

/** Devices that the guest believes in. */
export const unservedAddresses: Rule = ({ story }) => {
	const found = [...story.places.values()].filter(
		(place) =>
			place.device === "nothing" &&
			!HARMLESS.has(place.address) &&
			(place.bus === "mmio" || total(place) >= MANY_WRITES),
	);
	const place = found.toSorted((a, b) => total(b) - total(a))[0];
	if (place === undefined) return undefined;
	const what = `The guest uses a device that the machine does not have, at ${place.bus} ${hex(place.address)}.`;
	const because = found
		.slice(0, 5)
		.map((one) => `${one.bus} ${hex(one.address)}: ${one.reads} reads, ${one.writes} writes, no device`);
	return { cause: "no-device-there", what, because };
};
