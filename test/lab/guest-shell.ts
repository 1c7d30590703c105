/*
 * A guest that runs shell commands one by one, for tests that act on both sides in turns. Its script reads the commands
 * from the console.
 */
import type { BootOptions, BootResult, Linux, RunningLinux } from "./linux.ts";

/** Reads commands until "exit". Nothing is echoed, so that the console shows results only. */
export const LOOP = `
stty -echo
echo "=0=0="
while read -r line; do eval "$line"; done
`;

export class GuestShell {
	readonly #guest: RunningLinux;
	#count = 0;

	private constructor(guest: RunningLinux) {
		this.#guest = guest;
	}

	/** Boots a guest and waits for its shell. @param before commands that run first */
	static async start(linux: Linux, options: Omit<BootOptions, "script">, before = ""): Promise<GuestShell> {
		const guest = await linux.spawn({ ...options, script: `${before}\n${LOOP}` });
		await guest.shows("=0=0=\n");
		return new GuestShell(guest);
	}

	/** Runs a command in the guest. @returns what it printed @throws when its exit status is not 0 */
	async sh(command: string): Promise<string> {
		const mark = ++this.#count;
		const start = this.#guest.stdout.length;
		this.#guest.type(`${command}; echo "=${mark}=$?="\n`);
		const end = new RegExp(`=${mark}=(\\d+)=\n`);
		await this.#guest.shows(end);
		const printed = this.#guest.stdout.slice(start);
		const found = end.exec(printed)!;
		const output = printed.slice(0, found.index);
		if (found[1] !== "0") throw new Error(`in the guest: status ${found[1]} of ${command}: ${output}`);
		return output;
	}

	/** Sends tsvmm a signal by number. */
	signal(number: number): void {
		this.#guest.signal(number);
	}

	/** Powers the guest off. */
	async stop(): Promise<BootResult> {
		this.#guest.type("exit\n");
		return await this.#guest.ended();
	}

	/** Waits until tsvmm ends, in any way. */
	async ended(): Promise<BootResult> {
		return await this.#guest.ended();
	}
}
