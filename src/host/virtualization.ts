/*
 * Whether this host can run a Linux guest by itself.
 */
import { existsSync, readFileSync } from "node:fs";

/** The reason why this machine cannot run a Linux guest; undefined when it can. */
export function missingForLinux(): string | undefined {
	if (!existsSync("/dev/kvm")) return "this machine has no /dev/kvm";
	const flags = /^flags\s*:(.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1]?.split(" ") ?? [];
	return flags.includes("vmx") || flags.includes("svm") ? undefined : "this CPU has no VT-x or SVM";
}
