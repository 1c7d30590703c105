/*
 * In the lab: plays the steps with runtime handlers of containerd's, and prints what each has answered, and what is left at
 * the end.
 *
 *     node play.mjs MESSAGES SHIM PAUSE BUSYBOX HANDLER...       MESSAGES: runtime.proto
 */
import { rmSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { criClient } from "./client.ts";
import { HOME, leftovers, SOCKET, startContainerd } from "./containerd.ts";
import { Kubelet } from "./kubelet.ts";
import { STEPS } from "./steps.ts";

/** By runtime handler. */
export type Played = Record<string, { answers: { name: string; answer: unknown; ms: number }[]; left: string[] }>;

const [messages = "", shim = "", pause = "", busybox = "", ...handlers] = process.argv.slice(2);
const end = await startContainerd(shim, { pause, busybox });
const { cri, close } = criClient(SOCKET, messages);
const played: Played = {};
for (const handler of handlers) {
	rmSync(`${HOME}/logs`, { recursive: true, force: true });
	const kubelet = new Kubelet(cri, handler);
	const answers = [];
	for (const { name, play } of STEPS) {
		const startMs = Date.now();
		const answer = await play(kubelet).catch((error: Error) => ({ failed: error.message }));
		answers.push({ name, answer, ms: Date.now() - startMs });
	}
	/* A shim ends a moment after its last task. */
	await sleep(3000);
	played[handler] = { answers, left: leftovers() };
}
close();
end();
process.stdout.write(JSON.stringify(played));
