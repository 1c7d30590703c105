/*
 * The process that stands for a container on the host (native/stand-in.c), and the channel on which the machine's process
 * tells it how the container has ended. When either of the two is killed, the other one sees the end of the channel.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { ignore } from "../base/errors.ts";
import { CHANNEL_FD } from "../host/detached-process.ts";
import { packageRoot } from "../host/native.ts";
import type { Bundle } from "./bundle.ts";
import { OciError } from "./runtime-error.ts";

export interface StandIn {
	/** Its number on this host. */
	pid: number;
	/** The machine's end of the channel, to give to its process. The caller closes it. */
	channel: Socket;
}

/**
 * Starts the stand-in of a container, or of one more process in it.
 *
 * @param beside number of the container's own stand-in, whose network this one is in
 * @throws OciError ERR_OCI_FAILED when the host refuses its namespaces
 */
export async function startStandIn({ rootfs, config }: Bundle, beside?: number): Promise<StandIn> {
	const own = config.linux?.namespaces.find(({ type }) => type === "network");
	const network = beside === undefined ? own && (own.path || "new") : `/proc/${beside}/ns/net`;
	const words = [rootfs, ...(network === undefined ? [] : [network])];
	const child = spawn(join(packageRoot(), "dist/stand-in"), words, {
		cwd: "/",
		detached: true,
		stdio: ["ignore", "pipe", "pipe", "pipe"],
	});
	const channel = child.stdio[3] as Socket;
	const [status, output, complaint] = await Promise.all([exitOf(child), text(child.stdout!), text(child.stderr!)]);
	if (status === 0) return { pid: Number(output), channel };
	channel.destroy();
	throw new OciError("ERR_OCI_FAILED", `unable to start container process: ${complaint.trim() || "no stand-in"}`);
}

/**
 * In the machine's process: its end of the channel.
 *
 * @param killed called when the stand-in has gone before it was told
 * @param socket the end, if this process has started the stand-in
 * @returns tells the stand-in the container's exit status
 */
export function standInChannel(
	killed: () => void,
	socket: Socket = new Socket({ fd: CHANNEL_FD }),
): (status: number) => Promise<void> {
	socket.on("error", ignore);
	socket.once("close", killed);
	socket.resume();
	return (status) =>
		new Promise((resolve) => {
			socket.off("close", killed);
			socket.end(Buffer.of(status), resolve);
		});
}

function exitOf(child: ChildProcess): Promise<number | null> {
	return new Promise((resolve, reject) => {
		child.once("error", (cause) =>
			reject(new OciError("ERR_OCI_FAILED", `unable to start container process: ${cause.message}`, { cause })),
		);
		child.once("exit", resolve);
	});
}
