/*
 * `--explain` of a machine in the foreground: its events become a story, which is told when the machine ends, and after
 * SECONDS if it still runs then. No register that native code answers becomes slower by it.
 */
import type { Observer } from "../base/observer.ts";
import { explain } from "../explain/explanation.ts";
import { report } from "../explain/report.ts";
import { Story } from "../explain/story.ts";
import { addressNames } from "../explain/symbols.ts";
import type { Machine } from "../machine/machine.ts";
import { eventObserver } from "../trace/recorder.ts";

export class ExplainedMachine {
	readonly #story = new Story();
	readonly #observer: Observer;
	readonly #afterSeconds: number;
	#timer: NodeJS.Timeout | undefined;

	/** @param afterSeconds when a machine that still runs is explained; NaN for never */
	constructor(afterSeconds: number) {
		this.#afterSeconds = afterSeconds;
		this.#observer = eventObserver({ event: (event) => this.#story.add(event) });
	}

	/** For the machine's configuration. */
	get observer(): Observer {
		const { access: _, ...others } = this.#observer;
		return others;
	}

	/** The machine is there. */
	attach(machine: Machine): void {
		const { access } = this.#observer;
		if (access !== undefined) machine.observe({ access });
		if (Number.isNaN(this.#afterSeconds)) return;
		this.#timer = setTimeout(() => void this.#explainLive(machine), this.#afterSeconds * 1000);
	}

	/** The machine has ended. */
	async ended(): Promise<void> {
		clearTimeout(this.#timer);
		await this.#print();
	}

	async #explainLive(machine: Machine): Promise<void> {
		/* It may end meanwhile, and is explained then. */
		await machine.tellState().then(
			() => this.#print(),
			() => undefined,
		);
	}

	async #print(): Promise<void> {
		const name = await addressNames(this.#story.created?.kernel, false);
		process.stderr.write(`\n${report(explain(this.#story, name))}`);
	}
}
