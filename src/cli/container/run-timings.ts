/*
 * The phases of `tsvmm run`, from the start of this process to the first byte of the container's output. Those in the middle
 * are the supervisor's, which writes them to the container's state.
 */
import type { Session } from "../../agent/session.ts";
import { Timeline } from "../../base/timeline.ts";
import type { StoredContainer } from "../../container/life/store.ts";
import { processMarks, processStartMs } from "../../host/process-start.ts";
import { describeTimings, timingsOf } from "../timings.ts";

export class RunTimings {
	readonly #timeline = new Timeline();

	constructor() {
		this.#timeline.add(processMarks());
		this.#timeline.mark("command");
	}

	/** The phase `name` ends now. */
	mark(name: string): void {
		this.#timeline.mark(name);
	}

	/** The container's process runs. @param session whose output comes from now on */
	started(container: StoredContainer, session?: Session): void {
		/* A process of a pool has begun long before this one. */
		const beganMs = this.#timeline.marks.at(-1)!.atMs;
		this.#timeline.add((container.state().marks ?? []).filter(({ atMs }) => atMs > beganMs));
		this.#timeline.mark("attach");
		let isFirst = true;
		const first = () => {
			if (isFirst) this.#timeline.mark("first byte");
			isFirst = false;
		};
		for (const stream of [session?.stdout, session?.stderr]) stream?.once("data", first);
	}

	report({ json }: { json: boolean }): void {
		const timings = timingsOf(processStartMs(), this.#timeline.marks);
		process.stderr.write(json ? `${JSON.stringify({ timings })}\n` : `tsvmm: ${describeTimings(timings)}\n`);
	}
}
