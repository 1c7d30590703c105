/*
 * The labs, in their order. Each builds on those before.
 */
import { UsageError } from "../base/errors.ts";
import type { Lab } from "./lab.ts";
import { agentLab } from "./labs/agent.ts";
import { diskLab } from "./labs/disk.ts";
import { helloLab } from "./labs/hello.ts";
import { interruptsLab } from "./labs/interrupts.ts";
import { kernelLab } from "./labs/kernel.ts";
import { longModeLab } from "./labs/long-mode.ts";
import { portsLab } from "./labs/ports.ts";
import { serialLab } from "./labs/serial.ts";
import { virtqueueLab } from "./labs/virtqueue.ts";
import { wallLab } from "./labs/wall.ts";

export const LABS: readonly Lab[] = [
	helloLab,
	portsLab,
	serialLab,
	longModeLab,
	kernelLab,
	virtqueueLab,
	diskLab,
	interruptsLab,
	agentLab,
	wallLab,
];

/** The lab that a user names by its number. @throws UsageError ERR_LEARN_LAB */
export function findLab(text: string): Lab {
	const lab = LABS.find(({ number }) => /^\d+$/.test(text) && number === Number(text));
	if (lab !== undefined) return lab;
	throw new UsageError("ERR_LEARN_LAB", `Cannot find lab "${text}": there are labs 1 to ${LABS.length}`, {
		hint: "See tsvmm learn",
	});
}
