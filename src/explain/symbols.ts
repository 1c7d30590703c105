/*
 * Names for addresses of the guest's kernel, from the symbols of its file where it has any.
 */
import { Symbols } from "../debug/symbols.ts";
import type { NameAddress } from "./finding.ts";

/**
 * @param kernel its file; addresses stay numbers when it is missing
 * @param wanted an error when it cannot be read, else addresses stay numbers
 * @throws ImageError ERR_SYMBOLS
 */
export async function addressNames(kernel: string | undefined, wanted: boolean): Promise<NameAddress> {
	if (kernel === undefined) return (address) => address;
	try {
		const symbols = await Symbols.read(kernel);
		return (address) => symbols.describe(BigInt(address));
	} catch (error) {
		if (wanted) throw error;
		return (address) => address;
	}
}
