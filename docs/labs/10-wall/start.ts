/*
 * Lab 10: a container in a VM. The same script in a container on the host's kernel and in a machine, and a way out of the
 * first. Check it with
 *
 *     tsvmm learn check 10
 */

/** Runs a script in a container on this kernel. @param leaked a descriptor of ours, which becomes its descriptor 3 */
export async function contain(script: string, leaked?: number): Promise<string> {
	/* 1. Spawn unshare. 2. A root of its own. 5. Pass the descriptor. */
	console.log(`Yours to write: contain ${script} with ${leaked}`);
	return "";
}

/** Runs a script in a machine. */
export async function enclose(script: string, leaked?: number): Promise<string> {
	/* 4. runContainer of "tsvmm". 5. What becomes of the descriptor? */
	console.log(`Yours to write: enclose ${script} with ${leaked}`);
	return "";
}

/** A script that prints what tells one kernel from another. */
export function probe(): string {
	/* 3. What in /proc is made anew at each boot, and is the same in each namespace? */
	return "uname -a";
}

/** Whether two outputs of the probe come from one kernel. */
export function sameKernel(one: string, other: string): boolean {
	return one === other;
}

/** A script that writes a file `canary` into the directory behind a descriptor. */
export function breakOut(descriptor: number): string {
	/* 5. /proc/self/fd has a name for each descriptor. */
	return `echo "Yours to write: out by ${descriptor}"`;
}
