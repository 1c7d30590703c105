/*
 * The likely reasons why a machine failed, or why it does nothing: all rules, the most certain first.
 */
import type { Finding, NameAddress, Rule } from "./finding.ts";
import { halted, kvmError, nothingHappened, resetByGuest, spins, tripleFault } from "./rules/cpu.ts";
import { driverFailed, driverViolation, failedRequests, missingDriver, needsReset } from "./rules/drivers.ts";
import { kernelLog } from "./rules/kernel-log.ts";
import { consoleElsewhere, exitStorm, spinsOnRegister, unservedAddresses } from "./rules/ports.ts";
import { chainsInFlight, interruptNotTaken, queueWithoutKick } from "./rules/queues.ts";
import type { Story } from "./story.ts";

const RULES: readonly Rule[] = [
	kernelLog,
	driverViolation,
	driverFailed,
	needsReset,
	queueWithoutKick,
	interruptNotTaken,
	chainsInFlight,
	failedRequests,
	consoleElsewhere,
	tripleFault,
	kvmError,
	spinsOnRegister,
	halted,
	spins,
	exitStorm,
	unservedAddresses,
	missingDriver,
	resetByGuest,
	nothingHappened,
];

/** What explains the end or the silence of a machine; none when nothing is wrong. The first is the likeliest. */
export function diagnose(story: Story, name: NameAddress = (address) => address): Finding[] {
	const input = { story, name };
	const found = RULES.flatMap((rule) => rule(input) ?? []);
	/* One cause may have several signs. */
	return found.filter((one, i) => found.findIndex(({ cause }) => cause === one.cause) === i);
}
