/*
 * A command whose process ends with ours, however ours ends (PR_SET_PDEATHSIG, set by setpriv): also when it would not notice.
 */
import { findTool, toolMissing } from "./tools.ts";

/**
 * The words that run `command` so. The signal comes when the thread that starts it ends, so start it on the JavaScript thread.
 *
 * @throws HostError ERR_TOOL_MISSING
 */
export function boundCommand(command: readonly string[]): [program: string, words: string[]] {
	const setpriv = findTool("setpriv");
	if (setpriv === undefined) throw toolMissing("setpriv");
	return [setpriv, ["--pdeathsig", "KILL", "--", ...command]];
}
