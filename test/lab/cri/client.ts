/*
 * A client of Kubernetes' Container Runtime Interface (CRI), by the messages of runtime.proto.
 */
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

interface Pod {
	id: string;
	state: string;
	network: { ip: string };
}

export interface ContainerStatus {
	metadata: { name: string };
	state: string;
	exit_code: number;
	reason: string;
	message: string;
}

/** A number whose message may be missing. */
type Value = { value: number } | null;

export interface Usage {
	cpu: { usage_core_nano_seconds: Value } | null;
	memory: { working_set_bytes: Value; available_bytes: Value; usage_bytes: Value; rss_bytes: Value } | null;
}

export interface PodUsage extends Usage {
	network: { default_interface: { name: string; rx_bytes: Value } } | null;
	containers: (Usage & { attributes: { metadata: { name: string } } })[];
}

type OfSandbox = { pod_sandbox_id: string };
type OfContainer = { container_id: string };
type Nothing = Record<string, never>;
type Call<Request, Answer> = (request: Request) => Promise<Answer>;

/** The calls. Fields that are not given have their defaults. */
export interface Cri {
	Status: Call<Nothing, { status: { conditions: { type: string; status: boolean; message: string }[] } }>;
	RunPodSandbox: Call<{ config: object; runtime_handler: string }, OfSandbox>;
	StopPodSandbox: Call<OfSandbox, Nothing>;
	RemovePodSandbox: Call<OfSandbox, Nothing>;
	PodSandboxStatus: Call<OfSandbox, { status: Pod }>;
	ListPodSandbox: Call<Nothing, { items: Pod[] }>;
	PodSandboxStats: Call<OfSandbox, { stats: { linux: PodUsage } }>;
	CreateContainer: Call<OfSandbox & { config: object; sandbox_config: object }, OfContainer>;
	StartContainer: Call<OfContainer, Nothing>;
	StopContainer: Call<OfContainer & { timeout: number }, Nothing>;
	RemoveContainer: Call<OfContainer, Nothing>;
	ContainerStatus: Call<OfContainer, { status: ContainerStatus }>;
	ListContainers: Call<Nothing, { containers: ContainerStatus[] }>;
	UpdateContainerResources: Call<OfContainer & { linux: object }, Nothing>;
	ReopenContainerLog: Call<OfContainer, Nothing>;
	ContainerStats: Call<OfContainer, { stats: Usage }>;
	ListContainerStats: Call<Nothing, { stats: Usage[] }>;
	ExecSync: Call<
		OfContainer & { cmd: string[]; timeout: number },
		{ stdout: Buffer; stderr: Buffer; exit_code: number }
	>;
	Exec: Call<OfContainer & Streams & { cmd: string[] }, { url: string }>;
	Attach: Call<OfContainer & Streams, { url: string }>;
	PortForward: Call<OfSandbox & { port: number[] }, { url: string }>;
}

interface Streams {
	stdin?: boolean;
	stdout?: boolean;
	stderr?: boolean;
	tty?: boolean;
}

/** What the server has answered in place of a message. */
export type CriError = grpc.ServiceError;

/**
 * Connects to a runtime.
 *
 * @param messages path of runtime.proto
 * @returns the calls, and what ends the connection
 */
export function criClient(socket: string, messages: string): { cri: Cri; close(): void } {
	const found = loadSync(messages, { keepCase: true, longs: Number, enums: String, defaults: true });
	const { RuntimeService } = (grpc.loadPackageDefinition(found) as unknown as Package).runtime.v1;
	const client = new RuntimeService(`unix://${socket}`, grpc.credentials.createInsecure());
	const methods = client as unknown as Record<string, (request: object, done: grpc.requestCallback<unknown>) => void>;
	const call = (name: string) => (request: object) =>
		new Promise((resolve, reject) => {
			methods[name]!(request, (error, answer) => (error ? reject(error) : resolve(answer)));
		});
	const names = Object.keys(RuntimeService.service);
	const cri = Object.fromEntries(names.map((name) => [name, call(name)])) as unknown as Cri;
	return { cri, close: () => client.close() };
}

interface Package {
	runtime: { v1: { RuntimeService: grpc.ServiceClientConstructor } };
}
