/*
 * What a kubelet does with a runtime, as small as can be: pods and containers by their names.
 */
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import type { ContainerStatus, Cri, CriError } from "./client.ts";
import { HOME } from "./containerd.ts";

const IMAGE = { image: "docker.io/library/busybox:latest" };
/** A pod's containers have pid namespaces of their own, unless it says shareProcessNamespace. */
export const OWN_PID = { namespace_options: { pid: "CONTAINER" } };

type Config = Record<string, unknown> & { linux?: object };

interface Pod {
	id: string;
	config: object;
}

export class Kubelet {
	readonly cri: Cri;
	readonly #handler: string;
	readonly #pods = new Map<string, Pod>();
	readonly #containers = new Map<string, string>();

	/** @param handler of the runtime, as a RuntimeClass names it */
	constructor(cri: Cri, handler: string) {
		this.cri = cri;
		this.#handler = handler;
	}

	async runPod(name: string, { linux, ...more }: Config = {}): Promise<void> {
		const config = {
			metadata: { name, uid: `uid-${name}`, namespace: "default" },
			hostname: name,
			log_directory: `${HOME}/logs`,
			linux: { cgroup_parent: `/kubepods/${this.#handler}-${name}`, security_context: OWN_PID, ...linux },
			...more,
		};
		const { pod_sandbox_id: id } = await this.cri.RunPodSandbox({ config, runtime_handler: this.#handler });
		this.#pods.set(name, { id, config });
	}

	/** The request's field for a pod. */
	pod(name: string): { pod_sandbox_id: string } {
		return { pod_sandbox_id: this.#pods.get(name)!.id };
	}

	/** The request's field for a container. */
	container(name: string): { container_id: string } {
		return { container_id: this.#containers.get(name)! };
	}

	async start(pod: string, name: string, { linux, ...more }: Config): Promise<void> {
		const config = {
			metadata: { name },
			image: IMAGE,
			log_path: `${name}.log`,
			linux: { security_context: OWN_PID, ...linux },
			...more,
		};
		const { id: pod_sandbox_id, config: sandbox_config } = this.#pods.get(pod)!;
		const { container_id } = await this.cri.CreateContainer({ pod_sandbox_id, config, sandbox_config });
		this.#containers.set(name, container_id);
		await this.cri.StartContainer({ container_id });
	}

	async address(pod: string): Promise<string> {
		return (await this.cri.PodSandboxStatus(this.pod(pod))).status.network.ip;
	}

	async status(name: string): Promise<object> {
		const { state, exit_code, reason, message } = await this.#statusOf(name);
		return { state, exit_code, reason, message: plain(message) };
	}

	/** @returns its status when it has ended */
	async end(name: string): Promise<object> {
		while ((await this.#statusOf(name)).state === "CONTAINER_RUNNING") await sleep(200);
		return this.status(name);
	}

	async exec(name: string, ...cmd: string[]): Promise<object> {
		const { stdout, stderr, exit_code } = await this.cri.ExecSync({ ...this.container(name), cmd, timeout: 60 });
		return { stdout: stdout.toString(), stderr: stderr.toString(), exit_code };
	}

	/** Names and states. */
	async list(): Promise<string[]> {
		const { containers } = await this.cri.ListContainers({});
		return containers.map(({ metadata, state }) => `${metadata.name} ${state}`).sort();
	}

	/** A container's log, without its times. */
	log(name: string): string {
		return readFileSync(`${HOME}/logs/${name}.log`, "utf8").replaceAll(/^\d{4}-\d\d-\d\dT[\d:.]+Z /gm, "TIME ");
	}

	async #statusOf(name: string): Promise<ContainerStatus> {
		return (await this.cri.ContainerStatus(this.container(name))).status;
	}
}

/** What a call has failed with. */
export async function failure(work: Promise<unknown>): Promise<string> {
	const found = await work.then(
		() => "it has not failed",
		(error: CriError) => error.details,
	);
	return plain(found);
}

/** Without numbers, and with one name for all runtimes. */
function plain(text: string): string {
	return text.replaceAll(/\b[0-9a-f]{64}\b/g, "ID").replaceAll("tsvmm-oci", "runc");
}
