/*
 * Puts containers on networks of `tsvmm network` and takes them off. A running one gets a further interface, or loses one.
 */
import { StateError } from "../../base/errors.ts";
import type { Attachment, ContainerConfig } from "./config.ts";
import { askSupervisor } from "./control.ts";
import { ContainerStore, type StoredContainer } from "./store.ts";

/** Whether a container has a network of that name, running or not. */
export function isOn({ network }: Pick<ContainerConfig, "network">, name: string): boolean {
	return (network?.attachments ?? []).some(({ device }) => device.kind === "network" && device.name === name);
}

/**
 * Puts a container on a network, from now on.
 *
 * @throws StateError ERR_NETWORK_CONNECTED, ERR_NETWORK_NONE; what the supervisor of one that runs says
 */
export async function connectContainer(
	container: StoredContainer,
	attachment: Attachment & { device: { kind: "network" } },
): Promise<void> {
	const { name } = attachment.device;
	const attempt = `Cannot connect container ${container.shortId} to network ${name}`;
	/* Nobody starts it meanwhile. */
	await container.exclusively(async () => {
		mustHaveOwn(container, attempt);
		const { network } = container.config;
		if (isOn(container.config, name)) throw new StateError("ERR_NETWORK_CONNECTED", `${attempt}: it is on it`);
		if (container.isSupervised()) {
			if (network === undefined) {
				throw new StateError("ERR_NETWORK_NONE", `${attempt}: it was started without a network`, {
					hint: `Stop it first: tsvmm stop ${container.shortId}`,
				});
			}
			await askSupervisor(container.paths, { do: "connect", attachment });
		}
		await new ContainerStore().change(container, (config) => {
			const { attachments, ports, ...more } = config.network ?? { attachments: [], ports: [] };
			return { ...config, network: { ...more, ports, attachments: [...attachments, attachment] } };
		});
	});
}

/** Takes a container off a network. @throws StateError ERR_NETWORK_NOT_CONNECTED */
export async function disconnectContainer(container: StoredContainer, name: string): Promise<void> {
	const attempt = `Cannot disconnect container ${container.shortId} from network ${name}`;
	await container.exclusively(async () => {
		mustHaveOwn(container, attempt);
		if (!isOn(container.config, name)) {
			throw new StateError("ERR_NETWORK_NOT_CONNECTED", `${attempt}: it is not on it`);
		}
		if (container.isSupervised()) await askSupervisor(container.paths, { do: "disconnect", network: name });
		await new ContainerStore().change(container, (config) => {
			const attachments = config.network!.attachments.filter(
				({ device }) => device.kind !== "network" || device.name !== name,
			);
			return { ...config, network: { ...config.network!, attachments } };
		});
	});
}

/** The network of a container in another's machine is that machine's. */
function mustHaveOwn({ config }: StoredContainer, attempt: string): void {
	if (config.joins === undefined) return;
	throw new StateError(
		"ERR_NETWORK_JOINED",
		`${attempt}: its network is that of ${config.joins.kind} ${config.joins.id.slice(0, 12)}`,
	);
}
