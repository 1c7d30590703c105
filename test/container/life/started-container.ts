/*
 * A container that runs in the background, with the real agent and no VM.
 */
import type { ContainerConfig } from "../../../src/container/life/config.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { superviseContainer } from "../../../src/container/life/supervisor.ts";
import { endsWhenRefused, FakeMachine } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";

export const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
/** Starts a container in the background. */
export async function start(
	args: string[],
	{
		process = {},
		more = {},
		tools,
		beforeStart,
	}: {
		tools?: string;
		/** Called when the container is there and not started. */
		beforeStart?: () => void;
		process?: Partial<ContainerConfig["process"]>;
		more?: Parameters<typeof containerConfig>[1];
	} = {},
) {
	const container = await new ContainerStore().create(containerConfig({ args, env, ...process }, more));
	beforeStart?.();
	const calls: string[] = [];
	let ended: Promise<void> | undefined;
	const running = new Promise<void>((resolve, reject) => {
		ended = superviseContainer(container, {
			awaitAttach: false,
			onReady: (error) => (error === undefined ? resolve() : reject(error)),
			boot: async () => ({
				guest: endsWhenRefused(new FakeMachine(tools)),
				machine: {
					pause: async () => void calls.push("pause"),
					resume: () => void calls.push("resume"),
					snapshot: async () => void calls.push("snapshot"),
				},
				steps: [],
			}),
		});
	});
	await running.catch(async (error: unknown) => {
		await ended;
		throw error;
	});
	return { container, ended: ended!, calls };
}
