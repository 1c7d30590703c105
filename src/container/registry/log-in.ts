/*
 * Tries credentials out at a registry, before anybody keeps them.
 */
import { HostError } from "../../base/errors.ts";
import { RegistryClient } from "./client.ts";
import type { Credentials } from "./credentials.ts";
import { hostOf } from "./location.ts";
import { type PullOptions, settingsFor } from "./pull.ts";

/**
 * Asks a registry whether it takes credentials.
 *
 * @param registry "docker.io", "localhost:5000"
 * @throws HostError ERR_REGISTRY_AUTH when it does not, and as pull
 */
export async function logIn(
	registry: string,
	credentials: Credentials,
	options: Pick<PullOptions, "insecure" | "settings" | "signal"> = {},
): Promise<void> {
	await using client = new RegistryClient({
		attempt: `log in to ${registry}`,
		registry,
		base: hostOf(registry),
		path: "",
		actions: "pull",
		settings: settingsFor(registry, options),
		credentials: async () => credentials,
		signal: options.signal,
	});
	await client.ping().catch((error: unknown) => {
		if (!(error instanceof HostError) || error.code !== "ERR_REGISTRY_AUTH") throw error;
		throw new HostError(error.code, error.message, { hint: "Check the user name and the password", cause: error });
	});
}
