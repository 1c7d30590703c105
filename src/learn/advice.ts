/*
 * What to do about an error that a program of a student throws, where its message is too short for a beginner.
 */
import { IoctlError } from "../base/errors.ts";

/** As a command. Undefined where the message says it all. */
export function adviceOn(error: unknown): string | undefined {
	if (error instanceof IoctlError && error.ioctl === "KVM_SET_USER_MEMORY_REGION") {
		return "Give gpa, hva and sizeBytes as multiples of 4096, a page, and no address in two slots";
	}
	const message = error instanceof Error ? error.message : "";
	if (/^Cannot start vCPU/.test(message)) return "Call runLoop.start(0, vcpu.fd, vm.vcpuMmapSize)";
	if (/Cannot mix BigInt|Cannot convert .* to a BigInt/.test(message)) {
		return "Convert one of them: 2n or BigInt(2) for what is 64 bits wide, Number(value) to count on with it";
	}
	if (/^offset is out of bounds|^Offset is outside the bounds/.test(message)) {
		return "Count from the beginning of the buffer: the guest's address A is at A - gpa of it";
	}
	return undefined;
}
