/*
 * A container that runs in the background, with the real agent and no VM.
 */
import type { ContainerConfig } from "../../../src/container/life/config.ts";
import { ContainerStore } from "../../../src/container/life/store.ts";
import { superviseContainer } from "../../../src/container/life/supervisor.ts";
import type { BalloonDevice } from "../../../src/virtio/balloon.ts";
import { endsWhenRefused, FakeMachine } from "../fake-machine.ts";
import { containerConfig } from "./container-config.ts";

export const env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
/** What is read of a balloon. */
const BALLOON = {
	statistics: async () => ({ freeBytes: 1 << 20, availableBytes: 2 << 20, cacheBytes: 5 }),
	givenBackBytes: 3 << 20,
} as Partial<BalloonDevice> as BalloonDevice;

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
					balloon: BALLOON,
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
