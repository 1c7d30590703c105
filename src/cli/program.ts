/*
 * How a command line becomes a process's exit status, for each program of the bundle.
 */
import { noteProgram } from "../host/process-start.ts";
import { withOutput } from "./output.ts";
import { watchDefects } from "./report.ts";

/** Runs `main` with the words of this process's command line. */
export function runProgram(main: (argv: readonly string[]) => Promise<number>): void {
	noteProgram();
	watchDefects();
	/* If Node ends because nothing is left that could settle the promise, the command has failed. */
	const unsettled = () => {
		process.exitCode = 125;
	};
	process.once("exit", unsettled);
	void main(process.argv.slice(2)).then((status) => {
		process.off("exit", unsettled);
		process.exitCode = withOutput(status);
	});
}
