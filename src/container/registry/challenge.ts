/*
 * Parses WWW-Authenticate (RFC 9110 section 11.6.1), a registry's demand for authorization. Docker's token
 * specification names the parameters of Bearer.
 */

export interface Challenge {
	/** "bearer", "basic": in small letters. */
	readonly scheme: string;
	/** realm, service, scope and others, by their names in small letters. */
	readonly parameters: ReadonlyMap<string, string>;
}

const SCHEME = /\s*,?\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:\s+|$|(?=,))/y;
const PARAMETER = /\s*,?\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))/y;

/** The challenges of a header, in order; what cannot be read ends the list. */
export function parseChallenges(header: string): Challenge[] {
	const found: Challenge[] = [];
	let at = 0;
	const match = (pattern: RegExp) => {
		pattern.lastIndex = at;
		const result = pattern.exec(header);
		if (result !== null) at = pattern.lastIndex;
		return result;
	};
	while (at < header.length) {
		const scheme = match(SCHEME);
		if (scheme === null) break;
		const parameters = new Map<string, string>();
		for (let one = match(PARAMETER); one !== null; one = match(PARAMETER)) {
			parameters.set(one[1]!.toLowerCase(), one[2]?.replace(/\\(.)/g, "$1") ?? one[3]!);
		}
		found.push({ scheme: scheme[1]!.toLowerCase(), parameters });
	}
	return found;
}
