/*
 * The streams that containerd's CRI plugin serves for Exec, Attach and PortForward, by a WebSocket with the protocol
 * v4.channel.k8s.io: each message begins with the number of its channel.
 */
import WebSocket from "ws";

/** Of Exec and Attach. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, error: 3, resize: 4 } as const;

/** A message for a channel. */
export type Sent = readonly [channel: number, text: string];

/**
 * Sends messages, and collects what comes until the server closes the stream, or until a channel has a text.
 *
 * @param url of the stream, as the plugin has answered it
 * @returns what has come, by channel
 */
export async function stream(url: string, sent: readonly Sent[], until?: Sent): Promise<Record<number, string>> {
	const socket = new WebSocket(url.replace(/^http/, "ws"), "v4.channel.k8s.io");
	const parts = new Map<number, Buffer[]>();
	const textOf = (channel: number) => Buffer.concat(parts.get(channel) ?? []).toString("latin1");
	await new Promise<void>((resolve, reject) => {
		socket.on("error", reject);
		socket.on("close", () => resolve());
		socket.on("open", () => {
			for (const [channel, text] of sent) socket.send(Buffer.concat([Buffer.of(channel), Buffer.from(text)]));
		});
		socket.on("message", (message: Buffer) => {
			const [channel = 0] = message;
			parts.set(channel, [...(parts.get(channel) ?? []), message.subarray(1)]);
			if (until !== undefined && textOf(until[0]).includes(until[1])) socket.close();
		});
	});
	return Object.fromEntries([...parts.keys()].sort().map((channel) => [channel, textOf(channel)]));
}
