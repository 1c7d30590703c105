/*
 * One attempt at a lab, in the process that runs the student's program. A lab's check loads the program, calls what it
 * exports and looks at what it did. Whatever the program does, the check ends with a finding: the program may throw, now
 * or later, never settle a promise, or have nothing left to do.
 */
import { basename } from "node:path";
import { errnoName, explain } from "../base/errors.ts";
import { importUserModule, type PackageModules } from "../host/user-module.ts";
import { adviceOn } from "./advice.ts";
import { patienceSeconds } from "./patience.ts";
import { Recording } from "./recording.ts";
import { CheckEnded, type Failure, type Report } from "./report.ts";

/** How something of the program ended. */
export type Ending<T> =
	| { readonly kind: "value"; readonly value: T }
	| { readonly kind: "threw"; readonly text: string; readonly loads: boolean; readonly hint?: string | undefined }
	| { readonly kind: "waits"; readonly text: string };

export class Attempt {
	readonly report: Report;
	/** What the program has done with tsvmm/kvm, and printed. */
	readonly recording = new Recording();
	readonly #path: string;
	readonly #modules: PackageModules;
	#exports: Readonly<Record<string, unknown>> | undefined;
	#interrupt: ((ending: Ending<never>) => void) | undefined;
	/** An error that came while nobody waited. */
	#late: Ending<never> | undefined;

	constructor(report: Report, path: string, modules: PackageModules) {
		this.report = report;
		this.#path = path;
		this.#modules = modules;
		/* If the program never comes back, this is how far it came. */
		let last = "";
		this.recording.onSeen = (name) => {
			if (name !== last) report.doing(name);
			last = name;
		};
		process.on("uncaughtException", (error) => this.#failed(error));
		process.on("unhandledRejection", (error) => this.#failed(error));
	}

	/** Runs the program: imports its file. */
	async run(): Promise<Ending<void>> {
		const modules = this.recording.observe(this.#modules);
		return await this.settle(async () => {
			this.#exports = await importUserModule(this.#path, modules);
		});
	}

	/** A function or class that the program exports under this name. Ends the check when there is none. */
	async exported<T>(name: string, what: "function" | "class"): Promise<T> {
		if (this.#exports === undefined) this.unwrap(await this.run(), "The program");
		const found = this.#exports?.[name];
		if (typeof found !== "function") {
			const names = Object.keys(this.#exports ?? {});
			const others = names.length === 0 ? "it exports nothing" : `it exports ${names.join(", ")}`;
			this.report.fail(`The program exports no ${what} ${name}: ${others}`, `Write export ${what} ${name}`);
		}
		return found as T;
	}

	/** Calls `work`, which calls the program. It has some seconds (patience.ts). */
	readonly settle = async <T>(work: () => T | Promise<T>, seconds = patienceSeconds()): Promise<Ending<T>> => {
		const late = this.#late;
		this.#late = undefined;
		if (late !== undefined) return late;
		const interrupted = new Promise<Ending<never>>((resolve) => {
			this.#interrupt = resolve;
		});
		const waits = (text: string) => () => this.#interrupt?.({ kind: "waits", text });
		const idle = waits("has nothing left to do, but a promise of it never settles");
		const timer = setTimeout(waits(`does not end within ${seconds} seconds`), 1000 * seconds).unref();
		process.on("beforeExit", idle);
		const ended = (async (): Promise<Ending<T>> => {
			try {
				return { kind: "value", value: await work() };
			} catch (error) {
				if (error instanceof CheckEnded) throw error;
				return this.#threw(error);
			}
		})();
		try {
			return await Promise.race([ended, interrupted]);
		} finally {
			clearTimeout(timer);
			process.off("beforeExit", idle);
			this.#interrupt = undefined;
		}
	};

	/** The value of `ending`; any other ends the check. `what` is the subject of the sentence. */
	unwrap<T>(ending: Ending<T>, what: string): T {
		if (ending.kind === "value") return ending.value;
		const { text, hint } = this.failureOf(ending, what);
		return this.report.fail(text, hint);
	}

	/** What is said of a program that has thrown or that waits. `what` is the subject of the sentence. */
	failureOf(ending: Exclude<Ending<unknown>, { kind: "value" }>, what: string): Failure {
		if (ending.kind === "waits") return { text: `${what} ${ending.text}` };
		return { text: `${what} ${ending.loads ? "throws" : "does not load:"} ${ending.text}`, hint: ending.hint };
	}

	/** `settle` and `unwrap`. */
	readonly call = async <T>(what: string, work: () => T | Promise<T>): Promise<T> =>
		this.unwrap(await this.settle(work), what);

	/** The message of an error, and its line in the program. */
	describe(error: unknown): string {
		const line = new RegExp(`${literally(basename(this.#path))}:(\\d+)`).exec((error as Error)?.stack ?? "")?.[1];
		const message = explain(error).replace(`${this.#path}:`, "line ");
		return line === undefined || message.startsWith("line ") ? message : `in line ${line}: ${message}`;
	}

	#failed(error: unknown): void {
		const ending = this.#threw(error);
		if (this.#interrupt === undefined) this.#late ??= ending;
		else this.#interrupt(ending);
	}

	#threw(error: unknown): Ending<never> {
		const text = this.describe(error);
		/* Errors of loading have no line of the program in their stack. */
		const hasLine = text.startsWith("in line ");
		const isOfLoading = error instanceof SyntaxError || errnoName(error) === "ERR_MODULE_NOT_FOUND";
		return { kind: "threw", text, loads: hasLine || !isOfLoading, hint: adviceOn(error) };
	}
}

const literally = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
