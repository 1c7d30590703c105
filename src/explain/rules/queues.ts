/*
 * Rules about work that nobody takes: chains without a notification, chains that a device keeps, interrupts that no driver
 * takes.
 */
import type { StoppedDevice, StoppedQueue } from "../../base/stopped-state.ts";
import { decoderOf } from "../../trace/decode/table.ts";
import { typeOfName } from "../../trace/device-types.ts";
import type { DeviceStory } from "../device-story.ts";
import { counted, type Rule } from "../finding.ts";

const DRIVER_OK = 4;

/** Chains in the available ring, and a device that was not told of them. */
export const queueWithoutKick: Rule = ({ story }) => {
	for (const { device, status, queues } of story.state?.devices ?? []) {
		const seen = story.devices.get(device);
		const mayWait = (queue: StoppedQueue) => REQUESTS.test(queueName(seen, device, queue, queues.length) ?? "request");
		const waiting = queues.find((queue) => queue.pending > 0 && mayWait(queue));
		if (waiting === undefined || (status & DRIVER_OK) === 0) continue;
		const { queue, pending } = waiting;
		const kicks = seen?.queues.get(queue)?.kicks ?? 0;
		const what = `The driver of ${seen?.id ?? device} has put ${counted(pending, "chain")} into queue ${queue}, and has not notified the device.`;
		const because = [
			`${device}, queue ${queue}: avail.idx is ${pending} ahead of what the device has taken`,
			`${counted(kicks, "notification")} of this queue have come`,
		];
		return {
			cause: "queue-without-kick",
			what,
			because,
			hint: "Write the queue's number to QueueNotify after avail.idx",
		};
	}
	return undefined;
};

/** Chains that the device has had for long. */
export const chainsInFlight: Rule = ({ story }) => {
	for (const { device, queues } of story.state?.devices ?? []) {
		const seen = story.devices.get(device);
		const isRequest = (queue: StoppedQueue) => REQUESTS.test(queueName(seen, device, queue, queues.length) ?? "");
		const stuck = queues.find((queue) => queue.inFlight > 0 && isRequest(queue));
		if (stuck === undefined) continue;
		const { queue, inFlight } = stuck;
		const since = seen?.queues.get(queue)?.lastT ?? 0;
		const what = `${seen?.id ?? device} has ${counted(inFlight, "request")} that it has not answered: its backend on the host is slow, or has stopped.`;
		const because =
			story.look === undefined
				? [`${device}, queue ${queue}: the last event was ${seconds(story.lastT - since)} before the end`]
				: [`${device}, queue ${queue}: no answer in ${story.look.seconds} s`];
		return { cause: "unanswered-requests", what, because };
	}
	return undefined;
};

/** Buffers for what may come wait in receive queues, which is as it should be. */
const REQUESTS = /^(requestq|request|hiprio|transmitq|tx|inflateq|deflateq|reporting_vq)/;

/** @param queues how many the device has */
function queueName(
	seen: DeviceStory | undefined,
	device: string,
	{ queue }: StoppedQueue,
	queues: number,
): string | undefined {
	return seen?.queues.get(queue)?.name ?? decoderOf(typeOfName(device))?.queueName(queue, queues);
}

/** InterruptStatus says that the device waits for the driver. */
export const interruptNotTaken: Rule = ({ story }) => {
	const { pins = [], vcpus = [], devices = [] } = story.state ?? {};
	const waiting = devices.find(({ interruptStatus }) => interruptStatus !== 0);
	if (waiting === undefined) return undefined;
	const { device, gsi } = waiting;
	const seen = story.devices.get(device);
	const id = seen?.id ?? device;
	const pin = pins.find((one) => one.gsi === gsi);
	const because = [
		`${device}: InterruptStatus is ${waiting.interruptStatus}; ${counted(seen?.interrupts ?? 0, "interrupt")}, ${seen?.acknowledged ?? 0} acknowledged`,
	];
	if (pin?.masked === true) {
		because.push(`pin ${gsi} of the I/O APIC is masked`);
		const what = `${id} has interrupted the guest, which has never enabled its interrupt.`;
		return { cause: "interrupt-masked", what, because, hint: `Set pin ${gsi} to unmasked, or read the used ring` };
	}
	const vector = pin?.vector;
	const pending = vcpus.find((vcpu) => vector !== undefined && vcpu.pending.includes(vector));
	if (pending !== undefined) {
		because.push(
			`vector ${vector} is pending at vCPU ${pending.vcpu}, whose interrupts are ${pending.interruptsEnabled ? "on" : "off"}`,
		);
		const what = `${id} has interrupted vCPU ${pending.vcpu}, which does not take interrupts.`;
		return { cause: "interrupts-off", what, because };
	}
	if (pin?.remoteIrr === true || vcpus.some((vcpu) => vector !== undefined && vcpu.inService.includes(vector))) {
		because.push(`vector ${vector} is in service: its handler has not come to its end`);
		const what = `The handler of ${id}'s interrupt has not acknowledged it (InterruptACK, then EOI).`;
		return { cause: "interrupt-not-acknowledged", what, because };
	}
	because.push(`no interrupt controller has it pending: pin ${gsi}, vector ${vector ?? "unknown"}`);
	const what = `An interrupt of ${id} was lost, or its handler has not acknowledged it.`;
	return {
		cause: "lost-interrupt",
		what,
		because,
		hint: "Read InterruptStatus in the handler, and write it to InterruptACK",
	};
};

export function seconds(nanoseconds: number): string {
	return `${(nanoseconds / 1e9).toFixed(3)} s`;
}

/** For tests and reports: devices with work. */
export function hasWork({ queues }: StoppedDevice): boolean {
	return queues.some(({ pending, inFlight }) => pending > 0 || inFlight > 0);
}
