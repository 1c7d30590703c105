/*
 * Rules about virtio drivers: what they did wrong, and where they stopped.
 */

import type { DeviceStory } from "../device-story.ts";
import { counted, type Rule } from "../finding.ts";

/** Violations by what they mean. The first that matches is told. */
const MEANINGS: readonly {
	readonly cause: string;
	readonly pattern: RegExp;
	readonly what: (device: DeviceStory) => string;
}[] = [
	{
		cause: "kick-before-driver-ok",
		pattern: /notification of queue \d+: DRIVER_OK is not set/,
		what: ({ id }) => `The driver of ${id} notifies a queue before it has set DRIVER_OK, so the device does not look.`,
	},
	{
		cause: "kick-of-no-queue",
		pattern: /notification of queue \d+: the queue is not ready/,
		what: ({ id }) => `The driver of ${id} notifies a queue that it has not made ready.`,
	},
	{
		cause: "bad-ring",
		pattern: /^queue \d+: /,
		what: ({ id }) =>
			`The driver of ${id} has put a queue where it cannot be: not in RAM, not aligned, or of a wrong size.`,
	},
	{
		cause: "bad-features",
		pattern: /FEATURES_OK with features/,
		what: ({ id }) =>
			`The driver of ${id} accepts features that the device has not offered, or not VIRTIO_F_VERSION_1, so FEATURES_OK is refused.`,
	},
	{
		cause: "bad-status",
		pattern: /^ignored status /,
		what: ({ id }) =>
			`The driver of ${id} writes Status in an order that the specification does not have (virtio 1.2 §3.1.1).`,
	},
	{
		cause: "bad-descriptor",
		pattern: /descriptor|head \d+|chain at head|indirect table|avail\.idx/,
		what: ({ id }) =>
			`The driver of ${id} has made a chain of descriptors that is no valid one. The device has stopped.`,
	},
];

export const driverViolation: Rule = ({ story }) => {
	for (const device of story.devices.values()) {
		for (const { cause, pattern, what } of MEANINGS) {
			const found = device.violations.filter((violation) => pattern.test(violation.what));
			if (found.length === 0) continue;
			const because = found.map(({ what: text, count, needsReset }) => {
				const reset = needsReset ? ", and the device needs a reset" : "";
				return `${device.name}: ${text}${reset}${count > 1 ? ` (${count} times)` : ""}`;
			});
			return { cause, what: what(device), because };
		}
	}
	return undefined;
};

export const driverFailed: Rule = ({ story }) => {
	const device = [...story.devices.values()].find(({ bits }) => bits.includes("FAILED"));
	if (device === undefined) return undefined;
	const what = `The driver of ${device.id} has given up (Status has FAILED).`;
	return { cause: "driver-failed", what, because: [`${device.name}: Status ${device.bits.join(" ")}`] };
};

/** A kernel that has come far enough to look for devices, and has not taken one. */
export const missingDriver: Rule = ({ story }) => {
	const virtio = [...story.devices.values()].filter(({ described }) => described !== undefined);
	const others = virtio.some(({ isTaken }) => isTaken);
	const late =
		others || story.phases.some(({ phase }) => ["init", "root", "init memory freed", "panic"].includes(phase));
	const idle = virtio.filter(({ isTaken }) => !isTaken);
	if (!late || idle.length === 0) return undefined;
	const ids = idle.map(({ id }) => id).join(", ");
	const because = idle.map(({ name, firstT, bits }) => {
		if (firstT === undefined && story.look === undefined) return `${name}: the guest has never touched it`;
		return `${name}: its last Status is ${bits.join(" ") || "0"}`;
	});
	const what = `No driver of the guest has taken ${ids}.`;
	return {
		cause: "missing-driver",
		what,
		because,
		hint: "Load its module in the guest, or use a kernel that has the driver",
	};
};

/** The device says so itself, and does nothing until then. */
export const needsReset: Rule = ({ story }) => {
	const device = [...story.devices.values()].find(
		({ bits, violations }) => bits.includes("DEVICE_NEEDS_RESET") && violations.length === 0,
	);
	if (device === undefined) return undefined;
	const what = `The driver of ${device.id} has broken a rule of virtio, and the device does nothing until it is reset.`;
	return { cause: "needs-reset", what, because: [`${device.name}: Status ${device.bits.join(" ")}`] };
};

export const failedRequests: Rule = ({ story }) => {
	const device = [...story.devices.values()].find(({ errors }) => errors.size > 0);
	if (device === undefined) return undefined;
	const because = [...device.errors].map(([name, count]) => `${device.name}: ${counted(count, "answer")} ${name}`);
	return { cause: "failed-requests", what: `Requests of the guest to ${device.id} have failed.`, because };
};
